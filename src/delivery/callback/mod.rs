//! Callback bodies: JSON that QStash sends about a message, and signs like any other delivery.

mod attempt;
mod body;
mod error;
mod parse;
mod serialize;

use std::{fmt, net::IpAddr, time::SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use serde::{Serialize, Serializer};

#[cfg(feature = "testing")]
pub(crate) use self::attempt::Attempt;
#[cfg(not(feature = "testing"))]
use self::attempt::Attempt;
use self::attempt::time;
pub use self::error::CallbackError;

/// The body of a callback: what the destination of a message responded with to one attempt.
///
/// QStash sends a callback after *every* attempt, also after one that failed, so the usual handler
/// looks at [`is_success`](Self::is_success) and [`is_last_attempt`](Self::is_last_attempt) first. A
/// callback is a delivery of its own, signed like any other, whose `sub` is the callback's URL.
///
/// In axum, take it as the last argument of a handler behind a
/// [`QStashVerifyLayer`](crate::QStashVerifyLayer). Elsewhere, call [`from_slice`](Self::from_slice)
/// with the body of a verified request.
///
/// ```
/// use tower_qstash::Callback;
///
/// let callback = Callback::from_slice(
///     br#"{
///         "status": 200,
///         "header": {"Content-Type": ["text/plain"]},
///         "body": "SGVsbG8=",
///         "retried": 1,
///         "maxRetries": 3,
///         "sourceMessageId": "msg_26hZCxZCuWyyTWPmSVBrNCtiJEj",
///         "url": "https://api.example.com/resize",
///         "createdAt": "1701198447054"
///     }"#,
/// )?;
/// assert!(callback.is_success() && callback.is_last_attempt());
/// assert_eq!((callback.status(), callback.retried(), callback.max_retries()), (200, 1, 3));
/// assert_eq!(callback.headers()["content-type"], "text/plain");
/// assert_eq!(callback.body(), "Hello");
/// # Ok::<(), tower_qstash::CallbackError>(())
/// ```
///
/// It also says what was published, as far as QStash sends it:
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_qstash::Callback;
///
/// let callback = Callback::from_slice(
///     br#"{
///         "status": 204,
///         "sourceMessageId": "msg_26hZCxZCuWyyTWPmSVBrNCtiJEj",
///         "topicName": "images",
///         "endpointName": "resize",
///         "scheduleId": "scd_6vJwbxzNTg",
///         "url": "https://api.example.com/resize",
///         "method": "POST",
///         "sourceHeader": {"Content-Type": ["application/json"]},
///         "sourceBody": "eyJpbWFnZSI6N30=",
///         "notBefore": 1701198458025,
///         "createdAt": 1701198447054,
///         "callerIP": "192.0.2.7"
///     }"#,
/// )?;
/// assert_eq!(callback.source_message_id(), "msg_26hZCxZCuWyyTWPmSVBrNCtiJEj");
/// assert_eq!(callback.url_group(), Some("images"));
/// assert_eq!(callback.endpoint_name(), Some("resize"));
/// assert_eq!(callback.schedule_id(), Some("scd_6vJwbxzNTg"));
/// assert_eq!(callback.url(), "https://api.example.com/resize");
/// assert_eq!(callback.method(), Some("POST"));
/// assert_eq!(callback.source_headers()["content-type"], "application/json");
/// assert_eq!(callback.source_body(), r#"{"image":7}"#);
/// assert!(callback.created_at() < callback.not_before());
/// assert_eq!(callback.created_at(), Some(UNIX_EPOCH + Duration::from_millis(1_701_198_447_054)));
/// assert_eq!(callback.caller_ip(), Some([192, 0, 2, 7].into()));
/// // For a test, the JSON again.
/// assert_eq!(Callback::from_slice(&callback.to_vec())?, callback);
/// # Ok::<(), tower_qstash::CallbackError>(())
/// ```
///
/// # Size
///
/// A callback holds two bodies in base64. The layer's default
/// [`body_limit`](crate::QStashVerifyLayer::body_limit) fits the callbacks of the free plan, up to
/// 2.8 MB; larger plans need more, 27 MB for pay-as-you-go.
///
/// # Design
///
/// It implements `Serialize`, for tests, but not `Deserialize`, because `Json<Callback>` would read a
/// callback that nothing has verified. It has accessors and no public fields, because QStash keeps
/// adding fields.
///
/// Source: [QStash, Callbacks](https://upstash.com/docs/qstash/features/callbacks).
#[derive(Clone, PartialEq, Eq)]
pub struct Callback(Attempt);

/// The body of a failure callback: a message that QStash gave up on, with the last response.
///
/// QStash sends it when the retries are used up, or at once after a response that rules them out,
/// such as [`non_retryable`](crate::non_retryable). The message is in the dead letter queue, under
/// [`dlq_id`](Self::dlq_id).
///
/// It is read like a [`Callback`].
///
/// ```
/// use tower_qstash::FailureCallback;
///
/// let failure = FailureCallback::from_slice(
///     br#"{
///         "status": 500,
///         "retried": 3,
///         "maxRetries": 3,
///         "dlqId": "1725323658779-0",
///         "sourceMessageId": "msg_26hZCxZCuWyyTWPmSVBrNCtiJEj",
///         "url": "https://api.example.com/resize",
///         "sourceBody": "eyJpbWFnZSI6N30=",
///         "workflowRunId": "wfr_5LWSBZWK",
///         "workflowCreatedAt": 1725323610112
///     }"#,
/// )?;
/// assert_eq!(failure.dlq_id(), Some("1725323658779-0"));
/// assert_eq!(failure.workflow_run_id(), Some("wfr_5LWSBZWK"));
/// assert!(failure.workflow_created_at().is_some());
/// assert_eq!(failure.source_body(), r#"{"image":7}"#);
/// # Ok::<(), tower_qstash::CallbackError>(())
/// ```
///
/// Source: [QStash, Callbacks](https://upstash.com/docs/qstash/features/callbacks#what-is-a-failure-callback).
#[derive(Clone, PartialEq, Eq)]
pub struct FailureCallback(Attempt);

impl Callback {
    /// Returns whether no other attempt follows this one: it succeeded, the destination ruled retries
    /// out (489 with `Upstash-NonRetryable-Error: true`), or the retries are used up.
    pub fn is_last_attempt(&self) -> bool {
        self.is_success() || self.0.is_non_retryable() || self.0.retried >= self.0.max_retries
    }
}

impl FailureCallback {
    /// Returns `dlqId`: the message's id in the dead letter queue, to retrieve or remove it with.
    pub fn dlq_id(&self) -> Option<&str> {
        self.0.dlq_id.as_deref()
    }

    /// Returns `workflowRunId`: the Upstash Workflow run that failed.
    pub fn workflow_run_id(&self) -> Option<&str> {
        self.0.workflow_run_id.as_deref()
    }

    /// Returns `workflowCreatedAt`: when that run was started.
    pub fn workflow_created_at(&self) -> Option<SystemTime> {
        self.0.workflow_created_at.and_then(time)
    }
}

/// Implements what both kinds have in common.
macro_rules! accessors {
    ($($callback:ident),*) => { $(
        impl $callback {
            /// Reads the body of a callback's request.
            ///
            /// Verify the request first: nothing in `body` can be trusted otherwise.
            ///
            /// `status`, `sourceMessageId` and `url` are required. Any other field may be missing or
            /// `null`, and unknown fields are ignored. A missing `retried` or `maxRetries` is zero.
            /// Times are integers or strings of digits. Header values are strings or arrays of
            /// strings; names and values that HTTP doesn't allow are left out.
            ///
            /// # Errors
            ///
            /// - `[]`, `null`, text that isn't JSON, a field named twice: an error whose
            ///   [`field`](CallbackError::field) is `None`;
            /// - `{}`: an error that names the missing field;
            /// - `{"status": "200"}`, `{"body": "-_"}`, which isn't base64 of the standard alphabet,
            ///   `{"createdAt": "yesterday"}`: an error that names the field.
            pub fn from_slice(body: &[u8]) -> Result<Self, CallbackError> {
                Attempt::from_slice(body).map(Self)
            }

            /// Returns the JSON that QStash would send, for tests.
            pub fn to_vec(&self) -> Vec<u8> {
                serde_json::to_vec(self).expect("strings, numbers, and maps whose keys are strings")
            }

            /// Returns `status`: the destination's status. It isn't checked to be one of HTTP's.
            pub fn status(&self) -> u16 {
                self.0.status
            }

            /// Returns whether the status is between 200 and 299, which is a successful delivery.
            pub fn is_success(&self) -> bool {
                (200..300).contains(&self.0.status)
            }

            /// Returns `header`: the response's headers. Their lookup ignores case.
            pub fn headers(&self) -> &HeaderMap {
                &self.0.headers
            }

            /// Returns `body`: the response's body, decoded. It is empty if the response had none.
            ///
            /// It holds the bytes that the destination sent, which may not be UTF-8. Cloning it is
            /// cheap.
            pub fn body(&self) -> &Bytes {
                &self.0.body
            }

            /// Returns whether [`body`](Self::body) is known to be truncated.
            ///
            /// QStash truncates a response larger than the plan's message size and doesn't mark it,
            /// so this is deduced: the base64 ends in the middle of a byte, or the response's
            /// `Content-Length` is larger than the body. `false` doesn't rule truncation out.
            pub fn body_is_truncated(&self) -> bool {
                self.0.body_is_truncated || self.0.is_shorter_than_declared()
            }

            /// Returns `retried`: the number of retries before this attempt, so 0 at the first one.
            pub fn retried(&self) -> u32 {
                self.0.retried
            }

            /// Returns `maxRetries`: the number of retries that the message was published with.
            pub fn max_retries(&self) -> u32 {
                self.0.max_retries
            }

            /// Returns `sourceMessageId`: the id of the message, not that of the callback.
            pub fn source_message_id(&self) -> &str {
                &self.0.source_message_id
            }

            /// Returns `url`: the destination of the message.
            pub fn url(&self) -> &str {
                &self.0.url
            }

            /// Returns `method`: the method that the destination was called with.
            pub fn method(&self) -> Option<&str> {
                self.0.method.as_deref()
            }

            /// Returns `sourceHeader`: the headers that the message was published with. Their lookup
            /// ignores case.
            pub fn source_headers(&self) -> &HeaderMap {
                &self.0.source_headers
            }

            /// Returns `sourceBody`: the body of the message, decoded. Cloning it is cheap.
            pub fn source_body(&self) -> &Bytes {
                &self.0.source_body
            }

            /// Returns whether [`source_body`](Self::source_body) is known to be truncated, because
            /// its base64 ends in the middle of a byte.
            pub fn source_body_is_truncated(&self) -> bool {
                self.0.source_body_is_truncated
            }

            /// Returns `topicName`: the URL group, formerly topic, that the message was published to.
            pub fn url_group(&self) -> Option<&str> {
                self.0.url_group.as_deref()
            }

            /// Returns `endpointName`: the name of the endpoint in that URL group.
            pub fn endpoint_name(&self) -> Option<&str> {
                self.0.endpoint_name.as_deref()
            }

            /// Returns `scheduleId`: the schedule that the message comes from.
            pub fn schedule_id(&self) -> Option<&str> {
                self.0.schedule_id.as_deref()
            }

            /// Returns `notBefore`: the time before which the message was not to be delivered.
            pub fn not_before(&self) -> Option<SystemTime> {
                self.0.not_before.and_then(time)
            }

            /// Returns `createdAt`: when the message was published.
            pub fn created_at(&self) -> Option<SystemTime> {
                self.0.created_at.and_then(time)
            }

            /// Returns `callerIP`: the address that the message was published from, or `None` if it
            /// is missing or malformed.
            pub fn caller_ip(&self) -> Option<IpAddr> {
                self.0.caller_ip.as_deref()?.parse().ok()
            }
        }

        /// Serializes to the JSON that QStash would send, for tests.
        impl Serialize for $callback {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        /// Formats the length of each body and the names of the headers, never their contents, which
        /// may be secret.
        impl fmt::Debug for $callback {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt_as(stringify!($callback), f)
            }
        }

        #[cfg(feature = "testing")]
        impl From<Attempt> for $callback {
            fn from(attempt: Attempt) -> Self {
                Self(attempt)
            }
        }
    )* };
}

accessors!(Callback, FailureCallback);
