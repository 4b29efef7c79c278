//! The compact JWT: split, its MAC over the raw text, and only then its base64 and JSON.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{SigningKeys, VerifyError, json, keys::SigningKey};

/// QStash's tokens are under 1 KiB; more than this is not worth a MAC.
const MAX_LENGTH: usize = 8 * 1024;

/// The bytes of the claims, out of a token that one of the keys signed.
///
/// Having it proves that the MAC is good and that the header asks for nothing but HS256.
pub(super) struct SignedClaims<'a> {
    pub(super) json: Vec<u8>,
    pub(super) key: &'a SigningKey,
}

pub(super) fn authenticate<'a>(
    token: &str,
    keys: &'a SigningKeys,
) -> Result<SignedClaims<'a>, VerifyError> {
    if token.len() > MAX_LENGTH {
        return Err(VerifyError::TokenTooLong { length: token.len() });
    }
    let (message, header, claims, signature) = split(token).ok_or(VerifyError::NotThreeSegments)?;

    let mut tag = [0; 32];
    match BASE64_URL_SAFE_NO_PAD.decode_slice(signature, &mut tag) {
        Ok(32) => {}
        _ => return Err(VerifyError::InvalidEncoding { segment: "signature" }),
    }
    let key = keys.find(message.as_bytes(), &tag).ok_or(VerifyError::SignatureMismatch)?;

    check_header(&decode(header, "header")?)?;
    Ok(SignedClaims { json: decode(claims, "claims")?, key })
}

/// `header.claims` (what is signed), `header`, `claims`, `signature`.
fn split(token: &str) -> Option<(&str, &str, &str, &str)> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    (!claims.contains('.')).then_some((message, header, claims, signature))
}

fn decode(text: &str, segment: &'static str) -> Result<Vec<u8>, VerifyError> {
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| VerifyError::InvalidEncoding { segment })
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
