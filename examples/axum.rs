//! A receiver to keep running.
//!
//! Run with `cargo run --example axum`.
//!
//! Keys come from `QSTASH_CURRENT_SIGNING_KEY` and `QSTASH_NEXT_SIGNING_KEY`; with `--dev-server`
//! those of the local development server are taken. `PUBLIC_URL` is where messages are published to
//! (default `http://localhost:3000`), `BIND` where it listens (default `127.0.0.1:3000`).
//!
//! `--replay memory` lets each token through once. `--replay redis://…` does so for all receivers with
//! the same server: `cargo run --example axum --features redis -- --replay redis://localhost`.

use std::{env, error::Error};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tower_qstash::{
    Claims, PublicUrl, QStashVerifyLayer, ReplayGuard, SigningKeys, UnsignedDelivery,
};

const USAGE: &str =
    "usage: cargo run --example axum -- [--dev-server] [--replay memory|redis://host]";

async fn webhook(claims: Claims, delivery: UnsignedDelivery) -> Json<Value> {
    tracing::info!(jti = claims.jwt_id(), retried = delivery.retried, "running the job");
    Json(json!({ "message": "ok" }))
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
    let (mut dev_server, mut guard) = (false, None);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--dev-server" => dev_server = true,
            "--replay" => guard = Some(replay_guard(&arguments.next().ok_or(USAGE)?)?),
            _ => return Err(USAGE.into()),
        }
    }
    let keys = if dev_server {
        eprintln!(
            "WARNING: taking the local development server's published keys: anyone can sign with them"
        );
        SigningKeys::dangerous_development_server()
    } else {
        SigningKeys::from_env()?
    };
    let public_url = variable("PUBLIC_URL", "http://localhost:3000")?;
    let bind = variable("BIND", "127.0.0.1:3000")?;

    let base = PublicUrl::base(&public_url).map_err(|error| format!("PUBLIC_URL: {error}"))?;
    let routes = || Router::new().route("/webhook", post(webhook));
    let mut verify = QStashVerifyLayer::new(keys, base);
    if let Some(guard) = guard {
        verify = verify.replay_guard(guard);
    }
    let app = routes().nest("/api/qstash", routes()).layer(verify);

    let listener = tokio::net::TcpListener::bind(&bind)
        .await
        .map_err(|error| format!("BIND={bind}: {error}"))?;
    let address = listener.local_addr()?;
    println!("listening on {address}, for messages published to {public_url}/webhook");
    Ok(axum::serve(listener, app).await?)
}

/// Returns the guard for the argument of `--replay`.
fn replay_guard(store: &str) -> Result<ReplayGuard, Box<dyn Error>> {
    match store {
        "memory" => Ok(ReplayGuard::in_memory()),
        #[cfg(feature = "redis")]
        url => Ok(ReplayGuard::redis(url)?),
        #[cfg(not(feature = "redis"))]
        url => {
            Err(format!("--replay {url} needs Redis: cargo run --example axum --features redis")
                .into())
        }
    }
}

/// One that is set but not UTF-8 is a mistake, not a wish for the default.
fn variable(name: &str, default: &str) -> Result<String, String> {
    match env::var(name) {
        Err(env::VarError::NotPresent) => Ok(default.into()),
        value => value.map_err(|error| format!("{name}: {error}")),
    }
}
