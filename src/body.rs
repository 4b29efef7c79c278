//! Bodies: which can be handed on, how one is read and hashed, and what goes back.

use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{
    BodyExt, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};
use pin_project_lite::pin_project;

use crate::{Rejection, VerifiedToken};

/// A request body that can be made again from its bytes, so that the inner service gets the same
/// type that came in.
///
/// Implemented for [`Full<Bytes>`], [`BoxBody`] and [`UnsyncBoxBody`], with feature `axum` for
/// `axum::body::Body`, and with feature `lambda_http` for `lambda_http::Body`.
///
/// hyper's `Incoming` cannot be made from bytes: box it first, with
/// `ServiceBuilder::new().map_request(|request: Request<Incoming>| request.map(BoxBody::new))`.
/// The same goes for what other layers wrap around a body, with `axum::body::Body::new` in place
/// of `BoxBody::new` where axum is inside.
///
/// Trailers are not handed on: QStash sends none, and they would not be signed.
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
            `.map_request(|request: Request<_>| request.map(BoxBody::new))`, \
            with `axum::body::Body::new` in place of `BoxBody::new` where axum is inside"
)]
pub trait RequestBody: Body + Unpin + Sized {
    /// A body of exactly these bytes.
    fn from_bytes(bytes: Bytes) -> Self;

    /// The whole body, if it lies in memory in one piece; it is then handed on untouched.
    fn as_bytes(&self) -> Option<&[u8]> {
        None
    }
}

impl RequestBody for Full<Bytes> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl<E: 'static> RequestBody for BoxBody<Bytes, E> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes).map_err(never))
    }
}

impl<E: 'static> RequestBody for UnsyncBoxBody<Bytes, E> {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes).map_err(never))
    }
}

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl RequestBody for axum::body::Body {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::from(bytes)
    }
}

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

/// Reads a body up to a limit and hashes it as it comes.
pub(crate) struct BodyReader<B> {
    body: B,
    limit: usize,
    collected: Collected,
    /// Whether `body` ended or failed, and must not be polled again.
    ended: bool,
}

/// What was read so far. A single frame is kept as it came, never copied.
enum Collected {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl<B: RequestBody> BodyReader<B> {
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Self { body, limit, collected: Collected::Nothing, ended: false }
    }

    /// Feeds the whole body to `token`.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        token: &mut VerifiedToken,
    ) -> Poll<Result<(), Rejection>>
    where
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if let Some(bytes) = self.body.as_bytes() {
            self.check_limit(bytes.len())?;
            token.update(bytes);
            return Poll::Ready(Ok(()));
        }
        loop {
            self.check_limit(self.len().saturating_add(self.still_to_come()))?;
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    self.check_limit(self.len().saturating_add(data.remaining()))?;
                    let data = data.copy_to_bytes(data.remaining());
                    token.update(&data);
                    self.collect(data);
                }
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Err(unreadable(error.into(), self.limit)));
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// The body to hand on, after it was read to its end.
    pub(crate) fn into_whole(self) -> B {
        if self.body.as_bytes().is_some() {
            return self.body;
        }
        B::from_bytes(match self.collected {
            Collected::Nothing => Bytes::new(),
            Collected::One(bytes) => bytes,
            Collected::Many(bytes) => bytes.freeze(),
        })
    }

    /// What is left to throw away, if reading stopped early.
    pub(crate) fn into_rest(self) -> Option<B> {
        (!self.ended).then_some(self.body)
    }

    /// How many bytes were read.
    pub(crate) fn len(&self) -> usize {
        match (&self.collected, self.body.as_bytes()) {
            (_, Some(bytes)) => bytes.len(),
            (Collected::Nothing, None) => 0,
            (Collected::One(bytes), None) => bytes.len(),
            (Collected::Many(bytes), None) => bytes.len(),
        }
    }

    fn check_limit(&self, total: usize) -> Result<(), Rejection> {
        if total > self.limit {
            return Err(Rejection::BodyTooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// What the body declares to have left, as from a `Content-Length`.
    fn still_to_come(&self) -> usize {
        usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX)
    }

    fn collect(&mut self, data: Bytes) {
        let still_to_come = self.still_to_come().min(self.limit);
        let start = |data: &Bytes| {
            let mut all = BytesMut::with_capacity(data.len() + still_to_come);
            all.extend_from_slice(data);
            all
        };
        match &mut self.collected {
            _ if data.is_empty() => {}
            Collected::Nothing if still_to_come == 0 => self.collected = Collected::One(data),
            Collected::Nothing => self.collected = Collected::Many(start(&data)),
            Collected::One(first) => {
                let mut all = start(first);
                all.extend_from_slice(&data);
                self.collected = Collected::Many(all);
            }
            Collected::Many(all) => all.extend_from_slice(&data),
        }
    }
}

/// A limit that a layer further out set is a limit all the same.
fn unreadable(error: Box<dyn Error + Send + Sync>, limit: usize) -> Rejection {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return Rejection::BodyTooLarge { limit };
        }
        cause = error.source();
    }
    Rejection::BodyUnreadable(Arc::from(error))
}

/// Throws away up to `left` bytes of a body.
pub(crate) fn poll_drain<B: Body + Unpin>(
    body: &mut B,
    left: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<()> {
    while *left > 0 && !body.is_end_stream() {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Buf::remaining);
                *left = left.saturating_sub(length);
            }
            Some(Err(_)) | None => break,
        }
    }
    Poll::Ready(())
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
