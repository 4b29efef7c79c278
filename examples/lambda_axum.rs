//! An axum router on AWS Lambda, with one verified route beside an open one.
//!
//! Set up like `examples/lambda.rs`. With `STREAM_RESPONSES` set, responses are streamed: for a
//! function URL whose invoke mode is `RESPONSE_STREAM`.

use std::env;

use axum::{
    Json, Router,
    routing::{get, post},
};
use lambda_http::Error;
use serde_json::{Value, json};
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeys, UnsignedDelivery};

async fn webhook(claims: Claims, delivery: UnsignedDelivery, body: String) -> Json<Value> {
    let (jti, retried, bytes) = (claims.jwt_id(), delivery.retried, body.len());
    tracing::info!(jti, retried, bytes, "running the job");
    Json(json!({ "message": "ok" }))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let public_url = match env::var("PUBLIC_URL") {
        Ok(url) => PublicUrl::base(&url)?,
        Err(env::VarError::NotPresent) => PublicUrl::from_lambda_context(),
        Err(error) => return Err(error.into()),
    };
    let verify = QStashVerifyLayer::new(SigningKeys::from_env()?, public_url);
    let jobs = Router::new().route("/webhook", post(webhook)).layer(verify);
    let app = Router::new().nest("/api/qstash", jobs).route("/health", get("up"));

    if env::var_os("STREAM_RESPONSES").is_some() {
        lambda_http::run_with_streaming_response(app).await
    } else {
        lambda_http::run(app).await
    }
}
