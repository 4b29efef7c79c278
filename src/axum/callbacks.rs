//! Extractors for callbacks.

use std::{error::Error, fmt};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError};

use crate::{
    delivery::{Callback, CallbackError, FailureCallback},
    missing_layer::MissingLayer,
    response,
    verify::Claims,
};

macro_rules! extractors {
    ($($callback:ident),*) => { $(
        /// Extracts a callback from a request that a
        /// [`QStashVerifyLayer`](crate::QStashVerifyLayer) has verified.
        ///
        /// The layer's [`body_limit`](crate::QStashVerifyLayer::body_limit) bounds its size. axum's
        /// `DefaultBodyLimit` doesn't apply, because the body is in memory already.
        #[cfg_attr(docsrs, doc(cfg(all(feature = "axum", feature = "callbacks"))))]
        impl<S: Send + Sync> FromRequest<S> for $callback {
            type Rejection = CallbackRejection;

            async fn from_request(request: Request, state: &S) -> Result<Self, CallbackRejection> {
                Ok(Self::from_slice(&verified_body(request, state).await?)?)
            }
        }
    )* };
}

extractors!(Callback, FailureCallback);

/// Returns the whole body of a request that a layer has verified.
async fn verified_body<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, CallbackRejection> {
    let (mut parts, body) = request.into_parts();
    Claims::from_request_parts(&mut parts, state).await?;
    let body = body.collect().await.map_err(CallbackRejection::Body)?;
    Ok(body.to_bytes())
}

/// The rejection of the extractors for [`Callback`] and [`FailureCallback`].
///
/// | rejection | status | QStash |
/// |---|---|---|
/// | [`MissingLayer`](Self::MissingLayer) | 500 | retries |
/// | [`Callback`](Self::Callback) | 489 | gives up, because the same body can never be parsed |
/// | [`Body`](Self::Body) | 413 if a layer in between limits the body, otherwise 400 | retries |
#[derive(Debug)]
#[non_exhaustive]
#[cfg_attr(docsrs, doc(cfg(all(feature = "axum", feature = "callbacks"))))]
pub enum CallbackRejection {
    /// No [`QStashVerifyLayer`](crate::QStashVerifyLayer) protects the route.
    MissingLayer(MissingLayer),
    /// The body isn't a callback.
    Callback(CallbackError),
    /// A layer between the `QStashVerifyLayer` and the handler made the body unreadable, or limits it.
    Body(axum::Error),
}

impl From<MissingLayer> for CallbackRejection {
    fn from(error: MissingLayer) -> Self {
        Self::MissingLayer(error)
    }
}

impl From<CallbackError> for CallbackRejection {
    fn from(error: CallbackError) -> Self {
        Self::Callback(error)
    }
}

impl fmt::Display for CallbackRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingLayer(error) => error.fmt(f),
            Self::Callback(error) => error.fmt(f),
            // The error's own text may quote the body.
            Self::Body(_) => f.write_str("the callback's body could not be read to its end"),
        }
    }
}

impl Error for CallbackRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::MissingLayer(error) => Some(error),
            Self::Callback(error) => Some(error),
            Self::Body(error) => Some(error),
        }
    }
}

impl IntoResponse for CallbackRejection {
    fn into_response(self) -> Response {
        match &self {
            Self::MissingLayer(error) => error.into_response(),
            Self::Callback(error) => response::non_retryable(&error.to_string()),
            Self::Body(error) => {
                let mut causes = std::iter::successors(error.source(), |&error| error.source());
                let status = if causes.any(<dyn Error>::is::<LengthLimitError>) {
                    StatusCode::PAYLOAD_TOO_LARGE
                } else {
                    StatusCode::BAD_REQUEST
                };
                response::json_error(status, &self.to_string(), None)
            }
        }
    }
}
