//! Bodies: which can be handed on, and what goes back.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{
    BodyExt, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};
use pin_project_lite::pin_project;

/// A request body that can be made again from its bytes, so that the inner service gets the same
/// type that came in.
///
/// Implemented for [`Full<Bytes>`], [`BoxBody`] and [`UnsyncBoxBody`], with feature `axum` for
/// `axum::body::Body`, and with feature `lambda_http` for `lambda_http::Body`.
///
/// hyper's `Incoming` cannot be made from bytes: box it first, with
/// `ServiceBuilder::new().map_request(|request: Request<Incoming>| request.map(BoxBody::new))`; the
/// handler then takes a `Request<BoxBody<Bytes, hyper::Error>>`. The same goes for what other layers
/// wrap around a body, with `axum::body::Body::new` in place of `BoxBody::new` where axum is inside.
///
/// Trailers are not forwarded: QStash sends none, and they would not be signed.
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
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use tower_qstash::RequestBody;
///
/// let body = Full::<Bytes>::from_bytes(Bytes::from_static(b"Hello World"));
/// ```
// Not `From<Bytes>`: `lambda_http::Body` has none, and its `From<Vec<u8>>` turns text into binary.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a request body that `QStashVerifyLayer` can hand on",
    label = "not a `RequestBody`",
    note = "axum::body::Body needs the feature `axum` of tower-qstash, lambda_http::Body the feature `lambda_http`",
    note = "box hyper's `Incoming`, or a body that another layer wraps, before this layer: \
            `.map_request(|request: Request<_>| request.map(BoxBody::new))` \
            (http_body_util::combinators::BoxBody, which the handler then gets), \
            with `axum::body::Body::new` in place of `BoxBody::new` where axum is inside"
)]
pub trait RequestBody: Body + Unpin + Sized + sealed::Sealed {
    /// A body of exactly these bytes.
    fn from_bytes(bytes: Bytes) -> Self;

    /// The whole body, if it lies in memory in one piece; it is then handed on untouched.
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }
}

mod sealed {
    /// Keeps implementations in this crate.
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

#[cfg(feature = "axum")]
impl sealed::Sealed for axum::body::Body {}

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl RequestBody for axum::body::Body {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::from(bytes)
    }
}

#[cfg(feature = "lambda_http")]
impl sealed::Sealed for lambda_http::Body {}

#[cfg(feature = "lambda_http")]
#[cfg_attr(docsrs, doc(cfg(feature = "lambda_http")))]
impl RequestBody for lambda_http::Body {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::from(Vec::from(bytes))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(self.as_ref())
    }
}

fn never<E>(infallible: Infallible) -> E {
    match infallible {}
}

pin_project! {
    /// The inner service's response body, or the answer to a rejected request.
    ///
    /// `Default` is an empty body, whatever the inner one is.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Rejection { body: Full<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    pub(crate) fn rejection(bytes: Bytes) -> Self {
        Self { kind: Kind::Rejection { body: Full::new(bytes) } }
    }
}

// Not derived: that would ask for `B: Default`, which many a body is not.
impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::rejection(Bytes::new())
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body } => body.poll_frame(cx),
            KindProjection::Rejection { body } => Pin::new(body).poll_frame(cx).map_err(never),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Rejection { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Rejection { body } => body.size_hint(),
        }
    }
}
