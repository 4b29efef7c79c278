//! The rules that every accepted delivery keeps, checked independently of the crate, with other
//! parsers of JSON, URLs and base64.

use std::collections::BTreeMap;

use base64::{
    Engine,
    prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use crate::destination::Destination;

/// A delivery that was accepted.
pub(crate) struct Delivery<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) claims: &'a [u8],
    pub(crate) url: &'a str,
    pub(crate) body: &'a [u8],
    /// Seconds since the epoch.
    pub(crate) now: i64,
    /// Seconds.
    pub(crate) tolerance: i64,
}

impl Delivery<'_> {
    pub(crate) fn assert_rules(&self) {
        let header = members(self.header);
        assert_eq!(header.get("alg"), Some(&Value::from("HS256")));
        assert!(!header.contains_key("crit"));

        let claims = members(self.claims);
        assert_eq!(claims.get("iss"), Some(&Value::from("Upstash")));
        let expires_at = claims.get("exp").expect("`exp` is required");
        assert!(is_after(expires_at, self.now - self.tolerance), "expired: {expires_at}");
        if let Some(not_before) = claims.get("nbf") {
            assert!(!is_after(not_before, self.now + self.tolerance), "not yet: {not_before}");
        }

        let subject = claims.get("sub").and_then(Value::as_str).expect("`sub` is a string");
        let expected = Destination::parse(self.url).expect("the configured URL is valid");
        assert_eq!(Destination::parse(subject), Some(expected), "sub: {subject:?}");

        let hash = Sha256::digest(self.body);
        let hashes = [BASE64_URL_SAFE.encode(hash), BASE64_URL_SAFE_NO_PAD.encode(hash)];
        let body = claims.get("body").and_then(Value::as_str).expect("`body` is a string");
        assert!(hashes.iter().any(|hash| hash == body), "body: {body:?}");
    }
}

/// Parses the members of an object. Skips those that `Value` can't hold, such as 1e999.
fn members(text: &[u8]) -> BTreeMap<String, Value> {
    let text = str::from_utf8(text).expect("JSON is UTF-8");
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect("an object");
    let value = |value: &RawValue| serde_json::from_str(value.get()).ok();
    members.into_iter().filter_map(|(name, text)| Some((name, value(text)?))).collect()
}

fn is_after(date: &Value, seconds: i64) -> bool {
    match (date.as_i64(), date.as_u64()) {
        (Some(date), _) => date > seconds,
        (None, Some(_)) => true,
        // `f64` holds present-day seconds exactly.
        (None, None) => date.as_f64().expect("a number") > seconds as f64,
    }
}
