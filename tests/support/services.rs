//! Inner services.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Ready, ready},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Service, service_fn};

/// Responds at once with an empty body, without an allocation.
#[derive(Clone, Debug)]
pub(crate) struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Full::default())))
    }
}

/// Records the requests that reach its services, which respond with the text `inner`.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    requests: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Recorder {
    pub(crate) fn calls(&self) -> usize {
        self.requests().len()
    }

    pub(crate) fn requests(&self) -> MutexGuard<'_, Vec<Request<Bytes>>> {
        self.requests.lock().expect("no test panicked")
    }

    pub(crate) fn service<B>(
        &self,
    ) -> impl Service<Request<B>, Response = Response<String>, Error = Infallible, Future: Send>
    + Clone
    + use<B>
    where
        B: Body<Data: Send, Error: Debug> + Send + 'static,
    {
        let recorder = self.clone();
        service_fn(move |request: Request<B>| {
            let recorder = recorder.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("a verified body does not fail").to_bytes();
                recorder.requests().push(Request::from_parts(parts, body));
                Ok(Response::new("inner".to_owned()))
            }
        })
    }
}
