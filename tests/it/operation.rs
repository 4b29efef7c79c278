//! What a receiver needs in operation: keys that roll, delivery data, answers, logs.

use std::{
    fmt::Debug,
    io::Write,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::HeaderValue, response::IntoResponse, routing::post};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qstash::{
    Claims, MissingLayer, PublicUrl, QStashVerifyLayer, Signer, SigningKeys, SigningKeysHandle,
    UnsignedDelivery, Verifier, non_retryable, retry_after,
};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{
    BASE, CURRENT_KEY, NEXT_KEY, current, keys, layer, layer_for, next, now, stranger,
};

const URL: &str = "https://api.example.com/hook";

fn delivery(signer: &Signer) -> Request<Body> {
    signer.delivery(URL, b"Hello", now()).request().expect("a good URL")
}

fn app(layer: QStashVerifyLayer) -> Router {
    Router::new()
        .route("/hook", post(async |claims: Claims| claims.key_label().to_owned()))
        .layer(layer)
}

async fn status(app: &Router, request: Request<Body>) -> StatusCode {
    app.clone().oneshot(request).await.expect("infallible").status()
}

async fn text<B: http_body::Body<Error: Debug>>(response: Response<B>) -> String {
    let bytes = response.into_body().collect().await.expect("a whole answer").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn keys_are_replaced_under_running_services() {
    let layer = layer();
    let handle = layer.signing_keys_handle();
    // Clones and services of before and after, settings changed in between.
    let before = app(layer.clone());
    let longer = app(layer.body_limit(2_000_000));
    let clone = before.clone();

    // In flight: its signature is checked, its body still to come.
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, std::io::Error>::new(1);
    let in_flight = delivery(&current()).map(|_| Body::new(body));
    let mut in_flight = Box::pin(before.clone().oneshot(in_flight));
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    assert!(in_flight.as_mut().poll(context).is_pending());

    handle.clone().set(SigningKeys::new(NEXT_KEY, "sig_new").unwrap());
    for app in [&before, &longer, &clone] {
        assert_eq!(status(app, delivery(&current())).await, StatusCode::BAD_REQUEST);
        assert_eq!(status(app, delivery(&next())).await, StatusCode::OK);
        assert_eq!(status(app, delivery(&Signer::new("sig_new").unwrap())).await, StatusCode::OK);
    }
    sender.send(Frame::data(Bytes::from_static(b"Hello"))).await.unwrap();
    drop(sender);
    let response = in_flight.await.unwrap();
    assert_eq!((response.status(), text(response).await.as_str()), (StatusCode::OK, "current"));
}

/// It is not signed: it may neither add a key, nor take one away.
#[tokio::test]
async fn the_region_header_decides_nothing() {
    let regional = keys()
        .also(SigningKeys::new("sig_us_1", "sig_us_2").unwrap().with_label("US_EAST_1").unwrap());
    let public_url = PublicUrl::base(BASE).unwrap();
    let app = app(QStashVerifyLayer::new(regional, public_url).clock(now));
    for region in ["us-east-1", "US_EAST_1", "eu-central-1", "mars-1", ""] {
        for (signer, verdict) in [
            (current(), StatusCode::OK),
            (Signer::new("sig_us_1").unwrap(), StatusCode::OK),
            (stranger(), StatusCode::BAD_REQUEST),
        ] {
            let mut request = delivery(&signer);
            request.headers_mut().insert("upstash-region", region.parse().unwrap());
            assert_eq!(status(&app, request).await, verdict, "{region}");
        }
    }
}

#[test]
fn the_signer_makes_what_qstash_sends() {
    let request: Request<Full<Bytes>> = current().delivery(URL, b"Hello", now()).request().unwrap();
    assert_eq!((request.method(), request.uri()), (&http::Method::POST, &URL.parse().unwrap()));
    let token = request.headers()["upstash-signature"].to_str().unwrap();
    let [header, claims, _] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three segments")
    };
    // The text that every genuine token starts with.
    assert_eq!(header, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9");
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).unwrap();
    assert_eq!(
        String::from_utf8(claims).unwrap(),
        r#"{"aud":"","body":"GF-NsyJx_iX1Yab8k4suJkMG7DBO2lGAB9F2SCY4GWk=","exp":1700000300,"iat":1700000000,"#.to_owned()
            + r#""iss":"Upstash","jti":"jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB","nbf":-62135596800,"sub":"https://api.example.com/hook"}"#
    );
    let unsigned = current().delivery("https://user:secret@example.com/", "Hello", now());
    assert_eq!(
        format!("{unsigned:?}"),
        r#"DeliveryBuilder { url: "https://***@example.com/", .. }"#
    );
    assert!(
        current().delivery("https://example.com/a b", b"", now()).request::<Full<Bytes>>().is_err()
    );
}

#[test]
fn delivery_data_is_typed_and_what_is_malformed_is_none() {
    let read = |headers: &[(&'static str, &[u8])]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        UnsignedDelivery::from_headers(&map)
    };
    let full = read(&[
        ("upstash-message-id", b"msg_1"),
        ("upstash-retried", b"3"),
        ("upstash-schedule-id", b"scd_1"),
        ("upstash-topic-name", b"orders"),
        ("upstash-caller-ip", b"2001:db8::1"),
        ("upstash-region", b"EU-CENTRAL-1"),
    ]);
    assert_eq!(full.message_id.as_deref(), Some("msg_1"));
    assert_eq!(full.retried, Some(3));
    assert_eq!(full.schedule_id.as_deref(), Some("scd_1"));
    assert_eq!(full.url_group.as_deref(), Some("orders"));
    assert_eq!(full.caller_ip, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(full.region.as_deref(), Some("EU-CENTRAL-1"));

    let none = UnsignedDelivery::default();
    assert_eq!(read(&[]), none);
    for retried in [&b"-1"[..], b"1.5", b"", b"many", b"4294967296", b"\xFF"] {
        assert_eq!(read(&[("upstash-retried", retried)]), none);
    }
    for address in [&b"localhost"[..], b"1.2.3", b"1.2.3.4:80", b"", b"\xFF"] {
        assert_eq!(read(&[("upstash-caller-ip", address)]), none);
    }
    assert_eq!(read(&[("upstash-message-id", b"\xFF"), ("upstash-region", b"")]), none);
    assert_eq!(read(&[("upstash-message-id", b"a"), ("upstash-message-id", b"b")]), none);
}

#[test]
fn last_attempt_depends_on_the_published_retries() {
    let delivery = |retried: &'static str| {
        UnsignedDelivery::from_headers(&HeaderMap::from_iter([(
            http::HeaderName::from_static("upstash-retried"),
            HeaderValue::from_static(retried),
        )]))
    };
    for (retried, max_retries, is_last) in [
        ("0", 0, true),
        ("0", 3, false),
        ("2", 3, false),
        ("3", 3, true),
        ("4", 3, true),
        ("4294967295", u32::MAX, true),
        ("many", 0, false),
    ] {
        let delivery = delivery(retried);
        assert_eq!(delivery.is_last_attempt(max_retries), is_last, "{retried} of {max_retries}");
    }
    assert!(!UnsignedDelivery::default().is_last_attempt(0), "the header is missing");
}

#[tokio::test]
async fn axum_handlers_extract_claims_and_delivery_data() {
    async fn handler(claims: Claims, delivery: UnsignedDelivery, body: String) -> String {
        format!("{} {:?} {body}", claims.subject(), delivery.retried)
    }
    let protected = Router::new().route("/hook", post(handler)).layer(layer());
    let mut request = delivery(&current());
    request.headers_mut().insert("upstash-retried", "2".parse().unwrap());
    let response = protected.oneshot(request).await.unwrap();
    assert_eq!(text(response).await, "https://api.example.com/hook Some(2) Hello");
}

#[tokio::test]
async fn claims_without_the_layer_are_500_and_a_log_line() {
    let unprotected = Router::new().route("/hook", post(async |_: Claims| "reached"));
    let log = Log::capture();
    let response = unprotected.oneshot(delivery(&current())).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(response).await.contains("no QStashVerifyLayer"));
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        lines[0],
        "ERROR tower_qstash: a handler asked for Claims on a route without QStashVerifyLayer code=\"missing_layer\" \
         reason=this route has no QStashVerifyLayer, so the request is not verified; add the layer to the route, \
         or to the router after the route method=\"POST\" path=\"/hook\""
    );
}

/// Outside axum too, a handler that reads its claims fails closed.
#[tokio::test]
async fn claims_of_a_request_are_there_only_behind_the_layer() {
    async fn handler(request: Request<Full<Bytes>>) -> Result<Response<String>, MissingLayer> {
        Ok(Response::new(Claims::from_request(&request)?.subject().to_owned()))
    }
    let request = || current().delivery(URL, b"Hello", now()).request().unwrap();
    let response = layer().layer(service_fn(handler)).oneshot(request()).await.unwrap();
    assert_eq!(text(response).await, URL);

    let log = Log::capture();
    let error = service_fn(handler).oneshot(request()).await.unwrap_err();
    assert!(error.to_string().contains("no QStashVerifyLayer"), "{error}");
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(r#"code="missing_layer""#), "{lines:?}");
}

#[tokio::test]
async fn handlers_can_answer_never_and_later() {
    async fn check<B>(never: Response<B>, later: Response<B>)
    where
        B: http_body::Body<Error: Debug>,
    {
        assert_eq!(never.status(), 489);
        assert_eq!(never.headers()["upstash-nonretryable-error"], "true");
        assert_eq!(never.headers()["content-type"], "application/json");
        assert_eq!(text(never).await, r#"{"error":"no \"such\" order"}"#);
        assert_eq!(later.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(later.headers()["retry-after"], "61");
        assert!(!later.headers().contains_key("upstash-nonretryable-error"));
        assert_eq!(text(later).await, r#"{"error":"busy"}"#);
    }
    let later = Duration::from_millis(60_001);
    check::<String>(non_retryable("no \"such\" order"), retry_after(later, "busy")).await;
    check::<axum::body::Body>(non_retryable("no \"such\" order"), retry_after(later, "busy")).await;
    check::<lambda_http::Body>(non_retryable("no \"such\" order"), retry_after(later, "busy"))
        .await;
    check::<Full<Bytes>>(non_retryable("no \"such\" order"), retry_after(later, "busy")).await;
    let whole: Response<String> = retry_after(Duration::from_secs(60), "busy");
    assert_eq!(whole.headers()["retry-after"], "60");
    let longest: Response<String> = retry_after(Duration::MAX, "busy");
    // QStash ignores what is above one day, and would use its own backoff.
    assert_eq!(longest.headers()["retry-after"], "86400");
    let a_day: Response<String> = retry_after(Duration::from_secs(86_400), "busy");
    assert_eq!(a_day.headers()["retry-after"], "86400");

    let app = Router::new()
        .route("/hook", post(async || non_retryable::<axum::body::Body>("never").into_response()))
        .layer(layer());
    assert_eq!(status(&app, delivery(&current())).await, 489);
}

/// Everything logged on this thread while it lives.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    pub(crate) fn capture() -> Self {
        /// While a process has a single subscriber, tracing asks only the thread that comes first
        /// to an event whether anybody wants it, and that may be another test's.
        static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| {
            let nowhere = tracing_subscriber::fmt().with_writer(std::io::sink);
            tracing::Dispatch::new(nowhere.with_max_level(tracing::Level::TRACE).finish())
        });
        LazyLock::force(&SECOND);
        let text = Arc::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(Writer(Arc::clone(&text)))
            .finish();
        Self { text, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.lock().expect("no test panicked").clone()).expect("text")
    }

    fn lines(&self) -> Vec<String> {
        self.text()
            .lines()
            .filter(|line| line.contains("tower_qstash"))
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test]
async fn one_event_for_each_request_with_stable_fields() {
    let log = Log::capture();
    let app = app(layer());
    let with_id = |mut request: Request<Body>| {
        request
            .headers_mut()
            .insert("upstash-message-id", "msg_7".parse().expect("a header value"));
        request
    };

    status(&app, with_id(delivery(&current()))).await;
    let accepted = log.lines();
    assert_eq!(
        accepted,
        [
            r#"DEBUG tower_qstash: accepted a QStash delivery key="current" jti="jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB" sub="https://api.example.com/hook" message_id="msg_7" body_bytes=5 messaging.system="qstash" messaging.destination.name="https://api.example.com/hook" messaging.message.id="msg_7" messaging.message.body.size=5"#
        ]
    );

    status(&app, with_id(delivery(&stranger()))).await;
    assert_eq!(
        log.lines()[1..],
        [
            r#" WARN tower_qstash: rejected a request that QStash did not sign code="signature_mismatch" reason=no configured signing key made this signature; compare both keys with the QStash console method="POST" path="/hook""#
        ]
    );

    let elsewhere = current().delivery("https://elsewhere.example/x", b"Hello", now()).token();
    let mut request = with_id(delivery(&current()));
    request.headers_mut().insert("upstash-signature", elsewhere.parse().unwrap());
    status(&app, request).await;
    assert_eq!(
        log.lines()[2..],
        [
            r#" WARN tower_qstash: rejected a QStash delivery code="subject_mismatch" reason=the message was published to another URL (claim sub); compare it with the public URL configured here method="POST" path="/hook" sub="https://elsewhere.example/x" expected_url="https://api.example.com/hook" message_id="msg_7" messaging.system="qstash" messaging.destination.name="https://elsewhere.example/x" messaging.message.id="msg_7""#
        ]
    );
}

/// A rejection whatever its reason is one event, at `warn`, with that reason.
#[tokio::test]
async fn every_rejection_is_one_event() {
    let log = Log::capture();
    let (sender, broken) = http_body_util::channel::Channel::<Bytes, std::io::Error>::new(1);
    sender.abort(std::io::Error::other("broke off"));
    let broken = Body::new(broken);
    let cases = [
        (layer(), Request::post("/hook").body(Body::empty()).unwrap(), "header is missing"),
        (layer(), delivery(&current()).map(|_| "Hallo".into()), "not the one that was signed"),
        (layer().body_limit(4), delivery(&current()), "limit of 4 bytes"),
        (layer(), delivery(&current()).map(|_| broken), "could not be read"),
        (
            layer_for(PublicUrl::from_fn(|_| None)),
            delivery(&current()),
            "cannot tell its own public URL",
        ),
    ];
    for (index, (layer, request, reason)) in cases.into_iter().enumerate() {
        assert!(!status(&app(layer), request).await.is_success());
        let lines = log.lines();
        assert_eq!(lines.len(), index + 1, "{lines:?}");
        let line = lines.last().unwrap();
        assert!(line.contains("WARN") && line.contains("reason="), "{line}");
        assert!(line.contains("code=") && line.contains(r#"path="/hook""#), "{line}");
        assert!(line.contains(reason), "{line}");
    }
}

#[tokio::test]
async fn a_delivery_signed_with_a_next_key_says_that_keys_were_rolled() {
    let log = Log::capture();
    status(&app(layer()), delivery(&next())).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("DEBUG") && lines[0].contains(r#"key="next""#), "{lines:?}");
    assert!(lines[1].contains("WARN") && lines[1].contains("keys were rolled"), "{lines:?}");
    assert!(
        lines[1].contains(r#"key="next""#) && lines[1].contains("before they are rolled again"),
        "{lines:?}"
    );
}

/// No key, token or body in anything that is ever printed.
#[tokio::test]
async fn nothing_prints_a_key_a_token_or_a_body() {
    const SECRET_BODY: &[u8] = b"sentinel-body-5d41402a";
    let log = Log::capture();
    let mut printed = String::new();
    let mut print = |thing: &dyn Debug| printed.push_str(&format!("{thing:?}\n{thing:#?}\n"));

    let keys = keys();
    let signer = current();
    let layer = layer_for(PublicUrl::base(BASE).unwrap());
    let verifier = Verifier::new(keys.clone());
    let good = signer.delivery(URL, SECRET_BODY, now()).token();
    print(&keys);
    print(&signer);
    print(&layer);
    print(&layer.signing_keys_handle());
    print(&verifier);
    print(&verifier.verify_token(&good, URL, now()));
    print(&verifier.verify(&good, URL, SECRET_BODY, now()));
    print(&SigningKeys::new(CURRENT_KEY, &format!("{NEXT_KEY} ")));
    for error in [
        SigningKeys::new(CURRENT_KEY, &format!("{NEXT_KEY} ")),
        SigningKeys::new("sig_a", "sig_b").unwrap().with_label(CURRENT_KEY),
        SigningKeys::from_key("sig_a").unwrap().with_label(CURRENT_KEY),
        SigningKeys::new(CURRENT_KEY, &format!("'{NEXT_KEY}'")),
    ] {
        let error = error.unwrap_err();
        print(&error);
        print(&format_args!("{error}"));
        print(&error.name());
    }
    print(&signer.delivery(URL, SECRET_BODY, now()));
    print(&signer.delivery(URL, SECRET_BODY, now()).request::<Full<Bytes>>().unwrap().uri());

    // Rejections for every kind of reason, each with its Debug, Display, event and answer.
    let token = |name: &str, value: serde_json::Value| {
        signer.delivery(URL, SECRET_BODY, now()).claim(name, value).token()
    };
    let signatures = [
        good.clone(),
        next().delivery(URL, SECRET_BODY, now()).token(),
        stranger().delivery(URL, SECRET_BODY, now()).token(),
        signer.delivery(URL, b"another body", now()).token(),
        token("iss", CURRENT_KEY.into()),
        token("exp", "1".into()),
        token("exp", 1.into()),
        token("nbf", 9_999_999_999_u64.into()),
        token("sub", "https://elsewhere.example".into()),
        token("body", "AAAA".into()),
        signer.delivery(URL, SECRET_BODY, now()).header("alg", "none").token(),
        signer.delivery(URL, SECRET_BODY, now()).header("crit", CURRENT_KEY).token(),
        format!("{good}{good}"),
        format!("{good}={}", "x".repeat(9_000)),
        good[..good.len() - 2].to_owned(),
        good.replace('.', "-"),
        signer.delivery(URL, SECRET_BODY, now()).without_claim("exp").token(),
        signer.sign_raw(CURRENT_KEY.as_bytes(), SECRET_BODY),
        signer.delivery("https://sentinel@elsewhere.example", SECRET_BODY, now()).token(),
        String::new(),
    ];
    for limit in [1_000, 3] {
        let inner = service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        });
        let mut service = layer.clone().body_limit(limit).layer(inner);
        print(&service);
        for signature in &signatures {
            let request = Request::post("/hook").header("upstash-signature", signature);
            let response =
                service.call(request.body(Full::from(SECRET_BODY)).unwrap()).await.unwrap();
            if let Some(rejection) = response.extensions().get::<tower_qstash::Rejection>() {
                print(rejection);
                print(&format_args!("{rejection}"));
                print(&format_args!("{:?}", std::error::Error::source(rejection)));
            }
            print(&response.headers());
            print(&text(response).await);
        }
    }
    // A public URL that holds a password, and one that cannot be told.
    let with_password = PublicUrl::exact("https://user:sentinel@api.example.com/hook").unwrap();
    let below_it = PublicUrl::base("https://user:sentinel@api.example.com").unwrap();
    for public_url in [
        with_password,
        below_it,
        PublicUrl::from_fn(|_| Some("https://user:sentinel@api.example.com/hook".into())),
        PublicUrl::from_fn(|_| None),
    ] {
        print(&public_url);
        let inner = service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        });
        let service = layer_for(public_url).layer(inner);
        let request = signer.delivery(URL, SECRET_BODY, now()).request().unwrap();
        let response = service.oneshot(request).await.unwrap();
        print(&response.extensions().get::<tower_qstash::Rejection>().expect("a rejection"));
        print(&text(response).await);
    }
    printed.push_str(&log.text());
    assert!(log.lines().len() > signatures.len(), "the events were captured");

    let body = String::from_utf8(SECRET_BODY.to_vec()).unwrap();
    for secret in [CURRENT_KEY, NEXT_KEY, "sig_test", &body, "sentinel"] {
        assert!(!printed.contains(secret), "{secret} was printed");
    }
    for signature in signatures.iter().filter(|signature| !signature.is_empty()) {
        for segment in signature.split('.').filter(|segment| segment.len() > 20) {
            assert!(!printed.contains(segment), "a segment of a token was printed: {segment}");
        }
    }
}

/// Whoever owns a key can sign any URL: a tenant's key counts only for the tenant's own.
#[tokio::test]
async fn keys_of_another_account_are_bound_to_its_url() {
    const TENANT_URL: &str = "https://api.example.com/tenants/7";
    let base = |url: &str| PublicUrl::base(url).unwrap();
    let tenant_keys = SigningKeysHandle::new(
        SigningKeys::from_key("sig_tenant").unwrap().with_label("tenant 7").unwrap(),
    );
    let layer = QStashVerifyLayer::new(keys(), PublicUrl::exact(URL).unwrap())
        .also(tenant_keys.clone(), base(TENANT_URL).also(base("https://tenant.example")))
        .clock(now);
    let app =
        Router::new().fallback(async |claims: Claims| claims.key_label().to_owned()).layer(layer);
    let outcome = async |signer: &Signer, url: &str, target: &str| {
        let token = signer.delivery(url, b"Hello", now()).token();
        let request = Request::post(target).header("upstash-signature", token);
        let response =
            app.clone().oneshot(request.body(Body::from("Hello")).unwrap()).await.unwrap();
        (response.status().as_u16(), text(response).await)
    };
    let tenant = Signer::new("sig_tenant").unwrap();
    assert_eq!(outcome(&current(), URL, "/hook").await, (200, "current".into()));
    let own = "https://tenant.example/tenants/7/x";
    assert_eq!(outcome(&tenant, own, "/tenants/7/x").await, (200, "tenant 7".into()));
    // Each at the other's, and a tenant at an endpoint of nobody.
    for (signer, url, target) in [
        (&tenant, URL, "/hook"),
        (&tenant, "https://api.example.com/admin", "/admin"),
        (&current(), own, "/tenants/7/x"),
    ] {
        let (status, answer) = outcome(signer, url, target).await;
        assert!(status == 400 && answer.contains("subject_mismatch"), "{url}: {answer}");
    }
    let (_, answer) = outcome(&stranger(), URL, "/hook").await;
    assert!(answer.contains("signature_mismatch"), "{answer}");

    // Its keys roll on their own.
    tenant_keys.set(SigningKeys::from_key("sig_rolled").unwrap().with_label("tenant 7").unwrap());
    assert_eq!(outcome(&tenant, own, "/tenants/7/x").await.0, 400);
    let rolled = Signer::new("sig_rolled").unwrap();
    assert_eq!(outcome(&rolled, own, "/tenants/7/x").await.0, 200);
    assert_eq!(outcome(&current(), URL, "/hook").await.0, 200);
}

/// An account may be given twice, for two URLs.
#[tokio::test]
async fn the_same_keys_for_two_urls_are_accepted_at_both() {
    let exact = |url: &str| PublicUrl::exact(url).unwrap();
    let layer = QStashVerifyLayer::new(keys(), exact("https://a.example/hook"))
        .also(keys(), exact(URL))
        .clock(now);
    assert_eq!(status(&app(layer), delivery(&current())).await, StatusCode::OK);
}

/// What nobody has signed is cut, and nothing of it but method and path is logged.
#[tokio::test]
async fn a_client_cannot_flood_the_log() {
    let log = Log::capture();
    let long = "x".repeat(380_000);
    let target = format!("/{}", "p".repeat(60_000));
    let with_long_header = |signer: Option<Signer>, target: &str| {
        let mut request = Request::post(target).body(Body::from("Hello")).unwrap();
        if let Some(signer) = signer {
            let token = signer.delivery(&format!("{BASE}{target}"), b"Hello", now()).token();
            request.headers_mut().insert("upstash-signature", token.parse().unwrap());
        }
        request.headers_mut().insert("upstash-message-id", long.parse().unwrap());
        request.headers_mut().insert("user-agent", long.parse().unwrap());
        request
    };
    let app = Router::new().fallback(async || "done").layer(layer());
    for signer in [None, Some(stranger())] {
        status(&app, with_long_header(signer, &target)).await;
        let line = log.lines().pop().unwrap();
        assert!(line.len() < 700 && !line.contains("xx"), "{line}");
        assert!(line.contains("rejected a request that QStash did not sign"), "{line}");
        assert!(line.contains(&format!("path=\"/{}\"", "p".repeat(255))), "{line}");
    }
    // Signed, yet most of it by nobody.
    for (signer, target) in [(current(), "/hook"), (current(), "/other")] {
        let mut request = with_long_header(Some(signer), target);
        *request.uri_mut() = "/hook".parse().unwrap();
        status(&app, request).await;
        let line = log.lines().pop().unwrap();
        for name in ["message_id", "messaging.message.id"] {
            assert!(line.contains(&format!(" {name}=\"{}\"", "x".repeat(256))), "{line}");
        }
        assert!(line.len() < 1_500, "{line}");
    }
    // Cut between characters, not within one.
    let signer = current();
    let jti = format!("{}{}", "a".repeat(255), "é".repeat(100));
    let token = signer.delivery(URL, b"Hello", now()).claim("jti", jti);
    status(&app, token.request().unwrap()).await;
    let line = log.lines().pop().unwrap();
    assert!(line.contains(&format!("jti=\"{}\"", "a".repeat(255))), "{line}");
}

/// An operator with two routes can tell which one was called, also behind a nest.
#[tokio::test]
async fn a_rejection_is_logged_with_the_whole_path() {
    let log = Log::capture();
    let routes = Router::new().route("/hook", post(async || "done")).layer(layer());
    let app = Router::new().nest("/api/v1", routes);
    status(&app, Request::post("/api/v1/hook?secret=1").body(Body::empty()).unwrap()).await;
    let line = log.lines().pop().unwrap();
    assert!(line.contains(r#"path="/api/v1/hook""#) && !line.contains("secret"), "{line}");
    assert!(!line.contains("QStash delivery"), "nothing says that QStash sent it: {line}");
}

#[tokio::test]
async fn query_values_are_logged_only_when_asked_for() {
    const SUBJECT: &str = "https://user:pass@api.example.com/x?tenant=secret&flag";
    for (ask, sub, expected_url) in [
        (
            false,
            "https://***@api.example.com/x?tenant=***&flag",
            "https://api.example.com/hook?token=***",
        ),
        (
            true,
            "https://***@api.example.com/x?tenant=secret&flag",
            "https://api.example.com/hook?token=abc",
        ),
    ] {
        let log = Log::capture();
        let layer = if ask { layer().log_query_values(true) } else { layer() };
        let app = Router::new().fallback(async || "done").layer(layer);
        let token = current().delivery(SUBJECT, b"Hello", now()).token();
        let request = Request::post("/hook?token=abc").header("upstash-signature", token);
        status(&app, request.body(Body::from("Hello")).unwrap()).await;
        let line = log.lines().pop().unwrap();
        let urls = format!("sub=\"{sub}\" expected_url=\"{expected_url}\"");
        assert!(line.contains(&urls), "{line}");

        let token = current().delivery(&format!("{URL}?token=abc"), b"Hello", now()).token();
        let request = Request::post("/hook?token=abc").header("upstash-signature", token);
        status(&app, request.body(Body::from("Hello")).unwrap()).await;
        let line = log.lines().pop().unwrap();
        let value = if ask { "abc" } else { "***" };
        assert!(line.contains(&format!("sub=\"{URL}?token={value}\"")), "{line}");
    }
}

/// A roll concerns every delivery, and must not bury the rest of the log.
#[tokio::test]
async fn a_roll_is_warned_of_once_a_minute_for_each_key() {
    let log = Log::capture();
    let seconds = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&seconds);
    let keys = keys()
        .also(SigningKeys::new("sig_other_1", "sig_other_2").unwrap().with_label("other").unwrap());
    let layer = QStashVerifyLayer::new(keys, PublicUrl::base(BASE).unwrap())
        .clock(move || now() + Duration::from_secs(clock.load(Ordering::Relaxed)));
    // Clones and services share the interval.
    let apps = [app(layer.clone()), app(layer.body_limit(100))];
    let others = Signer::new("sig_other_2").unwrap();
    let mut warnings = Vec::new();
    for second in [0, 1, 59, 60, 61, 119, 120, 30] {
        seconds.store(second, Ordering::Relaxed);
        for app in &apps {
            for signer in [next(), others.clone()] {
                assert_eq!(status(app, delivery(&signer)).await, StatusCode::OK);
            }
        }
        let rolled = log.lines().iter().filter(|line| line.contains("keys were rolled")).count();
        warnings.push(rolled);
    }
    // The last time is of a clock that was set back.
    assert_eq!(warnings, [2, 2, 2, 4, 4, 4, 6, 8]);
}

/// Some platforms have no clock, and a stranger must not make a receiver ask for it.
#[tokio::test]
async fn the_clock_is_read_only_for_a_token_with_a_valid_mac() {
    let broken = layer().clock(|| panic!("there is no clock"));
    let app = app(broken);
    let token = |signer: &Signer| signer.delivery(URL, b"Hello", now());
    let forged = token(&stranger()).token();
    let elsewhere = current().delivery("https://elsewhere.example", b"Hello", now()).token();
    let issuer = token(&current()).claim("iss", "x").token();
    for signature in ["x", "a.b.c", "..", &forged, &elsewhere, &issuer] {
        let request = Request::post("/hook").header("upstash-signature", signature);
        assert_eq!(
            status(&app, request.body(Body::from("Hello")).unwrap()).await,
            400,
            "{signature}"
        );
    }
}
