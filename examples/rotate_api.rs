//! Fetches its signing keys from QStash's API, at the start and whenever a delivery is signed with the
//! next key, which means that the keys were rolled.
//!
//! Run with `QSTASH_TOKEN=… cargo run --example rotate_api --features tls`.
//!
//! If the API fails at the start, the keys come from `QSTASH_CURRENT_SIGNING_KEY` and
//! `QSTASH_NEXT_SIGNING_KEY`. If it fails later, the old keys stay in place until it has new ones. The
//! key that a roll retires is accepted for another five minutes, for which its last token is valid.

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{Router, extract::Request, routing::post};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::ServiceBuilder;
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeys, SigningKeysHandle};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of QStash's API that fetches the signing keys.
struct Api {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    url: String,
    token: String,
}

/// The current and the next key.
type Pair = [String; 2];

impl Api {
    fn from_env() -> Result<Self, String> {
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: variable("QSTASH_URL", "https://qstash.upstash.io")?,
            token: env::var("QSTASH_TOKEN")
                .map_err(|_| "set QSTASH_TOKEN, as the console shows it")?,
        })
    }

    /// Calls `GET /v2/keys`. An error never holds the token or a key.
    async fn keys(&self) -> Result<(SigningKeys, Pair), Box<dyn Error + Send + Sync>> {
        let request = http::Request::get(format!("{}/v2/keys", self.url.trim_end_matches('/')))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Empty::new())?;
        let json = timeout(RESPONSE_TIMEOUT, async {
            let response = self.client.request(request).await?;
            if !response.status().is_success() {
                return Err(format!("it responded with {}", response.status()).into());
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(
                Limited::new(response.into_body(), 64 * 1024).collect().await?.to_bytes(),
            )
        })
        .await
        .map_err(|_| "it did not respond in time")??;
        let json: Value = serde_json::from_slice(&json).map_err(|_| "it sent no JSON")?;
        let key = |name: &str| json[name].as_str().map(str::to_owned);
        let pair = [key("current"), key("next")].map(Option::unwrap_or_default);
        Ok((SigningKeys::new(&pair[0], &pair[1])?, pair))
    }
}

/// The keys that are accepted, and their strings if they came from the API, to tell whether it has
/// newer ones.
struct Known {
    keys: SigningKeys,
    pair: Option<Pair>,
}

/// Fetches the keys whenever `roll` is notified, and again after a pause if that fails.
async fn follow_rolls(
    api: Api,
    mut known: Known,
    handle: SigningKeysHandle,
    roll: Arc<Notify>,
    keep: Duration,
) {
    let (mut pause, mut retire_at) = (FIRST_PAUSE, None);
    loop {
        tokio::select! {
            () = roll.notified() => {}
            () = sleep_until(retire_at.unwrap_or_else(Instant::now)), if retire_at.is_some() => {
                retire_at = None;
                handle.set(known.keys.clone());
                tracing::info!("the previous signing keys were retired");
                continue;
            }
        }
        match api.keys().await {
            Ok((keys, pair)) if known.pair.as_ref() != Some(&pair) => {
                let new = Known { keys: keys.clone(), pair: Some(pair) };
                let previous = std::mem::replace(&mut known, new);
                // Deliveries signed before the roll may still be under way.
                handle.set(keys.also(previous.keys));
                retire_at = Some(Instant::now() + keep);
                pause = FIRST_PAUSE;
                tracing::info!("the signing keys were replaced");
                continue;
            }
            // The notice is older than the last replacement, or the API is late. In that case the next
            // delivery that is signed with the next key will notify again.
            Ok(_) => tracing::info!("the API has no newer signing keys"),
            Err(error) => {
                tracing::error!(%error, ?pause, "no signing keys from the API; the old ones stay in place");
                roll.notify_one();
            }
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    if let Err(error) = serve().await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn serve() -> Result<(), Box<dyn Error + Send + Sync>> {
    let public_url = variable("PUBLIC_URL", "http://localhost:3000")?;
    let bind = variable("BIND", "127.0.0.1:3000")?;
    let keep = variable("KEEP_SECONDS", "300")?.parse().map_err(|_| "KEEP_SECONDS: no number")?;
    let base = PublicUrl::base(&public_url).map_err(|error| format!("PUBLIC_URL: {error}"))?;
    let api = Api::from_env()?;

    let roll = Arc::new(Notify::new());
    let known = match api.keys().await {
        Ok((keys, pair)) => Known { keys, pair: Some(pair) },
        Err(error) => {
            tracing::error!(%error, "no signing keys from the API; using those in the environment");
            roll.notify_one();
            Known { keys: SigningKeys::from_env()?, pair: None }
        }
    };
    let verify = QStashVerifyLayer::new(known.keys.clone(), base);
    let handle = verify.signing_keys_handle();
    tokio::spawn(follow_rolls(api, known, handle, Arc::clone(&roll), Duration::from_secs(keep)));

    let notify_of_roll = move |request: Request| {
        if request.extensions().get::<Claims>().is_some_and(Claims::signed_with_next_key) {
            roll.notify_one();
        }
        request
    };
    let app = Router::new()
        .route("/webhook", post(async |_: Claims, body: String| body))
        .layer(ServiceBuilder::new().layer(verify).map_request(notify_of_roll));

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
