//! The layer: its settings, their defaults, and the only clock.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, request::Parts};
use tower_layer::Layer;

use crate::{
    PublicUrl, QStashVerify, Rejection, SigningKeys, SigningKeysHandle, VerifiedToken,
    verify::verify_token,
};

const SIGNATURE: HeaderName = HeaderName::from_static("upstash-signature");
const DEFAULT_BODY_LIMIT: usize = 1024 * 1024;
const DEFAULT_DRAIN_LIMIT: usize = 64 * 1024;

/// A Tower layer that lets only genuine QStash deliveries through.
///
/// | setting | default |
/// |---|---|
/// | [`clock_tolerance`](Self::clock_tolerance) | zero |
/// | [`body_limit`](Self::body_limit) | 1 MiB |
/// | [`drain_limit`](Self::drain_limit) | 64 KiB |
/// | [`clock`](Self::clock) | [`SystemTime::now`] |
/// | [`rejection_response`](Self::rejection_response) | [`Rejection::response`] |
///
/// ```
/// use std::time::Duration;
/// use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
///
/// let keys = SigningKeys::new("sig_current", "sig_next")?;
/// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?)
///     .clock_tolerance(Duration::from_secs(5))
///     .body_limit(5 * 1024 * 1024);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Stacks
///
/// "Above" is what sees the request earlier: the earlier layer of a `ServiceBuilder`, the later
/// call of `Router::layer`.
///
/// | layer | where |
/// |---|---|
/// | tracing, request ids, CORS, timeouts, compression of answers, caught panics, limits on concurrency, `from_fn` | above or below |
/// | `RequestBodyLimitLayer`, and whatever else wraps the request's body | below, or above with one line: |
/// | `RequestDecompressionLayer` | below: QStash signs the bytes it sends, so under `Content-Encoding: gzip` the compressed ones |
/// | what can fail, such as tower's timeout, `LoadShedLayer` and `BufferLayer` | above or below; in axum under a `HandleErrorLayer`, as ever |
///
/// ```
/// use axum::{Router, body::Body, extract::Request, routing::post};
/// use tower::ServiceBuilder;
/// use tower_http::{decompression::RequestDecompressionLayer, limit::RequestBodyLimitLayer};
/// # use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
///
/// # let keys = SigningKeys::new("sig_current", "sig_next")?;
/// # let verify = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// let stack = ServiceBuilder::new()
///     .layer(RequestBodyLimitLayer::new(256 * 1024))
///     // Makes what the limit wrapped axum's body again.
///     .map_request(|request: Request<_>| request.map(Body::new))
///     .layer(verify)
///     .layer(RequestDecompressionLayer::new());
/// let app: Router = Router::new().route("/hook", post(async || "done")).layer(stack);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Without that line it does not compile; in a call of `Router::layer` for each layer, where axum
/// itself boxes what lies between, it is not needed.
///
/// ```compile_fail,E0277
/// # use axum::Router;
/// # use tower::ServiceBuilder;
/// # use tower_http::limit::RequestBodyLimitLayer;
/// # use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
/// # let keys = SigningKeys::new("sig_current", "sig_next")?;
/// # let verify = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// let stack = ServiceBuilder::new().layer(RequestBodyLimitLayer::new(256 * 1024)).layer(verify);
/// let app: Router = Router::new().layer(stack);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A plain hyper server gives a body that cannot be made again, `Incoming`; box it above:
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::combinators::BoxBody;
/// use hyper::body::Incoming;
/// use hyper_util::service::TowerToHyperService;
/// use tower::ServiceBuilder;
/// # use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
///
/// # let keys = SigningKeys::new("sig_current", "sig_next")?;
/// # let verify = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// async fn webhook(
///     request: Request<BoxBody<Bytes, hyper::Error>>,
/// ) -> Result<Response<String>, Infallible> {
///     Ok(Response::new("done".to_owned()))
/// }
///
/// let service = ServiceBuilder::new()
///     .map_request(|request: Request<Incoming>| request.map(BoxBody::new))
///     .layer(verify)
///     .service_fn(webhook);
/// // For `serve_connection` of hyper or hyper-util.
/// let service = TowerToHyperService::new(service);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// On Lambda, every `lambda_http::run…` takes the layer around a `service_fn` and around an axum
/// router, or a router with the layer inside.
///
/// `option_layer`, and a wrapped router given straight to `axum::serve`, need axum's own body in the
/// response as well:
///
/// ```
/// use axum::{Router, body::Body, response::Response, routing::post};
/// use tower::{ServiceBuilder, make::Shared, util::option_layer};
/// # use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
///
/// # async fn serve(listener: tokio::net::TcpListener) -> Result<(), Box<dyn std::error::Error>> {
/// # let keys = SigningKeys::new("sig_current", "sig_next")?;
/// # let verify = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// let verify = ServiceBuilder::new()
///     .map_response(|response: Response<_>| response.map(Body::new))
///     .layer(verify);
/// let app: Router = Router::new().route("/hook", post(async || "done"));
/// let app = ServiceBuilder::new().layer(option_layer(Some(verify))).service(app);
/// axum::serve(listener, Shared::new(app)).await?;
/// # Ok(()) }
/// ```
///
/// What cannot work:
///
/// - A body of more than 2 MB for axum's extractors, whatever the [`body_limit`](Self::body_limit):
///   they have a limit of their own, so set `axum::extract::DefaultBodyLimit` too.
/// - `BoxService` below, because it is not `Clone`: use `BoxCloneSyncService`, or put a `BufferLayer`
///   between. It does not compile:
///
/// ```compile_fail,E0277
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// # use std::convert::Infallible;
/// # use tower::{Layer, Service, util::BoxService};
/// # use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
/// # let keys = SigningKeys::new("sig_current", "sig_next")?;
/// # let verify = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// fn service<S: Service<Request<Full<Bytes>>>>(_: S) {}
/// # fn inner() -> BoxService<Request<Full<Bytes>>, Response<String>, Infallible> { unreachable!() }
/// service(verify.layer(BoxService::new(inner())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct QStashVerifyLayer {
    settings: Arc<Settings>,
}

type Clock = dyn Fn() -> SystemTime + Send + Sync;
type RejectionResponse = dyn Fn(&Rejection) -> Response<Bytes> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Settings {
    keys: SigningKeysHandle,
    clock_tolerance: Duration,
    public_url: PublicUrl,
    pub(crate) body_limit: usize,
    pub(crate) drain_limit: usize,
    clock: Arc<Clock>,
    rejection_response: Arc<RejectionResponse>,
}

impl QStashVerifyLayer {
    /// Accepts deliveries signed with one of `keys` and published to `public_url`.
    pub fn new(keys: SigningKeys, public_url: PublicUrl) -> Self {
        let settings = Settings {
            keys: SigningKeysHandle::new(keys),
            clock_tolerance: Duration::ZERO,
            public_url,
            body_limit: DEFAULT_BODY_LIMIT,
            drain_limit: DEFAULT_DRAIN_LIMIT,
            clock: Arc::new(system_clock),
            rejection_response: Arc::new(Rejection::response),
        };
        Self { settings: Arc::new(settings) }
    }

    /// How far this machine's clock may be off when the claims `nbf` and `exp` are checked.
    /// Default: zero.
    pub fn clock_tolerance(self, tolerance: Duration) -> Self {
        self.with(|settings| settings.clock_tolerance = tolerance)
    }

    /// The largest body accepted, in bytes; a larger one is answered with 413. Default: 1 MiB,
    /// QStash's own default for messages.
    pub fn body_limit(self, bytes: usize) -> Self {
        self.with(|settings| settings.body_limit = bytes)
    }

    /// How much of a rejected request's body is read and thrown away before the answer, in bytes.
    /// Default: 64 KiB; 0 turns it off.
    ///
    /// Without it the connection may break while QStash still sends, and its log shows a broken
    /// pipe instead of the reason.
    pub fn drain_limit(self, bytes: usize) -> Self {
        self.with(|settings| settings.drain_limit = bytes)
    }

    /// Where the time comes from. Default: [`SystemTime::now`].
    pub fn clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.clock = Arc::new(clock))
    }

    /// Makes the whole answer to a rejected request. Default: [`Rejection::response`]; ready-made
    /// as well: [`Rejection::non_retryable_response`].
    ///
    /// An answer of 2xx would tell QStash that the message is done with, and lose it: such a status
    /// is replaced with [`Rejection::status`].
    ///
    /// ```
    /// # use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
    /// # let keys = SigningKeys::new("sig_current", "sig_next")?;
    /// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?)
    ///     .rejection_response(|rejection| {
    ///         eprintln!("rejected: {rejection:?}"); // `Debug` has both URLs of a mismatch
    ///         rejection.response()
    ///     });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rejection_response(
        self,
        response: impl Fn(&Rejection) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.rejection_response = Arc::new(response))
    }

    /// A handle that replaces the signing keys of every service that this layer and its clones
    /// make, even while they run.
    pub fn signing_keys_handle(&self) -> SigningKeysHandle {
        self.settings.keys.clone()
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl<S> Layer<S> for QStashVerifyLayer {
    type Service = QStashVerify<S>;

    fn layer(&self, inner: S) -> Self::Service {
        QStashVerify::new(inner, Arc::clone(&self.settings))
    }
}

impl Settings {
    /// All that can be said about a request before one byte of its body is read.
    pub(crate) fn verify_head(&self, head: &Parts) -> Result<VerifiedToken, Rejection> {
        let token = signature(&head.headers)?;
        let check_subject = |subject: &str| self.public_url.check(subject, head);
        verify_token(&self.keys.load(), self.clock_tolerance, token, (self.clock)(), check_subject)
    }

    pub(crate) fn respond(&self, rejection: Rejection) -> Response<Bytes> {
        let mut response = (self.rejection_response)(&rejection);
        if response.status().is_success() {
            *response.status_mut() = rejection.status();
        }
        response.extensions_mut().insert(rejection);
        response
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("keys", &self.keys.load())
            .field("clock_tolerance", &self.clock_tolerance)
            .field("public_url", &self.public_url)
            .field("body_limit", &self.body_limit)
            .field("drain_limit", &self.drain_limit)
            .finish_non_exhaustive()
    }
}

fn signature(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut signatures = headers.get_all(SIGNATURE).iter();
    let signature = signatures.next().ok_or(Rejection::MissingSignature)?;
    if signatures.next().is_some() {
        return Err(Rejection::DuplicateSignature);
    }
    match signature.to_str() {
        Ok("") => Err(Rejection::EmptySignature),
        Ok(signature) => Ok(signature),
        Err(_) => Err(Rejection::NonAsciiSignature),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that knows the time")]
fn system_clock() -> SystemTime {
    SystemTime::now()
}
