//! The service: verifies the parts of a request, then reads the body or rejects.

use std::{
    error::Error,
    fmt,
    marker::PhantomData,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{config::Config, future::ResponseFuture, response_body::ResponseBody};
use crate::forward::{Forward, SameBody};

/// Verifies requests and calls the inner service with genuine deliveries only. Created by
/// [`QStashVerifyLayer`](crate::QStashVerifyLayer).
///
/// Verified requests reach the inner service unchanged, with [`Claims`](crate::Claims) in their
/// extensions. With [`forward_as`](crate::QStashVerifyLayer::forward_as), only the type of their body
/// is another.
///
/// It asks for no `Send`, and its future is `Send` if the inner service, its future and the body are.
///
/// ```
/// use tower::Layer;
/// use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
///
/// // A service of yours.
/// struct Webhook {
///     greeting: String,
/// }
///
/// let keys = SigningKeys::new("sig_current", "sig_next")?;
/// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// let mut service = layer.layer(Webhook { greeting: "Hello".to_owned() });
/// service.get_mut().greeting.push('!');
/// assert_eq!(service.get_ref().greeting, "Hello!");
/// let webhook = service.into_inner();
/// # drop(webhook);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct QStashVerify<S, F = SameBody> {
    inner: S,
    config: Arc<Config>,
    forward: PhantomData<fn() -> F>,
}

impl<S, F> QStashVerify<S, F> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config, forward: PhantomData }
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

// Not derived, because that would require `F: Clone`.
impl<S: Clone, F> Clone for QStashVerify<S, F> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.config))
    }
}

impl<S: fmt::Debug, F> fmt::Debug for QStashVerify<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QStashVerify")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .finish()
    }
}

impl<S, B, F, ResBody> Service<Request<B>> for QStashVerify<S, F>
where
    F: Forward<B>,
    S: Service<Request<F::Body>, Response = Response<ResBody>> + Clone,
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, F>;

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
