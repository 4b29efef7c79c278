//! A Worker without axum, whose handler's future is not `Send`; a replay guard in the memory of the
//! isolate, at `/guarded`; and what `SigningKeys::from_env` returns where there is no environment.

use std::{rc::Rc, sync::OnceLock};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt};
use tower_qstash::{PublicUrl, QStashVerifyLayer, ReplayGuard, ResponseBody, SigningKeys};
use worker::{Context, Delay, Env, HttpRequest, event};

type Text = ResponseBody<Full<Bytes>>;

/// One for the isolate: the layer is built for each request.
static GUARD: OnceLock<ReplayGuard> = OnceLock::new();

#[event(fetch, respond_with_errors)]
async fn fetch(request: HttpRequest, env: Env, _: Context) -> worker::Result<Response<Text>> {
    if request.uri().path() == "/from_env" {
        let error = SigningKeys::from_env().expect_err("there is no environment");
        return Err(worker::Error::RustError(error.to_string()));
    }
    let rust_error = |error: &dyn std::error::Error| worker::Error::RustError(error.to_string());
    let keys = SigningKeys::from_lookup(|name| Some(env.secret(name).ok()?.to_string()))
        .map_err(|error| rust_error(&error))?;
    let public_url =
        PublicUrl::base(&env.var("PUBLIC_URL")?.to_string()).map_err(|error| rust_error(&error))?;
    let mut layer = QStashVerifyLayer::new(keys, public_url);
    if request.uri().path() == "/guarded" {
        layer = layer.replay_guard(GUARD.get_or_init(ReplayGuard::in_memory).clone());
    }
    ServiceBuilder::new()
        .layer(layer.forward_as::<Bytes>())
        .service_fn(webhook)
        .oneshot(request)
        .await
}

async fn webhook(request: Request<Bytes>) -> worker::Result<Response<Full<Bytes>>> {
    let not_send = Rc::new(());
    // A promise of JavaScript's, which is not `Send` either.
    Delay::from(std::time::Duration::ZERO).await;
    drop(not_send);
    Ok(Response::new(Full::from(format!("plain: {} bytes\n", request.body().len()))))
}
