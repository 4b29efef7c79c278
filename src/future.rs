//! The way of a request after its head is verified: read body, check hash, call inner.

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
    body_reader::{BodyReader, poll_drain},
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

/// A delivery whose head is good and whose body is still to come.
struct Reading<S, B> {
    head: Parts,
    body: BodyReader<B>,
    token: VerifiedToken,
    ready: S,
    settings: Arc<Settings>,
}

/// A rejection on its way, after at most `to_drain` bytes of the body are thrown away.
struct Rejecting<B> {
    rest: Option<B>,
    to_drain: usize,
    rejection: Rejection,
    settings: Arc<Settings>,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
    B: RequestBody,
{
    pub(crate) fn read(
        head: Parts,
        body: B,
        token: VerifiedToken,
        ready: S,
        settings: Arc<Settings>,
    ) -> Self {
        let body = BodyReader::new(body, settings.body_limit);
        let reading = Some(Reading { head, body, token, ready, settings });
        Self { state: State::Reading { reading } }
    }

    pub(crate) fn reject(
        head: &Parts,
        body: B,
        rejection: Rejection,
        settings: Arc<Settings>,
    ) -> Self {
        let rejecting = Some(Rejecting::new(head, Some(body), false, rejection, settings));
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
                        Ok((mut ready, request)) => State::Calling { future: ready.call(request) },
                        Err(rejecting) => State::Rejecting { rejecting: Some(rejecting) },
                    }
                }
                StateProjection::Rejecting { rejecting } => {
                    ready!(current(rejecting).poll_drain(cx));
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
        let Self { mut head, body, token, ready, settings } = self;
        match read.and_then(|()| Ok(token.finish()?)) {
            Ok(claims) => {
                log::accepted(&head, &claims, body.len());
                head.extensions.insert(claims);
                Ok((ready, Request::from_parts(head, body.into_whole())))
            }
            Err(rejection) => {
                let asked_for = body.has_begun();
                Err(Rejecting::new(&head, body.into_rest(), asked_for, rejection, settings))
            }
        }
    }
}

impl<B: RequestBody> Rejecting<B> {
    fn new(
        head: &Parts,
        rest: Option<B>,
        asked_for: bool,
        rejection: Rejection,
        settings: Arc<Settings>,
    ) -> Self {
        log::rejected(head, &rejection);
        // Who waits for a `100 Continue` has not sent the body; reading it would ask for it.
        let not_sent = !asked_for && head.headers.contains_key(EXPECT);
        let to_drain = if not_sent { 0 } else { settings.drain_limit };
        Self { rest, to_drain, rejection, settings }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.rest {
            Some(body) => poll_drain(body, &mut self.to_drain, cx),
            None => Poll::Ready(()),
        }
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
