//! Extractors for axum handlers.

use std::{convert::Infallible, fmt};

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use crate::{Claims, UnsignedDelivery, answer, log};

/// Behind a [`QStashVerifyLayer`](crate::QStashVerifyLayer); without it, [`MissingLayer`].
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> FromRequestParts<S> for Claims {
    type Rejection = MissingLayer;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        let claims = head.extensions.get().cloned();
        claims.ok_or_else(|| {
            log::missing_layer(head);
            MissingLayer
        })
    }
}

/// With or without the layer: nothing of it is signed.
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl<S: Sync> FromRequestParts<S> for UnsignedDelivery {
    type Rejection = Infallible;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::from_headers(&head.headers))
    }
}

/// A handler asked for [`Claims`] on a route that no
/// [`QStashVerifyLayer`](crate::QStashVerifyLayer) protects: answered with 500. `Router::layer`
/// covers only the routes that were added before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub struct MissingLayer;

impl fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this route has no QStashVerifyLayer, so nothing vouches for the request; add the layer to the route")
    }
}

impl std::error::Error for MissingLayer {}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        answer::error(StatusCode::INTERNAL_SERVER_ERROR, self)
    }
}
