//! Both ends of `scripts/load`: `sign COUNT FILE` signs deliveries that are good for five minutes
//! from now, `bare` is `examples/axum.rs` without the layer, and `floor` is that with the hashing that
//! no verifier can do without.

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

/// What `examples/axum.rs` takes for its own unless told.
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

/// Each with a body and so a token of its own.
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

/// That of the example, which reads the body itself, as any handler of a message would.
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
