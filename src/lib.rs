//! Tower middleware that verifies [Upstash QStash] webhook signatures.
//!
//! QStash calls your service over HTTP and signs each call: the header `Upstash-Signature` is a
//! JWT over the destination, the time and the body. [`QStashVerifyLayer`] verifies it and forwards the
//! request to your service, or rejects it. The same layer wraps an axum router, a `lambda_http`
//! service, and any other Tower service over HTTP: where that takes another body,
//! [`forward_as`](QStashVerifyLayer::forward_as) names the one to forward.
//!
//! The [guides] go from an empty folder to a deployed receiver, and then further:
//! [AWS Lambda](guides::lambda), [axum](guides::axum), [testing](guides::testing),
//! [troubleshooting](guides::troubleshooting) and others.
//!
//! [Upstash QStash]: https://upstash.com/docs/qstash/howto/signature
//!
//! # axum (feature `axum`)
//!
//! ```no_run
//! use axum::{Router, routing::post};
//! use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeys};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! tracing_subscriber::fmt().init(); // with the feature `tracing`, shows what is rejected, and why
//! let verify = QStashVerifyLayer::new(
//!     SigningKeys::from_env()?,
//!     PublicUrl::base("https://api.example.com")?,
//! );
//! let app = Router::new().route("/webhook", post(webhook)).layer(verify);
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! axum::serve(listener, app).await?;
//! # Ok(()) }
//!
//! async fn webhook(claims: Claims, body: String) -> &'static str {
//!     println!("{}: {} bytes", claims.subject(), body.len());
//!     "done"
//! }
//! ```
//!
//! # AWS Lambda (feature `lambda_http`)
//!
//! ```no_run
//! use lambda_http::{Body, Error, Request, Response, service_fn, tower::ServiceBuilder};
//! use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeys};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Error> {
//!     lambda_http::tracing::init_default_subscriber();
//!     let verify = QStashVerifyLayer::new(SigningKeys::from_env()?, PublicUrl::from_lambda_context());
//!     lambda_http::run(ServiceBuilder::new().layer(verify).service(service_fn(webhook))).await
//! }
//!
//! async fn webhook(request: Request) -> Result<Response<Body>, Error> {
//!     let claims = Claims::from_request(&request)?;
//!     println!("{}: {} bytes", claims.subject(), request.body().len());
//!     Ok(Response::new(r#"{"message":"ok"}"#.into()))
//! }
//! ```
//!
//! # The rules
//!
#![doc = include_str!("../docs/request.svg")]
//!
//! The checks run in this order. The first one that fails rejects the request:
//!
//! 1. There is exactly one `Upstash-Signature` header, of ASCII, not empty, at most 8 KiB (less
//!    with more than 16 keys).
//! 2. It is a JWT of three segments, signed with HMAC-SHA256 and one of the [`SigningKeys`].
//! 3. Its header has `alg` `HS256` and no `crit`.
//! 4. Its claims have the right types; `iss`, `sub`, `exp` and `body` are present.
//! 5. `iss` is `Upstash`.
//! 6. `sub` is the URL that this request was sent to, according to your [`PublicUrl`], and the inner
//!    service sees the path and query that were compared.
//! 7. The time is at or after `nbf`, if present, and before `exp`, give or take the
//!    [`clock_tolerance`](QStashVerifyLayer::clock_tolerance).
//! 8. The body is no larger than the limit.
//! 9. The body's SHA-256 is the claim `body`.
//!
//! Rules 1 to 7 are checked before the body is read, so a forged request costs at most one MAC for
//! each key. When a request is rejected, up to about [`drain_limit`](QStashVerifyLayer::drain_limit)
//! bytes of the remaining body are discarded, for at most
//! [`drain_timeout`](QStashVerifyLayer::drain_timeout), so that QStash receives the response.
//!
//! A request that passes them all, and one that doesn't:
//!
//! ```
//! use std::{convert::Infallible, time::SystemTime};
//!
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Full;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, Signer, SigningKeys};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = SigningKeys::new("sig_current", "sig_next")?;
//! let verify = QStashVerifyLayer::new(keys, PublicUrl::base("https://example.com")?);
//! let service = verify.layer(service_fn(async |request: Request<Full<Bytes>>| {
//!     assert!(request.extensions().get::<Claims>().is_some());
//!     Ok::<_, Infallible>(Response::new("done".to_owned()))
//! }));
//!
//! let signer = Signer::new("sig_current")?;
//! let token = signer.delivery("https://example.com/hook", "Hello", SystemTime::now()).token();
//! let deliver = |body| {
//!     let request = Request::post("/hook").header("Upstash-Signature", &token);
//!     service.clone().oneshot(request.body(Full::from(body)).expect("a valid request"))
//! };
//! assert_eq!(deliver("Hello").await?.status(), StatusCode::OK);
//! assert_eq!(deliver("Hallo").await?.status(), StatusCode::BAD_REQUEST);
//! # Ok(()) }
//! ```
//!
//! # What is signed and what is not
//!
//! Signed: the destination URL, the body, the times and the token's id. **Not signed:** the method
//! and every other header, such as `Upstash-Message-Id`, `Upstash-Retried`, `Upstash-Schedule-Id`,
//! `Upstash-Caller-Ip` and `Upstash-Region`. Treat them as untrusted input. The
//! [threat model](guides::threat_model) says what that means, and what else is not protected.
//!
//! # Replays and repeats
//!
//! A token stays valid for five minutes, however often it is presented. A [`ReplayGuard`] lets it
//! through once; set it with [`replay_guard`](QStashVerifyLayer::replay_guard).
//!
//! QStash delivers at least once: it retries with a new token, and so with a new `jti`, if the handler
//! succeeded and the response was lost. [`remember_messages`](ReplayGuard::remember_messages) recognizes
//! such a message. [Replays and repeats](guides::replays) says what a guard does in each case, which store
//! it needs, and what only the handler can do.
//!
//! # Logs (feature `tracing`)
//!
//! Each request is logged, at `debug` if accepted and at `warn` if rejected; an event never contains a
//! key, a token or a body. Install a subscriber, such as `tracing_subscriber::fmt().init()`, or nothing
//! is logged. [Operating](guides::operating) lists the events and their fields, and has a recipe for
//! metrics and spans.
//!
//! # Deployment
//!
//! - Configure the [`PublicUrl`]. It can't be derived from the request, because the sender controls
//!   `Host`: anyone who receives one delivery of your account could replay it at your other endpoints.
//! - Nothing outside this layer may change the body, so decompression belongs inside. Which layer goes
//!   where, and what can't work: [Stacks](guides::stacks).
//! - A client may be slow. Put a timeout outside the layer, and limit the server's connections, as for
//!   any other service.
//!
//! # Features
//!
//! None is on by default. No feature changes behavior, with one exception: with `axum` and
//! `lambda_http`, [`PublicUrl`] uses the original path where those frameworks keep it.
//!
//! | feature | adds |
//! |---|---|
//! | `axum` | [`RequestBody`] for axum's body, the original path of a nested router, extractors for [`Claims`] and [`UnsignedDelivery`] |
//! | `callbacks` | `Callback` and `FailureCallback`; with `axum` also as extractors, with `testing` also `CallbackBuilder` |
//! | `lambda_http` | [`RequestBody`] for lambda_http's body, `PublicUrl::from_lambda_context`, the path as the caller saw it, without the stage that lambda_http adds |
//! | `replay-store` | `ReplayGuard::new`, for a [`ReplayStore`] of your own |
//! | `redis` | `RedisStore` and `ReplayGuard::redis`, for Redis and Valkey; includes `replay-store` |
//! | `redis-tls` | `rediss://` URLs, which Upstash's Redis needs; includes `redis` |
//! | `testing` | `Signer`, to test handlers without QStash, and `check_replay_store` |
//! | `tracing` | events |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::as_conversions, clippy::disallowed_methods)]

#[cfg(feature = "axum")]
mod axum;
mod delivery;
#[cfg(not(feature = "lambda_http"))]
mod feature;
mod forward;
#[cfg(any(doc, doctest))]
pub mod guides;
mod keys;
#[cfg(feature = "lambda_http")]
mod lambda_http;
mod middleware;
mod missing_layer;
mod public_url;
mod replay;
mod request_body;
mod response;
#[cfg(feature = "testing")]
mod testing;
mod url;
mod verify;

#[cfg(all(feature = "axum", feature = "callbacks"))]
pub use crate::axum::CallbackRejection;
#[cfg(feature = "callbacks")]
#[cfg_attr(docsrs, doc(cfg(feature = "callbacks")))]
pub use crate::delivery::{Callback, CallbackError, FailureCallback};
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use crate::replay::conformance::check_replay_store;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use crate::replay::{InvalidRedisUrl, RedisStore};
#[cfg(all(feature = "callbacks", feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(all(feature = "callbacks", feature = "testing"))))]
pub use crate::testing::CallbackBuilder;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use crate::testing::{DeliveryBuilder, Signer};
pub use crate::{
    delivery::UnsignedDelivery,
    forward::{As, Forward, SameBody},
    keys::{SigningKeyError, SigningKeys, SigningKeysHandle},
    middleware::{
        QStashVerify, QStashVerifyLayer, Rejection, ReplayResponse, ResponseBody, ResponseFuture,
    },
    missing_layer::MissingLayer,
    public_url::{PublicUrl, PublicUrlError},
    replay::{
        BoxError, Holder, Lifetime, MemoryStore, ReplayGuard, ReplayKey, ReplayStore, Reserve,
    },
    request_body::RequestBody,
    response::{non_retryable, retry_after},
    url::RedactedUrl,
    verify::{BodyVerifier, Claims, NumericDate, NumericDateOutOfRange, Verifier, VerifyError},
};

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
