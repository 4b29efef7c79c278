//! Both ends of `scripts/load`: `sign COUNT FILE` signs deliveries that are good for five minutes
//! from now, `bare` is `examples/axum.rs` without the layer.
#![expect(clippy::disallowed_methods, reason = "a program is the edge: it reads the clock")]

use std::{env, error::Error, fmt::Write as _, fs, time::SystemTime};

use axum::{Json, Router, routing::post};
use bytes::Bytes;
use serde_json::{Value, json};
use tower_qstash::Signer;
use tower_qstash_bench::CURRENT;

/// What `examples/axum.rs` takes for its own unless told.
const URL: &str = "http://localhost:3000/webhook";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sign", count, file] => Ok(fs::write(file, deliveries(count.parse()?)?)?),
        ["bare"] => bare().await,
        _ => Err("usage: sign COUNT FILE | bare".into()),
    }
}

/// Each with a body and so a token of its own.
fn deliveries(count: usize) -> Result<String, Box<dyn Error>> {
    let (signer, now) = (Signer::new(CURRENT)?, SystemTime::now());
    let mut lines = String::new();
    for number in 0..count {
        let body = format!("{number:01024}");
        let token =
            signer.token(URL, body.as_bytes(), now).claim("jti", format!("jwt_{number:028}"));
        writeln!(lines, "{} {body}", token.sign())?;
    }
    Ok(lines)
}

/// Reads the body, as the layer does and as any handler of a message would.
async fn webhook(_: Bytes) -> Json<Value> {
    tracing::info!(jti = "jwt_0000000000000000000000000000", "running the job");
    Json(json!({ "message": "ok" }))
}

async fn bare() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let routes = || Router::new().route("/webhook", post(webhook));
    let app = routes().nest("/api/qstash", routes());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}, for anyone", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
