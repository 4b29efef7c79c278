//! The pure core: bytes, strings and a time in; claims or an error out.
//!
//! Nothing here knows HTTP, Tower, a clock or the environment.
//!
//! What runs once for each token is `#[inline]`, since modules are compiled apart: a verification with a
//! body of 256 B takes 184 instructions fewer of the 4,472 that it takes beside hashing
//! (`scripts/instructions`; so the other figures in these modules).

mod base64url;
mod body;
mod claims;
mod error;
mod token;

use std::time::{Duration, SystemTime};

pub use self::{
    body::BodyVerifier,
    claims::{Claims, NumericDate, NumericDateOutOfRange},
    error::VerifyError,
};
pub(crate) use self::{
    claims::verify_claims,
    token::{SignedToken, Token, mac_prefix},
};
use crate::{
    keys::SigningKeys,
    url::{RedactedUrl, is_equivalent},
};

/// Verifies QStash's tokens without Tower: in a framework of another kind, a queue, a test.
///
/// The [crate docs](crate#the-rules) list the rules and their order.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_qstash::{SigningKeys, Verifier, VerifyError};
///
/// // A token that QStash issued in 2022, for the body `Hello World`.
/// let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiIiLCJib2R5IjoicFpHbTFBdjBJRUJLQVJjeno3\
///     ZXhrTllzWmI4THphTXJWN0ozMmEyZkZHND0iLCJleHAiOjE2NTc1MzA3NTYsImlhdCI6MTY1NzUzMDQ1NiwiaXNzIjoiVXBz\
///     dGFzaCIsImp0aSI6Imp3dF83QXFHbkRLV3dLTmY2dEdUNExnRjhqdENEQjhqIiwibmJmIjoxNjU3NTMwNDU2LCJzdWIiOiJo\
///     dHRwczovL3FzdGFzaC1wcm9kLWFuZHJlYXMucmVxdWVzdGNhdGNoZXIuY29tL3Rlc3QifQ.GzDXaBRUAqx0KPE-WxfZVVceJ\
///     ll3T1RgxdTRbWPZw8s";
/// let url = "https://qstash-prod-andreas.requestcatcher.com/test";
///
/// let keys = SigningKeys::new(
///     "sig_3nj4aiyJ2JojDnQ1RRodpYubZAZxAJxNfQcRSKPwVUNbueYk2o",
///     "sig_31zVqmL3s7Eo1vpu1jRSMpaetJXvAT3RvNcfoGUp1Toii8fsQE",
/// )?;
/// let verifier = Verifier::new(keys);
///
/// let in_time = UNIX_EPOCH + Duration::from_secs(1_657_530_500);
/// let claims = verifier.verify(token, url, b"Hello World", in_time)?;
/// assert_eq!(claims.subject(), url);
/// assert_eq!(claims.jwt_id(), Some("jwt_7AqGnDKWwKNf6tGT4LgF8jtCDB8j"));
///
/// let tampered = verifier.verify(token, url, b"Hello World!", in_time);
/// assert_eq!(tampered, Err(VerifyError::BodyMismatch));
///
/// let too_late = UNIX_EPOCH + Duration::from_secs(1_657_530_756);
/// let expired = verifier.verify(token, url, b"Hello World", too_late);
/// assert!(matches!(expired, Err(VerifyError::Expired { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: SigningKeys,
    clock_tolerance: Duration,
}

impl Verifier {
    /// Creates a verifier with these keys and a clock tolerance of zero.
    pub fn new(keys: SigningKeys) -> Self {
        Self { keys, clock_tolerance: Duration::ZERO }
    }

    /// Sets the clock skew to allow when checking `nbf` and `exp`. Defaults to zero.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use tower_qstash::{Signer, SigningKeys, Verifier};
    ///
    /// let url = "https://api.example.com/webhook";
    /// let token = Signer::new("sig_current")?.delivery(url, "Hello", UNIX_EPOCH).token();
    /// let late = UNIX_EPOCH + Duration::from_secs(302);
    ///
    /// let verifier = Verifier::new(SigningKeys::new("sig_current", "sig_next")?);
    /// assert!(verifier.verify(&token, url, b"Hello", late).is_err());
    /// let verifier = verifier.clock_tolerance(Duration::from_secs(5));
    /// assert!(verifier.verify(&token, url, b"Hello", late).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn clock_tolerance(mut self, tolerance: Duration) -> Self {
        self.clock_tolerance = tolerance;
        self
    }

    /// Verifies a token and the body it came with.
    ///
    /// `url` is the one that the message was published to, as the operator knows it. Don't derive it
    /// from the request, because the sender controls `Host`. `body` is the raw body, empty if there is
    /// none.
    ///
    /// # Errors
    ///
    /// Those of [`verify_token`](Self::verify_token), and [`VerifyError::BodyMismatch`] if `body` is
    /// not the signed one.
    pub fn verify(
        &self,
        token: &str,
        url: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Claims, VerifyError> {
        let mut verifier = self.verify_token(token, url, now)?;
        verifier.update(body);
        verifier.finish()
    }

    /// Verifies everything but the body, which can then be supplied in chunks.
    ///
    /// ```
    /// # use std::time::UNIX_EPOCH;
    /// # use tower_qstash::{Signer, SigningKeys, Verifier};
    /// # let (now, url) = (UNIX_EPOCH, "https://example.com/");
    /// # let verifier = Verifier::new(SigningKeys::new("sig_current", "sig_next")?);
    /// # let signature = Signer::new("sig_current")?.delivery(url, b"Hello World", now).token();
    /// let mut body = verifier.verify_token(&signature, url, now)?;
    /// body.update(b"Hello ");
    /// body.update(b"World");
    /// let claims = body.finish()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// In the order of the checks:
    ///
    /// - `""`, `a.b`, a token with a space or padding, or of more than 8 KiB:
    ///   [`TokenTooLong`](VerifyError::TokenTooLong),
    ///   [`NotThreeSegments`](VerifyError::NotThreeSegments),
    ///   [`InvalidEncoding`](VerifyError::InvalidEncoding);
    /// - a token made with any key but these:
    ///   [`SignatureMismatch`](VerifyError::SignatureMismatch);
    /// - `alg` other than `HS256`, or a `crit` header:
    ///   [`UnsupportedAlgorithm`](VerifyError::UnsupportedAlgorithm),
    ///   [`CriticalHeader`](VerifyError::CriticalHeader);
    /// - `"exp": "1700000000"`, no `sub`, a claim named twice:
    ///   [`InvalidClaim`](VerifyError::InvalidClaim), [`MissingClaim`](VerifyError::MissingClaim),
    ///   [`InvalidJson`](VerifyError::InvalidJson);
    /// - claims that break a rule: [`IssuerMismatch`](VerifyError::IssuerMismatch),
    ///   [`SubjectMismatch`](VerifyError::SubjectMismatch),
    ///   [`NotYetValid`](VerifyError::NotYetValid), [`Expired`](VerifyError::Expired).
    pub fn verify_token(
        &self,
        token: &str,
        url: &str,
        now: SystemTime,
    ) -> Result<BodyVerifier, VerifyError> {
        let token = Token::parse(token, || self.keys.len())?;
        let signed = token.authenticate(&self.keys).ok_or(VerifyError::SignatureMismatch)?;
        let is_subject = |subject: &str| is_equivalent(subject, url);
        verify_claims(&signed, is_subject, || now, self.clock_tolerance)
            .map_err(|error| error.with_expected(|| vec![RedactedUrl::new(url)]))
    }
}
