//! A QStash receiver: verified messages reach `webhook`, and probes get a response from `/health`.

use std::{env, error::Error};

use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    handler::Handler,
    routing::{get, post},
};
use tokio::{
    net::TcpListener,
    select,
    signal::{
        ctrl_c,
        unix::{SignalKind, signal},
    },
};
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeyError, SigningKeys};

/// Runs the job. Only verified messages get here: `Claims` makes a forgotten layer a 500, and not an
/// open door.
async fn webhook(claims: Claims, body: Bytes) -> &'static str {
    tracing::info!(jti = claims.jwt_id(), bytes = body.len(), "running the job");
    "done\n"
}

/// Returns the keys in the environment. With `--dev-server`, a debug build takes those of the local
/// development server, with which anyone can sign.
fn signing_keys() -> Result<SigningKeys, SigningKeyError> {
    if cfg!(debug_assertions) && env::args().any(|argument| argument == "--dev-server") {
        return Ok(SigningKeys::dangerous_development_server());
    }
    SigningKeys::from_env()
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let public_url = env::var("PUBLIC_URL").map_err(|error| format!("PUBLIC_URL: {error}"))?;
    let bind = env::var("BIND").unwrap_or_else(|_| "127.0.0.1:3000".into());

    let base = PublicUrl::base(&public_url).map_err(|error| format!("PUBLIC_URL: {error}"))?;
    let verify = QStashVerifyLayer::new(signing_keys()?, base);
    // The layer limits the body to 3 MiB, so axum's own limit of 2 MB can go.
    let webhook = post(webhook.layer(DefaultBodyLimit::disable())).layer(verify);
    let app = Router::new().route("/webhook", webhook).route("/health", get("up\n"));

    // A container is stopped with SIGTERM, which does nothing to its first process without this.
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        select! {
            _ = terminate.recv() => {}
            _ = ctrl_c() => {}
        }
        tracing::info!("stopping once the running jobs are done");
    };

    let listener =
        TcpListener::bind(&bind).await.map_err(|error| format!("BIND={bind}: {error}"))?;
    tracing::info!("listening on {bind}, for messages published to {public_url}/webhook");
    Ok(axum::serve(listener, app).with_graceful_shutdown(stop).await?)
}

#[tokio::main]
async fn main() {
    // Shows what is rejected, and why. `RUST_LOG=info,tower_qstash=debug` shows accepted deliveries too.
    tracing_subscriber::fmt::init();
    if let Err(error) = serve().await {
        tracing::error!("{error}");
        std::process::exit(1);
    }
}
