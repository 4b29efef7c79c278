//! Deliveries and receivers for `scripts/load`.
//!
//! - `sign COUNT FILE` signs deliveries with the current signing key of the environment. They are valid
//!   for five minutes.
//! - `bare` runs the receiver of `examples/axum.rs` without the layer.
//! - `floor` runs the same receiver with only the hashing that no verifier can avoid.
//! - `table` reads a line for each round, with the requests per second without the layer, with only the
//!   hashing, with the layer, on Node and perhaps with a guard. Prints them, their ratios and medians.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    io::{self, BufRead},
    sync::Arc,
    time::SystemTime,
};

use axum::{
    Json, Router,
    http::HeaderMap,
    routing::{MethodRouter, post},
};
use bytes::Bytes;
use serde_json::{Value, json};
use tower_qstash::{Signer, UnsignedDelivery};
use tower_qstash_bench::{Floor, median};

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
        ["table"] => print_table(io::stdin().lock()),
        _ => Err("usage: sign COUNT FILE | bare | floor | table".into()),
    }
}

/// Returns deliveries with a different body, and so a different token, each.
fn deliveries(count: usize) -> Result<String, Box<dyn Error>> {
    let key = env::var("QSTASH_CURRENT_SIGNING_KEY")?;
    let (signer, now) = (Signer::new(&key)?, SystemTime::now());
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

/// The receivers in a line of `table`, and the ratios to print, by the numbers of their receivers.
const RECEIVERS: [&str; 5] = ["without", "floor", "with", "node", "guarded"];
const RATIOS: [(&str, usize, usize); 5] = [
    ("floor/without", 1, 0),
    ("with/without", 2, 0),
    ("with/floor", 2, 1),
    ("with/node", 2, 3),
    ("guarded/with", 4, 2),
];

fn print_table(rounds: impl BufRead) -> Result<(), Box<dyn Error>> {
    let (mut speeds, mut ratios): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    for round in rounds.lines() {
        let speed: Vec<f64> =
            round?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let count = speed.len();
        if !(4..=5).contains(&count) || speeds.first().is_some_and(|first| first.len() != count) {
            return Err(format!("{count} receivers in round {}", speeds.len() + 1).into());
        }
        let known = RATIOS.iter().filter(|(_, a, b)| *a.max(b) < count);
        let ratio: Vec<f64> = known.clone().map(|(_, a, b)| speed[*a] / speed[*b]).collect();
        if speeds.is_empty() {
            let titles = RECEIVERS[..count].iter().copied().chain(known.map(|(title, ..)| *title));
            println!(
                "{:6}{}",
                "round",
                titles.map(|title| format!("{title:>14}")).collect::<String>()
            );
        }
        print_row(&(speeds.len() + 1).to_string(), &speed, &ratio);
        speeds.push(speed);
        ratios.push(ratio);
    }
    if speeds.is_empty() {
        return Err("no round".into());
    }
    print_row("median", &medians(&speeds), &medians(&ratios));
    Ok(())
}

fn print_row(name: &str, speeds: &[f64], ratios: &[f64]) {
    let speeds = speeds.iter().map(|speed| format!("{speed:>14.0}"));
    let ratios = ratios.iter().map(|ratio| format!("{ratio:>14.3}"));
    println!("{name:6}{}", speeds.chain(ratios).collect::<String>());
}

/// Returns the median of each column.
fn medians(rows: &[Vec<f64>]) -> Vec<f64> {
    let column = |index| rows.iter().map(|row| row[index]).collect::<Vec<_>>();
    (0..rows[0].len()).map(|index| median(&column(index))).collect()
}
