//! Why a delivery was rejected, and the answer that says so.

use std::{error::Error, fmt, sync::Arc};

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::{VerifyError, answer};

/// Why the layer answered a request itself.
///
/// It rides in the response's extensions, so that outer layers can log or count it. Its text
/// goes into the answer: it names the rule that was broken and what to do about it, never an
/// expected value, a key, a token or any of the body.
///
/// | rejection | status |
/// |---|---|
/// | [`BodyTooLarge`](Self::BodyTooLarge), [`BodyTooLargeForOuterLayer`](Self::BodyTooLargeForOuterLayer) | 413 |
/// | [`UnknownPublicUrl`](Self::UnknownPublicUrl) | 500 |
/// | every other | 400 |
///
/// QStash retries them all, which gives an operator the time to mend a set-up before messages end up
/// in the dead letter queue. [`non_retryable_response`](Self::non_retryable_response) is for those who want
/// otherwise.
// Not 401: that owes a `WWW-Authenticate` (RFC 9110 §15.5.2), and there is no such scheme.
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
    /// The token, one of its claims, or the body's hash is not good.
    Verify(VerifyError),
    /// The message was published to another URL than this request was sent to.
    ///
    /// Both are here for logs; neither is in the text.
    SubjectMismatch {
        /// The claim `sub`, with any user name and password replaced by `***`.
        subject: String,
        /// What the configured [`PublicUrl`](crate::PublicUrl) makes of this request, with user names
        /// and passwords hidden in the same way.
        expected: Vec<String>,
    },
    /// The configured [`PublicUrl`](crate::PublicUrl) cannot tell which URL this request was sent
    /// to.
    UnknownPublicUrl,
    /// The body is larger than the limit.
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
    /// The status of [`response`](Self::response).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BodyTooLarge { .. } | Self::BodyTooLargeForOuterLayer => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::UnknownPublicUrl => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The default answer: [`status`](Self::status) and `{"error": "…"}`.
    pub fn response(&self) -> Response<Bytes> {
        answer::error(self.status(), self)
    }

    /// An answer that makes QStash give up at once: status 489 and
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
    /// Every message that arrives while a key or a URL is set wrong goes to the dead letter queue
    /// at once.
    pub fn non_retryable_response(&self) -> Response<Bytes> {
        let mut response = self.response();
        answer::make_non_retryable(&mut response);
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
                f.write_str("the Upstash-Signature header is not ASCII; QStash did not make it")
            }
            Self::Verify(error) => error.fmt(f),
            Self::SubjectMismatch { .. } => VerifyError::SubjectMismatch.fmt(f),
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
            Self::Verify(error) => Some(error),
            Self::BodyUnreadable(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<VerifyError> for Rejection {
    fn from(error: VerifyError) -> Self {
        Self::Verify(error)
    }
}
