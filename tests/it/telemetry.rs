//! The recipe for metrics and spans in docs/operating.md.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::post};
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::trace::TraceLayer;
use tower_qstash::{Claims, QStashVerifyLayer, Rejection, ReplayGuard, ReplayResponse, Signer};
use tracing::{Span, field::Empty, info_span};

use crate::support::{BASE, current, layer, log::Log, next, now, unknown_key};

fn count<B>(response: Response<B>) -> Response<B> {
    let rejection = response.extensions().get().map(Rejection::code);
    let replay = response.extensions().get().copied().map(ReplayResponse::code);
    let code = rejection.or(replay).unwrap_or("accepted");
    metrics::counter!("qstash_deliveries", "code" => code).increment(1);
    response
}

fn open_span(request: &Request) -> Span {
    info_span!("delivery", path = request.uri().path(), key = Empty, jti = Empty)
}

fn record(request: Request) -> Request {
    if let Some(claims) = request.extensions().get::<Claims>() {
        Span::current().record("key", claims.key_label()).record("jti", claims.jwt_id());
    }
    request
}

fn app(verify: QStashVerifyLayer) -> Router {
    let layers = ServiceBuilder::new()
        .map_response(count)
        .layer(TraceLayer::new_for_http().make_span_with(open_span))
        .layer(verify)
        .map_request(record);
    Router::new().route("/webhook", post(async |_: Claims| "done")).layer(layers)
}

#[test]
fn recipe_is_the_one_in_the_guide() {
    let guide = include_str!("../../docs/operating.md");
    let tested = include_str!("telemetry.rs");
    let from_count_to_app =
        tested[tested.find("fn count").expect("count")..].split("\n#[test]").next();
    let functions = from_count_to_app.expect("functions").trim_end();
    assert_eq!(functions.matches("\nfn ").count(), 3);
    assert!(guide.contains(functions), "{functions}");
}

/// Counts by the label `code`.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    fn take(&self) -> Vec<(String, u64)> {
        let counters = std::mem::take(&mut *self.0.lock().expect("no panic"));
        counters.into_iter().map(|(code, count)| (code, count.load(Ordering::Relaxed))).collect()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        assert_eq!(key.name(), "qstash_deliveries");
        let label = key.labels().next().expect("one label");
        assert_eq!(label.key(), "code");
        let mut counters = self.0.lock().expect("no panic");
        Counter::from_arc(Arc::clone(counters.entry(label.value().to_owned()).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

async fn deliver(app: Router, signer: &Signer, body: &str) {
    let delivery = signer.delivery(&format!("{BASE}/webhook"), body, now());
    let mut request = delivery.request::<Body>().expect("a valid URL");
    *request.body_mut() = Body::from("Hello");
    app.oneshot(request).await.unwrap_or_else(|error| match error {});
}

#[tokio::test]
async fn deliveries_are_counted_by_code() {
    let counters = Counters::default();
    let _guard = set_default_local_recorder(&counters);
    for (signer, body) in
        [(current(), "Hello"), (next(), "Hello"), (unknown_key(), "Hello"), (current(), "Hallo")]
    {
        deliver(app(layer()), &signer, body).await;
    }
    let counted = [("accepted", 2), ("body_mismatch", 1), ("signature_mismatch", 1)];
    assert_eq!(counters.take(), counted.map(|(code, count)| (code.to_owned(), count)));

    let app = app(layer().replay_guard(ReplayGuard::in_memory()));
    for _ in 0..3 {
        deliver(app.clone(), &current(), "Hello").await;
    }
    let counted = [("accepted", 1), ("already_processed", 2)];
    assert_eq!(counters.take(), counted.map(|(code, count)| (code.to_owned(), count)));
}

#[tokio::test]
async fn claims_are_recorded_in_the_span() {
    let log = Log::capture();
    deliver(app(layer()), &next(), "Hello").await;
    deliver(app(layer()), &unknown_key(), "Hello").await;
    let text = log.text();
    let is_response = |line: &&str| line.contains("finished processing request");
    let finished: Vec<_> = text.lines().filter(is_response).collect();
    let recorded = r#"delivery{path="/webhook" key="next" jti="jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB"}"#;
    let [accepted, rejected] = finished[..] else { panic!("{text}") };
    assert!(accepted.contains(recorded), "{accepted}");
    assert!(rejected.contains(r#"delivery{path="/webhook"}"#), "{rejected}");
}
