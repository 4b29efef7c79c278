//! All that knows lambda_http, and what AWS puts into an event: the body, the domain name, the path as
//! the caller saw it.

use bytes::Bytes;
use http::request::Parts;
use lambda_http::{Body, RequestExt, request::RequestContext};

use crate::{
    request_body::{RequestBody, sealed::Sealed},
    url::{is_equivalent_path, without_end_slash},
};

impl Sealed for Body {}

#[cfg_attr(docsrs, doc(cfg(feature = "lambda_http")))]
impl RequestBody for Body {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::from(Vec::from(bytes))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        Some(self.as_ref())
    }
}

/// Returns the domain name that AWS received the request at. ALB events don't include one.
pub(crate) fn domain_name(parts: &Parts) -> Option<&str> {
    match parts.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => context.domain_name.as_deref(),
        RequestContext::ApiGatewayV2(context) => context.domain_name.as_deref(),
        _ => None,
    }
}

/// The path as the caller saw it.
#[derive(Clone, Copy)]
pub(crate) struct EventPath<'a> {
    pub(crate) text: &'a str,
    /// Whether AWS may have percent-decoded it, as HTTP APIs do.
    pub(crate) maybe_decoded: bool,
}

/// Returns the path as the caller saw it. It is not the path of the URI, since `lambda_http` adds the
/// stage to that where the caller's path had none.
pub(crate) fn path(parts: &Parts) -> Option<EventPath<'_>> {
    let raw_path = parts.raw_http_path();
    let (text, maybe_decoded) = match parts.request_context_ref()? {
        // An HTTP API's event of version 1 can't be told from a REST API's.
        RequestContext::ApiGatewayV1(context) => {
            let path = context.path.as_deref().filter(|path| !path.is_empty());
            (path.unwrap_or(raw_path), true)
        }
        // One of version 2 differs from a function URL's in its domain name.
        RequestContext::ApiGatewayV2(_) => {
            let domain_name = domain_name(parts).unwrap_or_default();
            (raw_path, !domain_name.contains(".lambda-url."))
        }
        _ => (raw_path, false),
    };
    (!text.is_empty()).then_some(EventPath { text, maybe_decoded })
}

/// Whether `uri_path` is the path of the event, or that path behind the stage.
///
/// `lambda_http` builds the URI with a WHATWG parser from `Host` and the path, so that
/// `/users/../admin` becomes `/admin`, and so does any path behind the `Host` `example.com/admin#`.
pub(crate) fn is_path_of_event(uri_path: &str, parts: &Parts) -> bool {
    let Some(EventPath { text, .. }) = path(parts) else { return true };
    let stage = match parts.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(context)) => context.stage.as_deref(),
        Some(RequestContext::ApiGatewayV2(context)) => context.stage.as_deref(),
        _ => None,
    };
    // One slash at the end doesn't count, as everywhere.
    let raw_path = without_end_slash(parts.raw_http_path());
    let uri_path = without_end_slash(uri_path);
    let after_stage = stage.and_then(|stage| uri_path.strip_prefix('/')?.strip_prefix(stage));
    let is_raw = is_equivalent_path(uri_path, raw_path)
        || after_stage.is_some_and(|path| is_equivalent_path(path, raw_path));
    // A REST API's context has the stage or the mapping's base path before the event's path.
    is_raw && without_end_slash(text).ends_with(raw_path)
}

/// Whether the URI has the query that [`RequestExt::query_string_parameters`] returns.
pub(crate) fn is_query_of_event(parts: &Parts) -> bool {
    if parts.request_context_ref().is_none() {
        return true;
    }
    match (parts.uri.query().unwrap_or_default(), parts.query_string_parameters_ref()) {
        ("", None) => true,
        (query, _) => query.parse() == Ok(parts.query_string_parameters()),
    }
}
