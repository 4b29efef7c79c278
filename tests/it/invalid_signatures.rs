//! Invalid signature headers: nothing panics, no handler is called, the next request works.

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt};

use crate::support::{
    BASE, URL, current, deliveries::forged_token, layer, now, responses::text, services::Recorder,
};

/// The values of the signature header, and a part of the error in the response.
struct Case {
    name: &'static str,
    signatures: Vec<HeaderValue>,
    reason: &'static str,
}

fn case(name: &'static str, signatures: &[&[u8]], reason: &'static str) -> Case {
    let value = |bytes: &&[u8]| HeaderValue::from_bytes(bytes).expect("a valid header value");
    Case { name, signatures: signatures.iter().map(value).collect(), reason }
}

#[tokio::test]
async fn invalid_signature_is_rejected_with_its_reason() {
    const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;
    let signer = current();
    let delivery = || signer.delivery(URL, b"Hello", now());
    let valid = delivery().token();
    let claims = |name, value: serde_json::Value| delivery().claim(name, value).token();
    let alg_none = delivery().header("alg", "none").token();
    let unsigned = alg_none.rsplit_once('.').unwrap().0;
    let cases = [
        case("missing", &[], "Upstash-Signature header is missing"),
        case(
            "the same twice",
            &[valid.as_bytes(), valid.as_bytes()],
            "more than one Upstash-Signature",
        ),
        case("valid and invalid", &[valid.as_bytes(), b"x"], "more than one Upstash-Signature"),
        case("empty", &[b""], "Upstash-Signature header is empty"),
        case("Latin-1", &[b"\xE9.a.b"], "Upstash-Signature header is not ASCII"),
        case("UTF-8", &["é.a.b".as_bytes()], "Upstash-Signature header is not ASCII"),
        case("too long", &[&[b'a'; 8193]], "8193 bytes"),
        case("not a token", &[b"true"], "three segments"),
        case("a list", &[format!("{valid}, {valid}").as_bytes()], "three segments"),
        case("Bearer", &[format!("Bearer {valid}").as_bytes()], "no configured signing key"),
        case("four segments", &[format!("{valid}.x").as_bytes()], "three segments"),
        case("quoted", &[format!("\"{valid}\"").as_bytes()], "signature segment"),
        case("two segments", &[unsigned.as_bytes()], "three segments"),
        case("inner white space", &[valid.replacen('.', " .", 1).as_bytes()], "no configured"),
        case("trailing white space", &[format!("{valid}\t").as_bytes()], "signature segment"),
        case("padded", &[format!("{valid}=").as_bytes()], "signature segment"),
        case("truncated", &[&valid.as_bytes()[..valid.len() - 1]], "signature segment"),
        case(
            "header without alg",
            &[signer.sign_raw(b"{}", b"Hello").as_bytes()],
            "alg is not HS256",
        ),
        case(
            "an array",
            &[signer.sign_raw(HEADER, b"[]").as_bytes()],
            "claims segment is not a JSON",
        ),
        case("no claims", &[signer.sign_raw(HEADER, b"{}").as_bytes()], "claim iss is missing"),
        case(
            "non-canonical base64url",
            &[signer.sign_segments("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e31").as_bytes()],
            "claims segment is not base64url",
        ),
        case("unsigned", &[format!("{unsigned}.").as_bytes()], "signature segment"),
        case("alg none, signed", &[alg_none.as_bytes()], "alg is not HS256"),
        case("crit", &[delivery().header("crit", "x").token().as_bytes()], "(crit)"),
        case("unknown key", &[forged_token("Hello").as_bytes()], "no configured signing key"),
        case(
            "no exp",
            &[delivery().without_claim("exp").token().as_bytes()],
            "claim exp is missing",
        ),
        case(
            "exp is a string",
            &[claims("exp", "1".into()).as_bytes()],
            "claim exp has the wrong type",
        ),
        case("another issuer", &[claims("iss", "x".into()).as_bytes()], "claim iss"),
        case(
            "another endpoint",
            &[claims("sub", format!("{BASE}/other").into()).as_bytes()],
            "published to another URL",
        ),
        case("expired", &[claims("exp", 1.into()).as_bytes()], "expired at 1 "),
        case(
            "not yet valid",
            &[claims("nbf", 9_999_999_999_u64.into()).as_bytes()],
            "not valid before 9999999999 ",
        ),
        case(
            "another body",
            &[signer.delivery(URL, b"Hallo", now()).token().as_bytes()],
            "body is not the one that was signed",
        ),
    ];

    let inner = Recorder::default();
    let mut service = layer().layer(inner.service());
    let request = |signatures: &[HeaderValue]| {
        let mut request = Request::new(Full::<Bytes>::from("Hello"));
        *request.uri_mut() = Uri::from_static("/hook");
        for signature in signatures {
            request.headers_mut().append("upstash-signature", signature.clone());
        }
        request
    };
    let valid = [HeaderValue::from_str(&valid).unwrap()];
    for (index, Case { name, signatures, reason }) in cases.into_iter().enumerate() {
        let response = service.ready().await.unwrap().call(request(&signatures)).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{name}");
        let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        let error = body["error"].as_str().unwrap();
        assert!(error.contains(reason), "{name}: {error}");
        assert_eq!(inner.calls(), index, "{name}");

        let next = service.ready().await.unwrap().call(request(&valid)).await.unwrap();
        assert_eq!(next.status(), StatusCode::OK, "after {name}");
    }
}
