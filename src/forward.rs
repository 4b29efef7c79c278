//! Which body the inner service receives: the type that came in, or one that the layer names.

use std::{fmt, marker::PhantomData, pin::Pin};

use bytes::Bytes;
use http_body::Body;

use crate::request_body::RequestBody;

/// Chooses the request body of the inner service. A parameter of
/// [`QStashVerifyLayer`](crate::QStashVerifyLayer) that users seldom name.
///
/// It is [`SameBody`] unless [`forward_as`](crate::QStashVerifyLayer::forward_as) chooses [`As`].
///
/// The trait is sealed. What is forwarded is what was hashed: the bytes that were read, or the body
/// in memory that they were read from.
// Without `on_unimplemented`: for `SameBody` the compiler names `RequestBody`, which has one.
pub trait Forward<B>: sealed::Sealed {
    /// The request body of the inner service.
    type Body;

    /// Returns the whole body if it is in memory and can be forwarded as it is.
    #[doc(hidden)]
    fn as_bytes(body: &B) -> Option<&[u8]>;

    /// Takes the body that was read and returns the one to forward. `bytes` are those that were
    /// hashed, unless [`as_bytes`](Self::as_bytes) returned them.
    #[doc(hidden)]
    fn forward(body: Pin<&mut Option<B>>, bytes: Bytes) -> Self::Body;
}

/// The inner service receives the type of body that came in, which must be a [`RequestBody`].
#[derive(Clone, Copy, Debug)]
pub enum SameBody {}

/// The inner service receives a `T`, whatever came in:
/// [`forward_as`](crate::QStashVerifyLayer::forward_as) chooses it.
// Not `PhantomData<T>`, so that it has every auto trait.
pub struct As<T>(PhantomData<fn() -> T>);

impl<B: RequestBody> Forward<B> for SameBody {
    type Body = B;

    fn as_bytes(body: &B) -> Option<&[u8]> {
        body.as_bytes()
    }

    fn forward(body: Pin<&mut Option<B>>, bytes: Bytes) -> B {
        let in_memory = body.get_mut().take().filter(|body| body.as_bytes().is_some());
        in_memory.unwrap_or_else(|| B::from_bytes(bytes))
    }
}

impl<B: Body, T: From<Bytes>> Forward<B> for As<T> {
    type Body = T;

    fn as_bytes(_: &B) -> Option<&[u8]> {
        None
    }

    fn forward(mut body: Pin<&mut Option<B>>, bytes: Bytes) -> T {
        // A body that can't be moved is dropped in place, before the inner service is called.
        body.set(None);
        T::from(bytes)
    }
}

// Not derived, because that would require `T: Debug`.
impl<T> fmt::Debug for As<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("As")
    }
}

mod sealed {
    /// Keeps implementations of [`Forward`](super::Forward) in this crate.
    #[expect(unnameable_types, reason = "this is what seals the trait")]
    pub trait Sealed {}
}

impl sealed::Sealed for SameBody {}
impl<T> sealed::Sealed for As<T> {}
