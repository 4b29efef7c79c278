//! The verifier, at fixed times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tower_qstash::{DeliveryBuilder, NumericDate, Signer, SigningKeys, Verifier, VerifyError};

use crate::support::{CURRENT_KEY, NEXT_KEY, NOW, current, keys, next, now, unknown_key};

const URL: &str = "https://api.example.com/hooks/resize";
const BODY: &[u8] = br#"{"image": 7}"#;

/// Returns a valid delivery, for tests to change.
fn delivery(signer: &Signer) -> DeliveryBuilder {
    signer.delivery(URL, BODY, now())
}

fn verify(token: &str) -> Result<(), VerifyError> {
    Verifier::new(keys()).verify(token, URL, BODY, now()).map(drop)
}

/// Returns `ok`, or the error's code and the segment or claim it names: `missing_claim exp`.
fn outcome<T>(result: Result<T, VerifyError>) -> String {
    let Err(error) = result else { return "ok".into() };
    let named = match error {
        VerifyError::InvalidEncoding { segment, .. } | VerifyError::InvalidJson { segment, .. } => {
            Some(segment)
        }
        VerifyError::MissingClaim { claim, .. } | VerifyError::InvalidClaim { claim, .. } => {
            Some(claim)
        }
        _ => None,
    };
    [Some(error.code()), named].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Tokens issued by QStash, published in tests and examples of SDKs together with the keys, which
/// have been rolled since.
#[test]
fn tokens_issued_by_qstash_are_accepted() {
    struct Issued {
        keys: [&'static str; 2],
        token: &'static str,
        url: &'static str,
        body: &'static [u8],
        issued_at: u64,
    }
    let issued = [
        Issued {
            keys: [
                "sig_3nj4aiyJ2JojDnQ1RRodpYubZAZxAJxNfQcRSKPwVUNbueYk2o",
                "sig_31zVqmL3s7Eo1vpu1jRSMpaetJXvAT3RvNcfoGUp1Toii8fsQE",
            ],
            token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiIiLCJib2R5IjoiNDdERVFwajhIQlNhLV9USW1X\
                    LTVKQ2V1UWVSa201Tk1wSldaRzNoU3VGVT0iLCJleHAiOjE2OTMyMjA3OTUsImlhdCI6MTY5MzIyMDQ5NSwia\
                    XNzIjoiVXBzdGFzaCIsImp0aSI6Imp3dF80Ym10N3pjUzYyUURMcThCeHJ3UXlMQ0R5TVZnIiwibmJmIjoxNj\
                    kzMjIwNDk1LCJzdWIiOiJodHRwczovL3NpZy5yZXF1ZXN0Y2F0Y2hlci5jb20vdGVzdCJ9.O33rr8T5-Q7XJ3\
                    yBxQkEFDVPJh6z5JkDGsGHVgX7H_Q",
            url: "https://sig.requestcatcher.com/test",
            body: b"",
            issued_at: 1_693_220_495,
        },
        Issued {
            // This token was signed with the next key.
            keys: ["sig_5KX2tPTwA8LWwQDEfPDmF7ktwB2v", "sig_561zQH6V9b96E63sS3b9wvGXosi7"],
            token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiIiLCJib2R5IjoiLVcyTk4xZnZNaGFxLVhlT0JJ\
                    cXE4SUE4ajdMSlhxTDhaY1NDMXJoRE1CVT0iLCJleHAiOjE3MjEwNjkxNTEsImlhdCI6MTcyMTA2ODg1MSwia\
                    XNzIjoiVXBzdGFzaCIsImp0aSI6Imp3dF82Y2tnQTdSUW5qNngzWE1LU25mVWI4YXRUc1pQIiwibmJmIjoxNz\
                    IxMDY4ODUxLCJzdWIiOiJodHRwczovL3dlYmhvb2suc2l0ZS83N2FlODk4OC1lZWNmLTRhMDEtOWE3Ni0yYTM\
                    3MjEyYzc1YTgifQ.ppulAF6fmnYfeVdR72HprfzLSIN_6KX65JOXwdxRMyk",
            url: "https://webhook.site/77ae8988-eecf-4a01-9a76-2a37212c75a8",
            body: br#"{"message":"hello world"}"#,
            issued_at: 1_721_068_851,
        },
    ];
    for Issued { keys: [current, next], token, url, body, issued_at } in issued {
        let verifier = Verifier::new(SigningKeys::new(current, next).unwrap());
        let claims = verifier.verify(token, url, body, at(issued_at)).unwrap();
        assert_eq!(claims.subject(), url);
        assert_eq!(claims.issued_at().map(NumericDate::as_secs), Some(issued_at as i64));
        assert_eq!(claims.not_before(), claims.issued_at());
        assert_eq!(claims.expires_at().as_secs(), issued_at as i64 + 300);
        assert!(claims.jwt_id().unwrap().starts_with("jwt_"));

        let late = verifier.verify(token, url, body, at(issued_at + 300));
        assert!(matches!(late, Err(VerifyError::Expired { .. })), "{late:?}");
        let early = verifier.verify(token, url, body, at(issued_at - 1));
        assert!(matches!(early, Err(VerifyError::NotYetValid { .. })), "{early:?}");
    }
}

#[test]
fn valid_tokens_of_every_shape_are_accepted() {
    let (current, next) = (current(), next());
    let unpadded_hash = "xMty_ZSbUARUk0ZNcIbNxIW1IUGGWn-0uQUH_0c9_xQ";
    let exp_with_exponent = format!("{{\"exp\":{}e2,", (NOW + 300) / 100);
    let exponent = {
        let claims = raw_claims(&delivery(&current).token());
        claims.replacen('{', &exp_with_exponent, 1).replacen(
            &format!("\"exp\":{},", NOW + 300),
            "",
            1,
        )
    };
    let escaped = raw_claims(&delivery(&current).token()).replace("https://", r"https:\/\u002f");

    let shapes: &[(&str, String)] = &[
        ("the current key", delivery(&current).token()),
        ("the next key", delivery(&next).token()),
        ("an old token, nbf = iat", delivery(&current).claim("nbf", NOW).token()),
        ("no nbf", delivery(&current).without_claim("nbf").token()),
        ("no iat", delivery(&current).without_claim("iat").token()),
        ("no jti", delivery(&current).without_claim("jti").token()),
        ("no aud", delivery(&current).without_claim("aud").token()),
        ("an aud of another kind", delivery(&current).claim("aud", json!(["a", "b"])).token()),
        ("an unknown claim", delivery(&current).claim("region", json!({"a": [1, null]})).token()),
        (
            "an iat in the future, which is not checked",
            delivery(&current).claim("iat", NOW + 999).token(),
        ),
        ("a typ of another kind", delivery(&current).header("typ", "at+jwt").token()),
        ("a kid", delivery(&current).header("kid", "k1").token()),
        ("a fractional exp just ahead", delivery(&current).claim("exp", NOW as f64 + 0.5).token()),
        ("a fractional nbf just past", delivery(&current).claim("nbf", NOW as f64 - 0.5).token()),
        ("an exp beyond i64", delivery(&current).claim("exp", u64::MAX).token()),
        ("an exp beyond u64", delivery(&current).claim("exp", 1e300).token()),
        ("an nbf before i64", delivery(&current).claim("nbf", -1e300).token()),
        ("an exp with an exponent", current.sign_raw(HEADER, exponent.as_bytes())),
        ("JSON escapes in sub", current.sign_raw(HEADER, escaped.as_bytes())),
        ("white space around the JSON", {
            let claims = format!(" \n{} ", raw_claims(&delivery(&current).token()));
            current.sign_raw(b" {\"typ\":\"JWT\" , \"alg\":\"HS256\"}\n", claims.as_bytes())
        }),
        ("an unpadded body hash", delivery(&current).claim("body", unpadded_hash).token()),
        (
            "a padded body hash",
            delivery(&current).claim("body", format!("{unpadded_hash}=")).token(),
        ),
    ];
    for (shape, token) in shapes {
        assert_eq!(outcome(verify(token)), "ok", "{shape}");
    }
}

const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;

/// Returns a token's claims as JSON text.
fn raw_claims(token: &str) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let claims = token.split('.').nth(1).expect("three segments");
    let json = BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    String::from_utf8(json).expect("UTF-8")
}

#[test]
fn malformed_tokens_are_rejected() {
    let valid = delivery(&current()).token();
    let [header, claims, signature] = valid.split('.').collect::<Vec<_>>()[..] else {
        panic!("a token has three segments");
    };
    let last = signature.chars().last().unwrap();
    // 43 characters hold 258 bits, of which the last two must be zero.
    let stray_bits = {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let index = alphabet.find(last).unwrap();
        let stray = alphabet.as_bytes()[index ^ 1] as char;
        format!("{header}.{claims}.{}{stray}", &signature[..42])
    };

    let tokens: &[(&str, String, &str)] = &[
        ("nothing", String::new(), "not_three_segments"),
        ("one segment", header.into(), "not_three_segments"),
        ("two segments", format!("{header}.{claims}"), "not_three_segments"),
        ("four segments", format!("{valid}.{signature}"), "not_three_segments"),
        ("a dot too many", format!("{valid}."), "not_three_segments"),
        ("a dot before", format!(".{valid}"), "not_three_segments"),
        ("a double dot", format!("{header}..{claims}.{signature}"), "not_three_segments"),
        ("three empty segments", "..".into(), "invalid_encoding signature"),
        ("no signature (alg none)", format!("{header}.{claims}."), "invalid_encoding signature"),
        ("a padded signature", format!("{valid}="), "invalid_encoding signature"),
        ("stray bits in the signature", stray_bits, "invalid_encoding signature"),
        ("a signature cut short", valid[..valid.len() - 1].into(), "invalid_encoding signature"),
        (
            "a signature of 31 bytes",
            format!("{header}.{claims}.{}", "A".repeat(42)),
            "invalid_encoding signature",
        ),
        (
            "a signature of 33 bytes",
            format!("{header}.{claims}.{}", "A".repeat(44)),
            "invalid_encoding signature",
        ),
        ("a signature twice", format!("{valid}{signature}"), "invalid_encoding signature"),
        (
            "standard base64",
            format!("{header}.{claims}.{}", "+".repeat(43)),
            "invalid_encoding signature",
        ),
        ("a space after", format!("{valid} "), "invalid_encoding signature"),
        ("a line break after", format!("{valid}\n"), "invalid_encoding signature"),
        ("a space before", format!(" {valid}"), "signature_mismatch"),
        ("Bearer before", format!("Bearer {valid}"), "signature_mismatch"),
        (
            "a signature of zeros",
            format!("{header}.{claims}.{}", "A".repeat(43)),
            "signature_mismatch",
        ),
        ("segments swapped", format!("{claims}.{header}.{signature}"), "signature_mismatch"),
        ("a padded header", format!("{header}=.{claims}.{signature}"), "signature_mismatch"),
        (
            "claims cut short",
            format!("{header}.{}.{signature}", &claims[1..]),
            "signature_mismatch",
        ),
        ("8 KiB and a byte", "a".repeat(8193), "token_too_long"),
        ("8 KiB", "a".repeat(8192), "not_three_segments"),
    ];
    for (what, token, error) in tokens {
        assert_eq!(outcome(verify(token)), *error, "{what}");
    }
}

#[test]
fn malformed_tokens_with_a_valid_mac_are_rejected() {
    let signer = current();
    let claims = raw_claims(&delivery(&signer).token());
    let raw = |header: &str, claims: &str| signer.sign_raw(header.as_bytes(), claims.as_bytes());
    let header = |header| raw(header, &claims);
    let valid = delivery(&signer).token();
    let [valid_header, valid_claims, _] = valid.split('.').collect::<Vec<_>>()[..] else {
        panic!("a token has three segments");
    };

    let tokens: &[(&str, String, &str)] = &[
        ("alg none", header(r#"{"alg":"none"}"#), "unsupported_algorithm"),
        ("alg HS512", header(r#"{"alg":"HS512"}"#), "unsupported_algorithm"),
        ("alg HS384", header(r#"{"alg":"HS384"}"#), "unsupported_algorithm"),
        ("alg RS256", header(r#"{"alg":"RS256"}"#), "unsupported_algorithm"),
        ("alg hs256", header(r#"{"alg":"hs256"}"#), "unsupported_algorithm"),
        ("alg with a space", header(r#"{"alg":"HS256 "}"#), "unsupported_algorithm"),
        ("alg empty", header(r#"{"alg":""}"#), "unsupported_algorithm"),
        ("alg a list", header(r#"{"alg":["HS256"]}"#), "unsupported_algorithm"),
        ("alg null", header(r#"{"alg":null}"#), "unsupported_algorithm"),
        ("no alg", header(r#"{"typ":"JWT"}"#), "unsupported_algorithm"),
        ("crit", header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#), "critical_header"),
        ("crit empty", header(r#"{"alg":"HS256","crit":[]}"#), "critical_header"),
        ("crit null", header(r#"{"alg":"HS256","crit":null}"#), "critical_header"),
        ("alg twice", header(r#"{"alg":"HS256","alg":"HS256"}"#), "invalid_json header"),
        ("a header list", header(r#"["HS256"]"#), "invalid_json header"),
        ("a header text", header(r#""HS256""#), "invalid_json header"),
        ("no header", header(""), "invalid_json header"),
        ("a header cut short", header(r#"{"alg":"HS256""#), "invalid_json header"),
        ("a header and more", header(r#"{"alg":"HS256"}{}"#), "invalid_json header"),
        (
            "claims cut short",
            raw(r#"{"alg":"HS256"}"#, &claims[..claims.len() - 1]),
            "invalid_json claims",
        ),
        (
            "claims and more",
            raw(r#"{"alg":"HS256"}"#, &format!("{claims}x")),
            "invalid_json claims",
        ),
        ("no claims", raw(r#"{"alg":"HS256"}"#, ""), "invalid_json claims"),
        (
            "a claims list",
            raw(r#"{"alg":"HS256"}"#, r#"["Upstash","a",9e9,0,0,"j","b"]"#),
            "invalid_json claims",
        ),
        ("claims null", raw(r#"{"alg":"HS256"}"#, "null"), "invalid_json claims"),
        (
            "a claim twice",
            raw(r#"{"alg":"HS256"}"#, &claims.replacen('{', r#"{"exp":9999999999,"#, 1)),
            "invalid_json claims",
        ),
        (
            "claims that are not UTF-8",
            signer.sign_raw(HEADER, b"{\"sub\":\"\xFF\"}"),
            "invalid_json claims",
        ),
        (
            "a number beyond JSON",
            raw(r#"{"alg":"HS256"}"#, r#"{"exp":1e999}"#),
            "missing_claim iss",
        ),
        (
            "a padded header",
            signer.sign_segments(&format!("{valid_header}=.{valid_claims}")),
            "invalid_encoding header",
        ),
        (
            "a header with a space",
            signer.sign_segments(&format!(" {valid_header}.{valid_claims}")),
            "invalid_encoding header",
        ),
        (
            "padded claims",
            signer.sign_segments(&format!("{valid_header}.{valid_claims}=")),
            "invalid_encoding claims",
        ),
        (
            "claims with a line break",
            signer.sign_segments(&format!("{valid_header}.{valid_claims}\n")),
            "invalid_encoding claims",
        ),
    ];
    for (what, token, error) in tokens {
        assert_eq!(outcome(verify(token)), *error, "{what}");
    }
}

#[test]
fn missing_and_mistyped_claims_are_rejected() {
    let signer = current();
    for claim in ["iss", "sub", "exp", "body"] {
        let missing = delivery(&signer).without_claim(claim).token();
        assert_eq!(outcome(verify(&missing)), format!("missing_claim {claim}"));
    }

    let not_text: &[Value] = &[json!(null), json!(1), json!(true), json!(["Upstash"]), json!({})];
    let not_number: &[Value] = &[
        json!(null),
        json!("1700000300"),
        json!(true),
        json!([1_700_000_300]),
        json!({}),
        json!(""),
        // With `arbitrary_precision`, which any other crate may enable, serde_json reads this as a
        // number.
        json!({ "$serde_json::private::Number": "1700000300" }),
    ];
    let cases = [
        ("iss", not_text),
        ("sub", not_text),
        ("body", not_text),
        ("jti", not_text),
        ("exp", not_number),
        ("nbf", not_number),
        ("iat", not_number),
    ];
    for (claim, values) in cases {
        for value in values {
            let token = delivery(&signer).claim(claim, value.clone()).token();
            assert_eq!(outcome(verify(&token)), format!("invalid_claim {claim}"), "{value}");
        }
    }
}

#[test]
fn claims_that_break_a_rule_are_rejected() {
    let signer = current();
    for issuer in ["", "upstash", "Upstash ", "Upstash\0", "https://upstash.com"] {
        let token = delivery(&signer).claim("iss", issuer).token();
        assert_eq!(outcome(verify(&token)), "issuer_mismatch", "{issuer}");
    }
    for subject in [
        "",
        "/hooks/resize",
        "https://api.example.com/hooks",
        "http://api.example.com/hooks/resize",
    ] {
        let token = delivery(&signer).claim("sub", subject).token();
        assert_eq!(outcome(verify(&token)), "subject_mismatch", "{subject}");
    }
    let hash = "xMty_ZSbUARUk0ZNcIbNxIW1IUGGWn-0uQUH_0c9_xQ";
    let not_a_hash = [
        String::new(),
        "=".into(),
        hash[1..].into(),
        format!("{hash}A"),
        format!("{hash}=="),
        format!(" {hash}"),
        format!("{hash}=\n"),
        hash.replace('_', "/"),
        "c4cb72fd949b50045493464d7086cdc485b52141865a7fb4b90507ff473dff14".into(),
        // The last character holds four bits of the hash and two bits that must be zero.
        format!("{}R", &hash[..42]),
    ];
    for value in not_a_hash {
        let token = delivery(&signer).claim("body", value.clone()).token();
        assert_eq!(outcome(verify(&token)), "invalid_claim body", "{value}");
    }
    let other_hash = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=";
    let token = delivery(&signer).claim("body", other_hash).token();
    assert_eq!(outcome(verify(&token)), "body_mismatch");
}

#[test]
fn exp_and_nbf_are_compared_exactly() {
    let signer = current();
    let tolerant = |seconds| Verifier::new(keys()).clock_tolerance(Duration::from_secs(seconds));
    let verdict = |verifier: &Verifier, claim, value: Value| {
        let token = delivery(&signer).claim(claim, value).token();
        verifier.verify(&token, URL, BODY, now()).map(drop)
    };
    let expired = |result| matches!(result, Err(VerifyError::Expired { .. }));
    let early = |result| matches!(result, Err(VerifyError::NotYetValid { .. }));

    // A token expires at the very second of `exp` (RFC 7519 §4.1.4), plus the tolerance.
    for tolerance in [0, 1, 60] {
        let verifier = tolerant(tolerance);
        assert!(expired(verdict(&verifier, "exp", json!(NOW - tolerance))), "{tolerance}");
        assert!(verdict(&verifier, "exp", json!(NOW - tolerance + 1)).is_ok(), "{tolerance}");
        assert!(early(verdict(&verifier, "nbf", json!(NOW + tolerance + 1))), "{tolerance}");
        assert!(verdict(&verifier, "nbf", json!(NOW + tolerance)).is_ok(), "{tolerance}");
    }
    let strict = tolerant(0);
    assert!(expired(verdict(&strict, "exp", json!(NOW as f64))));
    assert!(expired(verdict(&strict, "exp", json!(NOW as f64 - 0.25))));
    assert!(early(verdict(&strict, "nbf", json!(NOW as f64 + 0.25))));

    for extreme in
        [json!(i64::MIN), json!(-62_135_596_800_i64), json!(0), json!(-1e300), json!(-0.5)]
    {
        assert!(expired(verdict(&strict, "exp", extreme.clone())), "{extreme}");
        assert!(verdict(&strict, "nbf", extreme.clone()).is_ok(), "{extreme}");
    }
    for extreme in [json!(i64::MAX), json!(u64::MAX), json!(1e300)] {
        assert!(early(verdict(&strict, "nbf", extreme.clone())), "{extreme}");
    }
    let forever = Verifier::new(keys()).clock_tolerance(Duration::MAX);
    assert!(verdict(&forever, "exp", json!(i64::MIN)).is_ok());
    assert!(verdict(&forever, "nbf", json!(i64::MAX)).is_ok());
    assert!(expired(verdict(&forever, "exp", json!(-1e300))));
}

#[test]
fn clocks_before_1970_and_after_2200_work() {
    let signer = current();
    let verifier = Verifier::new(keys());
    for time in [UNIX_EPOCH - Duration::from_secs(1_000), UNIX_EPOCH + Duration::from_secs(1 << 40)]
    {
        let token = signer.delivery(URL, BODY, time).token();
        assert!(verifier.verify(&token, URL, BODY, time).is_ok());
        let late = verifier.verify(&token, URL, BODY, time + Duration::from_secs(300));
        assert!(matches!(late, Err(VerifyError::Expired { .. })));
        let just_in_time =
            verifier.verify(&token, URL, BODY, time + Duration::from_millis(299_999));
        assert!(just_in_time.is_ok());
    }
}

/// The error of the key that matched is returned, whichever key that is.
#[test]
fn expired_tokens_of_either_key_report_expired() {
    for signer in [current(), next()] {
        let error = verify(&delivery(&signer).claim("exp", NOW - 1).token());
        let Err(VerifyError::Expired { expires_at, now, .. }) = error else { panic!("{error:?}") };
        assert_eq!((expires_at.as_secs(), now.as_secs()), (NOW as i64 - 1, NOW as i64));
    }
    assert_eq!(outcome(verify(&delivery(&unknown_key()).token())), "signature_mismatch");
    // The keys may be given in either order.
    let swapped = Verifier::new(SigningKeys::new(NEXT_KEY, CURRENT_KEY).unwrap());
    assert!(swapped.verify(&delivery(&current()).token(), URL, BODY, now()).is_ok());
}

#[test]
fn checks_run_in_the_documented_order() {
    // Start with every claim invalid, then make them valid one by one.
    let signer = current();
    let with_valid = |valid: usize| {
        let mut token = delivery(&signer);
        let invalid = [
            ("iss", json!("nobody")),
            ("sub", json!("https://example.org")),
            ("nbf", json!(NOW + 1)),
            ("exp", json!(NOW)),
            ("body", json!("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=")),
        ];
        for (claim, value) in invalid.into_iter().skip(valid) {
            token = token.claim(claim, value);
        }
        verify(&token.token())
    };
    assert_eq!(outcome(with_valid(0)), "issuer_mismatch");
    assert_eq!(outcome(with_valid(1)), "subject_mismatch");
    assert!(matches!(with_valid(2), Err(VerifyError::NotYetValid { .. })));
    assert!(matches!(with_valid(3), Err(VerifyError::Expired { .. })));
    assert_eq!(outcome(with_valid(4)), "body_mismatch");
    assert_eq!(with_valid(5), Ok(()));
}

#[test]
fn the_body_can_be_supplied_in_chunks() {
    let verifier = Verifier::new(keys());
    let signature = delivery(&current()).token();
    let pending = || verifier.verify_token(&signature, URL, now()).unwrap();
    for cut in 0..=BODY.len() {
        let mut token = pending();
        let (first, second) = BODY.split_at(cut);
        token.update(first);
        token.update(b"");
        token.update(second);
        assert!(token.finish().is_ok(), "cut at {cut}");
    }

    assert_eq!(outcome(pending().finish()), "body_mismatch", "no chunk at all");
    let mut twice = pending();
    twice.update(BODY);
    twice.update(BODY);
    assert_eq!(outcome(twice.finish()), "body_mismatch");

    let empty = current().delivery(URL, b"", now()).token();
    assert!(verifier.verify_token(&empty, URL, now()).unwrap().finish().is_ok());
    assert!(verifier.verify(&empty, URL, b"", now()).is_ok());
}

#[test]
fn flipping_any_bit_of_the_body_is_rejected() {
    let verifier = Verifier::new(keys());
    let signature = delivery(&current()).token();
    for bit in 0..BODY.len() * 8 {
        let mut body = BODY.to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(outcome(verifier.verify(&signature, URL, &body, now())), "body_mismatch");
    }
}

#[test]
fn changing_any_character_of_the_token_is_rejected() {
    let valid = delivery(&current()).token();
    for index in 0..valid.len() {
        for other in ["A", "b", "-", ".", "=", "é", " "] {
            let mut changed = valid.clone();
            changed.replace_range(index..=index, other);
            assert!(changed == valid || verify(&changed).is_err(), "{index}: {other}");
        }
        let mut shorter = valid.clone();
        shorter.remove(index);
        assert!(verify(&shorter).is_err(), "{index} removed");
    }
}

#[test]
fn claims_return_the_signed_values() {
    let token = delivery(&current()).claim("jti", "jwt_x").claim("nbf", NOW - 5).token();
    let claims = Verifier::new(keys()).verify(&token, URL, BODY, now()).unwrap();
    assert_eq!(claims.subject(), URL);
    assert_eq!(claims.jwt_id(), Some("jwt_x"));
    assert_eq!(claims.issued_at().unwrap().to_string(), "1700000000");
    assert_eq!(claims.not_before().unwrap().to_string(), "1699999995");
    assert_eq!(claims.expires_at().to_string(), "1700000300");
}

#[test]
fn invalid_signing_keys_are_refused() {
    let invalid = [
        ("", "empty"),
        (" sig_a", "white space"),
        ("sig_a ", "white space"),
        ("sig_a\n", "white space"),
        ("\u{a0}sig_a", "white space"),
        ("\"sig_a\"", "quotation marks"),
        ("'sig_a", "quotation marks"),
        ("sig_a\"", "quotation marks"),
        (" ", "white space"),
        ("sig_a sig_b", "white space"),
        ("undefined", "a placeholder"),
        ("null", "a placeholder"),
        ("None", "a placeholder"),
        ("$QSTASH_CURRENT_SIGNING_KEY", "a placeholder"),
        ("<your signing key>", "a placeholder"),
        ("sig_***", "masked"),
        ("sig_4hPq****", "masked"),
        ("sig_4hPq...", "masked"),
        ("sig_••••", "masked"),
        ("sig_a\0b", "control character"),
        ("sig_a\u{7f}", "control character"),
        ("\u{feff}sig_a", "not ASCII"),
        ("sig_\u{201c}a\u{201d}", "not ASCII"),
        ("eyJVc2VySUQiOiIxIiwiUGFzc3dvcmQiOiIyIn0=", "QSTASH_TOKEN"),
        ("sig_7RvLjqfZBvP5KEUimQCE1pvpLuou", "a sample from Upstash's documentation"),
        ("sig_7W3ZNbfKWk5NWwEs3U4ixuQ7fxwE", "a sample from Upstash's documentation"),
    ];
    let development = DEVELOPMENT_KEYS.map(|key| (key, "dangerous_development_server"));
    let invalid = [&invalid[..], &development].concat();
    for (key, hint) in invalid {
        let as_current = SigningKeys::new(key, "sig_b").unwrap_err();
        assert_eq!(as_current.name(), "current");
        assert!(as_current.to_string().contains(hint), "{as_current}");
        let as_next = SigningKeys::new("sig_a", key).unwrap_err();
        assert_eq!(as_next.name(), "next");
        assert!(as_next.to_string().contains(hint), "{as_next}");
        assert_eq!(Signer::new(key).unwrap_err().name(), "key");
    }
    let error = SigningKeys::new("sig_a", " sig_b").unwrap_err();
    let message = "the signing key next contains white space; remove the spaces or line breaks";
    assert_eq!(error.to_string(), message);
    assert_eq!(format!("{error:?}"), message, "`Debug`, as printed when `main` returns it");
}

/// The keys of the local development server's four users.
const DEVELOPMENT_KEYS: [&str; 8] = [
    "sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r",
    "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs",
    "sig_7GVPjvuwsfqF65iC8fSrs1dfYruM",
    "sig_5NoELc3EFnZn4DVS5bDs2Nk4b7Ua",
    "sig_6jWGaWRxHsw4vMSPJprXadyvrybF",
    "sig_7qHbvhmahe5GwfePDiS5Lg3pi6Qx",
    "sig_5T8FcSsynBjn9mMLBsXhpacRovJf",
    "sig_7GFR4YaDshFcqsxWRZpRB161jguD",
];

#[test]
fn equal_current_and_next_keys_are_refused() {
    let error = SigningKeys::new("sig_a", "sig_a").unwrap_err();
    assert_eq!(error.name(), "next");
    assert!(error.to_string().contains("is the same as the current one"), "{error}");
}

/// A forged token costs one MAC for each key, so the limit shrinks as the number of keys grows.
#[test]
fn the_token_limit_shrinks_with_the_number_of_keys() {
    for (keys, limit) in
        [(1, 8192), (2, 8192), (16, 8192), (17, 7710), (32, 4096), (64, 2048), (2_000, 2048)]
    {
        let all = (0..keys).map(|key| {
            SigningKeys::from_key(&format!("sig_{key}"))
                .unwrap()
                .with_label(&format!("tenant {key}"))
                .unwrap()
        });
        let verifier = Verifier::new(all.reduce(SigningKeys::also).unwrap());
        let verify = |length| verifier.verify(&"a".repeat(length), URL, BODY, now()).unwrap_err();
        assert_eq!(verify(limit).code(), "not_three_segments", "{keys} keys");
        assert_eq!(
            verify(limit + 1).to_string(),
            format!(
                "the token has {} bytes, more than the {limit} allowed; \
                     it was not generated by QStash, or its URL is too long",
                limit + 1
            )
        );
        // The smallest limit still fits a delivery with a long URL.
        let last = Signer::new(&format!("sig_{}", keys - 1)).unwrap();
        let url = format!("https://api.example.com/{}", "a".repeat(1_000));
        assert!(
            verifier.verify(&last.delivery(&url, BODY, now()).token(), &url, BODY, now()).is_ok()
        );
    }
}

#[test]
fn development_keys_are_accepted_only_by_name() {
    use hmac::{Hmac, KeyInit, Mac};
    let valid = delivery(&current()).token();
    let message = valid.rsplit_once('.').unwrap().0;
    for key in DEVELOPMENT_KEYS {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
        let tag = mac.chain_update(message).finalize().into_bytes();
        let token = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(outcome(verify(&token)), "signature_mismatch");
        let development = Verifier::new(SigningKeys::dangerous_development_server());
        assert!(development.verify(&token, URL, BODY, now()).is_ok());
        assert!(development.verify(&valid, URL, BODY, now()).is_err());
    }
}

/// Signs with the keys in docs/development-server.md, which `Signer` refuses.
#[test]
fn the_page_lists_the_development_servers_users_in_order() {
    use base64::{
        Engine,
        prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
    };
    use hmac::{Hmac, KeyInit, Mac};
    let page = include_str!("../../docs/development-server.md");
    let verifier = Verifier::new(SigningKeys::dangerous_development_server());
    let token = current().delivery(URL, b"", now()).token();
    let (signed, _) = token.rsplit_once('.').expect("three segments");
    let mut labels = Vec::new();
    for row in page.lines().filter(|line| line.contains("`sig_")) {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, user, token, current, next, _] = cells[..] else { panic!("{row}") };
        let user_id = BASE64_STANDARD.decode(token).expect("base64");
        assert!(user_id.starts_with(br#"{"UserID":""#), "{row}");
        for (role, key) in [("current", current), ("next", next)] {
            let mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).expect("any length");
            let tag = mac.chain_update(signed).finalize().into_bytes();
            let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
            let claims = verifier.verify(&token, URL, b"", now()).expect("a development key");
            assert_eq!(claims.key_label(), format!("development server user {user} {role}"));
            labels.push(claims.key_label().to_owned());
        }
    }
    let shown = format!("{:?}", SigningKeys::dangerous_development_server());
    assert_eq!(shown, format!("SigningKeys{labels:?}"));
}

#[test]
fn claims_report_the_key_that_matched() {
    let tenants = keys()
        .also(SigningKeys::new("sig_t1", "sig_t2").unwrap().with_label("tenant").unwrap())
        .also(SigningKeys::from_key("sig_t3").unwrap().with_label("another tenant").unwrap())
        .also(SigningKeys::from_key("sig_t3").unwrap().with_label("the same key again").unwrap())
        .also(SigningKeys::dangerous_development_server());
    let signers = [
        (current(), "current"),
        (next(), "next"),
        (Signer::new("sig_t1").unwrap(), "tenant current"),
        (Signer::new("sig_t2").unwrap(), "tenant next"),
        // Keys are tried in order, so the first label of a repeated key is reported.
        (Signer::new("sig_t3").unwrap(), "another tenant"),
        (Signer::dangerous_development_server(), "development server user 1 current"),
    ];
    for (signer, label) in signers {
        let token = signer.delivery(URL, b"", now()).token();
        let body = Verifier::new(tenants.clone()).verify_token(&token, URL, now()).unwrap();
        assert_eq!(body.key_label(), label);
        assert_eq!(body.signed_with_next_key(), label.ends_with("next"));
        let claims = body.finish().unwrap();
        assert_eq!(claims.key_label(), label);
        assert_eq!(claims.signed_with_next_key(), label.ends_with("next"));
    }
    let token = unknown_key().delivery(URL, b"", now()).token();
    assert!(Verifier::new(tenants).verify(&token, URL, b"", now()).is_err());
}

#[test]
fn debug_output_of_claims_redacts_user_info() {
    let token = current().delivery("https://user:secret@api.example.com/hook", BODY, now()).token();
    let verifier = Verifier::new(keys());
    let claims = verifier.verify(&token, "https://user:secret@api.example.com/hook", BODY, now());
    assert_eq!(
        format!("{:?}", claims.unwrap()),
        r#"Claims { subject: "https://***@api.example.com/hook", jwt_id: Some("jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB"), "#
            .to_owned()
            + "expires_at: NumericDate(1700000300), not_before: Some(NumericDate(-62135596800)), "
            + r#"issued_at: Some(NumericDate(1700000000)), key_label: "current", signed_with_next_key: false }"#
    );
}

#[test]
fn a_key_passed_as_label_is_refused_unprinted() {
    let current_key = || SigningKeys::from_key(CURRENT_KEY).unwrap();
    let error = keys().with_label("sig_a_secret").unwrap_err();
    assert_eq!(error.name(), "label");
    assert_eq!(current_key().with_label("sig_a_secret").unwrap_err(), error);
    assert_eq!(current_key().with_label("").unwrap_err(), error);
    assert_eq!(SigningKeys::from_key("").unwrap_err().name(), "key");
    assert!(!format!("{error} {error:?}").contains("sig_a_secret"));
}

#[test]
fn long_claims_are_compared_in_full() {
    for length in [100, 200, 300, 400, 1_000, 5_000] {
        let url = format!("https://api.example.com/{}", "a".repeat(length));
        let token = current().delivery(&url, BODY, now()).token();
        let claims = Verifier::new(keys()).verify(&token, &url, BODY, now()).unwrap();
        assert_eq!(claims.subject(), url);
        let other = format!("{url}b");
        let verdict = Verifier::new(keys()).verify(&token, &other, BODY, now());
        assert_eq!(outcome(verdict), "subject_mismatch");
        // Invalid only at its end, with a valid MAC.
        let (message, _) = token.rsplit_once('.').unwrap();
        let invalid = current().sign_segments(&format!("{message}!"));
        let verdict = Verifier::new(keys()).verify(&invalid, &url, BODY, now());
        assert_eq!(outcome(verdict), "invalid_encoding claims");
    }
}

#[test]
fn errors_name_the_rule_and_the_fix() {
    let signer = current();
    let message = |token: String| verify(&token).unwrap_err().to_string();
    let cases = [
        (message("a".repeat(9_000)), "the token has 9000 bytes, more than the 8192 allowed"),
        (message("a.b".into()), "three segments"),
        (message("a.b.c".into()), "the token's signature segment is not base64url"),
        (message(signer.sign_raw(b"[]", b"{}")), "the token's header segment is not a JSON object"),
        (message(delivery(&unknown_key()).token()), "compare both keys with the QStash console"),
        (message(delivery(&signer).header("alg", "none").token()), "alg is not HS256"),
        (message(delivery(&signer).header("crit", 1).token()), "(crit)"),
        (message(delivery(&signer).without_claim("sub").token()), "the claim sub is missing"),
        (message(delivery(&signer).claim("jti", 1).token()), "the claim jti has the wrong type"),
        (message(delivery(&signer).claim("iss", "x").token()), "the claim iss is not Upstash"),
        (message(delivery(&signer).claim("sub", "x").token()), "compare it with the public URL"),
        (
            message(delivery(&signer).claim("nbf", NOW + 1).token()),
            "not valid before 1700000001 and it is 1700000000",
        ),
        (
            message(delivery(&signer).claim("exp", -1.5).token()),
            "expired at -1.5 and it is 1700000000",
        ),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn numeric_dates_display_as_in_the_token() {
    let date = NumericDate::from(at(1_700_000_000));
    assert_eq!(format!("{date:?}"), "NumericDate(1700000000)");
    for (value, written, seconds) in [
        (json!(0), "0", 0),
        (json!(-62_135_596_800_i64), "-62135596800", -62_135_596_800),
        (json!(-0.25), "-0.25", -1),
        (json!(0.5), "0.5", 0),
        (json!(1_700_000_000.125), "1700000000.125", 1_700_000_000),
        (json!(u64::MAX), "18446744073709551615", i64::MAX),
        (json!(-1e300), "-170141183460469231731687303715.884105728", i64::MIN),
    ] {
        let token = delivery(&current()).claim("iat", value).token();
        let claims = Verifier::new(keys()).verify(&token, URL, BODY, now()).unwrap();
        let issued_at = claims.issued_at().unwrap();
        assert_eq!((issued_at.to_string().as_str(), issued_at.as_secs()), (written, seconds));
    }
}
