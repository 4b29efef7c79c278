//! The replay guard's own responses.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use crate::response;

/// Why the replay guard responded instead of the handler.
///
/// It is inserted into the response's extensions. These responses don't go through
/// [`rejection_response`](crate::QStashVerifyLayer::rejection_response): they have to be what they are,
/// or QStash would lose a message or have it processed twice.
///
/// | response | status | code |
/// |---|---|---|
/// | [`AlreadyProcessed`](Self::AlreadyProcessed) | 200 `{"message":"already processed"}` | `already_processed` |
/// | [`InFlight`](Self::InFlight) | 409, with `Retry-After` | `in_flight` |
/// | [`StoreUnavailable`](Self::StoreUnavailable) | 503, without `Retry-After` | `store_unavailable` |
///
/// ```
/// use http::Response;
/// use tower_qstash::ReplayResponse;
///
/// // In an outer layer, with the metrics of your choice.
/// fn count<B>(response: &Response<B>) {
///     if let Some(guard) = response.extensions().get::<ReplayResponse>() {
///         println!("the guard responded with {}: {}", guard.status(), guard.code());
///     }
/// }
/// # count(&Response::new(()));
/// assert_eq!(ReplayResponse::InFlight.status(), 409);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplayResponse {
    /// The token, or with
    /// [`remember_messages`](crate::ReplayGuard::remember_messages) the message, was processed before.
    ///
    /// Anything but a 2xx response would make QStash retry with a new token, which passes: that would
    /// cause the double processing.
    AlreadyProcessed,
    /// An earlier arrival of the same token is being processed, or its outcome is unknown.
    ///
    /// A 2xx response would lose the message if the first arrival fails. `Retry-After` is the number of
    /// seconds until the token expires, so that QStash comes again with a new one.
    InFlight,
    /// The store could not be reached in time.
    ///
    /// There is no `Retry-After`, because it replaces QStash's backoff.
    StoreUnavailable,
}

impl ReplayResponse {
    /// Returns the status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            Self::AlreadyProcessed => StatusCode::OK,
            Self::InFlight => StatusCode::CONFLICT,
            Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns a short name for metrics, in snake case. It never changes.
    pub fn code(self) -> &'static str {
        match self {
            Self::AlreadyProcessed => "already_processed",
            Self::InFlight => "in_flight",
            Self::StoreUnavailable => "store_unavailable",
        }
    }

    pub(super) fn response(self, retry_after: Option<u64>) -> Response<Bytes> {
        let error = |reason| response::json_error(self.status(), reason, Some(self.code()));
        let mut response = match self {
            Self::AlreadyProcessed => {
                let json = Bytes::from_static(br#"{"message":"already processed"}"#);
                let mut response = Response::new(json);
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            Self::InFlight => error("this delivery is being processed already"),
            Self::StoreUnavailable => {
                error("the replay guard's store is unavailable; see the receiver's log")
            }
        };
        if let Some(seconds) = retry_after {
            let seconds = seconds.clamp(1, response::MAX_RETRY_AFTER);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}
