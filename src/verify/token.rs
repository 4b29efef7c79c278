//! The compact JWT: split, its MAC over the raw text, and only then its base64 and JSON.

use std::mem::MaybeUninit;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{SigningKeys, VerifyError, base64url, json, keys::SigningKey};

/// QStash's tokens are under 1 KiB; more than this is not worth a MAC.
const MAX_LENGTH: usize = 8 * 1024;

/// `{"alg":"HS256","typ":"JWT"}`, as every token of QStash starts: known to be good.
const USUAL_HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// The claims out of a token that one of the keys signed, still encoded.
///
/// Having them proves that the MAC is good and that the header asks for nothing but HS256.
pub(super) struct SignedClaims<'a> {
    encoded: &'a str,
    pub(super) key: &'a SigningKey,
}

impl SignedClaims<'_> {
    /// The JSON text, in `buffer` if there is room for it, else in `overflow`.
    pub(super) fn decode<'b>(
        &self,
        buffer: &'b mut [MaybeUninit<u8>],
        overflow: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], VerifyError> {
        decode(self.encoded, "claims", buffer, overflow)
    }
}

pub(super) fn authenticate<'a>(
    token: &'a str,
    keys: &'a SigningKeys,
) -> Result<SignedClaims<'a>, VerifyError> {
    if token.len() > MAX_LENGTH {
        return Err(VerifyError::TokenTooLong { length: token.len() });
    }
    let (message, header, claims, signature) = split(token).ok_or(VerifyError::NotThreeSegments)?;

    let signature = base64url::decode_32(signature)
        .ok_or(VerifyError::InvalidEncoding { segment: "signature" })?;
    let key = keys.find(message.as_bytes(), &signature).ok_or(VerifyError::SignatureMismatch)?;

    if header != USUAL_HEADER {
        check_header(decode(header, "header", &mut [], &mut Vec::new())?)?;
    }
    Ok(SignedClaims { encoded: claims, key })
}

/// `header.claims` (what is signed), `header`, `claims`, `signature`.
fn split(token: &str) -> Option<(&str, &str, &str, &str)> {
    let mut dots = memchr::memchr_iter(b'.', token.as_bytes());
    let (first, second) = (dots.next()?, dots.next()?);
    let claims = &token[first + 1..second];
    let three = dots.next().is_none();
    three.then_some((&token[..second], &token[..first], claims, &token[second + 1..]))
}

fn decode<'b>(
    text: &str,
    segment: &'static str,
    buffer: &'b mut [MaybeUninit<u8>],
    overflow: &'b mut Vec<u8>,
) -> Result<&'b [u8], VerifyError> {
    base64url::decode(text, buffer, overflow).ok_or(VerifyError::InvalidEncoding { segment })
}

/// The members of the JOSE header that decide anything. `typ` does not: RFC 7519 §5.1 leaves it to
/// the application, and an attacker who could change it could change everything.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    crit: Option<&'a RawValue>,
}

#[cold]
fn check_header(text: &[u8]) -> Result<(), VerifyError> {
    let header: Header<'_> = json::object(text, "header")?;
    if header.alg.and_then(json::string).as_deref() != Some("HS256") {
        return Err(VerifyError::UnsupportedAlgorithm);
    }
    if header.crit.is_some() {
        return Err(VerifyError::CriticalHeader);
    }
    Ok(())
}
