//! A receiver for jobs, for the callback that reports each attempt, and for the failure callback.
//!
//! Run with `cargo run --example callbacks`.
//!
//! Configured like `examples/axum.rs`. Publish a job with both callbacks:
//!
//! ```sh
//! curl -X POST "https://qstash.upstash.io/v2/publish/$PUBLIC_URL/job" \
//!     -H "Authorization: Bearer $QSTASH_TOKEN" -d 'resize 7' \
//!     -H "Upstash-Callback: $PUBLIC_URL/callback" \
//!     -H "Upstash-Failure-Callback: $PUBLIC_URL/failure"
//! ```

use std::{env, error::Error};

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::post,
};
use tower_qstash::{
    Callback, Claims, FailureCallback, PublicUrl, QStashVerifyLayer, SigningKeys, non_retryable,
};

/// Does the job. Both callbacks report its response, whatever the status.
async fn job(_: Claims, order: String) -> Response {
    match order.strip_prefix("resize ").map(str::parse::<u32>) {
        Some(Ok(image)) => format!("image {image} is resized").into_response(),
        _ => non_retryable("expected: resize NUMBER"),
    }
}

/// Runs after every attempt, also after one that will be retried.
async fn callback(callback: Callback) {
    let id = callback.source_message_id();
    let result = String::from_utf8_lossy(callback.body());
    if callback.is_success() {
        tracing::info!(id, %result, truncated = callback.body_is_truncated(), "done");
    } else if !callback.is_last_attempt() {
        tracing::warn!(
            id,
            status = callback.status(),
            retried = callback.retried(),
            "will be retried"
        );
    }
}

/// Runs once, after QStash has given up.
async fn failure(failure: FailureCallback) {
    let order = String::from_utf8_lossy(failure.source_body());
    let (dlq_id, status) = (failure.dlq_id(), failure.status());
    tracing::error!(id = failure.source_message_id(), dlq_id, status, %order, "gave up");
}

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    if let Err(error) = serve().await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let public_url = variable("PUBLIC_URL", "http://localhost:3000")?;
    let bind = variable("BIND", "127.0.0.1:3000")?;
    let base = PublicUrl::base(&public_url).map_err(|error| format!("PUBLIC_URL: {error}"))?;
    // The default body limit fits the callbacks of the free plan.
    let verify = QStashVerifyLayer::new(SigningKeys::from_env()?, base);
    let app = Router::new()
        .route("/job", post(job))
        .route("/callback", post(callback))
        .route("/failure", post(failure))
        .layer(verify);

    let listener = tokio::net::TcpListener::bind(&bind)
        .await
        .map_err(|error| format!("BIND={bind}: {error}"))?;
    println!("listening on {}, for messages published to {public_url}/job", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

fn variable(name: &str, default: &str) -> Result<String, String> {
    match env::var(name) {
        Err(env::VarError::NotPresent) => Ok(default.into()),
        value => value.map_err(|error| format!("{name}: {error}")),
    }
}
