//! The response future: buffers and hashes the body, then calls the inner service.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, header::EXPECT, request::Parts};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    Rejection, RequestBody, ResponseBody, VerifiedToken,
    body_reader::{BodyReader, Discard},
    layer::Settings,
    log,
};

pin_project! {
    /// The future of [`QStashVerify`](crate::QStashVerify).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        // The options are `Some` until the state is left.
        Reading { reading: Option<Reading<S, B>> },
        Rejecting { rejecting: Option<Rejecting<B>> },
        Calling { #[pin] future: S::Future },
    }
}

/// A request whose token is verified and whose body is still to come.
struct Reading<S, B> {
    parts: Parts,
    body: BodyReader<B>,
    token: VerifiedToken,
    service: S,
    settings: Arc<Settings>,
}

/// A rejection, sent once what is left of the body is discarded.
struct Rejecting<B> {
    discard: Option<Discard<B>>,
    rejection: Rejection,
    settings: Arc<Settings>,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
    B: RequestBody,
{
    pub(crate) fn read(
        parts: Parts,
        body: B,
        token: VerifiedToken,
        service: S,
        settings: Arc<Settings>,
    ) -> Self {
        let body = BodyReader::new(body, settings.body_limit);
        let reading = Some(Reading { parts, body, token, service, settings });
        Self { state: State::Reading { reading } }
    }

    pub(crate) fn reject(
        parts: &Parts,
        body: B,
        rejection: Rejection,
        settings: Arc<Settings>,
    ) -> Self {
        let rejecting = Some(Rejecting::new(parts, Some(body), false, rejection, settings));
        Self { state: State::Rejecting { rejecting } }
    }
}

impl<S, B, ResBody> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    B: RequestBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Reading { reading } => {
                    let read = ready!(current(reading).poll_read(cx));
                    match leave(reading).finish(read) {
                        Ok((mut service, request)) => {
                            State::Calling { future: service.call(request) }
                        }
                        Err(rejecting) => State::Rejecting { rejecting: Some(rejecting) },
                    }
                }
                StateProjection::Rejecting { rejecting } => {
                    ready!(current(rejecting).poll_discard(cx));
                    let response = leave(rejecting).respond();
                    return Poll::Ready(Ok(response.map(ResponseBody::rejection)));
                }
                StateProjection::Calling { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
            };
            state.set(next);
        }
    }
}

impl<S, B: RequestBody> Reading<S, B> {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>>
    where
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        self.body.poll_read(cx, &mut self.token)
    }

    fn finish(self, read: Result<(), Rejection>) -> Result<(S, Request<B>), Rejecting<B>> {
        let Self { mut parts, body, token, service, settings } = self;
        match read.and_then(|()| token.finish().map_err(Rejection::Verify)) {
            Ok(claims) => {
                log::accepted(&parts, &claims, body.len(), &settings);
                parts.extensions.insert(claims);
                Ok((service, Request::from_parts(parts, body.into_whole())))
            }
            Err(rejection) => {
                let asked_for = body.has_begun();
                Err(Rejecting::new(&parts, body.into_rest(), asked_for, rejection, settings))
            }
        }
    }
}

impl<B: RequestBody> Rejecting<B> {
    fn new(
        parts: &Parts,
        rest: Option<B>,
        asked_for: bool,
        rejection: Rejection,
        settings: Arc<Settings>,
    ) -> Self {
        log::rejected(parts, &rejection, &settings);
        // With `Expect: 100-continue` the client hasn't sent the body yet, and polling it would make
        // hyper send `100 Continue`.
        let is_sent = asked_for || !parts.headers.contains_key(EXPECT);
        let discard = rest
            .filter(|_| is_sent)
            .map(|body| Discard::new(body, settings.drain_limit, settings.drain_timeout));
        Self { discard, rejection, settings }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.discard.as_mut().map_or(Poll::Ready(()), |discard| discard.poll(cx))
    }

    fn respond(self) -> Response<Bytes> {
        self.settings.respond(self.rejection)
    }
}

const POLLED_TOO_OFTEN: &str = "a future is not polled again once it is ready";

fn current<T>(state: &mut Option<T>) -> &mut T {
    state.as_mut().expect(POLLED_TOO_OFTEN)
}

fn leave<T>(state: &mut Option<T>) -> T {
    state.take().expect(POLLED_TOO_OFTEN)
}
