//! JSON as a JWT needs it: an object with each name once, whose members are parsed one by one, so
//! that a wrong type is reported with the name of its claim.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::NumericDate;
use crate::verify::error::VerifyError;

/// Parses an object. `segment` names the part of the token that `text` comes from.
pub(in crate::verify) fn parse_object<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    segment: &'static str,
) -> Result<T, VerifyError> {
    // serde would fill a struct from an array as well, by position.
    let starts_as_object = text.trim_ascii_start().starts_with(b"{");
    // `from_slice` would not check the bytes of members that are skipped, but all must be UTF-8
    // (RFC 7519 §7.2).
    str::from_utf8(text)
        .ok()
        .and_then(|text| serde_json::from_str(text).ok())
        .filter(|_| starts_as_object)
        .ok_or(VerifyError::InvalidJson { segment })
}

/// Deserializes a member that is present even if it is `null`, which serde would otherwise take for
/// missing.
pub(in crate::verify) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

pub(in crate::verify) fn parse_string(value: &RawValue) -> Option<Cow<'_, str>> {
    /// `Cow<str>` alone would always copy.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str(value.get()).ok().map(|Text(text)| text)
}

pub(super) fn parse_numeric_date(value: &RawValue) -> Option<NumericDate> {
    // With its feature `arbitrary_precision`, serde_json takes some objects for numbers too.
    let text = value.get();
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    NumericDate::from_json(&serde_json::from_str(text).ok().filter(|_| is_number)?)
}
