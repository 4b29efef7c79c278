//! Starts an axum receiver behind the layer, plays QStash against it over HTTP, and shows what gets
//! in and what does not: `cargo run --example quickstart`.

use std::{
    error::Error,
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use axum::{Router, body::Bytes, routing::post};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower_qstash::{Claims, DeliveryBuilder, PublicUrl, QStashVerifyLayer, Signer, SigningKeys};

const CURRENT: &str = "sig_quickstart_current";
const NEXT: &str = "sig_quickstart_next";
const BASE: &str = "https://api.example.com";
const EXPIRED: u64 = 1_700_000_000;
const FAR_AHEAD: u64 = 99_999_999_999;

/// How often the handler was reached.
static CALLS: AtomicUsize = AtomicUsize::new(0);

async fn webhook(_: Claims, body: Bytes) -> String {
    CALLS.fetch_add(1, Ordering::Relaxed);
    format!("the handler got {} bytes: {body:?}", body.len())
}

/// A message as sent, and what must come of it.
struct Delivery {
    what: &'static str,
    signatures: Vec<String>,
    body: Bytes,
    status: StatusCode,
    reason: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keys = SigningKeys::new(CURRENT, NEXT)?;
    let verify = QStashVerifyLayer::new(keys, PublicUrl::base(BASE)?);
    let app = Router::new().route("/webhook", post(webhook)).layer(verify);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    println!(
        "Messages are published to {BASE}/webhook, the public URL that QStash signs; a proxy would\n\
         forward them to this axum receiver, which listens on {address} and is told its public URL.\n"
    );

    let client = Client::builder(TokioExecutor::new()).build_http();
    println!("{:4} {:32} {:6} answer", "", "delivery", "status");
    let mut wrong = 0;
    for delivery in deliveries()? {
        let mut request =
            Request::post(format!("http://{address}/webhook")).body(Full::new(delivery.body))?;
        for signature in &delivery.signatures {
            request.headers_mut().append("upstash-signature", HeaderValue::from_str(signature)?);
        }
        let before = CALLS.load(Ordering::Relaxed);
        let answer = client.request(request).await?;
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        let text = reason(&text);

        let reached = CALLS.load(Ordering::Relaxed) > before;
        let as_expected = status == delivery.status
            && text.contains(&delivery.reason)
            && reached == (delivery.status == StatusCode::OK);
        wrong += usize::from(!as_expected);
        let mark = if as_expected { "ok" } else { "BAD" };
        println!("{mark:4} {:32} {:6} {text}", delivery.what, status.as_u16());
    }
    if wrong > 0 {
        return Err(format!("{wrong} deliveries did not come out as they should").into());
    }
    println!("\nEvery delivery came out as it should.");
    Ok(())
}

fn deliveries() -> Result<Vec<Delivery>, Box<dyn Error>> {
    let [current, next, stranger] =
        [Signer::new(CURRENT)?, Signer::new(NEXT)?, Signer::new("sig_stranger")?];
    let now = SystemTime::now();
    let url = format!("{BASE}/webhook");
    let hello = current.delivery(&url, b"Hello", now);
    let sign = |signer: &Signer, body: &[u8]| signer.delivery(&url, body, now).token();
    let large = vec![b'x'; 3 * 1024 * 1024 + 1];
    let binary: &[u8] = &[0, 159, 146, 150, 255];

    let accepted = |what, signature, body: &[u8]| Delivery {
        what,
        signatures: vec![signature],
        reason: format!("got {} bytes: {:?}", body.len(), Bytes::copy_from_slice(body)),
        body: Bytes::copy_from_slice(body),
        status: StatusCode::OK,
    };
    let rejected = |what, signatures: &[String], reason: &str| Delivery {
        what,
        signatures: signatures.to_vec(),
        body: "Hello".into(),
        status: StatusCode::BAD_REQUEST,
        reason: reason.into(),
    };
    let elsewhere = current.delivery(&format!("{BASE}/admin"), b"Hello", now).token();
    Ok(vec![
        accepted("signed with the current key", sign(&current, b"Hello"), b"Hello"),
        accepted("signed with the next key", sign(&next, b"Hello"), b"Hello"),
        accepted("an empty body", sign(&current, b""), b""),
        accepted("a binary body", sign(&current, binary), binary),
        rejected(
            "the body altered",
            &[sign(&current, b"Hallo")],
            "body is not the one that was signed",
        ),
        rejected("the URL of another endpoint", &[elsewhere], "published to another URL"),
        rejected("expired", &[hello.clone().claim("exp", EXPIRED).token()], "expired at"),
        rejected(
            "not yet valid",
            &[hello.clone().claim("nbf", FAR_AHEAD).token()],
            "not valid before",
        ),
        rejected("signed by a stranger", &[sign(&stranger, b"Hello")], "no configured signing key"),
        rejected(
            "alg: none, not signed",
            &[unsigned(hello.clone().header("alg", "none"))],
            "signature segment",
        ),
        rejected(
            "alg: none, signed with the key",
            &[hello.clone().header("alg", "none").token()],
            "alg is not HS256",
        ),
        rejected("no signature", &[], "header is missing"),
        rejected("two signatures", &[hello.clone().token(), hello.token()], "more than one"),
        Delivery {
            what: "a body over the limit",
            signatures: vec![sign(&current, &large)],
            body: large.into(),
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: "limit of 3145728 bytes".into(),
        },
    ])
}

/// What a verifier that believes `alg: none` would take: the token without its signature.
fn unsigned(token: DeliveryBuilder) -> String {
    let mut signed = token.token();
    signed.truncate(signed.rfind('.').map_or(0, |dot| dot + 1));
    signed
}

/// The `error` in a rejection, or the handler's own text.
fn reason(answer: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(answer).ok();
    match json.as_ref().and_then(|json| json["error"].as_str()) {
        Some(error) => error.to_owned(),
        None => String::from_utf8_lossy(answer).into_owned(),
    }
}
