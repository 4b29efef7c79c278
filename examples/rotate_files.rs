//! Reads its signing keys from mounted files, and again on SIGHUP, without a restart.
//!
//! Run with `cargo run --example rotate_files`.
//!
//! `KEYS_DIR` holds two files, `current` and `next`, such as a mounted secret of Kubernetes or Docker.
//! Replace both, then send SIGHUP. Files that aren't a pair of signing keys change nothing.
//!
//! A token is valid for five minutes, so wait that long between a roll and the replacement, after which
//! the old current key is no longer accepted.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use axum::{Router, routing::post};
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeys, SigningKeysHandle};

/// Reads both files until they are the same twice in a row. Otherwise a replacement under way could
/// yield one key of each pair.
fn read_keys(directory: &Path) -> Result<SigningKeys, Box<dyn Error>> {
    let read = |name: &str| {
        let path = directory.join(name);
        let text = fs::read_to_string(&path);
        // Editors and `echo` end a file with a line break.
        let text = text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        text.map_err(|error| format!("{}: {error}", path.display()))
    };
    let pair = || Ok::<_, String>([read("current")?, read("next")?]);
    let mut keys = pair()?;
    loop {
        let again = pair()?;
        if again == keys {
            break;
        }
        keys = again;
    }
    let [current, next] = keys;
    Ok(SigningKeys::new(&current, &next)?)
}

#[cfg(unix)]
fn reload_on_hangup(handle: SigningKeysHandle, directory: PathBuf) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            match read_keys(&directory) {
                Ok(keys) => {
                    handle.set(keys);
                    tracing::info!("the signing keys were replaced");
                }
                Err(error) => tracing::error!(%error, "the old signing keys stay in place"),
            }
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn reload_on_hangup(_: SigningKeysHandle, _: PathBuf) -> std::io::Result<()> {
    Err(std::io::Error::other("this system has no SIGHUP"))
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
    let directory = PathBuf::from(variable("KEYS_DIR", "/var/run/secrets/qstash")?);

    let base = PublicUrl::base(&public_url).map_err(|error| format!("PUBLIC_URL: {error}"))?;
    let verify = QStashVerifyLayer::new(read_keys(&directory)?, base);
    reload_on_hangup(verify.signing_keys_handle(), directory)?;
    let app =
        Router::new().route("/webhook", post(async |_: Claims, body: String| body)).layer(verify);

    let listener = tokio::net::TcpListener::bind(&bind)
        .await
        .map_err(|error| format!("BIND={bind}: {error}"))?;
    println!(
        "listening on {}, for messages published to {public_url}/webhook",
        listener.local_addr()?
    );
    Ok(axum::serve(listener, app).await?)
}

fn variable(name: &str, default: &str) -> Result<String, String> {
    match env::var(name) {
        Err(env::VarError::NotPresent) => Ok(default.into()),
        value => value.map_err(|error| format!("{name}: {error}")),
    }
}
