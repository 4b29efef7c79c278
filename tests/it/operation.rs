//! What a receiver needs in operation: keys that roll, delivery data, answers, logs.

use std::{
    fmt::Debug,
    io::Write,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, http::HeaderValue, response::IntoResponse, routing::post};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qstash::{
    Claims, PublicUrl, QStashVerifyLayer, Signer, SigningKeys, UnsignedDelivery, Verifier,
    non_retryable, retry_after,
};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{
    BASE, CURRENT_KEY, NEXT_KEY, current, keys, layer, layer_for, next, now, stranger,
};

const URL: &str = "https://api.example.com/hook";

fn delivery(signer: &Signer) -> Request<Body> {
    signer.token(URL, b"Hello", now()).request().expect("a good URL")
}

fn app(layer: QStashVerifyLayer) -> Router {
    Router::new().route("/hook", post(async |claims: Claims| claims.key().to_owned())).layer(layer)
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

    handle.clone().replace(SigningKeys::new(NEXT_KEY, "sig_new").unwrap());
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
    let regional = keys().also(SigningKeys::labelled("US_EAST_1", "sig_us_1", "sig_us_2").unwrap());
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
    let request: Request<Full<Bytes>> = current().token(URL, b"Hello", now()).request().unwrap();
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
    let unsigned = current().token("https://user:secret@example.com/", "Hello", now());
    assert_eq!(format!("{unsigned:?}"), r#"UnsignedToken { url: "https://***@example.com/", .. }"#);
    assert!(
        current().token("https://example.com/a b", b"", now()).request::<Full<Bytes>>().is_err()
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
    assert!(lines[0].contains("ERROR") && lines[0].contains("QStashVerifyLayer"), "{lines:?}");
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
    assert_eq!(longest.headers()["retry-after"], u64::MAX.to_string());

    let app = Router::new()
        .route("/hook", post(async || non_retryable::<axum::body::Body>("never").into_response()))
        .layer(layer());
    assert_eq!(status(&app, delivery(&current())).await, 489);
}

/// Everything logged on this thread while it lives.
struct Log {
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
    fn capture() -> Self {
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

    fn text(&self) -> String {
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
            r#"DEBUG tower_qstash: accepted a QStash delivery key="current" jti="jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB" sub="https://api.example.com/hook" message_id="msg_7" body_bytes=5"#
        ]
    );

    status(&app, with_id(delivery(&stranger()))).await;
    assert_eq!(
        log.lines()[1..],
        [
            r#" WARN tower_qstash: rejected a QStash delivery reason=no configured signing key made this signature; compare both keys with the QStash console message_id="msg_7""#
        ]
    );

    let elsewhere = current().token("https://elsewhere.example/x", b"Hello", now()).sign();
    let mut request = delivery(&current());
    request.headers_mut().insert("upstash-signature", elsewhere.parse().unwrap());
    status(&app, request).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[2].ends_with(
            r#"sub="https://elsewhere.example/x" expected_url="https://api.example.com/hook""#
        ),
        "{}",
        lines[2]
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
            layer_for(PublicUrl::from_request(|_| None)),
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
    let good = signer.token(URL, SECRET_BODY, now()).sign();
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
        SigningKeys::labelled(CURRENT_KEY, NEXT_KEY, "tenant"),
        SigningKeys::single(CURRENT_KEY, "tenant"),
        SigningKeys::new(CURRENT_KEY, &format!("'{NEXT_KEY}'")),
    ] {
        let error = error.unwrap_err();
        print(&error);
        print(&format_args!("{error}"));
        print(&error.name());
    }
    print(&signer.token(URL, SECRET_BODY, now()));
    print(&signer.token(URL, SECRET_BODY, now()).request::<Full<Bytes>>().unwrap().uri());

    // Rejections for every kind of reason, each with its Debug, Display, event and answer.
    let token = |name: &str, value: serde_json::Value| {
        signer.token(URL, SECRET_BODY, now()).claim(name, value).sign()
    };
    let signatures = [
        good.clone(),
        next().token(URL, SECRET_BODY, now()).sign(),
        stranger().token(URL, SECRET_BODY, now()).sign(),
        signer.token(URL, b"another body", now()).sign(),
        token("iss", CURRENT_KEY.into()),
        token("exp", "1".into()),
        token("exp", 1.into()),
        token("nbf", 9_999_999_999_u64.into()),
        token("sub", "https://elsewhere.example".into()),
        token("body", "AAAA".into()),
        signer.token(URL, SECRET_BODY, now()).header("alg", "none").sign(),
        signer.token(URL, SECRET_BODY, now()).header("crit", CURRENT_KEY).sign(),
        format!("{good}{good}"),
        format!("{good}={}", "x".repeat(9_000)),
        good[..good.len() - 2].to_owned(),
        good.replace('.', "-"),
        signer.token(URL, SECRET_BODY, now()).without_claim("exp").sign(),
        signer.sign_raw(CURRENT_KEY.as_bytes(), SECRET_BODY),
        signer.token("https://sentinel@elsewhere.example", SECRET_BODY, now()).sign(),
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
        PublicUrl::from_request(|_| Some("https://user:sentinel@api.example.com/hook".into())),
        PublicUrl::from_request(|_| None),
    ] {
        print(&public_url);
        let inner = service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        });
        let service = layer_for(public_url).layer(inner);
        let request = signer.token(URL, SECRET_BODY, now()).request().unwrap();
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
