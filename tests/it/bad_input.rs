//! Bad input, by name: the handler is never called, nothing panics, the next request works.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{BASE, current, layer, now, stranger};

/// A signature header's values, and a piece of the reason that the answer must give.
struct Case {
    name: &'static str,
    signatures: Vec<HeaderValue>,
    reason: &'static str,
}

fn case(name: &'static str, signatures: &[&[u8]], reason: &'static str) -> Case {
    let value = |bytes: &&[u8]| HeaderValue::from_bytes(bytes).expect("bytes a header may hold");
    Case { name, signatures: signatures.iter().map(value).collect(), reason }
}

#[tokio::test]
async fn every_bad_signature_header_is_rejected_by_name() {
    const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;
    let signer = current();
    let genuine = || signer.delivery(&format!("{BASE}/hook"), b"Hello", now());
    let good = genuine().token();
    let claims = |name, value: serde_json::Value| genuine().claim(name, value).token();
    let none = genuine().header("alg", "none").token();
    let unsigned = none.rsplit_once('.').unwrap().0;
    let cases = [
        case("missing", &[], "Upstash-Signature header is missing"),
        case(
            "twice the same",
            &[good.as_bytes(), good.as_bytes()],
            "more than one Upstash-Signature",
        ),
        case("a good and a bad one", &[good.as_bytes(), b"x"], "more than one Upstash-Signature"),
        case("empty", &[b""], "Upstash-Signature header is empty"),
        case("Latin-1", &[b"\xE9.a.b"], "Upstash-Signature header is not ASCII"),
        case("UTF-8", &["é.a.b".as_bytes()], "Upstash-Signature header is not ASCII"),
        case("over-long", &[&[b'a'; 8193]], "8193 bytes"),
        case("not a token", &[b"true"], "three segments"),
        case("a list", &[format!("{good}, {good}").as_bytes()], "three segments"),
        case("Bearer", &[format!("Bearer {good}").as_bytes()], "no configured signing key"),
        case("four segments", &[format!("{good}.x").as_bytes()], "three segments"),
        case("quoted", &[format!("\"{good}\"").as_bytes()], "signature segment"),
        case("two segments", &[unsigned.as_bytes()], "three segments"),
        case("white space within", &[good.replacen('.', " .", 1).as_bytes()], "no configured"),
        case("white space after", &[format!("{good}\t").as_bytes()], "signature segment"),
        case("padded", &[format!("{good}=").as_bytes()], "signature segment"),
        case("cut short", &[&good.as_bytes()[..good.len() - 1]], "signature segment"),
        case("no JSON", &[signer.sign_raw(b"{}", b"Hello").as_bytes()], "alg is not HS256"),
        case(
            "an array",
            &[signer.sign_raw(HEADER, b"[]").as_bytes()],
            "claims segment is not a JSON",
        ),
        case("no claims", &[signer.sign_raw(HEADER, b"{}").as_bytes()], "claim iss is missing"),
        case(
            "stray bits",
            &[signer.sign_segments("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e31").as_bytes()],
            "claims segment is not base64url",
        ),
        case("unsigned", &[format!("{unsigned}.").as_bytes()], "signature segment"),
        case("alg none, signed", &[none.as_bytes()], "alg is not HS256"),
        case("crit", &[genuine().header("crit", "x").token().as_bytes()], "(crit)"),
        case(
            "a stranger's",
            &[stranger().delivery(&format!("{BASE}/hook"), b"Hello", now()).token().as_bytes()],
            "no configured signing key",
        ),
        case(
            "no exp",
            &[genuine().without_claim("exp").token().as_bytes()],
            "claim exp is missing",
        ),
        case("exp a text", &[claims("exp", "1".into()).as_bytes()], "claim exp has the wrong type"),
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
            &[signer.delivery(&format!("{BASE}/hook"), b"Hallo", now()).token().as_bytes()],
            "body is not the one that was signed",
        ),
    ];

    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let mut service = layer().layer(service_fn(move |_: Request<Full<Bytes>>| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Infallible>(Response::new(String::new())) }
    }));
    let request = |signatures: &[HeaderValue]| {
        let mut request = Request::post("/hook").body(Full::from("Hello")).expect("a good request");
        for signature in signatures {
            request.headers_mut().append("upstash-signature", signature.clone());
        }
        request
    };
    let good = [HeaderValue::from_str(&good).unwrap()];
    for (index, Case { name, signatures, reason }) in cases.into_iter().enumerate() {
        let response = service.ready().await.unwrap().call(request(&signatures)).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{name}");
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(reason), "{name}: {error}");
        assert_eq!(calls.load(Ordering::Relaxed), index, "{name}");

        let next = service.ready().await.unwrap().call(request(&good)).await.unwrap();
        assert_eq!(next.status(), StatusCode::OK, "after {name}");
    }
}
