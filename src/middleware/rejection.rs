//! Why a request was rejected, and the response that says so.

use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::{response, verify::VerifyError};

/// Why the layer rejected a request.
///
/// It is inserted into the response's extensions, so that outer layers can log or count it. Its text
/// is sent in the response: it names the rule that was broken and what to do about it, never an
/// expected value, a key, a token or any of the body.
///
/// ```
/// use http::Response;
/// use tower_qstash::Rejection;
///
/// // In an outer layer, with the metrics of your choice.
/// fn count<B>(response: &Response<B>) {
///     if let Some(rejection) = response.extensions().get::<Rejection>() {
///         println!("rejected with {}: {}", rejection.status(), rejection.code());
///     }
/// }
///
/// let mut response = Rejection::MissingSignature.response();
/// assert_eq!(response.status(), 400);
/// response.extensions_mut().insert(Rejection::MissingSignature);
/// count(&response);
/// ```
///
/// # Codes
///
/// [`code`](Self::code) is a short, stable name for metrics, and stands in the response's JSON beside
/// the text: `{"error": "…", "code": "…"}`. [Troubleshooting](crate::guides::troubleshooting) says for
/// each of them what to do.
///
/// | code | status | what was wrong |
/// |---|---|---|
/// | `missing_signature` | 400 | there is no `Upstash-Signature` header |
/// | `duplicate_signature` | 400 | there are several |
/// | `empty_signature` | 400 | it is empty |
/// | `non_ascii_signature` | 400 | it is not ASCII |
/// | `token_too_long` | 400 | the token is longer than 8 KiB, or less with more than 16 keys |
/// | `not_three_segments` | 400 | the token is not a compact JWT |
/// | `invalid_encoding` | 400 | a segment is not base64url |
/// | `signature_mismatch` | 400 | no configured key made the signature |
/// | `invalid_json` | 400 | a segment is not a JSON object |
/// | `unsupported_algorithm` | 400 | `alg` is not `HS256` |
/// | `critical_header` | 400 | the JOSE header has `crit` |
/// | `missing_claim` | 400 | a required claim is missing |
/// | `invalid_claim` | 400 | a claim has the wrong type |
/// | `issuer_mismatch` | 400 | `iss` is not `Upstash` |
/// | `subject_mismatch` | 400 | `sub` is another URL |
/// | `routing_mismatch` | 400 | the inner service would see another path or query |
/// | `path_not_allowed` | 400 | the path is outside of [`PublicUrl::within`](crate::PublicUrl::within) |
/// | `unknown_public_url` | 500 | the setup can't tell its own public URL |
/// | `not_yet_valid` | 400 | `nbf` is in the future |
/// | `expired` | 400 | `exp` has passed |
/// | `body_too_large` | 413 | the body is over [`body_limit`](crate::QStashVerifyLayer::body_limit) |
/// | `body_too_large_for_outer_layer` | 413 | an outer layer limits the body |
/// | `body_unreadable` | 400 | the body broke off |
/// | `body_mismatch` | 400 | the body is not the one that was signed |
///
/// Two more codes appear elsewhere: those of [`ReplayResponse`](crate::ReplayResponse), and
/// `missing_layer` of [`MissingLayer`](crate::MissingLayer).
///
/// QStash retries them all, which leaves an operator the time to fix a setup before messages reach
/// the dead letter queue. [`non_retryable_response`](Self::non_retryable_response) is for those who
/// want otherwise.
// Not 401: it requires a `WWW-Authenticate` header (RFC 9110 §15.5.2), and there is no scheme to name
// in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no `Upstash-Signature` header. If ordinary clients get this, the layer covers routes
    /// that QStash does not call.
    MissingSignature,
    /// There is more than one `Upstash-Signature` header.
    DuplicateSignature,
    /// The `Upstash-Signature` header is empty.
    EmptySignature,
    /// The `Upstash-Signature` header is not ASCII.
    NonAsciiSignature,
    /// The token, one of its claims, or the body's hash is invalid.
    ///
    /// Its text and its source are those of the [`VerifyError`].
    Verification(VerifyError),
    /// `sub` names the URL of this request, but the inner service would see another path or query
    /// than the one that was compared. See
    /// [`PublicUrl`](crate::PublicUrl#what-is-verified-is-what-is-routed).
    RoutingMismatch,
    /// The signing key is confined to another part of the service, with
    /// [`PublicUrl::within`](crate::PublicUrl::within).
    PathNotAllowed,
    /// The configured [`PublicUrl`](crate::PublicUrl) can't tell which URL this request was sent to.
    UnknownPublicUrl,
    /// The body is larger than the limit.
    #[non_exhaustive]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is larger than an outer layer allows, such as tower-http's
    /// `RequestBodyLimitLayer`.
    BodyTooLargeForOuterLayer,
    /// The body broke off or could not be read.
    BodyUnreadable(Arc<dyn Error + Send + Sync>),
}

impl Rejection {
    /// Returns the status of [`response`](Self::response).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BodyTooLarge { .. } | Self::BodyTooLargeForOuterLayer => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::UnknownPublicUrl => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns a short name for metrics, in snake case; see [Codes](Self#codes). It never changes and
    /// never holds a value.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingSignature => "missing_signature",
            Self::DuplicateSignature => "duplicate_signature",
            Self::EmptySignature => "empty_signature",
            Self::NonAsciiSignature => "non_ascii_signature",
            Self::Verification(error) => error.code(),
            Self::RoutingMismatch => "routing_mismatch",
            Self::PathNotAllowed => "path_not_allowed",
            Self::UnknownPublicUrl => "unknown_public_url",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyTooLargeForOuterLayer => "body_too_large_for_outer_layer",
            Self::BodyUnreadable(_) => "body_unreadable",
        }
    }

    /// Whether the request was rejected before its MAC was known to be valid.
    #[cfg(feature = "tracing")]
    pub(super) fn precedes_valid_mac(&self) -> bool {
        match self {
            Self::MissingSignature
            | Self::DuplicateSignature
            | Self::EmptySignature
            | Self::NonAsciiSignature => true,
            Self::Verification(error) => error.precedes_valid_mac(),
            _ => false,
        }
    }

    /// Builds the default response: [`status`](Self::status) and
    /// `{"error": "<text>", "code": "<code>"}`.
    pub fn response(&self) -> Response<Bytes> {
        response::json_error(self.status(), &self.to_string(), Some(self.code()))
    }

    /// Builds a response that makes QStash give up at once: status 489 and
    /// `Upstash-NonRetryable-Error: true`, otherwise like [`response`](Self::response).
    ///
    /// ```
    /// use tower_qstash::{PublicUrl, QStashVerifyLayer, Rejection, SigningKeys};
    ///
    /// let keys = SigningKeys::new("sig_current", "sig_next")?;
    /// let layer = QStashVerifyLayer::new(keys, PublicUrl::base("https://example.com")?)
    ///     .rejection_response(Rejection::non_retryable_response);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Every message that arrives while a key or a URL is wrong then goes to the dead letter queue at
    /// once.
    pub fn non_retryable_response(&self) -> Response<Bytes> {
        let mut response = self.response();
        response::make_non_retryable(&mut response);
        response
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingSignature => {
                f.write_str("the Upstash-Signature header is missing; only QStash may call this endpoint")
            }
            Self::DuplicateSignature => {
                f.write_str("there is more than one Upstash-Signature header; a proxy may have added one")
            }
            Self::EmptySignature => {
                f.write_str("the Upstash-Signature header is empty; a proxy may have emptied it")
            }
            Self::NonAsciiSignature => {
                f.write_str("the Upstash-Signature header is not ASCII; it was not generated by QStash")
            }
            Self::Verification(error) => error.fmt(f),
            Self::RoutingMismatch => f.write_str(
                "this service would see another path or query than the one that was verified; \
                 send the request with the path, the query and the host that the message was published to",
            ),
            Self::PathNotAllowed => f.write_str(
                "the key that signed this delivery may not be used for this path; see PublicUrl::within",
            ),
            Self::UnknownPublicUrl => f.write_str(
                "this service cannot tell its own public URL from the request; configure PublicUrl::base or PublicUrl::exact",
            ),
            Self::BodyTooLarge { limit } => {
                write!(f, "the body is larger than the limit of {limit} bytes; raise body_limit if it is meant to be")
            }
            Self::BodyTooLargeForOuterLayer => f.write_str(
                "the body is larger than an outer layer allows; raise that layer's limit if such bodies are meant to be accepted",
            ),
            // The error's own text may quote what it choked on.
            Self::BodyUnreadable(_) => f.write_str("the body could not be read to its end"),
        }
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::BodyUnreadable(error) => Some(&**error),
            // Not the error of `Verification`: its text is this one's, and it has no source.
            _ => None,
        }
    }
}
