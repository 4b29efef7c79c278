//! Signs a message as QStash would and delivers it to a running local receiver.
//!
//! `cargo run --example send -- [--dev-server] URL [BODY|@FILE]`
#![expect(
    clippy::disallowed_methods,
    reason = "an example is the edge: it has a clock and an environment"
)]

use std::{env, error::Error, fs, time::SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower_qstash::Signer;

const USAGE: &str = "usage: cargo run --example send -- [--dev-server] URL [BODY|@FILE]";

#[tokio::main]
async fn main() {
    if let Err(error) = send().await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn send() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let development = arguments.first().is_some_and(|first| first == "--dev-server");
    if development {
        arguments.remove(0);
    }
    let (url, body) = match &arguments[..] {
        [url] => (url, Vec::new()),
        [url, body] => (url, read(body)?),
        _ => return Err(USAGE.into()),
    };

    let signer = if development {
        Signer::insecure_development_server()
    } else {
        let key = env::var("QSTASH_CURRENT_SIGNING_KEY").map_err(
            |_| "set QSTASH_CURRENT_SIGNING_KEY to the receiver's, or give --dev-server to both",
        )?;
        Signer::new(&key)?
    };
    let delivery = signer.token(url, &body, SystemTime::now()).request::<Full<Bytes>>()?;

    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(delivery).await.map_err(|error| match error.source() {
        Some(cause) => format!("{url} does not answer: {cause}"),
        None => format!("{url} does not answer: {error}"),
    })?;
    println!("{}", answer.status());
    let text = answer.into_body().collect().await?.to_bytes();
    println!("{}", String::from_utf8_lossy(&text));
    Ok(())
}

fn read(body: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    match body.strip_prefix('@') {
        Some(file) => fs::read(file).map_err(|error| format!("{file}: {error}").into()),
        None => Ok(body.into()),
    }
}
