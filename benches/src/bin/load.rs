//! Deliveries and receivers for `scripts/load`.
//!
//! - `sign COUNT FILE` signs deliveries, which are valid for five minutes.
//! - `bare` runs the receiver of `examples/axum.rs` without the layer.
//! - `floor` runs the same receiver with only the hashing that no verifier can avoid.

use std::{env, error::Error, fmt::Write as _, fs, sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    http::HeaderMap,
    routing::{MethodRouter, post},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tower_qstash::{Signer, UnsignedDelivery};
use tower_qstash_bench::{CURRENT, Floor};

/// The default public URL of `examples/axum.rs`.
const URL: &str = "http://localhost:3000/webhook";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sign", count, file] => Ok(fs::write(file, deliveries(count.parse()?)?)?),
        ["bare"] => serve(post(webhook)).await,
        ["floor"] => {
            let floor = Arc::new(Floor::default());
            let hash = async move |headers: HeaderMap, delivery: UnsignedDelivery, body: Bytes| {
                let token = headers["upstash-signature"].to_str().expect("ASCII");
                floor.run(token, &body);
                webhook(delivery, body).await
            };
            serve(post(hash)).await
        }
        _ => Err("usage: sign COUNT FILE | bare | floor".into()),
    }
}

/// Returns deliveries with a different body, and so a different token, each.
fn deliveries(count: usize) -> Result<String, Box<dyn Error>> {
    let (signer, now) = (Signer::new(CURRENT)?, SystemTime::now());
    let mut lines = String::new();
    for number in 0..count {
        let body = format!("{number:01024}");
        let token =
            signer.delivery(URL, body.as_bytes(), now).claim("jti", format!("jwt_{number:028}"));
        writeln!(lines, "{} {body}", token.token())?;
    }
    Ok(lines)
}

/// The handler of the example, which also reads the body, as any handler of a message would.
async fn webhook(delivery: UnsignedDelivery, _: Bytes) -> Json<Value> {
    let jti = Some("jwt_0000000000000000000000000000");
    tracing::info!(jti, retried = delivery.retried, "running the job");
    Json(json!({ "message": "ok" }))
}

async fn serve(webhook: MethodRouter) -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let routes = || Router::new().route("/webhook", webhook.clone());
    let app = routes().nest("/api/qstash", routes());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}, for anyone", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
