//! What a handler gets where no layer has verified the request.

use std::fmt;

use http::{Extensions, Method, Request};

use crate::verify::Claims;

/// The error returned where a handler asks for [`Claims`] on a route that no
/// [`QStashVerifyLayer`](crate::QStashVerifyLayer) protects.
///
/// As an axum rejection it responds with 500. `Router::layer` covers only the routes that were added
/// before it.
///
/// ```
/// use http::Request;
/// use tower_qstash::Claims;
///
/// let unverified = Request::new("Hello");
/// let error = Claims::from_request(&unverified).unwrap_err();
/// assert_eq!(error.code(), "missing_layer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingLayer;

impl MissingLayer {
    /// Returns `missing_layer`, the code in the log event and in the response.
    pub fn code(self) -> &'static str {
        "missing_layer"
    }
}

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
    /// A handler that calls this fails closed: should the layer ever be removed from its route, no
    /// unverified request gets through, and the log says why.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower_qstash::{Claims, MissingLayer};
    ///
    /// async fn webhook(request: Request<String>) -> Result<Response<String>, MissingLayer> {
    ///     let claims = Claims::from_request(&request)?;
    ///     println!("{:?} was published to {}", claims.jwt_id(), claims.subject());
    ///     Ok(Response::new("done".to_owned()))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MissingLayer`] for a request that didn't pass a
    /// [`QStashVerifyLayer`](crate::QStashVerifyLayer).
    pub fn from_request<B>(request: &Request<B>) -> Result<&Self, MissingLayer> {
        from_extensions(request.extensions(), request.method(), request.uri().path())
    }
}

/// Returns the claims in `extensions`, or logs the method and path of a request without them.
pub(crate) fn from_extensions<'a>(
    extensions: &'a Extensions,
    method: &Method,
    path: &str,
) -> Result<&'a Claims, MissingLayer> {
    extensions.get().ok_or_else(|| {
        log(method, path);
        MissingLayer
    })
}

#[cfg(feature = "tracing")]
fn log(method: &Method, path: &str) {
    use crate::url::truncate;

    tracing::error!(
        target: "tower_qstash",
        code = MissingLayer.code(),
        reason = %MissingLayer,
        method = truncate(method.as_str()),
        path = truncate(path),
        "a handler asked for Claims on a route without QStashVerifyLayer"
    );
}

#[cfg(not(feature = "tracing"))]
fn log(_: &Method, _: &str) {}
