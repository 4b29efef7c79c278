//! All that knows axum: its body, the original URI of a nested router, extractors.

#[cfg(feature = "callbacks")]
mod callbacks;

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::{FromRequestParts, OriginalUri},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, Uri, request::Parts};

#[cfg(feature = "callbacks")]
pub use self::callbacks::CallbackRejection;
use crate::{
    delivery::UnsignedDelivery,
    missing_layer::{self, MissingLayer},
    request_body::{RequestBody, sealed::Sealed},
    response,
    verify::Claims,
};

impl Sealed for Body {}

#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl RequestBody for Body {
    fn from_bytes(bytes: Bytes) -> Self {
        Self::from(bytes)
    }
}

/// Returns the URI as the outermost router saw it.
pub(crate) fn original_uri(parts: &Parts) -> Option<&Uri> {
    parts.extensions.get::<OriginalUri>().map(|OriginalUri(uri)| uri)
}

/// Extracts the claims that a [`QStashVerifyLayer`](crate::QStashVerifyLayer) has inserted, and
/// rejects with [`MissingLayer`] where there is none.
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> FromRequestParts<S> for Claims {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        let path = original_uri(parts).unwrap_or(&parts.uri).path();
        missing_layer::from_extensions(&parts.extensions, &parts.method, path).cloned()
    }
}

/// Extracts the headers with or without a layer, since none of them is signed.
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> FromRequestParts<S> for UnsignedDelivery {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::from_headers(&parts.headers))
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        response::json_error(status, &self.to_string(), Some(self.code()))
    }
}
