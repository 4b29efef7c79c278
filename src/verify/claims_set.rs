//! Reading the JSON of the claims: any JSON, and sooner the very text that QStash writes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{NumericDate, VerifyError, json};

/// The claims that are looked at, with their right types. Others, `aud` among them, are ignored:
/// QStash sends `"aud": ""`.
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

impl<'a> ClaimsSet<'a> {
    pub(super) fn read(json: &'a [u8]) -> Result<Self, VerifyError> {
        match Self::read_as_qstash_writes(json) {
            Some(claims) => Ok(claims),
            None => Self::read_any(json),
        }
    }

    #[cold]
    fn read_any(json: &'a [u8]) -> Result<Self, VerifyError> {
        let raw: RawClaims<'_> = json::object(json, "claims")?;
        Ok(Self {
            issuer: required("iss", raw.iss, json::string)?,
            subject: required("sub", raw.sub, json::string)?,
            expires_at: required("exp", raw.exp, json::numeric_date)?,
            not_before: optional("nbf", raw.nbf, json::numeric_date)?,
            issued_at: optional("iat", raw.iat, json::numeric_date)?,
            jwt_id: optional("jti", raw.jti, json::string)?,
            body: required("body", raw.body, json::string)?,
        })
    }

    /// What `read_any` would make of it, many times as fast, for the one text that matters: these
    /// names in this order, no white space, no escapes, whole numbers. `None` for any other.
    fn read_as_qstash_writes(json: &'a [u8]) -> Option<Self> {
        // `|`, not `||`: without branches, the compiler looks at many bytes at once.
        let controls = json.iter().fold(false, |any, byte| any | (*byte < b' '));
        let text = str::from_utf8(json).ok().filter(|_| !controls)?;

        let rest = text.strip_prefix(r#"{"aud":"","body":""#)?;
        let (body, rest) = rest_of_string(rest)?;
        let (expires_at, rest) = whole_number(rest.strip_prefix(r#","exp":"#)?)?;
        let (issued_at, rest) = whole_number(rest.strip_prefix(r#","iat":"#)?)?;
        let rest = rest.strip_prefix(r#","iss":"Upstash","jti":""#)?;
        let (jwt_id, rest) = rest_of_string(rest)?;
        let (not_before, rest) = whole_number(rest.strip_prefix(r#","nbf":"#)?)?;
        let (subject, end) = rest_of_string(rest.strip_prefix(r#","sub":""#)?)?;
        (end == "}").then_some(Self {
            issuer: "Upstash".into(),
            subject: subject.into(),
            expires_at,
            not_before: Some(not_before),
            issued_at: Some(issued_at),
            jwt_id: Some(jwt_id.into()),
            body: body.into(),
        })
    }
}

/// Every claim of whatever JSON type.
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
    read: impl FnOnce(&'a RawValue) -> Option<T>,
) -> Result<T, VerifyError> {
    optional(claim, value, read)?.ok_or(VerifyError::MissingClaim { claim })
}

fn optional<'a, T>(
    claim: &'static str,
    value: Option<&'a RawValue>,
    read: impl FnOnce(&'a RawValue) -> Option<T>,
) -> Result<Option<T>, VerifyError> {
    value.map(|value| read(value).ok_or(VerifyError::InvalidClaim { claim })).transpose()
}

/// The rest of a string without escapes, and what follows it.
fn rest_of_string(text: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr2(b'"', b'\\', text.as_bytes())?;
    let (string, rest) = text.split_at(end);
    Some((string, rest.strip_prefix('"')?))
}

/// A number as JSON writes whole ones (no plus sign, no zeros in front), and what follows it.
fn whole_number(text: &str) -> Option<(NumericDate, &str)> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (mut length, mut magnitude) = (0, 0);
    // 18 digits do not overflow, and more than 18 bytes follow.
    for byte in text.as_bytes().first_chunk::<18>()? {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        magnitude = magnitude * 10 + i64::from(digit);
        length += 1;
    }
    let (digits, rest) = text.split_at(length);
    if digits.is_empty() || digits.starts_with('0') {
        return None;
    }
    Some((NumericDate::from_whole(if is_negative { -magnitude } else { magnitude }), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: &str = concat!(
        r#"{"aud":"","body":"GF-NsyJx_iX1Yab8k4suJkMG7DBO2lGAB9F2SCY4GWk=","exp":1700000300,"#,
        r#""iat":1700000000,"iss":"Upstash","jti":"jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB","#,
        r#""nbf":-62135596800,"sub":"https://api.example.com/hook?a=1&b=café"}"#
    );

    #[test]
    fn what_qstash_writes_is_read_the_fast_way_and_the_same() {
        let fast = ClaimsSet::read_as_qstash_writes(WRITTEN.as_bytes()).expect("the very text");
        assert_eq!(Ok(fast), ClaimsSet::read_any(WRITTEN.as_bytes()));
    }

    #[test]
    fn a_space_in_a_claim_is_no_reason_to_go_the_slow_way_but_any_control_character_is() {
        let read =
            |id| ClaimsSet::read_as_qstash_writes(WRITTEN.replace("jwt_", id).as_bytes()).is_some();
        assert!(read("jwt "));
        assert!(!read("\tjwt_") && !read("\u{1f}jwt\n") && !read("\0\0\0"));
    }

    /// Where the fast way has an answer, it is the other's.
    #[test]
    fn one_byte_changed_anywhere_is_read_the_same_or_not_the_fast_way() {
        let written = WRITTEN.as_bytes();
        let mut fast = 0;
        for index in 0..written.len() {
            for byte in 0..=u8::MAX {
                let mut changed = written.to_vec();
                changed[index] = byte;
                if let Some(claims) = ClaimsSet::read_as_qstash_writes(&changed) {
                    fast += 1;
                    assert_eq!(Ok(claims), ClaimsSet::read_any(&changed), "{index}: {byte}");
                }
            }
            let mut removed = written.to_vec();
            removed.remove(index);
            if let Some(claims) = ClaimsSet::read_as_qstash_writes(&removed) {
                assert_eq!(Ok(claims), ClaimsSet::read_any(&removed), "{index} removed");
            }
        }
        assert!(fast > 1_000, "many changes are of values only: {fast}");
    }

    #[test]
    fn numbers_that_json_has_not_are_not_read_the_fast_way() {
        for number in
            ["", "-", "+1", "01", "-01", "1.0", "1e3", " 1", "1 ", "0x1", "99999999999999999999"]
        {
            let text = WRITTEN.replace("1700000300", number);
            assert_eq!(ClaimsSet::read_as_qstash_writes(text.as_bytes()), None, "{number}");
        }
        let read = |text| whole_number(text).map(|(date, rest)| (date.as_secs(), rest));
        let followed = r#"-62135596800,"sub":"https://"#;
        assert_eq!(read(followed), Some((-62_135_596_800, r#","sub":"https://"#)));
        assert_eq!(read("9999999999999999999"), Some((999_999_999_999_999_999, "9")));
        assert_eq!(read("1700000000"), None, "too short to be told");
    }
}
