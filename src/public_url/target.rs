//! The target of a request: as the caller saw it, and as the inner service will see it.

use http::request::Parts;

use crate::url::{RequestPath, without_end_slash};

/// Returns the path as the caller saw it, before anything on the way took a part of it off.
pub(super) fn original_path(parts: &Parts) -> Option<RequestPath<'_>> {
    #[cfg(feature = "lambda_http")]
    if let Some(path) = crate::lambda_http::path(parts) {
        return RequestPath::new(path.text, path.maybe_decoded);
    }
    RequestPath::new(router_path(parts), false)
}

/// Returns the path for the operator's log.
#[cfg(feature = "tracing")]
pub(crate) fn logged_path(parts: &Parts) -> &str {
    original_path(parts).map_or(parts.uri.path(), |path| path.text)
}

/// Whether the inner service will see [`original_path`]: all of it, or in a nested router its end.
pub(super) fn keeps_path(parts: &Parts) -> bool {
    let router_path = router_path(parts);
    #[cfg(feature = "lambda_http")]
    if !crate::lambda_http::is_path_of_event(router_path, parts) {
        return false;
    }
    // A nest strips the start of the path, and leaves a slash where nothing remains. One slash at the
    // end doesn't count, as everywhere.
    without_end_slash(router_path).ends_with(without_end_slash(parts.uri.path()))
}

/// Whether the inner service will see one query, wherever it looks.
#[cfg(feature = "lambda_http")]
pub(super) use crate::lambda_http::is_query_of_event as keeps_query;

#[cfg(not(feature = "lambda_http"))]
pub(super) fn keeps_query(_: &Parts) -> bool {
    true
}

/// Returns the path as the outermost router saw it.
fn router_path(parts: &Parts) -> &str {
    #[cfg(feature = "axum")]
    if let Some(original) = crate::axum::original_uri(parts) {
        return original.path();
    }
    parts.uri.path()
}
