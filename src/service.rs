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

/// The service that [`QStashVerifyLayer`](crate::QStashVerifyLayer) makes: calls the inner service
/// with genuine deliveries only.
///
/// Such a request arrives as it came, with the [`Claims`](crate::Claims) in its extensions.
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
        // The instance that was polled ready goes with the request, or is dropped with a rejection
        // so that what it reserved is free again; the clone is for the next request.
        let clone = self.inner.clone();
        let ready = mem::replace(&mut self.inner, clone);
        let settings = Arc::clone(&self.settings);

        let (head, body) = request.into_parts();
        match settings.verify_head(&head) {
            Ok(token) => ResponseFuture::read(head, body, token, ready, settings),
            Err(rejection) => ResponseFuture::reject(&head, body, rejection, settings),
        }
    }
}
