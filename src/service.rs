//! The service: from the header to a verified token, or to a rejection at once.

use std::{
    error::Error,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use crate::{RequestBody, ResponseBody, ResponseFuture, layer::Settings};

/// Verifies requests and calls the inner service with genuine deliveries only. Created by
/// [`QStashVerifyLayer`](crate::QStashVerifyLayer).
///
/// Verified requests reach the inner service unchanged, with [`Claims`](crate::Claims) in their
/// extensions.
#[derive(Clone, Debug)]
pub struct QStashVerify<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> QStashVerify<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
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
        let settings = Arc::clone(&self.settings);

        let (parts, body) = request.into_parts();
        match settings.verify_parts(&parts) {
            Ok(token) => ResponseFuture::read(parts, body, token, service, settings),
            Err(rejection) => ResponseFuture::reject(&parts, body, rejection, settings),
        }
    }
}
