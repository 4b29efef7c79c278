//! The test vectors: tokens of every kind, each with what the receiver is configured with and gets.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tower_qstash::{DeliveryBuilder, Signer};

pub(crate) const CURRENT: &str = "sig_7RvLjqLZBb5vdkuDKgqkcZsPGHjSQeWd";
const NEXT: &str = "sig_5NrzPWtoDs3SgcRMVuVjsJ4qDZvTxYfB";
const UNKNOWN: &str = "sig_4hPqXyWn2CkS9aLzEbT7mVuRgJfDkMnC";
pub(crate) const URL: &str = "https://api.example.com/hooks/resize";
pub(crate) const BODY: &[u8] = b"{\"image\": 7}";
const NOW: u64 = 1_700_000_000;

/// One delivery, and the configuration of its receiver.
#[derive(Serialize, Deserialize)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) current_key: String,
    pub(crate) next_key: String,
    pub(crate) url: String,
    /// In hex, since a body need not be text.
    pub(crate) body: String,
    /// Seconds since the epoch.
    pub(crate) time: u64,
    /// Seconds.
    pub(crate) tolerance: u64,
}

#[derive(Default)]
struct Vectors(Vec<Vector>);

impl Vectors {
    /// Adds a vector with the usual keys, URL, body and time, which the caller may change.
    fn add(&mut self, name: impl Into<String>, token: String) -> &mut Vector {
        self.0.push(Vector {
            name: name.into(),
            token,
            current_key: CURRENT.into(),
            next_key: NEXT.into(),
            url: URL.into(),
            body: hex(BODY),
            time: NOW,
            tolerance: 0,
        });
        self.0.last_mut().expect("just added")
    }
}

pub(crate) fn generate() -> Vec<Vector> {
    let mut vectors = Vectors::default();
    valid(&mut vectors);
    claims(&mut vectors);
    times(&mut vectors);
    segments(&mut vectors);
    algorithms(&mut vectors);
    keys(&mut vectors);
    bodies(&mut vectors);
    urls(&mut vectors);
    vectors.0
}

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

pub(crate) fn signer(key: &str) -> Signer {
    Signer::new(key).expect("a valid key")
}

fn delivery(signer: &Signer) -> DeliveryBuilder {
    signer.delivery(URL, BODY, now())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn claims_of(token: &str) -> String {
    let claims = token.split('.').nth(1).expect("three segments");
    String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64url")).expect("UTF-8")
}

fn valid(vectors: &mut Vectors) {
    let (current, next) = (signer(CURRENT), signer(NEXT));
    vectors.add("valid/current key", delivery(&current).token());
    vectors.add("valid/next key", delivery(&next).token());
    vectors.add("valid/old token with nbf = iat", delivery(&current).claim("nbf", NOW).token());
    for claim in ["nbf", "iat", "jti", "aud"] {
        vectors.add(format!("valid/no {claim}"), delivery(&current).without_claim(claim).token());
    }
    vectors.add("valid/aud a string", delivery(&current).claim("aud", "x").token());
    vectors.add("valid/aud a list", delivery(&current).claim("aud", json!(["x"])).token());
    vectors
        .add("valid/another claim", delivery(&current).claim("region", json!({"a": null})).token());
    vectors.add("valid/kid in the header", delivery(&current).header("kid", "1").token());
    vectors.add("valid/typ at+jwt", delivery(&current).header("typ", "at+jwt").token());
    vectors.add("valid/typ in lower case", delivery(&current).header("typ", "jwt").token());
    let hash = "xMty_ZSbUARUk0ZNcIbNxIW1IUGGWn-0uQUH_0c9_xQ";
    vectors.add(
        "valid/body hash padded",
        delivery(&current).claim("body", format!("{hash}=")).token(),
    );
    vectors.add("valid/body hash unpadded", delivery(&current).claim("body", hash).token());
    let claims = claims_of(&delivery(&current).token());
    let header = br#"{"typ":"JWT","alg":"HS256"}"#;
    vectors.add("valid/header in another order", current.sign_raw(header, claims.as_bytes()));
    let spaced = claims.replace(',', ", ").replace(':', ": ").replace(": //", "://");
    vectors.add("valid/white space in the JSON", current.sign_raw(header, spaced.as_bytes()));
    let escaped = claims.replace("https://", r"https:\/\u002f");
    vectors.add("valid/escapes in the JSON", current.sign_raw(header, escaped.as_bytes()));

    let long = "long ".repeat(13_000);
    let bodies: &[(&str, &[u8])] = &[
        ("empty", b""),
        ("a space", b" "),
        ("text", b"Hello World"),
        ("two lines", b"a\r\nb\n"),
        ("umlauts", "grüße".as_bytes()),
        ("emoji", "🦀".as_bytes()),
        ("a byte order mark", b"\xEF\xBB\xBFx"),
        ("a NUL", b"a\0b"),
        ("65 KB", long.as_bytes()),
        ("not UTF-8", b"\xFF\xFE\x80"),
        ("truncated UTF-8", b"gr\xC3"),
    ];
    for (what, body) in bodies {
        let signed = current.delivery(URL, body, now()).token();
        vectors.add(format!("valid/body: {what}"), signed).body = hex(body);
    }
}

fn claims(vectors: &mut Vectors) {
    let current = signer(CURRENT);
    for claim in ["iss", "sub", "exp", "body"] {
        vectors.add(format!("claims/no {claim}"), delivery(&current).without_claim(claim).token());
    }
    let values = [
        ("null", json!(null)),
        ("true", json!(true)),
        ("a number", json!(1_700_000_100)),
        ("a fraction", json!(1_700_000_100.5)),
        ("a string", json!("1700000100")),
        ("an empty string", json!("")),
        ("a list", json!(["Upstash"])),
        ("an object", json!({})),
    ];
    for claim in ["iss", "sub", "exp", "nbf", "iat", "jti", "body"] {
        for (what, value) in &values {
            let name = format!("claims/{claim} {what}");
            vectors.add(name, delivery(&current).claim(claim, value.clone()).token());
        }
    }
    for issuer in
        ["upstash", "Upstash ", " Upstash", "Upstash\n", "https://upstash.com", "Upstash,x"]
    {
        vectors
            .add(format!("claims/iss {issuer:?}"), delivery(&current).claim("iss", issuer).token());
    }
    let hash = "xMty_ZSbUARUk0ZNcIbNxIW1IUGGWn-0uQUH_0c9_xQ";
    let hashes = [
        ("of another body", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned()),
        ("padded twice", format!("{hash}==")),
        ("truncated", hash[..42].to_owned()),
        ("with a character appended", format!("{hash}A")),
        ("with stray bits", format!("{}R", &hash[..42])),
        ("in the standard alphabet", hash.replace('-', "+").replace('_', "/")),
        ("with a space", format!("{hash} ")),
        ("in hex", hex(b"xMty")),
    ];
    for (what, value) in hashes {
        vectors.add(
            format!("claims/body hash {what}"),
            delivery(&current).claim("body", value).token(),
        );
    }
    let text = claims_of(&delivery(&current).token());
    let header = br#"{"alg":"HS256","typ":"JWT"}"#;
    let raw = |claims: &str| current.sign_raw(header, claims.as_bytes());
    let twice = |claim: &str| text.replacen('{', &format!("{{{claim},"), 1);
    vectors.add("claims/exp twice", raw(&twice("\"exp\":1")));
    vectors.add("claims/sub twice", raw(&twice("\"sub\":\"https://evil.example\"")));
    vectors.add("claims/a list", raw("[]"));
    vectors.add("claims/null", raw("null"));
    vectors.add("claims/empty", raw(""));
    vectors.add("claims/not JSON", raw("claims"));
    vectors.add("claims/truncated", raw(&text[..text.len() - 1]));
    vectors.add("claims/with trailing data", raw(&format!("{text}{{}}")));
    vectors.add("claims/not UTF-8", current.sign_raw(header, b"{\"sub\":\"\xFF\"}"));
    let unknown = [b"{\"region\":\"\xFF\",", &text.as_bytes()[1..]].concat();
    vectors.add("claims/an unknown claim not UTF-8", current.sign_raw(header, &unknown));
    let not_utf8 = b"{\"alg\":\"HS256\",\"kid\":\"\xFF\"}";
    let in_header = current.sign_raw(not_utf8, text.as_bytes());
    vectors.add("segments/header, an unknown member not UTF-8", in_header);
}

fn times(vectors: &mut Vectors) {
    let current = signer(CURRENT);
    for tolerance in [0, 1, 60] {
        for offset in [-1_i64, 0, 1] {
            let exp = NOW as i64 - tolerance as i64 + offset;
            let nbf = NOW as i64 + tolerance as i64 + offset;
            let name = format!("times/exp {offset:+} s from its limit, tolerance {tolerance} s");
            vectors.add(name, delivery(&current).claim("exp", exp).token()).tolerance = tolerance;
            let name = format!("times/nbf {offset:+} s from its limit, tolerance {tolerance} s");
            vectors.add(name, delivery(&current).claim("nbf", nbf).token()).tolerance = tolerance;
        }
    }
    let extremes = [
        ("the year 1", json!(-62_135_596_800_i64)),
        ("0", json!(0)),
        ("-1", json!(-1)),
        ("half a second ago", json!(NOW as f64 - 0.5)),
        ("in half a second", json!(NOW as f64 + 0.5)),
        ("the year 9999", json!(253_402_300_799_i64)),
        ("2^53", json!(9_007_199_254_740_992_i64)),
        ("the largest i64", json!(i64::MAX)),
        ("the largest u64", json!(u64::MAX)),
        ("the smallest i64", json!(i64::MIN)),
        ("1e300", json!(1e300)),
    ];
    for (what, value) in extremes {
        for claim in ["exp", "nbf"] {
            let name = format!("times/{claim} {what}");
            vectors.add(name, delivery(&current).claim(claim, value.clone()).token());
        }
    }
    for offset in [-1_i64, 0, 150, 299, 300, 301, 86_400] {
        let name = format!("times/{offset} s after it was issued");
        let token = delivery(&current).claim("nbf", NOW).token();
        vectors.add(name, token).time = NOW.saturating_add_signed(offset);
    }
}

fn segments(vectors: &mut Vectors) {
    let current = signer(CURRENT);
    let valid = delivery(&current).token();
    let parts: Vec<&str> = valid.split('.').collect();
    let message = format!("{}.{}", parts[0], parts[1]);
    type Change = fn(&str) -> String;
    let changes: &[(&str, Change)] = &[
        ("empty", |_| String::new()),
        ("without its first character", |part| part[1..].into()),
        ("without its last character", |part| part[..part.len() - 1].into()),
        ("padded", |part| format!("{part}=")),
        ("padded twice", |part| format!("{part}==")),
        ("repeated", |part| format!("{part}{part}")),
        ("with stray bits", stray_bits),
        ("with a space before", |part| format!(" {part}")),
        ("with a space after", |part| format!("{part} ")),
        ("with a line break after", |part| format!("{part}\n")),
        ("with a space inside", |part| format!("{} {}", &part[..9], &part[9..])),
        ("with a plus sign", |part| format!("+{}", &part[1..])),
        ("with a character outside the alphabet", |part| format!("{}!", &part[..part.len() - 1])),
        ("with a NUL", |part| format!("{part}\0")),
    ];
    for (index, segment) in ["header", "claims", "signature"].into_iter().enumerate() {
        for (what, change) in changes {
            let mut changed: Vec<String> = parts.iter().map(|&part| part.into()).collect();
            changed[index] = change(&changed[index]);
            vectors.add(format!("segments/{segment} {what}"), changed.join("."));
            // With a valid MAC, so that the token fails at decoding or later.
            if index < 2 {
                let signed = current.sign_segments(&changed[..2].join("."));
                vectors.add(format!("segments/{segment} {what}, signed"), signed);
            }
        }
    }
    let whole = [
        ("empty", String::new()),
        ("one segment", parts[0].into()),
        ("two segments", message.clone()),
        ("four segments", format!("{valid}.{}", parts[2])),
        ("a dot before", format!(".{valid}")),
        ("a dot after", format!("{valid}.")),
        ("dots only", "..".into()),
        ("Bearer before", format!("Bearer {valid}")),
        ("in quotes", format!("\"{valid}\"")),
        ("twice, with a comma", format!("{valid},{valid}")),
        ("claims and header swapped", format!("{}.{}.{}", parts[1], parts[0], parts[2])),
        (
            "signature of another token",
            format!("{message}.{}", signature_of(&current, "https://x.example")),
        ),
        ("signature of zeros", format!("{message}.{}", "A".repeat(43))),
        ("in upper case", valid.to_uppercase()),
    ];
    for (what, changed) in whole {
        vectors.add(format!("segments/token: {what}"), changed);
    }
}

fn signature_of(signer: &Signer, url: &str) -> String {
    let token = signer.delivery(url, BODY, now()).token();
    token.rsplit('.').next().expect("a signature").into()
}

/// Sets a bit after the last whole byte, which a lenient decoder ignores. A segment that ends on a
/// whole byte gets one more character instead.
fn stray_bits(part: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if part.len().is_multiple_of(4) {
        return format!("{part}B");
    }
    let (start, last) = part.split_at(part.len() - 1);
    let index = ALPHABET.find(last).expect("base64url");
    format!("{start}{}", &ALPHABET[index ^ 1..=index ^ 1])
}

fn algorithms(vectors: &mut Vectors) {
    let current = signer(CURRENT);
    // All registered signature algorithms but HS256, one for key encryption, and other spellings.
    for algorithm in [
        "none",
        "HS384",
        "HS512",
        "RS256",
        "RS384",
        "RS512",
        "ES256",
        "ES384",
        "ES512",
        "ES256K",
        "PS256",
        "PS384",
        "PS512",
        "EdDSA",
        "Ed25519",
        "Ed448",
        "A256KW",
        "",
        "None",
        "NONE",
        "nOnE",
        "hs256",
        "Hs256",
        "hS256",
        " HS256",
        "HS256 ",
        "HS256\0",
        "HS-256",
        "HS2560",
        "HS256,none",
    ] {
        let name = format!("algorithms/{algorithm:?} with an HMAC-SHA256");
        vectors.add(name, delivery(&current).header("alg", algorithm).token());
        let unsigned = delivery(&current).header("alg", algorithm).token();
        let unsigned = unsigned.rsplit_once('.').map(|(message, _)| format!("{message}."));
        vectors
            .add(format!("algorithms/{algorithm:?} unsigned"), unsigned.expect("three segments"));
    }
    let others: [(&str, Value); 5] = [
        ("null", json!(null)),
        ("true", json!(true)),
        ("a number", json!(256)),
        ("a list", json!(["HS256"])),
        ("an object", json!({})),
    ];
    for (what, algorithm) in others {
        vectors
            .add(format!("algorithms/{what}"), delivery(&current).header("alg", algorithm).token());
    }
    let claims = claims_of(&delivery(&current).token());
    let raw = |header: &str| current.sign_raw(header.as_bytes(), claims.as_bytes());
    vectors.add("algorithms/missing", raw(r#"{"typ":"JWT"}"#));
    vectors.add("algorithms/twice, the last HS256", raw(r#"{"alg":"none","alg":"HS256"}"#));
    vectors.add("algorithms/twice, the last none", raw(r#"{"alg":"HS256","alg":"none"}"#));
    vectors.add("algorithms/header a list", raw(r#"["HS256"]"#));
    vectors.add("algorithms/header not JSON", raw("HS256"));

    let message = |algorithm: &str| {
        let token = delivery(&current).header("alg", algorithm).token();
        token.rsplit_once('.').expect("three segments").0.to_owned()
    };
    let (hs384, hs512) = (message("HS384"), message("HS512"));
    let mac = Hmac::<Sha384>::new_from_slice(CURRENT.as_bytes()).expect("any length");
    let tag = BASE64_URL_SAFE_NO_PAD.encode(mac.chain_update(&hs384).finalize().into_bytes());
    vectors.add("algorithms/HS384 with an HMAC-SHA384", format!("{hs384}.{tag}"));
    let mac = Hmac::<Sha512>::new_from_slice(CURRENT.as_bytes()).expect("any length");
    let tag = BASE64_URL_SAFE_NO_PAD.encode(mac.chain_update(&hs512).finalize().into_bytes());
    vectors.add("algorithms/HS512 with an HMAC-SHA512", format!("{hs512}.{tag}"));

    let crits = [
        ("empty", json!([])),
        ("null", json!(null)),
        ("a string", json!("b64")),
        ("unknown", json!(["x-unknown"])),
        ("b64", json!(["b64"])),
        ("alg", json!(["alg"])),
    ];
    for (what, crit) in crits {
        vectors.add(format!("crit/{what}"), delivery(&current).header("crit", crit).token());
    }
    let b64 = delivery(&current).header("crit", json!(["b64"])).header("b64", true).token();
    vectors.add("crit/b64 and b64 true", b64);
}

fn keys(vectors: &mut Vectors) {
    let with_current = delivery(&signer(CURRENT)).token();
    let with_next = delivery(&signer(NEXT)).token();
    let with_unknown = delivery(&signer(UNKNOWN)).token();
    vectors.add("keys/unknown", with_unknown);
    let cases = [
        ("swapped, signed with the current", &with_current, NEXT, CURRENT),
        ("swapped, signed with the next", &with_next, NEXT, CURRENT),
        ("rolled once", &with_next, NEXT, UNKNOWN),
        ("rolled twice", &with_current, NEXT, UNKNOWN),
        ("the same twice", &with_current, CURRENT, CURRENT),
        ("two unknown keys", &with_current, UNKNOWN, UNKNOWN),
        ("unknown and current", &with_current, UNKNOWN, CURRENT),
        ("without its prefix", &with_current, &CURRENT[4..], NEXT),
        ("truncated", &with_current, &CURRENT[..CURRENT.len() - 1], NEXT),
    ];
    for (what, token, current, next) in cases {
        let vector = vectors.add(format!("keys/{what}"), token.clone());
        (vector.current_key, vector.next_key) = (current.into(), next.into());
    }
    // Variables that were never set: with an empty key, anyone can sign.
    let signing_input = with_current.rsplit_once('.').expect("three segments").0;
    let mac = Hmac::<Sha256>::new_from_slice(b"").expect("any length");
    let mac = mac.chain_update(signing_input).finalize().into_bytes();
    let token = format!("{signing_input}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac));
    let vector = vectors.add("keys/empty, and signed with an empty key", token);
    (vector.current_key, vector.next_key) = (String::new(), String::new());
    for (what, key) in [("current", CURRENT), ("next", NEXT), ("unknown", UNKNOWN)] {
        vectors
            .add(format!("keys/expired, {what}"), delivery(&signer(key)).claim("exp", NOW).token());
    }
}

fn bodies(vectors: &mut Vectors) {
    let valid = delivery(&signer(CURRENT)).token();
    for bit in (0..BODY.len() * 8).filter(|bit| bit % 8 < 4) {
        let mut body = BODY.to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        vectors.add(format!("bodies/bit {bit} flipped"), valid.clone()).body = hex(&body);
    }
    let others: [(&str, Vec<u8>); 8] = [
        ("empty", Vec::new()),
        ("truncated", BODY[..BODY.len() - 1].into()),
        ("without its first byte", BODY[1..].into()),
        ("with a line break appended", [BODY, b"\n"].concat()),
        ("with a space prepended", [b" ", BODY].concat()),
        ("with a NUL appended", [BODY, b"\0"].concat()),
        ("twice", [BODY, BODY].concat()),
        ("serialized again", b"{\"image\":7}".into()),
    ];
    for (what, body) in others {
        vectors.add(format!("bodies/{what}"), valid.clone()).body = hex(&body);
    }
}

fn urls(vectors: &mut Vectors) {
    let current = signer(CURRENT);
    let pairs = [
        ("the same", "https://api.example.com/a?b=1", "https://api.example.com/a?b=1"),
        ("default port", "https://api.example.com:443/a", "https://api.example.com/a"),
        ("default port of http", "http://api.example.com:80/a", "http://api.example.com/a"),
        ("another port", "https://api.example.com:8443/a", "https://api.example.com/a"),
        ("upper-case host", "https://API.example.com/a", "https://api.example.com/a"),
        ("upper-case scheme", "HTTPS://api.example.com/a", "https://api.example.com/a"),
        ("another scheme", "http://api.example.com/a", "https://api.example.com/a"),
        ("empty path", "https://api.example.com", "https://api.example.com/"),
        ("slash at the end", "https://api.example.com/a/", "https://api.example.com/a"),
        ("two slashes at the end", "https://api.example.com/a//", "https://api.example.com/a"),
        ("tilde encoded", "https://api.example.com/%7Ea", "https://api.example.com/~a"),
        ("case of hex digits", "https://api.example.com/%c3%a9", "https://api.example.com/%C3%A9"),
        ("slash encoded", "https://api.example.com/a%2Fb", "https://api.example.com/a/b"),
        ("case of the path", "https://api.example.com/A", "https://api.example.com/a"),
        ("dot segments", "https://api.example.com/b/../a", "https://api.example.com/a"),
        ("another path", "https://api.example.com/hooks", "https://api.example.com/hooks-admin"),
        ("a longer path", "https://api.example.com/hooks/admin", "https://api.example.com/hooks"),
        (
            "order of the query",
            "https://api.example.com/?a=1&b=2",
            "https://api.example.com/?b=2&a=1",
        ),
        (
            "order of one name",
            "https://api.example.com/?a=1&a=2",
            "https://api.example.com/?a=2&a=1",
        ),
        ("plus and %20", "https://api.example.com/?a=b+c", "https://api.example.com/?a=b%20c"),
        ("empty query", "https://api.example.com/?", "https://api.example.com/"),
        ("no query", "https://api.example.com/", "https://api.example.com/?a=1"),
        ("fragment", "https://api.example.com/#top", "https://api.example.com/"),
        ("port with a leading zero", "https://api.example.com:0443/a", "https://api.example.com/a"),
        ("empty port", "https://api.example.com:/a", "https://api.example.com/a"),
        ("empty query after a path", "https://api.example.com/a/?", "https://api.example.com/a"),
        ("empty query and fragment", "https://api.example.com/a?#", "https://api.example.com/a"),
        ("query of a delimiter", "https://api.example.com/a?&", "https://api.example.com/a"),
        ("user information", "https://user@api.example.com/", "https://api.example.com/"),
        ("host as prefix", "https://api.example.com.evil.org/", "https://api.example.com/"),
        (
            "host as user information",
            "https://api.example.com@evil.org/",
            "https://api.example.com/",
        ),
        ("Unicode host, unchanged", "https://bücher.example/", "https://bücher.example/"),
        ("punycode", "https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("IPv6", "http://[::1]:3000/a", "http://[::1]:3000/a"),
        ("not a URL", "queue:resize", "queue:resize"),
        ("white space", " https://api.example.com/", "https://api.example.com/"),
    ];
    for (what, subject, url) in pairs {
        let signed = current.delivery(subject, BODY, now()).token();
        vectors.add(format!("urls/{what}"), signed).url = url.into();
    }
}
