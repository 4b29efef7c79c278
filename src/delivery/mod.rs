//! What a handler reads of a delivery: headers, which aren't signed, and callback bodies, which are.

#[cfg(feature = "callbacks")]
mod callback;
mod headers;

#[cfg(all(feature = "callbacks", feature = "testing"))]
pub(crate) use self::callback::Attempt;
#[cfg(feature = "callbacks")]
pub use self::callback::{Callback, CallbackError, FailureCallback};
pub use self::headers::UnsignedDelivery;
pub(crate) use self::headers::single_value;
