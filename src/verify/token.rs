//! The compact JWT: splits it, checks the MAC over its raw text, and only then its JOSE header.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::keys::{SigningKey, SigningKeys};

use super::{
    base64url::{self, Buffer},
    claims::json,
    error::VerifyError,
};

/// The longest token for up to 16 keys. QStash's tokens are under 1 KiB plus the URL.
const MAX_LENGTH: usize = 8 * 1024;
/// The longest token for any number of keys.
const MAX_LENGTH_FOR_MANY_KEYS: usize = 2 * 1024;
/// How many bytes a forged token may make a receiver hash, between those two limits.
const MAX_HASHED: usize = 128 * 1024;

/// `{"alg":"HS256","typ":"JWT"}`, with which every token of QStash starts.
const CANONICAL_HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// A token split into its segments, of which only the signature is decoded.
pub(crate) struct Token<'a> {
    /// `header.claims`, the text that is signed.
    message: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: [u8; 32],
}

impl<'a> Token<'a> {
    /// Splits a token. `keys` returns the number of keys that it will be checked with.
    #[inline]
    pub(crate) fn parse(text: &'a str, keys: impl FnOnce() -> usize) -> Result<Self, VerifyError> {
        if text.len() > MAX_LENGTH_FOR_MANY_KEYS {
            let limit = MAX_HASHED / keys().max(1);
            let limit = limit.clamp(MAX_LENGTH_FOR_MANY_KEYS, MAX_LENGTH);
            if text.len() > limit {
                return Err(VerifyError::TokenTooLong { length: text.len(), limit });
            }
        }
        let (message, header, claims, signature) =
            split(text).ok_or(VerifyError::NotThreeSegments)?;
        let signature = base64url::decode_32(signature)
            .ok_or(VerifyError::InvalidEncoding { segment: "signature" })?;
        Ok(Self { message, header, claims, signature })
    }

    /// Returns the claims, still encoded, if one of `keys` made the signature.
    #[inline]
    pub(crate) fn authenticate<'k>(&self, keys: &'k SigningKeys) -> Option<SignedToken<'a, 'k>> {
        let key = keys.find(self.message.as_bytes(), &self.signature)?;
        Some(SignedToken { header: self.header, claims: self.claims, key })
    }
}

/// A token whose MAC is valid. Nothing else of it is checked yet.
pub(crate) struct SignedToken<'a, 'k> {
    header: &'a str,
    claims: &'a str,
    pub(super) key: &'k SigningKey,
}

impl SignedToken<'_, '_> {
    /// Checks the JOSE header, and decodes the claims.
    #[inline]
    pub(super) fn decode_claims<'b>(
        &self,
        buffer: &'b mut Buffer,
    ) -> Result<&'b [u8], VerifyError> {
        let invalid = |segment| VerifyError::InvalidEncoding { segment };
        // 2,067 instructions fewer than parsing it.
        if self.header != CANONICAL_HEADER {
            check_header(buffer.decode(self.header).ok_or(invalid("header"))?)?;
        }
        buffer.decode(self.claims).ok_or(invalid("claims"))
    }
}

/// Returns the first 16 bytes of a token's MAC, which tell it from every other token. `None` for a text
/// that is no token.
pub(crate) fn mac_prefix(token: &str) -> Option<[u8; 16]> {
    let (_, _, _, signature) = split(token)?;
    base64url::decode_32(signature)?.first_chunk().copied()
}

/// Splits a token into `header.claims`, `header`, `claims` and `signature`.
fn split(token: &str) -> Option<(&str, &str, &str, &str)> {
    let mut dots = memchr::memchr_iter(b'.', token.as_bytes());
    let (first, second) = (dots.next()?, dots.next()?);
    let claims = &token[first + 1..second];
    let three = dots.next().is_none();
    three.then_some((&token[..second], &token[..first], claims, &token[second + 1..]))
}

/// The members of the JOSE header that are checked. `typ` is not: RFC 7519 §5.1 leaves it to the
/// application, and a client that could change it could change everything.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    crit: Option<&'a RawValue>,
}

#[cold]
fn check_header(text: &[u8]) -> Result<(), VerifyError> {
    let header: Header<'_> = json::parse_object(text, "header")?;
    if header.alg.and_then(json::parse_string).as_deref() != Some("HS256") {
        return Err(VerifyError::UnsupportedAlgorithm);
    }
    if header.crit.is_some() {
        return Err(VerifyError::CriticalHeader);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_for_long_tokens_only() {
        let parse = |length: usize, keys: &dyn Fn() -> usize| {
            let text = "a".repeat(length);
            Token::parse(&text, keys).err()
        };
        let not_counted = || unreachable!("a short token");
        let error = parse(MAX_LENGTH_FOR_MANY_KEYS, &not_counted);
        assert!(matches!(error, Some(VerifyError::NotThreeSegments)), "{error:?}");
        for (keys, limit) in
            [(0, 8192), (16, 8192), (17, 7710), (32, 4096), (64, 2048), (1000, 2048)]
        {
            let error = parse(limit, &|| keys);
            assert!(matches!(error, Some(VerifyError::NotThreeSegments)), "{keys}: {error:?}");
            let error = parse(limit + 1, &|| keys);
            let expected = VerifyError::TokenTooLong { length: limit + 1, limit };
            assert_eq!(error, Some(expected), "{keys} keys");
        }
    }
}
