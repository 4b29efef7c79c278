//! Extractors for axum handlers.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use crate::{Claims, MissingLayer, UnsignedDelivery, answer, missing_layer};

/// Behind a [`QStashVerifyLayer`](crate::QStashVerifyLayer); without it, [`MissingLayer`].
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> FromRequestParts<S> for Claims {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        missing_layer::claims(parts).cloned()
    }
}

/// With or without the layer: nothing of it is signed.
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
        answer::error(StatusCode::INTERNAL_SERVER_ERROR, self, Some("missing_layer"))
    }
}
