//! Parses the claims: QStash's exact serialization takes a fast path, any other JSON goes through
//! serde.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{NumericDate, canonical::parse_canonical, json};
use crate::verify::error::VerifyError;

/// The claims that are used, with their right types. Others are ignored, `aud` among them: QStash
/// sends `"aud": ""`.
#[derive(Debug, PartialEq)]
pub(super) struct ClaimsSet<'a> {
    pub(super) issuer: Cow<'a, str>,
    pub(super) subject: Cow<'a, str>,
    pub(super) expires_at: NumericDate,
    pub(super) not_before: Option<NumericDate>,
    pub(super) issued_at: Option<NumericDate>,
    pub(super) jwt_id: Option<Cow<'a, str>>,
    pub(super) body: Cow<'a, str>,
}

#[inline]
pub(super) fn parse(json: &[u8]) -> Result<ClaimsSet<'_>, VerifyError> {
    match parse_canonical(json) {
        Some(claims) => Ok(claims),
        None => parse_json(json),
    }
}

// 97 instructions fewer on the fast path, which then has none of this inlined.
#[cold]
pub(super) fn parse_json(json: &[u8]) -> Result<ClaimsSet<'_>, VerifyError> {
    let raw: RawClaims<'_> = json::parse_object(json, "claims")?;
    Ok(ClaimsSet {
        issuer: required("iss", raw.iss, json::parse_string)?,
        subject: required("sub", raw.sub, json::parse_string)?,
        expires_at: required("exp", raw.exp, json::parse_numeric_date)?,
        not_before: optional("nbf", raw.nbf, json::parse_numeric_date)?,
        issued_at: optional("iat", raw.iat, json::parse_numeric_date)?,
        jwt_id: optional("jti", raw.jti, json::parse_string)?,
        body: required("body", raw.body, json::parse_string)?,
    })
}

/// The claims before their JSON types are checked.
#[derive(Deserialize)]
struct RawClaims<'a> {
    #[serde(borrow, default, deserialize_with = "json::present")]
    iss: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    sub: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    exp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    nbf: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    iat: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    jti: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    body: Option<&'a RawValue>,
}

fn required<'a, T>(
    claim: &'static str,
    value: Option<&'a RawValue>,
    parse: impl FnOnce(&'a RawValue) -> Option<T>,
) -> Result<T, VerifyError> {
    optional(claim, value, parse)?.ok_or(VerifyError::MissingClaim { claim })
}

fn optional<'a, T>(
    claim: &'static str,
    value: Option<&'a RawValue>,
    parse: impl FnOnce(&'a RawValue) -> Option<T>,
) -> Result<Option<T>, VerifyError> {
    value.map(|value| parse(value).ok_or(VerifyError::InvalidClaim { claim })).transpose()
}
