//! The claims of a token: their types, the rules they must meet, and the body they vouch for.

use std::{
    fmt,
    mem::MaybeUninit,
    sync::Arc,
    time::{Duration, SystemTime},
};

use hmac::digest::CtOutput;
use sha2::{Digest, Sha256};

use super::{
    NumericDate, RedactedUrl, VerifyError, base64url, claims_set::ClaimsSet, token::SignedToken,
};

/// What QStash vouches for about one delivery: the claims of its token, every one checked.
///
/// Only a token that passed every check, the body's hash last, becomes `Claims`: to hold one is
/// the proof. The layer puts it into the request's extensions.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The subject and, right behind it, the token's id: one allocation for both.
    text: Box<str>,
    subject_length: usize,
    has_jwt_id: bool,
    expires_at: NumericDate,
    not_before: Option<NumericDate>,
    issued_at: Option<NumericDate>,
    key: Arc<str>,
    key_is_next: bool,
}

impl Claims {
    /// `sub`: the destination URL, as the message was published to it.
    pub fn subject(&self) -> &str {
        &self.text[..self.subject_length]
    }

    /// `jti`: the token's id, such as `jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB`.
    ///
    /// Not the message's id: a delivery that is retried after five minutes carries a new one.
    pub fn jwt_id(&self) -> Option<&str> {
        self.has_jwt_id.then(|| &self.text[self.subject_length..])
    }

    /// `exp`: the first moment at which the token is no longer good.
    pub fn expires_at(&self) -> NumericDate {
        self.expires_at
    }

    /// `nbf`: the first moment at which the token is good. Present QStash tokens say the year 1.
    pub fn not_before(&self) -> Option<NumericDate> {
        self.not_before
    }

    /// `iat`: when the token was made. No rule depends on it.
    pub fn issued_at(&self) -> Option<NumericDate> {
        self.issued_at
    }

    /// The label of the signing key that made the signature, such as `current`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether that key is a *next* one: the keys were rolled, and a second roll would lock QStash
    /// out unless the configured keys are brought up to date first.
    pub fn key_is_next(&self) -> bool {
        self.key_is_next
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("subject", &RedactedUrl::new(self.subject()))
            .field("jwt_id", &self.jwt_id())
            .field("expires_at", &self.expires_at)
            .field("not_before", &self.not_before)
            .field("issued_at", &self.issued_at)
            .field("key", &self.key)
            .field("key_is_next", &self.key_is_next)
            .finish()
    }
}

/// A token whose signature and claims are good, waiting for the body it vouches for.
///
/// It hashes the body piece by piece and gives out its [`Claims`] only if the hash is the signed
/// one. [`Verifier::verify_token`](super::Verifier::verify_token) has an example.
#[derive(Clone, Debug)]
#[must_use = "the body is not checked yet"]
pub struct VerifiedToken {
    claims: Claims,
    body_hash: CtOutput<Sha256>,
    hasher: Sha256,
}

impl VerifiedToken {
    /// Takes the next piece of the body, byte for byte as it arrived.
    pub fn update(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    /// Compares the body's hash with the signed one, in constant time.
    ///
    /// # Errors
    ///
    /// [`VerifyError::BodyMismatch`] where the pieces together are not the signed body: a JSON body
    /// that was parsed and written again, a body cut short, a piece taken twice.
    pub fn finish(self) -> Result<Claims, VerifyError> {
        let hash = CtOutput::new(self.hasher.finalize());
        if hash == self.body_hash { Ok(self.claims) } else { Err(VerifyError::BodyMismatch) }
    }

    /// [`finish`](Self::finish) for a body that is there at once.
    pub(super) fn finish_with(self, body: &[u8]) -> Result<Claims, VerifyError> {
        let hash = CtOutput::new(Sha256::digest(body));
        if hash == self.body_hash { Ok(self.claims) } else { Err(VerifyError::BodyMismatch) }
    }
}

/// Checks everything but the MAC and the body: the JOSE header, the claims' types, `iss`, `sub`,
/// `nbf`, `exp`.
///
/// The clock is read only for a token that has passed every other check. A mismatch leaves it to the
/// caller to add which URLs were expected.
#[inline]
pub(crate) fn check(
    token: &SignedToken<'_, '_>,
    is_subject: impl FnOnce(&str) -> bool,
    clock: impl FnOnce() -> SystemTime,
    clock_tolerance: Duration,
) -> Result<VerifiedToken, VerifyError> {
    // On the stack, if the claims are as short as QStash's: about 250 bytes.
    let (mut buffer, mut overflow) = ([MaybeUninit::uninit(); 1024], Vec::new());
    let json = token.decode_claims(&mut buffer, &mut overflow)?;
    let ClaimsSet { issuer, subject, expires_at, not_before, issued_at, jwt_id, body } =
        ClaimsSet::read(json)?;
    let body_hash = sha256(&body).ok_or(VerifyError::InvalidClaim { claim: "body" })?;

    if issuer != "Upstash" {
        return Err(VerifyError::IssuerMismatch);
    }
    if !is_subject(&subject) {
        let subject = RedactedUrl::new(&subject);
        return Err(VerifyError::SubjectMismatch { subject, expected: Vec::new() });
    }
    let now = NumericDate::from(clock());
    if let Some(not_before) = not_before
        && now.saturating_add(clock_tolerance) < not_before
    {
        return Err(VerifyError::NotYetValid { not_before, now });
    }
    // RFC 7519 §4.1.4: expired "on or after" the time of `exp`.
    if now.saturating_sub(clock_tolerance) >= expires_at {
        return Err(VerifyError::Expired { expires_at, now });
    }

    let id = jwt_id.as_deref().unwrap_or_default();
    let mut text = String::with_capacity(subject.len() + id.len());
    text.push_str(&subject);
    text.push_str(id);
    let claims = Claims {
        text: text.into(),
        subject_length: subject.len(),
        has_jwt_id: jwt_id.is_some(),
        expires_at,
        not_before,
        issued_at,
        key: Arc::clone(&token.key.label),
        key_is_next: token.key.is_next,
    };
    Ok(VerifiedToken { claims, body_hash, hasher: Sha256::new() })
}

/// The claim `body`: base64url, padded in real tokens and unpadded in the SDKs' tests.
fn sha256(claim: &str) -> Option<CtOutput<Sha256>> {
    base64url::decode_32(claim.strip_suffix('=').unwrap_or(claim))
        .map(|hash| CtOutput::new(hash.into()))
}
