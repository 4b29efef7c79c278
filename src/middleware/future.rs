//! The response future: buffers and hashes the body, then calls the inner service.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, header::EXPECT, request::Parts};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    body_buffer::{BodyBuffer, Discard},
    config::Config,
    guarded::Guarded,
    rejection::Rejection,
    response_body::ResponseBody,
};
use crate::{
    forward::{Forward, SameBody},
    verify::BodyVerifier,
};

pin_project! {
    /// The response future of [`QStashVerify`](crate::QStashVerify).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B, F = SameBody>
    where
        F: Forward<B>,
        S: Service<Request<F::Body>>,
    {
        // `None` once the body has ended, or is forwarded.
        #[pin]
        body: Option<B>,
        #[pin]
        state: State<S, S::Future, Guarded<S, F::Body>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F, G> {
        Reading { reading: Option<Reading<S>> },
        Rejecting { rejecting: Option<Rejecting> },
        Calling { #[pin] future: F },
        Guarded { guarded: Pin<Box<G>> },
    }
}

/// A request whose token is verified and whose body is being read.
struct Reading<S> {
    parts: Parts,
    buffer: BodyBuffer,
    verifier: BodyVerifier,
    service: S,
    config: Arc<Config>,
}

/// A rejection, sent once the rest of the body is discarded.
struct Rejecting {
    discard: Discard,
    rejection: Rejection,
    config: Arc<Config>,
}

impl<S, B, F> ResponseFuture<S, B, F>
where
    F: Forward<B>,
    S: Service<Request<F::Body>>,
{
    pub(super) fn read(
        parts: Parts,
        body: B,
        verifier: BodyVerifier,
        service: S,
        config: Arc<Config>,
    ) -> Self {
        let buffer = BodyBuffer::new(config.body_limit);
        let reading = Some(Reading { parts, buffer, verifier, service, config });
        Self { body: Some(body), state: State::Reading { reading } }
    }

    pub(super) fn reject(
        parts: &Parts,
        body: B,
        rejection: Rejection,
        config: Arc<Config>,
    ) -> Self {
        let rejecting = Some(Rejecting::new(parts, false, rejection, config));
        Self { body: Some(body), state: State::Rejecting { rejecting } }
    }
}

impl<S, B, F, ResBody> Future for ResponseFuture<S, B, F>
where
    F: Forward<B>,
    S: Service<Request<F::Body>, Response = Response<ResBody>>,
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProjection::Reading { reading } => {
                    let Reading { buffer, verifier, .. } =
                        reading.as_mut().expect("polled after completion");
                    let body = this.body.as_mut().as_pin_mut().expect("kept while it is read");
                    let read = ready!(buffer.poll_read::<B, F>(body, cx, verifier));
                    let reading = reading.take().expect("polled above");
                    match reading.verify_body::<B, F>(read, this.body.as_mut()) {
                        Ok(Verified::Call(mut service, request)) => {
                            State::Calling { future: service.call(request) }
                        }
                        Ok(Verified::Guard(guarded)) => State::Guarded { guarded },
                        Err(rejecting) => State::Rejecting { rejecting: Some(rejecting) },
                    }
                }
                StateProjection::Rejecting { rejecting } => {
                    let Rejecting { discard, .. } =
                        rejecting.as_mut().expect("polled after completion");
                    if let Some(body) = this.body.as_mut().as_pin_mut() {
                        ready!(discard.poll(body, cx));
                    }
                    let Rejecting { rejection, config, .. } =
                        rejecting.take().expect("polled above");
                    let response = config.respond(rejection);
                    return Poll::Ready(Ok(response.map(ResponseBody::own)));
                }
                StateProjection::Calling { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
                StateProjection::Guarded { guarded } => return guarded.as_mut().poll(cx),
            };
            this.state.set(next);
        }
    }
}

/// A verified request, and the service that was polled ready for it.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is returned")]
enum Verified<S, B>
where
    S: Service<Request<B>>,
{
    Call(S, Request<B>),
    Guard(Pin<Box<Guarded<S, B>>>),
}

impl<S> Reading<S> {
    /// Ends reading: with a verified request or with a rejection.
    fn verify_body<B, F>(
        self,
        read: Result<(), Rejection>,
        mut body: Pin<&mut Option<B>>,
    ) -> Result<Verified<S, F::Body>, Rejecting>
    where
        F: Forward<B>,
        S: Service<Request<F::Body>>,
    {
        let Self { mut parts, buffer, verifier, service, config } = self;
        let body_bytes = buffer.len();
        let body_hash = config.replay_guard.as_ref().map(|_| verifier.expected_hash());
        let verified = read.and_then(|()| {
            let claims = verifier.finish().map_err(Rejection::Verification)?;
            let reserving = match &body_hash {
                Some(hash) => config.reserve(&parts, &claims, hash)?,
                None => None,
            };
            Ok((claims, reserving))
        });
        match verified {
            Ok((claims, reserving)) => {
                parts.extensions.insert(claims);
                let body = F::forward(body, buffer.into_bytes());
                let request = Request::from_parts(parts, body);
                Ok(match reserving {
                    None => {
                        config.tracing.accepted(&request, body_bytes, &*config.clock);
                        Verified::Call(service, request)
                    }
                    Some(reserving) => Verified::Guard(Box::pin(Guarded::new(
                        reserving, service, request, body_bytes, config,
                    ))),
                })
            }
            Err(rejection) => {
                if buffer.has_ended() {
                    body.set(None);
                }
                Err(Rejecting::new(&parts, buffer.has_started(), rejection, config))
            }
        }
    }
}

impl Rejecting {
    fn new(parts: &Parts, has_started: bool, rejection: Rejection, config: Arc<Config>) -> Self {
        config.tracing.rejected(parts, &rejection);
        // With `Expect: 100-continue` the client hasn't sent the body yet, and polling it would make
        // hyper send `100 Continue`.
        let is_sent = has_started || !parts.headers.contains_key(EXPECT);
        let limit = if is_sent { config.drain_limit } else { 0 };
        Self { discard: Discard::new(limit, config.drain_timeout), rejection, config }
    }
}

impl<S, B, F> fmt::Debug for ResponseFuture<S, B, F>
where
    F: Forward<B>,
    S: Service<Request<F::Body>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Reading { .. } => "Reading",
            State::Rejecting { .. } => "Rejecting",
            State::Calling { .. } => "Calling",
            State::Guarded { .. } => "Guarded",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
