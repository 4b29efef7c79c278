//! A verified delivery behind a replay guard: reserves its token, calls the inner service, settles.
//!
//! ```text
//!   Reserving ── reserved ──▶ Calling ── response, error ──▶ Settling ──▶ the response, the error
//!       │                        │ panic: released
//!       │ in flight, already processed, store unavailable
//!       ▼
//!   a response of the guard's own
//! ```
//!
//! It is boxed, and only where there is a guard, so that without one the response future is as small
//! as before.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{config::Config, replay_response::ReplayResponse, response_body::ResponseBody};
use crate::{
    replay::guard::{Known, Reservation, Reserving, Settling, Verdict},
    verify::NumericDate,
};

pin_project! {
    pub(super) struct Guarded<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        step: Step<S, B, S::Future, S::Response, S::Error>,
        // While the inner service is called. Dropped with the future, it changes nothing: whether the
        // handler has finished is unknown then.
        reservation: Option<Reservation>,
        body_bytes: usize,
        config: Arc<Config>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<S, B, F, R, E> {
        Reserving { reserving: Reserving, call: Option<(S, Request<B>)> },
        Calling { #[pin] future: F },
        Settling { settling: Settling, result: Option<Result<R, E>> },
    }
}

impl<S, B> Guarded<S, B>
where
    S: Service<Request<B>>,
{
    pub(super) fn new(
        reserving: Reserving,
        service: S,
        request: Request<B>,
        body_bytes: usize,
        config: Arc<Config>,
    ) -> Self {
        let step = Step::Reserving { reserving, call: Some((service, request)) };
        Self { step, reservation: None, body_bytes, config }
    }
}

impl<S, B, ResBody> Future for Guarded<S, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let tracing = &this.config.tracing;
        loop {
            let next = match this.step.as_mut().project() {
                StepProjection::Reserving { reserving, call } => {
                    let verdict = ready!(Pin::new(reserving).poll(cx));
                    let (mut service, request) = call.take().expect("taken once, with the verdict");
                    *this.reservation = Some(match verdict {
                        Verdict::Reserved(reservation) => reservation,
                        Verdict::Unguarded(reservation, error) => {
                            tracing.unguarded(&request, &error);
                            reservation
                        }
                        Verdict::InFlight { retry_after } => {
                            let response = ReplayResponse::InFlight;
                            tracing.replayed(&request, response, Known::Token);
                            return Poll::Ready(Ok(respond(response, Some(retry_after))));
                        }
                        Verdict::Done(known) => {
                            let response = ReplayResponse::AlreadyProcessed;
                            tracing.replayed(&request, response, known);
                            return Poll::Ready(Ok(respond(response, None)));
                        }
                        Verdict::Unavailable(error) => {
                            let response = ReplayResponse::StoreUnavailable;
                            tracing.store_unavailable(&request, response, &error);
                            return Poll::Ready(Ok(respond(response, None)));
                        }
                    });
                    tracing.accepted(&request, *this.body_bytes, &*this.config.clock);
                    let panicking = ReleaseOnPanic(this.reservation);
                    let future = service.call(request);
                    panicking.disarm();
                    Step::Calling { future }
                }
                StepProjection::Calling { future } => {
                    let panicking = ReleaseOnPanic(this.reservation);
                    let poll = future.poll(cx);
                    panicking.disarm();
                    let result = ready!(poll);
                    let reservation = this.reservation.take().expect("held while calling");
                    let settling = match &result {
                        Ok(response) if response.status().is_success() => {
                            reservation.confirm(NumericDate::from((this.config.clock)()))
                        }
                        _ => reservation.release(),
                    };
                    Step::Settling { settling, result: Some(result) }
                }
                StepProjection::Settling { settling, result } => {
                    if let Err(error) = ready!(Pin::new(settling).poll(cx)) {
                        tracing.settling_failed(&error);
                    }
                    let result = result.take().expect("polled after completion");
                    return Poll::Ready(result.map(|response| response.map(ResponseBody::inner)));
                }
            };
            this.step.set(next);
        }
    }
}

fn respond<B>(response: ReplayResponse, retry_after: Option<u64>) -> Response<ResponseBody<B>> {
    response.response(retry_after).map(ResponseBody::own)
}

/// Releases a reservation if the inner service panics: then its handler is known not to have finished.
///
/// `thread::panicking` can't tell, since a future may also be polled, or dropped, while its thread
/// unwinds for another reason.
struct ReleaseOnPanic<'a>(&'a mut Option<Reservation>);

impl ReleaseOnPanic<'_> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for ReleaseOnPanic<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.0.take() {
            reservation.release_in_background();
        }
    }
}
