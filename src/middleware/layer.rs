//! The layer: the builder and its defaults.

use std::{
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::Response;
use tower_layer::Layer;

use super::{
    config::{Account, Config},
    rejection::Rejection,
    service::QStashVerify,
    time::system_clock,
    trace::Tracing,
};
use crate::{
    forward::{As, SameBody},
    keys::SigningKeysHandle,
    public_url::PublicUrl,
    replay::ReplayGuard,
};

const DEFAULT_BODY_LIMIT: usize = 3 * 1024 * 1024;
const DEFAULT_DRAIN_LIMIT: usize = 64 * 1024;
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A Tower layer that verifies QStash deliveries and rejects every other request.
///
/// | setting | default |
/// |---|---|
/// | [`clock_tolerance`](Self::clock_tolerance) | zero |
/// | [`body_limit`](Self::body_limit) | 3 MiB |
/// | [`drain_limit`](Self::drain_limit) | 64 KiB |
/// | [`drain_timeout`](Self::drain_timeout) | 2 s |
/// | [`clock`](Self::clock) | [`SystemTime::now`], on `wasm32-unknown-unknown` JavaScript's `Date.now()` |
/// | [`rejection_response`](Self::rejection_response) | [`Rejection::response`] |
/// | [`replay_guard`](Self::replay_guard) | none |
/// | [`log_query_values`](Self::log_query_values) | `false` |
///
/// ```
/// use std::time::Duration;
/// use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
///
/// let keys = SigningKeys::new("sig_current", "sig_next")?;
/// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?)
///     .clock_tolerance(Duration::from_secs(5))
///     .body_limit(5 * 1024 * 1024)
///     .drain_limit(256 * 1024)
///     .log_query_values(true);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Stacks
///
/// Layers that limit concurrency, decompress the body or rewrite the URI belong inside this one. One
/// that wraps the request's body, such as `RequestBodyLimitLayer`, needs [`forward_as`](Self::forward_as)
/// outside. A timeout for a slow client belongs outside. Everything else may go on either side. The
/// inner service must be `Clone`.
///
/// The guide [Stacks](crate::guides::stacks) has an example of each, the rules for axum's routers, hyper
/// and AWS Lambda, and what can't work.
#[must_use = "a layer does nothing until it wraps a service"]
pub struct QStashVerifyLayer<F = SameBody> {
    config: Arc<Config>,
    forward: PhantomData<fn() -> F>,
}

impl QStashVerifyLayer {
    /// Accepts deliveries signed with one of `keys` and published to `public_url`.
    ///
    /// `keys` are [`SigningKeys`](crate::SigningKeys), or a [`SigningKeysHandle`] that replaces them
    /// while the service runs.
    pub fn new(keys: impl Into<SigningKeysHandle>, public_url: PublicUrl) -> Self {
        let config = Config {
            accounts: vec![Account { keys: keys.into(), public_url }],
            clock_tolerance: Duration::ZERO,
            body_limit: DEFAULT_BODY_LIMIT,
            drain_limit: DEFAULT_DRAIN_LIMIT,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            clock: Arc::new(system_clock),
            rejection_response: Arc::new(Rejection::response),
            replay_guard: None,
            tracing: Tracing::default(),
        };
        Self { config: Arc::new(config), forward: PhantomData }
    }
}

impl<F> QStashVerifyLayer<F> {
    /// Accepts deliveries of another account as well: signed with one of `keys` and published to
    /// `public_url`.
    ///
    /// Each account's keys are bound to its own URL. The owner of a signing key can sign any URL, so
    /// a tenant whose keys were merely joined to yours, with
    /// [`SigningKeys::also`](crate::SigningKeys::also), could call every endpoint of the service.
    ///
    /// ```
    /// use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
    ///
    /// let own = SigningKeys::new("sig_current", "sig_next")?;
    /// let tenant = SigningKeys::new("sig_tenant_current", "sig_tenant_next")?.with_label("tenant 7")?;
    /// let origin = PublicUrl::base("https://api.example.com")?;
    /// let layer = QStashVerifyLayer::new(own, origin.clone())
    ///     .also(tenant, origin.within("/tenants/7")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Use [`PublicUrl::within`] for another party's keys, as here. Without it, a
    /// [`PublicUrl::base`] of another domain accepts that party's deliveries at every path of this
    /// service, since the domain that a request came to is the client's word.
    ///
    /// A [`ReplayGuard`] is shared by all accounts of the layer, and the owner of a key can fill its store:
    /// give each party [a layer and a guard of its own](crate::guides::replays#one-guard-for-each-party).
    pub fn also(self, keys: impl Into<SigningKeysHandle>, public_url: PublicUrl) -> Self {
        let account = Account { keys: keys.into(), public_url };
        self.with(|config| config.accounts.push(account))
    }

    /// Sets the clock skew to allow when checking `nbf` and `exp`. Defaults to zero.
    pub fn clock_tolerance(self, tolerance: Duration) -> Self {
        self.with(|config| config.clock_tolerance = tolerance)
    }

    /// Sets the largest body to accept, in bytes. A larger one is rejected with 413. Defaults to
    /// 3 MiB.
    ///
    /// QStash limits a message by plan, and a callback holds two bodies in base64, the message's and
    /// the response's:
    ///
    /// | plan | message | its callback | `body_limit` for both |
    /// |---|---|---|---|
    /// | free | 1 MB | 2.8 MB | 3 MiB, the default |
    /// | pay as you go | 10 MB | 27 MB | 28 MiB |
    /// | fixed | 50 MB | 134 MB | 140 MiB |
    ///
    /// axum's extractors have a limit of their own, 2 MB: raise `axum::extract::DefaultBodyLimit` as
    /// well. On Lambda an event has at most 6 MB.
    ///
    /// Source: [QStash, Pricing & limits](https://upstash.com/pricing/qstash).
    pub fn body_limit(self, bytes: usize) -> Self {
        self.with(|config| config.body_limit = bytes)
    }

    /// Sets how much of a rejected request's body to discard before responding, in bytes. Defaults to
    /// 64 KiB; 0 discards nothing.
    ///
    /// A client that writes its whole body before it reads would otherwise see a broken pipe instead
    /// of the reason.
    pub fn drain_limit(self, bytes: usize) -> Self {
        self.with(|config| config.drain_limit = bytes)
    }

    /// Sets how long to wait for the body of a rejected request, in total, while discarding it.
    /// Defaults to 2 s; zero waits for nothing and discards only what has arrived.
    ///
    /// A client that stalls can't hold its place for longer than that. The guide
    /// [Stacks](crate::guides::stacks#a-concurrency-limit-goes-inside) says where a concurrency limit goes.
    ///
    /// The timer is tokio's. Outside a tokio runtime, and in one without `enable_time`, a body that isn't
    /// ready is not waited for. A runtime without `enable_time` can only be recognized by tokio's panic,
    /// which is caught: where panics abort, set zero there. On `wasm32-unknown-unknown` there is no timer:
    /// unless this is zero, the body is waited for until the platform ends the request.
    pub fn drain_timeout(self, timeout: Duration) -> Self {
        self.with(|config| config.drain_timeout = timeout)
    }

    /// Sets whether URLs are logged with the values in their query, cut to 256 bytes. Defaults to
    /// `false`: names stay, and values, which may be secrets, are replaced with `***`.
    pub fn log_query_values(self, log: bool) -> Self {
        self.with(|config| config.tracing.log_query_values(log))
    }

    /// Sets the clock. Defaults to the system clock, on `wasm32-unknown-unknown` to JavaScript's;
    /// override it in tests.
    ///
    /// It is read only once a token's MAC is valid.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
    ///
    /// // To deliver a captured token once more.
    /// let captured_at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    /// let keys = SigningKeys::new("sig_current", "sig_next")?;
    /// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?)
    ///     .clock(move || captured_at);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.with(|config| config.clock = Arc::new(clock))
    }

    /// Sets the function that builds the response to a rejected request. Defaults to
    /// [`Rejection::response`]; [`Rejection::non_retryable_response`] is ready-made as well.
    ///
    /// QStash would take a 2xx response as a successful delivery and drop the message. Such a status
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
        self.with(|config| config.rejection_response = Arc::new(response))
    }

    /// Sets a guard that lets each token through once. Defaults to none: a token can be used again
    /// until it expires.
    ///
    /// The token is reserved once the body is verified, confirmed after a 2xx response, and released
    /// after any other response, an error or a panic. See [`ReplayGuard`] for what it does in each case,
    /// and [`ReplayResponse`](crate::ReplayResponse) for its responses, which don't go through
    /// [`rejection_response`](Self::rejection_response). A token that expires while its body is read is
    /// rejected.
    ///
    /// ```
    /// use tower_qstash::{PublicUrl, QStashVerifyLayer, ReplayGuard, SigningKeys};
    ///
    /// let keys = SigningKeys::new("sig_current", "sig_next")?;
    /// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?)
    ///     .replay_guard(ReplayGuard::in_memory());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replay_guard(self, guard: ReplayGuard) -> Self {
        self.with(|config| config.replay_guard = Some(guard))
    }

    /// Takes any request body, and forwards it as a `T`.
    ///
    /// `T` is what the inner service takes: `Bytes`, `Vec<u8>`, `Full<Bytes>`, `axum::body::Body`, or
    /// anything else that is `From<Bytes>`. What came in may be any [`Body`](http_body::Body), with
    /// any error: hyper's `Incoming`, a Worker's, or what other layers wrapped. A body of one frame is
    /// not copied, unless `T::from` does.
    ///
    /// By default the type of the body stays as it is, and must be a
    /// [`RequestBody`](crate::RequestBody).
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use hyper::body::Incoming;
    /// use tower::{Service, ServiceBuilder};
    /// use tower_qstash::{PublicUrl, QStashVerifyLayer, SigningKeys};
    ///
    /// async fn webhook(request: Request<Bytes>) -> Result<Response<String>, Infallible> {
    ///     Ok(Response::new(format!("{} bytes", request.body().len())))
    /// }
    ///
    /// let keys = SigningKeys::new("sig_current", "sig_next")?;
    /// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?)
    ///     .forward_as::<Bytes>();
    /// let service = ServiceBuilder::new().layer(layer).service_fn(webhook);
    /// # fn takes(_: impl Service<Request<Incoming>>) {}
    /// # takes(service);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward_as<T: From<Bytes>>(self) -> QStashVerifyLayer<As<T>> {
        QStashVerifyLayer { config: self.config, forward: PhantomData }
    }

    /// Returns a handle that replaces the signing keys given to [`new`](QStashVerifyLayer::new), in every service
    /// that this layer and its clones create, even while they run.
    ///
    /// For the keys of [`also`](Self::also), create the handle first and pass it:
    /// [`SigningKeysHandle::new`].
    pub fn signing_keys_handle(&self) -> SigningKeysHandle {
        self.config.accounts[0].keys.clone()
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

// Not derived, because that would require `F: Clone`.
impl<F> Clone for QStashVerifyLayer<F> {
    fn clone(&self) -> Self {
        Self { config: Arc::clone(&self.config), forward: PhantomData }
    }
}

impl<F> fmt::Debug for QStashVerifyLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QStashVerifyLayer").field("config", &self.config).finish()
    }
}

impl<S, F> Layer<S> for QStashVerifyLayer<F> {
    type Service = QStashVerify<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        QStashVerify::new(inner, Arc::clone(&self.config))
    }
}
