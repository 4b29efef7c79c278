//! A Cloudflare Worker that receives QStash deliveries with axum.
//!
//! README.md, beside this crate, has the steps to run and deploy it.

use std::sync::OnceLock;

use axum::{Router, body::Body, http::Response, routing::post};
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, SigningKeys};
use tower_service::Service;
use worker::{Context, Env, HttpRequest, event};

/// Built by the first request and kept as long as the isolate.
static APP: OnceLock<Router> = OnceLock::new();

#[event(fetch)]
async fn fetch(request: HttpRequest, env: Env, _: Context) -> worker::Result<Response<Body>> {
    let mut app = match APP.get() {
        Some(app) => app.clone(),
        None => {
            let app = app(&env).map_err(|error| worker::Error::RustError(error.to_string()))?;
            APP.get_or_init(|| app).clone()
        }
    };
    Ok(app.call(request).await?)
}

fn app(env: &Env) -> Result<Router, Box<dyn std::error::Error>> {
    // A Worker has no environment variables; its secrets come with each request.
    let keys = SigningKeys::from_lookup(|name| Some(env.secret(name).ok()?.to_string()))?;
    let public_url = PublicUrl::base(&env.var("PUBLIC_URL")?.to_string())?;
    let verify = QStashVerifyLayer::new(keys, public_url);
    Ok(Router::new().route("/webhook", post(webhook).layer(verify)))
}

async fn webhook(claims: Claims, body: String) -> String {
    format!("{} delivered {} bytes\n", claims.subject(), body.len())
}
