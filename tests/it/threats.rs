//! What docs/threat-model.md says and no other test shows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::post};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Channel};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::timeout::TimeoutLayer;
use tower_qstash::{Claims, QStashVerifyLayer, ReplayGuard};

use crate::support::{
    BASE, current,
    deliveries::{delivery, request},
    futures::poll_once,
    layer,
    log::Log,
    now,
};

fn app(layer: QStashVerifyLayer) -> Router {
    Router::new().route("/hook", post(async |_: Claims| "done")).layer(layer)
}

/// Without a guard the token was valid when it arrived, and that is enough. A guard forgets a token
/// after it has expired, so a slow copy would otherwise be handled again.
#[tokio::test]
async fn token_that_expires_while_its_body_is_read_is_rejected_by_a_guard() {
    for (guard, expected) in
        [(None, StatusCode::OK), (Some(ReplayGuard::in_memory()), StatusCode::BAD_REQUEST)]
    {
        let seconds = Arc::new(AtomicU64::new(299));
        let clock = Arc::clone(&seconds);
        let mut layer =
            layer().clock(move || now() + Duration::from_secs(clock.load(Ordering::Relaxed)));
        if let Some(guard) = guard {
            layer = layer.replay_guard(guard);
        }
        let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
        let mut response =
            Box::pin(app(layer).oneshot(delivery(&current(), "Hello", Body::new(body))));
        assert!(poll_once(&mut response).is_pending());
        seconds.store(300, Ordering::Relaxed);
        sender.send_data("Hello".into()).await.expect("the body is being read");
        drop(sender);
        let response = response.await.unwrap_or_else(|error| match error {});
        assert_eq!(response.status(), expected);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let is_expired = String::from_utf8_lossy(&body).contains(r#""code":"expired""#);
        assert_eq!(is_expired, expected == StatusCode::BAD_REQUEST, "{body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn outer_timeout_ends_a_verified_body_that_stalls() {
    const TIMEOUT: Duration = Duration::from_secs(600);
    let layers = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .layer(layer());
    let app = Router::new().route("/hook", post(async |_: Claims| "done").layer(layers));
    let (_sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let start = tokio::time::Instant::now();
    let response = app.oneshot(delivery(&current(), "Hello", Body::new(body))).await;
    let response = response.unwrap_or_else(|error| match error {});
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(start.elapsed() >= TIMEOUT && start.elapsed() < 2 * TIMEOUT);
}

/// With the subscriber of tracing-subscriber, which escapes what it quotes.
#[tokio::test]
async fn control_characters_of_a_sender_start_no_line_in_the_log() {
    let log = Log::capture();
    let forged = "\n WARN tower_qstash: forged\r\x1b[2J";
    let elsewhere = current().delivery(&format!("{BASE}/other{forged}"), "Hello", now());
    let token_id = current().delivery(&format!("{BASE}/hook"), "Hello", now()).claim("jti", forged);
    for token in [elsewhere.token(), token_id.token()] {
        let response = app(layer()).oneshot(request::<Body>(&token, "Hello".into())).await;
        response.unwrap_or_else(|error| match error {});
    }
    let text = log.text();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(text.matches("forged").count(), 3, "twice as the destination: {text}");
    assert!(!text.contains(['\r', '\x1b']), "{text}");
}
