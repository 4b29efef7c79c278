//! Callbacks through the layer, in axum and elsewhere.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
    routing::post,
};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::limit::RequestBodyLimitLayer;
use tower_qstash::{Callback, CallbackBuilder, CallbackRejection, FailureCallback};

use crate::support::{BASE, current, layer, now};

async fn done(callback: Callback) -> String {
    format!("{} {:?}", callback.status(), callback.body())
}

async fn failed(failure: FailureCallback) -> String {
    format!("{} {:?}", failure.dlq_id().unwrap_or("?"), failure.source_body())
}

fn routes() -> Router {
    Router::new().route("/done", post(done)).route("/failed", post(failed))
}

fn delivery(path: &str, body: impl AsRef<[u8]>) -> Request<Body> {
    current().delivery(&format!("{BASE}{path}"), body, now()).request().expect("a valid URL")
}

async fn respond(app: Router, request: Request<Body>) -> (StatusCode, String, bool) {
    let response = app.oneshot(request).await.unwrap_or_else(|error| match error {});
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("text");
    (status, text, headers.get("upstash-nonretryable-error").is_some_and(|value| value == "true"))
}

#[tokio::test]
async fn handlers_receive_verified_callbacks() {
    let app = routes().layer(layer());
    let callback = CallbackBuilder::new(200).body(vec![0, 255]).build();
    let (status, text, _) = respond(app.clone(), delivery("/done", callback.to_vec())).await;
    assert_eq!((status, &*text), (StatusCode::OK, r#"200 b"\0\xff""#));

    let failure = CallbackBuilder::new(500).source_body("job").build_failure("dlq-1");
    let (status, text, _) = respond(app, delivery("/failed", failure.to_vec())).await;
    assert_eq!((status, &*text), (StatusCode::OK, r#"dlq-1 b"job""#));
}

#[tokio::test]
async fn callbacks_without_the_layer_are_rejected() {
    let callback = CallbackBuilder::new(200).build_failure("dlq-1").to_vec();
    for path in ["/done", "/failed"] {
        // Its signature is valid, but no layer has verified it.
        let (status, text, non_retryable) = respond(routes(), delivery(path, &callback)).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text.contains("this route has no QStashVerifyLayer") && !non_retryable, "{text}");
    }
}

#[tokio::test]
async fn other_bodies_are_not_retried() {
    for path in ["/done", "/failed"] {
        for (body, error) in [
            ("Hello", "the callback is not a JSON object"),
            (r#"{"image": 7}"#, "the callback has no field status"),
            (
                r#"{"status":200,"sourceMessageId":"msg_1","url":"u","body":"?"}"#,
                "the callback's field body is not base64 of the standard alphabet",
            ),
        ] {
            let (status, text, non_retryable) =
                respond(routes().layer(layer()), delivery(path, body)).await;
            assert_eq!(status.as_u16(), 489, "{text}");
            assert!(text == format!(r#"{{"error":"{error}"}}"#) && non_retryable, "{text}");
        }
    }
}

#[tokio::test]
async fn axums_default_limit_does_not_apply() {
    let app = routes().layer(layer().body_limit(16 * 1024 * 1024));
    let callback = CallbackBuilder::new(200).body(vec![b'x'; 3 * 1024 * 1024]).build();
    let (status, text, _) = respond(app, delivery("/done", callback.to_vec())).await;
    assert!(status == StatusCode::OK && text.len() > 3 * 1024 * 1024, "{status}");
}

#[tokio::test]
async fn limit_between_layer_and_handler_responds_with_413() {
    let app = routes().layer(RequestBodyLimitLayer::new(100)).layer(layer());
    let callback = CallbackBuilder::new(200).body(vec![b'x'; 1000]).build().to_vec();
    // The limit looks at the declared length, so leave it out.
    let mut request = delivery("/done", &callback);
    *request.body_mut() = Body::from_stream(Body::from(callback.clone()).into_data_stream());
    let (status, ..) = respond(app, request).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn body_that_breaks_off_inside_the_layer_is_retried() {
    use axum::{extract::FromRequest, response::IntoResponse};

    let (sender, body) = http_body_util::channel::Channel::<bytes::Bytes, _>::new(1);
    sender.abort(std::io::Error::other("reset"));
    let claims = verified_claims().await;
    let mut request = Request::new(Body::new(body));
    request.extensions_mut().insert(claims);
    let rejection = Callback::from_request(request, &()).await.expect_err("the body broke off");
    assert!(matches!(rejection, CallbackRejection::Body(_)), "{rejection:?}");
    assert_eq!(rejection.into_response().status(), StatusCode::BAD_REQUEST);
}

async fn verified_claims() -> tower_qstash::Claims {
    let echo = service_fn(async |request: Request<Body>| {
        let claims = request.extensions().get::<tower_qstash::Claims>().cloned();
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(claims.expect("verified"));
        Ok::<_, Infallible>(response)
    });
    let response = layer().layer(echo).oneshot(delivery("/", "")).await;
    let response = response.unwrap_or_else(|error| match error {});
    response.extensions().get::<tower_qstash::Claims>().cloned().expect("returned by the service")
}

/// In any framework: verify, collect the body, parse it.
#[tokio::test]
async fn callbacks_parse_outside_axum() {
    let service = layer().layer(service_fn(async |request: Request<Full<bytes::Bytes>>| {
        let body = request.into_body().collect().await.unwrap_or_else(|error| match error {});
        let callback = Callback::from_slice(&body.to_bytes());
        Ok::<_, Infallible>(Response::new(match callback {
            Ok(callback) => callback.source_message_id().to_owned(),
            Err(error) => error.to_string(),
        }))
    }));
    let callback = CallbackBuilder::new(200).source_message_id("msg_7").build();
    let delivery =
        current().delivery(BASE, callback.to_vec(), now()).request().expect("a valid URL");
    let response = service.oneshot(delivery).await.unwrap_or_else(|error| match error {});
    let body = response.into_body().collect().await.unwrap_or_else(|error| match error {});
    assert_eq!(body.to_bytes(), "msg_7");
}

/// A user's test has five lines.
#[tokio::test]
async fn a_handler_is_tested_in_five_lines() -> Result<(), Box<dyn std::error::Error>> {
    let app = routes().layer(layer());

    let callback = CallbackBuilder::new(500).body("out of paper").retried(3).build();
    let url = format!("{BASE}/done");
    let delivery = current().delivery(&url, callback.to_vec(), now()).request::<Body>()?;
    let response = app.oneshot(delivery).await?;
    assert_eq!(response.status(), 200);
    Ok(())
}
