//! Signs a message as QStash would and delivers it to a running local receiver.
//!
//! Run with `cargo run --example send -- [OPTIONS] URL [BODY|@FILE]`; `--help` lists the options.

use std::{env, error::Error, fs, time::SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower_qstash::Signer;

const USAGE: &str = "usage: cargo run --example send -- [OPTIONS] URL [BODY|@FILE]";

const HELP: &str = "\
Signs a message as QStash would and delivers it to a running local receiver.

The key is QSTASH_CURRENT_SIGNING_KEY, as the receiver has it. URL is http://, without TLS.

options:
  --as SIGNED_URL  sign for this URL, the one that messages are published to, and deliver to URL
  --dev-server     sign with the local development server's key
  --token          print the token, for the header Upstash-Signature, instead of delivering it
  -h, --help       print this help

A receiver with PUBLIC_URL=https://api.example.com that listens on port 3000:
  cargo run --example send -- --as https://api.example.com/webhook http://localhost:3000/webhook Hello
A function under `cargo lambda watch`:
  cargo run --example send -- --as https://localhost/webhook http://localhost:9000/webhook Hello";

#[derive(Default)]
struct Options {
    signed_url: Option<String>,
    dev_server: bool,
    token_only: bool,
    /// The URL and the body.
    positional: Vec<String>,
}

/// Reads the command line, or returns `None` if it asks for help.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, Box<dyn Error>> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "--as" => {
                let url = arguments.next().ok_or("--as needs the URL to sign for")?;
                options.signed_url = Some(url);
            }
            "--dev-server" => options.dev_server = true,
            "--token" => options.token_only = true,
            // The URL is the first positional argument, and after it a body may start with a dash.
            option if option.starts_with('-') && options.positional.is_empty() => {
                return Err(format!("unknown option {option}; {USAGE}").into());
            }
            _ => options.positional.push(argument),
        }
    }
    Ok(Some(options))
}

#[tokio::main]
async fn main() {
    if let Err(error) = send().await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn send() -> Result<(), Box<dyn Error>> {
    let Some(options) = options(env::args().skip(1))? else {
        println!("{USAGE}\n\n{HELP}");
        return Ok(());
    };
    let (url, body) = match &options.positional[..] {
        [url] => (url, Vec::new()),
        [url, body] => (url, read(body)?),
        _ => return Err(USAGE.into()),
    };
    let signed_url = options.signed_url.as_ref().unwrap_or(url);

    let signer = if options.dev_server {
        Signer::dangerous_development_server()
    } else {
        let key = env::var("QSTASH_CURRENT_SIGNING_KEY").map_err(
            |_| "set QSTASH_CURRENT_SIGNING_KEY to the receiver's, or give --dev-server to both",
        )?;
        Signer::new(&key)?
    };
    let token = signer.delivery(signed_url, &body, SystemTime::now()).token();
    if options.token_only {
        println!("{token}");
        return Ok(());
    }
    let delivery = Request::post(url)
        .header("upstash-signature", token)
        .body(Full::<Bytes>::from(body))
        .map_err(|error| format!("{url}: {error}"))?;

    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(delivery).await.map_err(|error| match error.source() {
        Some(cause) => format!("{url} does not respond: {cause}"),
        None => format!("{url} does not respond: {error}"),
    })?;
    println!("{}", response.status());
    let text = response.into_body().collect().await?.to_bytes();
    println!("{}", String::from_utf8_lossy(&text));
    Ok(())
}

fn read(body: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    match body.strip_prefix('@') {
        Some(file) => fs::read(file).map_err(|error| format!("{file}: {error}").into()),
        None => Ok(body.into()),
    }
}
