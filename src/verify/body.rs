//! The verifier of the body.

use hmac::digest::CtOutput;
use sha2::{Digest, Sha256};

use super::{base64url, claims::Claims, error::VerifyError};

/// Verifies the body of a delivery whose token is valid, and then returns its [`Claims`].
///
/// It hashes the body chunk by chunk.
/// [`Verifier::verify_token`](super::Verifier::verify_token) has an example.
#[derive(Clone, Debug)]
#[must_use = "the body is not verified yet"]
pub struct BodyVerifier {
    claims: Claims,
    expected: CtOutput<Sha256>,
    hasher: Sha256,
}

impl BodyVerifier {
    #[inline]
    pub(super) fn new(claims: Claims, expected: CtOutput<Sha256>) -> Self {
        Self { claims, expected, hasher: Sha256::new() }
    }

    /// Returns the label of the signing key that made the token's signature, such as `current`. See
    /// [`Claims::key_label`].
    pub fn key_label(&self) -> &str {
        self.claims.key_label()
    }

    /// Returns whether that key is a *next* one. See [`Claims::signed_with_next_key`].
    pub fn signed_with_next_key(&self) -> bool {
        self.claims.signed_with_next_key()
    }

    /// Returns the hash that the body must have.
    pub(crate) fn expected_hash(&self) -> [u8; 32] {
        self.expected.clone().into_bytes().into()
    }

    /// Hashes the next chunk of the body, byte for byte as it arrived.
    #[inline]
    pub fn update(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
    }

    /// Compares the body's hash with the signed one, in constant time, and returns the claims.
    ///
    /// # Errors
    ///
    /// [`VerifyError::BodyMismatch`] if the chunks together are not the signed body: a JSON body that
    /// was parsed and serialized again, a truncated body, a chunk that was hashed twice.
    #[inline]
    pub fn finish(self) -> Result<Claims, VerifyError> {
        let hash = CtOutput::new(self.hasher.finalize());
        if hash == self.expected { Ok(self.claims) } else { Err(VerifyError::BodyMismatch) }
    }
}

/// Decodes the claim `body`: base64url, padded in real tokens and unpadded in the SDKs' tests.
#[inline]
pub(super) fn decode_hash(claim: &str) -> Option<CtOutput<Sha256>> {
    base64url::decode_32(claim.strip_suffix('=').unwrap_or(claim))
        .map(|hash| CtOutput::new(hash.into()))
}
