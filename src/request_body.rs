//! Request bodies that can be rebuilt from bytes.

use std::convert::Infallible;

use bytes::Bytes;
use http_body::Body;
use http_body_util::{
    BodyExt, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};

/// A request body that can be rebuilt from bytes, so that the inner service receives the type that
/// came in.
///
/// Implemented for [`Full<Bytes>`], [`BoxBody`] and [`UnsyncBoxBody`], with the feature `axum` for
/// `axum::body::Body`, and with the feature `lambda_http` for `lambda_http::Body`.
///
/// Any other body needs [`forward_as`](crate::QStashVerifyLayer::forward_as), which names the type
/// that the inner service receives: hyper's `Incoming`, which can't be built from bytes, and what
/// other layers wrap around a body.
///
/// Trailers are not forwarded: QStash sends none, and they would not be signed.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use tower_qstash::RequestBody;
///
/// let body = Full::<Bytes>::from_bytes(Bytes::from_static(b"Hello World"));
///
/// // A body that is in memory anyway, which the layer need not take apart.
/// let body = lambda_http::Body::from("Hello World");
/// assert_eq!(body.as_bytes(), Some(&b"Hello World"[..]));
/// ```
///
/// The trait is sealed. The layer hashes the bytes that it reads and forwards a body built from
/// exactly those bytes; an implementation that returned other bytes would hand unverified ones to the
/// inner service.
///
/// ```compile_fail,E0277
/// use bytes::Bytes;
/// use http_body_util::Empty;
/// use tower_qstash::RequestBody;
///
/// struct Lying(Empty<Bytes>);
/// # impl http_body::Body for Lying {
/// #     type Data = Bytes;
/// #     type Error = std::convert::Infallible;
/// #     fn poll_frame(
/// #         self: std::pin::Pin<&mut Self>,
/// #         _: &mut std::task::Context<'_>,
/// #     ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
/// #         std::task::Poll::Ready(None)
/// #     }
/// # }
///
/// impl RequestBody for Lying {
///     fn from_bytes(_: Bytes) -> Self {
///         Self(Empty::new())
///     }
/// }
/// ```
// Not `From<Bytes>`: `lambda_http::Body` has none, and its `From<Vec<u8>>` turns text into binary.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a request body that `QStashVerifyLayer` can forward",
    label = "not a `RequestBody`",
    note = "axum::body::Body needs the feature `axum` of tower-qstash, lambda_http::Body the feature `lambda_http`",
    note = "any other body, such as hyper's `Incoming` or what an outer layer wraps, needs `.forward_as::<T>()` on \
            the layer, where `T` is the body that the inner service takes: `axum::body::Body`, `Full<Bytes>`, `Bytes`"
)]
pub trait RequestBody: Body + Unpin + Sized + sealed::Sealed {
    /// Creates a body of exactly these bytes.
    fn from_bytes(bytes: Bytes) -> Self;

    /// Returns the whole body if it is in memory in one piece. It is then forwarded untouched.
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }
}

pub(crate) mod sealed {
    /// Keeps implementations of [`RequestBody`](super::RequestBody) in this crate.
    #[expect(unnameable_types, reason = "this is what seals the trait")]
    pub trait Sealed {}
}

impl sealed::Sealed for Full<Bytes> {}

impl RequestBody for Full<Bytes> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl<E: 'static> sealed::Sealed for BoxBody<Bytes, E> {}

impl<E: 'static> RequestBody for BoxBody<Bytes, E> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes).map_err(never))
    }
}

impl<E: 'static> sealed::Sealed for UnsyncBoxBody<Bytes, E> {}

impl<E: 'static> RequestBody for UnsyncBoxBody<Bytes, E> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes).map_err(never))
    }
}

fn never<E>(infallible: Infallible) -> E {
    match infallible {}
}
