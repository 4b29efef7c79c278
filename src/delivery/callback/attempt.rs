//! One attempt to deliver a message, as both kinds of callback report it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};

use crate::url::RedactedUrl;

/// The fields of both kinds of callback.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Attempt {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(super) body_is_truncated: bool,
    pub(crate) retried: u32,
    pub(crate) max_retries: u32,
    pub(crate) dlq_id: Option<String>,
    pub(crate) source_message_id: String,
    pub(crate) url_group: Option<String>,
    pub(crate) endpoint_name: Option<String>,
    pub(crate) schedule_id: Option<String>,
    pub(crate) url: String,
    pub(crate) method: Option<String>,
    pub(crate) source_headers: HeaderMap,
    pub(crate) source_body: Bytes,
    pub(super) source_body_is_truncated: bool,
    /// In milliseconds since the epoch, like the other two times.
    pub(crate) not_before: Option<i64>,
    pub(crate) created_at: Option<i64>,
    pub(crate) caller_ip: Option<String>,
    pub(crate) workflow_run_id: Option<String>,
    pub(crate) workflow_created_at: Option<i64>,
}

impl Attempt {
    pub(super) fn is_non_retryable(&self) -> bool {
        let header = self.headers.get("upstash-nonretryable-error");
        self.status == 489 && header.is_some_and(|value| value == "true")
    }

    /// Whether the response declares more bytes than `body` has. A response to `HEAD` declares the
    /// length of a body that it doesn't have.
    pub(super) fn is_shorter_than_declared(&self) -> bool {
        let is_head = self.method.as_deref().is_some_and(|method| method == "HEAD");
        let declared = self.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let declared = declared.and_then(|length| length.parse().ok());
        !is_head && declared.is_some_and(|length: usize| length > self.body.len())
    }

    pub(super) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |headers: &HeaderMap| headers.keys().cloned().collect::<Vec<_>>();
        f.debug_struct(name)
            .field("status", &self.status)
            .field("header_names", &names(&self.headers))
            .field("body_bytes", &self.body.len())
            .field("retried", &self.retried)
            .field("max_retries", &self.max_retries)
            .field("dlq_id", &self.dlq_id)
            .field("source_message_id", &self.source_message_id)
            .field("url_group", &self.url_group)
            .field("endpoint_name", &self.endpoint_name)
            .field("schedule_id", &self.schedule_id)
            .field("url", &RedactedUrl::new(&self.url))
            .field("method", &self.method)
            .field("source_header_names", &names(&self.source_headers))
            .field("source_body_bytes", &self.source_body.len())
            .field("not_before", &self.not_before.and_then(time))
            .field("created_at", &self.created_at.and_then(time))
            .field("caller_ip", &self.caller_ip)
            .field("workflow_run_id", &self.workflow_run_id)
            .field("workflow_created_at", &self.workflow_created_at.and_then(time))
            .finish()
    }
}

/// Returns `None` where the platform can't represent the time.
pub(super) fn time(millis: i64) -> Option<SystemTime> {
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis.is_negative() {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    }
}
