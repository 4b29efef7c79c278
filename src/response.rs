//! Responses that QStash understands.

use std::time::Duration;

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;

/// One day, in seconds. QStash ignores a longer delay and uses its own backoff.
pub(crate) const MAX_RETRY_AFTER: u64 = 24 * 60 * 60;

/// Builds a response that makes QStash stop retrying a message that can never succeed: status 489 and
/// `Upstash-NonRetryable-Error: true`. QStash moves the message to the dead letter queue at once.
///
/// The body is any that can be created from a `String`: `axum::body::Body`, `lambda_http::Body`,
/// `Full<Bytes>`, `String`. It is `{"error": "<reason>"}`.
///
/// ```
/// use http::Response;
///
/// fn handle(order: Option<u32>) -> Response<String> {
///     match order {
///         None => tower_qstash::non_retryable("there is no such order"),
///         Some(_) => Response::new("done".to_owned()),
///     }
/// }
/// assert_eq!(handle(None).status(), 489);
/// ```
///
/// Source: [QStash, Retry](https://upstash.com/docs/qstash/features/retry).
pub fn non_retryable<B: From<String>>(reason: &str) -> Response<B> {
    let mut response = json_error(StatusCode::BAD_REQUEST, reason, None);
    make_non_retryable(&mut response);
    response
}

/// Builds a response that makes QStash retry after `delay`: status 503 and `Retry-After`, in whole
/// seconds, rounded up.
///
/// The delay is at most one day: QStash ignores a longer one and uses its own backoff.
///
/// ```
/// use std::time::Duration;
///
/// let response: http::Response<String> =
///     tower_qstash::retry_after(Duration::from_millis(1500), "the printer is busy");
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.headers()["retry-after"], "2");
/// ```
///
/// Source: [QStash, Retry](https://upstash.com/docs/qstash/features/retry), RFC 9110 §10.2.3.
pub fn retry_after<B: From<String>>(delay: Duration, reason: &str) -> Response<B> {
    let rounded_up = delay.as_secs().saturating_add((delay.subsec_nanos() > 0).into());
    let mut response = json_error(StatusCode::SERVICE_UNAVAILABLE, reason, None);
    response.headers_mut().insert(RETRY_AFTER, rounded_up.min(MAX_RETRY_AFTER).into());
    response
}

/// Builds a response with `{"error": "…"}`, and `"code": "…"` if there is one.
pub(crate) fn json_error<B: From<String>>(
    status: StatusCode,
    reason: &str,
    code: Option<&'static str>,
) -> Response<B> {
    #[derive(Serialize)]
    struct Json<'a> {
        error: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<&'static str>,
    }

    let json = serde_json::to_string(&Json { error: reason, code });
    let mut response = Response::new(json.expect("two strings are valid JSON").into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn make_non_retryable<B>(response: &mut Response<B>) {
    *response.status_mut() = StatusCode::from_u16(489).expect("489 is between 100 and 999");
    response.headers_mut().insert("upstash-nonretryable-error", HeaderValue::from_static("true"));
}
