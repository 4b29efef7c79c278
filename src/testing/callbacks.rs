//! Callbacks as QStash would send them.

use std::{
    fmt,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::delivery::{Attempt, Callback, FailureCallback};

/// Builds a [`Callback`] or a [`FailureCallback`], to test handlers with.
///
/// By default, the callback reports the first attempt, with 3 retries to follow, to deliver the empty
/// message `msg_26hZCxZCuWyyTWPmSVBrNCtiJEj` to `https://api.example.com/`.
///
/// ```
/// use std::time::SystemTime;
/// use axum::{Router, body::Body, routing::post};
/// use tower::ServiceExt;
/// use tower_qstash::{Callback, CallbackBuilder, PublicUrl, QStashVerifyLayer, Signer, SigningKeys};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let keys = SigningKeys::new("sig_current", "sig_next")?;
/// # let verify = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// async fn done(callback: Callback) -> String {
///     format!("{} after {} retries", callback.status(), callback.retried())
/// }
/// let app = Router::new().route("/done", post(done)).layer(verify);
///
/// let callback = CallbackBuilder::new(500).body("out of paper").retried(3).build();
/// let signer = Signer::new("sig_current")?;
/// let now = SystemTime::now();
/// let delivery = signer.delivery("https://api.example.com/done", callback.to_vec(), now);
/// let response = app.oneshot(delivery.request::<Body>()?).await?;
/// assert_eq!(response.status(), 200);
/// # Ok(()) }
/// ```
///
/// A failure callback with everything that QStash may send:
///
/// ```
/// use std::time::SystemTime;
/// use http::{HeaderValue, header::{CONTENT_TYPE, RETRY_AFTER}};
/// use tower_qstash::CallbackBuilder;
///
/// let now = SystemTime::now();
/// let failure = CallbackBuilder::new(503)
///     .header(RETRY_AFTER, HeaderValue::from_static("60"))
///     .body("out of paper")
///     .retried(5)
///     .max_retries(5)
///     .source_message_id("msg_7")
///     .source_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
///     .source_body(r#"{"page":7}"#)
///     .url("https://api.example.com/print")
///     .method("PUT")
///     .url_group("printers", "second floor")
///     .schedule_id("scd_7")
///     .not_before(now)
///     .created_at(now)
///     .caller_ip([192, 0, 2, 7].into())
///     .workflow_run("wfr_7", now)
///     .build_failure("1725323658779-0");
/// assert_eq!(failure.dlq_id(), Some("1725323658779-0"));
/// assert_eq!(failure.endpoint_name(), Some("second floor"));
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until the callback is built"]
pub struct CallbackBuilder {
    attempt: Attempt,
}

impl CallbackBuilder {
    /// Creates a builder for an attempt that the destination responded to with `status`.
    pub fn new(status: u16) -> Self {
        let mut attempt = Attempt::default();
        attempt.status = status;
        attempt.max_retries = 3;
        attempt.source_message_id = "msg_26hZCxZCuWyyTWPmSVBrNCtiJEj".into();
        attempt.url = "https://api.example.com/".into();
        attempt.method = Some("POST".into());
        Self { attempt }
    }

    /// Adds a header to the response.
    ///
    /// With a `content-length` larger than the body, the body counts as truncated.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.attempt.headers.append(name, value);
        self
    }

    /// Sets the response's body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.attempt.body = body.into();
        self
    }

    /// Sets the number of retries before this attempt.
    pub fn retried(mut self, retries: u32) -> Self {
        self.attempt.retried = retries;
        self
    }

    /// Sets the number of retries that the message was published with.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.attempt.max_retries = retries;
        self
    }

    /// Sets the id of the message.
    pub fn source_message_id(mut self, id: &str) -> Self {
        self.attempt.source_message_id = id.into();
        self
    }

    /// Sets the destination of the message.
    pub fn url(mut self, url: &str) -> Self {
        self.attempt.url = url.into();
        self
    }

    /// Sets the method that the destination was called with.
    pub fn method(mut self, method: &str) -> Self {
        self.attempt.method = Some(method.into());
        self
    }

    /// Adds a header to the message.
    pub fn source_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.attempt.source_headers.append(name, value);
        self
    }

    /// Sets the body of the message.
    pub fn source_body(mut self, body: impl Into<Bytes>) -> Self {
        self.attempt.source_body = body.into();
        self
    }

    /// Sets the URL group that the message was published to, and the name of the endpoint in it.
    pub fn url_group(mut self, group: &str, endpoint: &str) -> Self {
        self.attempt.url_group = Some(group.into());
        self.attempt.endpoint_name = Some(endpoint.into());
        self
    }

    /// Sets the schedule that the message comes from.
    pub fn schedule_id(mut self, id: &str) -> Self {
        self.attempt.schedule_id = Some(id.into());
        self
    }

    /// Sets the time before which the message was not to be delivered, to the millisecond.
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.attempt.not_before = Some(millis(time));
        self
    }

    /// Sets when the message was published, to the millisecond.
    pub fn created_at(mut self, time: SystemTime) -> Self {
        self.attempt.created_at = Some(millis(time));
        self
    }

    /// Sets the address that the message was published from.
    pub fn caller_ip(mut self, address: IpAddr) -> Self {
        self.attempt.caller_ip = Some(address.to_string());
        self
    }

    /// Sets the Upstash Workflow run that failed, and when it was started, to the millisecond.
    pub fn workflow_run(mut self, id: &str, created_at: SystemTime) -> Self {
        self.attempt.workflow_run_id = Some(id.into());
        self.attempt.workflow_created_at = Some(millis(created_at));
        self
    }

    /// Builds the callback. [`Callback::to_vec`] returns its JSON, to be signed.
    pub fn build(self) -> Callback {
        self.attempt.into()
    }

    /// Builds a failure callback for the message with this id in the dead letter queue.
    pub fn build_failure(mut self, dlq_id: &str) -> FailureCallback {
        self.attempt.dlq_id = Some(dlq_id.into());
        self.attempt.into()
    }
}

/// Formats like the callback.
impl fmt::Debug for CallbackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let callback = Callback::from(self.attempt.clone());
        f.debug_tuple("CallbackBuilder").field(&callback).finish()
    }
}

/// Returns milliseconds since the epoch. They saturate at the ends of `i64`, 292 million years away.
fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
