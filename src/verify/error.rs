//! Why a token, its claims, or the body it vouches for was refused.

use std::fmt;

use super::NumericDate;

/// The rule that a delivery broke.
///
/// The text names the rule and what to do about it; it never holds the expected value, a key, a
/// token or any of the body, so it may be logged and sent.
///
/// # Design
///
/// One flat enum, not an opaque error with a kind: every variant is a different thing to do for
/// the operator, and a test or a metric wants to match on it. `#[non_exhaustive]`, since QStash may
/// come to sign more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token is longer than 8 KiB. QStash's are under 1 KiB.
    TokenTooLong {
        /// The token's length in bytes.
        length: usize,
    },
    /// The token is not three segments joined by dots ([RFC 7515 §7.1]).
    ///
    /// [RFC 7515 §7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
    NotThreeSegments,
    /// A segment is not base64url without padding ([RFC 7515 §2]), or the third does not hold the
    /// 32 bytes of an HMAC-SHA256.
    ///
    /// [RFC 7515 §2]: https://www.rfc-editor.org/rfc/rfc7515#section-2
    InvalidEncoding {
        /// `header`, `claims` or `signature`.
        segment: &'static str,
    },
    /// A segment with a good signature is not a JSON object in UTF-8, or repeats a member that is
    /// looked at.
    InvalidJson {
        /// `header` or `claims`.
        segment: &'static str,
    },
    /// None of the signing keys made the signature.
    SignatureMismatch,
    /// `alg` is not exactly `HS256`.
    UnsupportedAlgorithm,
    /// The header has a `crit` member: it demands an extension that this crate does not know
    /// ([RFC 7515 §4.1.11](https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11)).
    CriticalHeader,
    /// A required claim is not there.
    MissingClaim {
        /// The claim's name, such as `exp`.
        claim: &'static str,
    },
    /// A claim has the wrong JSON type, or `body` is not the base64url of a SHA-256.
    InvalidClaim {
        /// The claim's name, such as `exp`.
        claim: &'static str,
    },
    /// `iss` is not `Upstash`.
    IssuerMismatch,
    /// `sub` is not the URL that this endpoint is published under.
    SubjectMismatch,
    /// It is not yet the time of `nbf`.
    NotYetValid {
        /// The claim `nbf`.
        not_before: NumericDate,
        /// The time of the check.
        now: NumericDate,
    },
    /// The time of `exp` has come.
    Expired {
        /// The claim `exp`.
        expires_at: NumericDate,
        /// The time of the check.
        now: NumericDate,
    },
    /// The SHA-256 of the body is not the one in the claim `body`.
    BodyMismatch,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenTooLong { length } => {
                write!(f, "the token has {length} bytes, more than the 8192 allowed; QStash did not make it")
            }
            Self::NotThreeSegments => {
                f.write_str("the token is not three segments joined by dots; QStash did not make it")
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
            Self::CriticalHeader => f.write_str("the token's header demands an unknown extension (crit)"),
            Self::MissingClaim { claim } => write!(f, "the claim {claim} is missing"),
            Self::InvalidClaim { claim } => write!(f, "the claim {claim} has the wrong type or form"),
            Self::IssuerMismatch => f.write_str("the claim iss is not Upstash"),
            Self::SubjectMismatch => f.write_str(
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
                "the body is not the one that was signed; make sure that nothing before this layer changes it",
            ),
        }
    }
}

impl std::error::Error for VerifyError {}
