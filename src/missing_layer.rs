//! What a handler gets where no layer has verified the request.

use std::fmt;

use http::Request;

use crate::{Claims, log};

/// The error returned where a handler asks for [`Claims`] on a route that no
/// [`QStashVerifyLayer`](crate::QStashVerifyLayer) protects.
///
/// As an axum rejection it responds with 500. `Router::layer` covers only the routes that were added
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingLayer;

impl fmt::Display for MissingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this route has no QStashVerifyLayer, so the request is not verified; add the layer to the route, \
             or to the router after the route",
        )
    }
}

impl std::error::Error for MissingLayer {}

impl Claims {
    /// Returns the claims of a verified request.
    ///
    /// A handler that reads them fails closed: should the layer ever be removed from its route, no
    /// unverified request gets through, and the log says why.
    ///
    /// ```
    /// use lambda_http::{Body, Error, Request, Response};
    /// use tower_qstash::Claims;
    ///
    /// async fn webhook(request: Request) -> Result<Response<Body>, Error> {
    ///     let claims = Claims::from_request(&request)?;
    ///     println!("{:?} was published to {}", claims.jwt_id(), claims.subject());
    ///     Ok(Response::new(r#"{"message":"ok"}"#.into()))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MissingLayer`] for a request that didn't pass a
    /// [`QStashVerifyLayer`](crate::QStashVerifyLayer).
    pub fn from_request<B>(request: &Request<B>) -> Result<&Self, MissingLayer> {
        request.extensions().get().ok_or_else(|| {
            log::missing_layer(request.method(), request.uri().path());
            MissingLayer
        })
    }
}

/// Like [`Claims::from_request`], for the parts of a request.
#[cfg(feature = "axum")]
pub(crate) fn claims(parts: &http::request::Parts) -> Result<&Claims, MissingLayer> {
    parts.extensions.get().ok_or_else(|| {
        log::missing_layer(&parts.method, crate::public_url::logged_path(parts));
        MissingLayer
    })
}
