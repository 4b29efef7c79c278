//! Plays QStash against an axum receiver and shows what gets in.
//!
//! Run with `cargo run --example quickstart`.

mod harness;

use std::{error::Error, time::SystemTime};

use axum::{Router, body::Bytes, routing::post};
use harness::{Delivery, deliver};
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, ReplayGuard, Signer, SigningKeys};

const CURRENT: &str = "sig_quickstart_current";
const NEXT: &str = "sig_quickstart_next";
const BASE: &str = "https://api.example.com";

async fn webhook(_: Claims, body: Bytes) -> String {
    format!("the handler got {} bytes: {body:?}", body.len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keys = SigningKeys::new(CURRENT, NEXT)?;
    let verify = QStashVerifyLayer::new(keys, PublicUrl::base(BASE)?)
        .body_limit(1024)
        .replay_guard(ReplayGuard::in_memory());
    let app = Router::new().route("/webhook", post(webhook)).layer(verify);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    println!(
        "Messages are published to {BASE}/webhook, the public URL that QStash signs. A proxy would\n\
         forward them to this axum receiver, which listens on {address} and knows its public URL.\n"
    );
    deliver(address, &deliveries()?).await
}

/// What QStash sends, and what others do.
fn deliveries() -> Result<Vec<Delivery>, Box<dyn Error>> {
    let [current, next, unknown] =
        [Signer::new(CURRENT)?, Signer::new(NEXT)?, Signer::new("sig_unknown")?];
    let (url, now) = (format!("{BASE}/webhook"), SystemTime::now());
    let sign = |signer: &Signer, body: &[u8]| signer.delivery(&url, body, now).token();
    let first = sign(&current, b"Hello");
    let hello = || current.delivery(&url, "Hello", now);
    let elsewhere = current.delivery(&format!("{BASE}/admin"), "Hello", now).token();
    let none = hello().header("alg", "none").token();
    let unsigned = none.rsplit_once('.').map_or("", |(message, _)| message).to_owned() + ".";
    let binary = &[0, 159, 146, 150, 255];
    let large = &[b'x'; 1025];

    Ok(vec![
        Delivery::accepted("signed with the current key", first.clone(), b"Hello"),
        Delivery::replayed("the same delivery again", first),
        Delivery::accepted("signed with the next key", sign(&next, b"Hello"), b"Hello"),
        Delivery::accepted("an empty body", sign(&current, b""), b""),
        Delivery::accepted("a binary body", sign(&current, binary), binary),
        Delivery::rejected("a tampered body", [sign(&current, b"Hallo")], "body_mismatch"),
        Delivery::rejected("the URL of another endpoint", [elsewhere], "subject_mismatch"),
        Delivery::rejected("expired", [hello().claim("exp", 1_700_000_000).token()], "expired"),
        Delivery::rejected(
            "not yet valid",
            [hello().claim("nbf", 99_999_999_999_u64).token()],
            "not_yet_valid",
        ),
        Delivery::rejected(
            "signed with an unknown key",
            [sign(&unknown, b"Hello")],
            "signature_mismatch",
        ),
        Delivery::rejected("alg: none, not signed", [unsigned], "invalid_encoding"),
        Delivery::rejected("alg: none, signed with the key", [none], "unsupported_algorithm"),
        Delivery::rejected("no signature", [], "missing_signature"),
        Delivery::rejected(
            "two signatures",
            [hello().token(), hello().token()],
            "duplicate_signature",
        ),
        Delivery::rejected("a body over the limit", [sign(&current, large)], "body_too_large")
            .with_body(large),
    ])
}
