//! The service: verifies the parts of a request, then reads the body or rejects.

use std::{
    error::Error,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{config::Config, future::ResponseFuture, response_body::ResponseBody};
use crate::request_body::RequestBody;

/// Verifies requests and calls the inner service with genuine deliveries only. Created by
/// [`QStashVerifyLayer`](crate::QStashVerifyLayer).
///
/// Verified requests reach the inner service unchanged, with [`Claims`](crate::Claims) in their
/// extensions.
#[derive(Clone, Debug)]
pub struct QStashVerify<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> QStashVerify<S> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the service and returns the inner one.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, ResBody> Service<Request<B>> for QStashVerify<S>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone,
    B: RequestBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Call the instance that was polled ready and leave a clone in its place (see the `Service`
        // docs on cloning). On rejection it is dropped, which releases whatever `poll_ready` reserved.
        let clone = self.inner.clone();
        let service = mem::replace(&mut self.inner, clone);
        let config = Arc::clone(&self.config);

        let (parts, body) = request.into_parts();
        match config.verify_parts(&parts) {
            Ok(verifier) => ResponseFuture::read(parts, body, verifier, service, config),
            Err(rejection) => ResponseFuture::reject(&parts, body, rejection, config),
        }
    }
}
