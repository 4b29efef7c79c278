//! Why a token, its claims, or its body is invalid.

use std::fmt;

use super::claims::NumericDate;
use crate::url::RedactedUrl;

/// The rule that a delivery broke.
///
/// The text names the rule and what to do about it. It never contains the expected value, a key, a
/// token or any of the body, so it may be logged and sent. [Troubleshooting](crate::guides::troubleshooting)
/// says for each [`code`](Self::code) what to do.
///
/// ```
/// use std::time::UNIX_EPOCH;
/// use tower_qstash::{Signer, SigningKeys, Verifier, VerifyError};
///
/// let url = "https://api.example.com/webhook";
/// let token = Signer::new("sig_current")?.delivery(url, "Hello", UNIX_EPOCH).token();
/// let verifier = Verifier::new(SigningKeys::new("sig_current", "sig_next")?);
///
/// let error = verifier.verify(&token, url, b"Hallo", UNIX_EPOCH).unwrap_err();
/// assert_eq!(error, VerifyError::BodyMismatch);
/// assert_eq!(error.code(), "body_mismatch");
///
/// let elsewhere = "https://api.example.com/elsewhere";
/// match verifier.verify(&token, elsewhere, b"Hello", UNIX_EPOCH) {
///     Err(VerifyError::SubjectMismatch { subject, expected, .. }) => {
///         assert_eq!(subject.to_string(), url);
///         assert_eq!(expected[0].to_string(), elsewhere);
///     }
///     _ => unreachable!("the URL is another"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Design
///
/// One flat enum, not an opaque error with a kind: every variant is something else to do for the
/// operator, and a test or a metric wants to match on it. It is `#[non_exhaustive]`, since QStash may
/// come to sign more.
// Where a new variant belongs: CONTRIBUTING.md, "To add a claim rule".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token is too long: over 8 KiB, or less where more than 16 keys are configured (see
    /// [`SigningKeys::also`](crate::SigningKeys::also)). QStash's tokens are under 1 KiB plus the
    /// URL.
    #[non_exhaustive]
    TokenTooLong {
        /// The token's length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The token is not three segments joined by dots ([RFC 7515 §7.1]).
    ///
    /// [RFC 7515 §7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
    NotThreeSegments,
    /// A segment is not base64url without padding ([RFC 7515 §2]), or the third does not hold the
    /// 32 bytes of an HMAC-SHA256.
    ///
    /// [RFC 7515 §2]: https://www.rfc-editor.org/rfc/rfc7515#section-2
    #[non_exhaustive]
    InvalidEncoding {
        /// `header`, `claims` or `signature`.
        segment: &'static str,
    },
    /// A segment of a token with a valid signature is not a JSON object in UTF-8, or repeats a member
    /// that is used.
    #[non_exhaustive]
    InvalidJson {
        /// `header` or `claims`.
        segment: &'static str,
    },
    /// No configured signing key made the signature.
    SignatureMismatch,
    /// `alg` is not exactly `HS256`.
    UnsupportedAlgorithm,
    /// The header has a `crit` member: it requires an extension that this crate doesn't know
    /// ([RFC 7515 §4.1.11](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11)).
    CriticalHeader,
    /// A required claim is missing.
    #[non_exhaustive]
    MissingClaim {
        /// The claim's name, such as `exp`.
        claim: &'static str,
    },
    /// A claim has the wrong JSON type, or `body` is not the base64url of a SHA-256.
    #[non_exhaustive]
    InvalidClaim {
        /// The claim's name, such as `exp`.
        claim: &'static str,
    },
    /// `iss` is not `Upstash`.
    IssuerMismatch,
    /// `sub` is not the URL that this endpoint is published under.
    ///
    /// Both URLs are here for the operator's log. The error's text has neither, since it is sent to
    /// the client.
    #[non_exhaustive]
    SubjectMismatch {
        /// The claim `sub`.
        subject: RedactedUrl,
        /// What it was compared with: the URL given to the [`Verifier`](crate::Verifier), or what the
        /// configured [`PublicUrl`](crate::PublicUrl) returns for this request.
        expected: Vec<RedactedUrl>,
    },
    /// The time of `nbf` is yet to come.
    #[non_exhaustive]
    NotYetValid {
        /// The claim `nbf`.
        not_before: NumericDate,
        /// The time of the check.
        now: NumericDate,
    },
    /// The time of `exp` has passed.
    #[non_exhaustive]
    Expired {
        /// The claim `exp`.
        expires_at: NumericDate,
        /// The time of the check.
        now: NumericDate,
    },
    /// The SHA-256 of the body is not the one in the claim `body`.
    BodyMismatch,
}

impl VerifyError {
    /// Returns a short name for metrics, in snake case. It never changes and never holds a value; the
    /// table in [`Rejection`](crate::Rejection#codes) lists them all.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TokenTooLong { .. } => "token_too_long",
            Self::NotThreeSegments => "not_three_segments",
            Self::InvalidEncoding { .. } => "invalid_encoding",
            Self::InvalidJson { .. } => "invalid_json",
            Self::SignatureMismatch => "signature_mismatch",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::CriticalHeader => "critical_header",
            Self::MissingClaim { .. } => "missing_claim",
            Self::InvalidClaim { .. } => "invalid_claim",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::SubjectMismatch { .. } => "subject_mismatch",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::BodyMismatch => "body_mismatch",
        }
    }

    /// Adds to a subject mismatch which URLs were expected.
    pub(crate) fn with_expected(mut self, urls: impl FnOnce() -> Vec<RedactedUrl>) -> Self {
        if let Self::SubjectMismatch { expected, .. } = &mut self {
            *expected = urls();
        }
        self
    }

    /// Whether this is found before the MAC is known to be valid.
    #[cfg(feature = "tracing")]
    pub(crate) fn precedes_valid_mac(&self) -> bool {
        matches!(
            self,
            Self::TokenTooLong { .. }
                | Self::NotThreeSegments
                | Self::InvalidEncoding { segment: "signature" }
                | Self::SignatureMismatch
        )
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenTooLong { length, limit } => write!(
                f,
                "the token has {length} bytes, more than the {limit} allowed; it was not generated by QStash, or its URL is too long"
            ),
            Self::NotThreeSegments => {
                f.write_str("the token is not three segments joined by dots; it was not generated by QStash")
            }
            Self::InvalidEncoding { segment } => {
                write!(f, "the token's {segment} segment is not base64url without padding, or has the wrong length")
            }
            Self::InvalidJson { segment } => {
                write!(f, "the token's {segment} segment is not a JSON object in UTF-8 with each name once")
            }
            Self::SignatureMismatch => f.write_str(
                "no configured signing key made this signature; compare both keys with the QStash console",
            ),
            Self::UnsupportedAlgorithm => f.write_str("the token's alg is not HS256"),
            Self::CriticalHeader => f.write_str("the token's header requires an unknown extension (crit)"),
            Self::MissingClaim { claim } => write!(f, "the claim {claim} is missing"),
            Self::InvalidClaim { claim } => write!(f, "the claim {claim} has the wrong type or form"),
            Self::IssuerMismatch => f.write_str("the claim iss is not Upstash"),
            Self::SubjectMismatch { .. } => f.write_str(
                "the message was published to another URL (claim sub); compare it with the public URL configured here",
            ),
            Self::NotYetValid { not_before, now } => {
                let now = now.as_secs();
                write!(f, "the token is not valid before {not_before} and it is {now}; check this machine's clock")
            }
            Self::Expired { expires_at, now } => {
                let now = now.as_secs();
                write!(f, "the token expired at {expires_at} and it is {now}; if that is wrong, check this machine's clock")
            }
            Self::BodyMismatch => f.write_str(
                "the body is not the one that was signed; make sure that nothing changes it before it is verified",
            ),
        }
    }
}

impl std::error::Error for VerifyError {}
