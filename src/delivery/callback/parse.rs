//! A callback's JSON, parsed field by field.

use std::{borrow::Cow, collections::BTreeMap, str::FromStr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{attempt::Attempt, body, error::CallbackError};

impl Attempt {
    pub(super) fn from_slice(body: &[u8]) -> Result<Self, CallbackError> {
        // serde would also fill a struct from an array, by position.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(CallbackError::not_an_object(0, 0));
        }
        let fields: Fields<'_> = serde_json::from_slice(body)
            .map_err(|error| CallbackError::not_an_object(error.line(), error.column()))?;
        let body = optional("body", fields.body, bytes)?.unwrap_or_default();
        let source_body = optional("sourceBody", fields.source_body, bytes)?.unwrap_or_default();
        Ok(Self {
            status: required("status", fields.status, integer)?,
            headers: optional("header", fields.header, headers)?.unwrap_or_default(),
            body: body.bytes,
            body_is_truncated: body.is_truncated,
            retried: optional("retried", fields.retried, integer)?.unwrap_or_default(),
            max_retries: optional("maxRetries", fields.max_retries, integer)?.unwrap_or_default(),
            dlq_id: optional("dlqId", fields.dlq_id, string)?,
            source_message_id: required("sourceMessageId", fields.source_message_id, string)?,
            url_group: optional("topicName", fields.topic_name, string)?,
            endpoint_name: optional("endpointName", fields.endpoint_name, string)?,
            schedule_id: optional("scheduleId", fields.schedule_id, string)?,
            url: required("url", fields.url, string)?,
            method: optional("method", fields.method, string)?,
            source_headers: optional("sourceHeader", fields.source_header, headers)?
                .unwrap_or_default(),
            source_body: source_body.bytes,
            source_body_is_truncated: source_body.is_truncated,
            not_before: optional("notBefore", fields.not_before, millis)?,
            created_at: optional("createdAt", fields.created_at, millis)?,
            caller_ip: optional("callerIP", fields.caller_ip, string)?,
            workflow_run_id: optional("workflowRunId", fields.workflow_run_id, string)?,
            workflow_created_at: optional("workflowCreatedAt", fields.workflow_created_at, millis)?,
        })
    }
}

/// The fields before their types are checked, so that an error can name the one at fault.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    header: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow)]
    retried: Option<&'a RawValue>,
    #[serde(borrow)]
    max_retries: Option<&'a RawValue>,
    #[serde(borrow)]
    dlq_id: Option<&'a RawValue>,
    // Upstash's documentation has this typo in its samples.
    #[serde(borrow, alias = "sourceMessasgeId")]
    source_message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    topic_name: Option<&'a RawValue>,
    #[serde(borrow)]
    endpoint_name: Option<&'a RawValue>,
    #[serde(borrow)]
    schedule_id: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    source_header: Option<&'a RawValue>,
    #[serde(borrow)]
    source_body: Option<&'a RawValue>,
    #[serde(borrow)]
    not_before: Option<&'a RawValue>,
    #[serde(borrow)]
    created_at: Option<&'a RawValue>,
    #[serde(borrow, rename = "callerIP")]
    caller_ip: Option<&'a RawValue>,
    #[serde(borrow)]
    workflow_run_id: Option<&'a RawValue>,
    #[serde(borrow)]
    workflow_created_at: Option<&'a RawValue>,
}

/// What a value should have been, for the error.
type Expected = &'static str;

/// Parses a field that must be present and not `null`.
fn required<T>(
    field: &'static str,
    value: Option<&RawValue>,
    parse: impl FnOnce(&RawValue) -> Result<T, Expected>,
) -> Result<T, CallbackError> {
    optional(field, value, parse)?.ok_or(CallbackError::missing(field))
}

/// Parses a field, or returns `None` if it is missing or `null`.
fn optional<T>(
    field: &'static str,
    value: Option<&RawValue>,
    parse: impl FnOnce(&RawValue) -> Result<T, Expected>,
) -> Result<Option<T>, CallbackError> {
    let value = value.map(parse).transpose();
    value.map_err(|expected| CallbackError::invalid(field, expected))
}

/// A string, borrowed unless it has escapes: a body may have many megabytes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn text(value: &RawValue) -> Result<Text<'_>, Expected> {
    serde_json::from_str(value.get()).map_err(|_| "a string")
}

fn string(value: &RawValue) -> Result<String, Expected> {
    Ok(text(value)?.0.into_owned())
}

fn integer<T: FromStr>(value: &RawValue) -> Result<T, Expected> {
    value.get().parse().map_err(|_| "an integer in range")
}

/// Parses milliseconds since the epoch. Upstash's documentation has strings where QStash sends
/// integers.
fn millis(value: &RawValue) -> Result<i64, Expected> {
    let digits = text(value).map_or_else(|_| value.get().into(), |text| text.0);
    digits.parse().map_err(|_| "a time in milliseconds")
}

#[derive(Default)]
struct Decoded {
    bytes: Bytes,
    is_truncated: bool,
}

fn bytes(value: &RawValue) -> Result<Decoded, Expected> {
    let expected = "base64 of the standard alphabet";
    let (bytes, is_truncated) = body::decode(&text(value)?.0).ok_or(expected)?;
    Ok(Decoded { bytes: bytes.into(), is_truncated })
}

/// Parses headers. Upstash's documentation has a string for each name where QStash sends an array.
fn headers(value: &RawValue) -> Result<HeaderMap, Expected> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Values {
        None,
        One(String),
        Many(Vec<String>),
    }

    let expected = "an object of strings or arrays of strings";
    let names: BTreeMap<String, Values> =
        serde_json::from_str(value.get()).map_err(|_| expected)?;
    let mut headers = HeaderMap::new();
    for (name, values) in names {
        let values = match values {
            Values::None => Vec::new(),
            Values::One(value) => vec![value],
            Values::Many(values) => values,
        };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        for value in values {
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
                let added = headers.try_append(name.clone(), value);
                added.map_err(|_| "a number of headers that can be held")?;
            }
        }
    }
    Ok(headers)
}
