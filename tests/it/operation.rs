//! A receiver in operation: key rolls, delivery metadata, handler responses, logs.

use std::{
    error::Error,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, http::HeaderValue, response::IntoResponse, routing::post};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{Channel, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qstash::{
    Claims, MissingLayer, PublicUrl, QStashVerifyLayer, Rejection, Signer, SigningKeys,
    SigningKeysHandle, UnsignedDelivery, Verifier, non_retryable, retry_after,
};

use crate::support::{
    BASE, CURRENT_KEY, NEXT_KEY, URL,
    bodies::{Frames, Step},
    current,
    deliveries::{delivery, request},
    futures::poll_once,
    keys, layer, layer_for,
    log::Log,
    next, now,
    responses::text,
    services::Bare,
    unknown_key,
};

/// Creates a delivery of `Hello`.
fn hello(signer: &Signer) -> Request<Body> {
    delivery(signer, "Hello", "Hello".into())
}

fn app(layer: QStashVerifyLayer) -> Router {
    Router::new()
        .route("/hook", post(async |claims: Claims| claims.key_label().to_owned()))
        .layer(layer)
}

async fn status(app: &Router, request: Request<Body>) -> StatusCode {
    app.clone().oneshot(request).await.expect("infallible").status()
}

#[tokio::test]
async fn new_keys_apply_to_running_services() {
    let layer = layer();
    let handle = layer.signing_keys_handle();
    // The handle also reaches clones, and layers configured further.
    let before = app(layer.clone());
    let longer = app(layer.body_limit(2_000_000));
    let clone = before.clone();

    // In flight: its signature is verified, but its body has not arrived.
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let in_flight = delivery(&current(), "Hello", Body::new(body));
    let mut in_flight = Box::pin(before.clone().oneshot(in_flight));
    assert!(poll_once(&mut in_flight).is_pending());

    handle.clone().set(SigningKeys::new(NEXT_KEY, "sig_new").unwrap());
    for app in [&before, &longer, &clone] {
        assert_eq!(status(app, hello(&current())).await, StatusCode::BAD_REQUEST);
        assert_eq!(status(app, hello(&next())).await, StatusCode::OK);
        assert_eq!(status(app, hello(&Signer::new("sig_new").unwrap())).await, StatusCode::OK);
    }
    sender.send_data("Hello".into()).await.unwrap();
    drop(sender);
    let response = in_flight.await.unwrap();
    assert_eq!((response.status(), text(response).await.as_str()), (StatusCode::OK, "current"));
}

/// The header is not signed, so it must neither add a key nor exclude one.
#[tokio::test]
async fn region_header_does_not_select_keys() {
    let regional = keys()
        .also(SigningKeys::new("sig_us_1", "sig_us_2").unwrap().with_label("US_EAST_1").unwrap());
    let public_url = PublicUrl::base(BASE).unwrap();
    let app = app(QStashVerifyLayer::new(regional, public_url).clock(now));
    for region in ["us-east-1", "US_EAST_1", "eu-central-1", "mars-1", ""] {
        for (signer, verdict) in [
            (current(), StatusCode::OK),
            (Signer::new("sig_us_1").unwrap(), StatusCode::OK),
            (unknown_key(), StatusCode::BAD_REQUEST),
        ] {
            let mut request = hello(&signer);
            request.headers_mut().insert("upstash-region", region.parse().unwrap());
            assert_eq!(status(&app, request).await, verdict, "{region}");
        }
    }
}

#[test]
fn signer_creates_what_qstash_sends() {
    let request: Request<Full<Bytes>> = current().delivery(URL, b"Hello", now()).request().unwrap();
    assert_eq!((request.method(), request.uri()), (&http::Method::POST, &URL.parse().unwrap()));
    let token = request.headers()["upstash-signature"].to_str().unwrap();
    let [header, claims, _] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("not three segments: {token}")
    };
    // The header of every token that QStash issues.
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
fn malformed_delivery_metadata_is_none() {
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
async fn axum_handlers_extract_claims_and_metadata() {
    async fn handler(claims: Claims, delivery: UnsignedDelivery, body: String) -> String {
        format!("{} {:?} {body}", claims.subject(), delivery.retried)
    }
    let protected = Router::new().route("/hook", post(handler)).layer(layer());
    let mut request = hello(&current());
    request.headers_mut().insert("upstash-retried", "2".parse().unwrap());
    let response = protected.oneshot(request).await.unwrap();
    assert_eq!(text(response).await, "https://api.example.com/hook Some(2) Hello");
}

#[tokio::test]
async fn claims_without_the_layer_are_500_and_logged() {
    let unprotected = Router::new().route("/hook", post(async |_: Claims| "reached"));
    let log = Log::capture();
    let response = unprotected.oneshot(hello(&current())).await.unwrap();
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

#[tokio::test]
async fn claims_from_request_fail_without_the_layer() {
    async fn handler(request: Request<Full<Bytes>>) -> Result<Response<String>, MissingLayer> {
        Ok(Response::new(Claims::from_request(&request)?.subject().to_owned()))
    }
    let request = || delivery(&current(), "Hello", Full::from("Hello"));
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
async fn handlers_respond_non_retryable_or_retry_after() {
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
    // QStash ignores a longer delay than one day and uses its own backoff.
    assert_eq!(longest.headers()["retry-after"], "86400");
    let a_day: Response<String> = retry_after(Duration::from_secs(86_400), "busy");
    assert_eq!(a_day.headers()["retry-after"], "86400");

    let app = Router::new()
        .route("/hook", post(async || non_retryable::<axum::body::Body>("never").into_response()))
        .layer(layer());
    assert_eq!(status(&app, hello(&current())).await, 489);
}

#[tokio::test]
async fn each_request_is_one_event_with_stable_fields() {
    let log = Log::capture();
    let app = app(layer());
    let with_id = |mut request: Request<Body>| {
        request
            .headers_mut()
            .insert("upstash-message-id", "msg_7".parse().expect("a header value"));
        request
    };

    status(&app, with_id(hello(&current()))).await;
    let accepted = log.lines();
    assert_eq!(
        accepted,
        [
            r#"DEBUG tower_qstash: accepted a QStash delivery key="current" jti="jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB" sub="https://api.example.com/hook" message_id="msg_7" body_bytes=5 messaging.system="qstash" messaging.destination.name="https://api.example.com/hook" messaging.message.id="msg_7" messaging.message.body.size=5"#
        ]
    );

    status(&app, with_id(hello(&unknown_key()))).await;
    assert_eq!(
        log.lines()[1..],
        [
            r#" WARN tower_qstash: rejected a request that QStash did not sign code="signature_mismatch" reason=no configured signing key made this signature; compare both keys with the QStash console method="POST" path="/hook""#
        ]
    );

    let elsewhere = current().delivery("https://elsewhere.example/x", b"Hello", now()).token();
    status(&app, with_id(request(&elsewhere, "Hello".into()))).await;
    assert_eq!(
        log.lines()[2..],
        [
            r#" WARN tower_qstash: rejected a QStash delivery code="subject_mismatch" reason=the message was published to another URL (claim sub); compare it with the public URL configured here method="POST" path="/hook" sub="https://elsewhere.example/x" expected_url="https://api.example.com/hook" message_id="msg_7" messaging.system="qstash" messaging.destination.name="https://elsewhere.example/x" messaging.message.id="msg_7""#
        ]
    );
}

#[tokio::test]
async fn each_rejection_is_one_warning_with_its_reason() {
    let log = Log::capture();
    let broken = Body::new(Frames::new([Step::Fail("broken".into())]));
    let cases = [
        (layer(), Request::post("/hook").body(Body::empty()).unwrap(), "header is missing"),
        (layer(), hello(&current()).map(|_| "Hallo".into()), "not the one that was signed"),
        (layer().body_limit(4), hello(&current()), "limit of 4 bytes"),
        (layer(), hello(&current()).map(|_| broken), "could not be read"),
        (
            layer_for(PublicUrl::from_fn(|_| None)),
            hello(&current()),
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
async fn delivery_signed_with_the_next_key_warns_of_a_roll() {
    let log = Log::capture();
    status(&app(layer()), hello(&next())).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("DEBUG") && lines[0].contains(r#"key="next""#), "{lines:?}");
    assert!(lines[1].contains("WARN") && lines[1].contains("keys were rolled"), "{lines:?}");
    assert!(
        lines[1].contains(r#"key="next""#) && lines[1].contains("before they are rolled again"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn keys_tokens_and_bodies_are_never_printed() {
    const SECRET_BODY: &[u8] = b"sentinel-body-5d41402a";
    let log = Log::capture();
    let mut printed = String::new();
    let mut print = |thing: &dyn Debug| printed.push_str(&format!("{thing:?}\n{thing:#?}\n"));

    let keys = keys();
    let signer = current();
    let layer = layer_for(PublicUrl::base(BASE).unwrap());
    let verifier = Verifier::new(keys.clone());
    let valid = signer.delivery(URL, SECRET_BODY, now()).token();
    print(&keys);
    print(&signer);
    print(&layer);
    print(&layer.signing_keys_handle());
    print(&verifier);
    print(&verifier.verify_token(&valid, URL, now()));
    print(&verifier.verify(&valid, URL, SECRET_BODY, now()));
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

    // Every kind of rejection, with its Debug, Display, event and response.
    let token = |name: &str, value: serde_json::Value| {
        signer.delivery(URL, SECRET_BODY, now()).claim(name, value).token()
    };
    let signatures = [
        valid.clone(),
        next().delivery(URL, SECRET_BODY, now()).token(),
        unknown_key().delivery(URL, SECRET_BODY, now()).token(),
        signer.delivery(URL, b"another body", now()).token(),
        token("iss", CURRENT_KEY.into()),
        token("exp", "1".into()),
        token("exp", 1.into()),
        token("nbf", 9_999_999_999_u64.into()),
        token("sub", "https://elsewhere.example".into()),
        token("body", "AAAA".into()),
        signer.delivery(URL, SECRET_BODY, now()).header("alg", "none").token(),
        signer.delivery(URL, SECRET_BODY, now()).header("crit", CURRENT_KEY).token(),
        format!("{valid}{valid}"),
        format!("{valid}={}", "x".repeat(9_000)),
        valid[..valid.len() - 2].to_owned(),
        valid.replace('.', "-"),
        signer.delivery(URL, SECRET_BODY, now()).without_claim("exp").token(),
        signer.sign_raw(CURRENT_KEY.as_bytes(), SECRET_BODY),
        signer.delivery("https://sentinel@elsewhere.example", SECRET_BODY, now()).token(),
        String::new(),
    ];
    for limit in [1_000, 3] {
        let mut service = layer.clone().body_limit(limit).layer(Bare);
        print(&service);
        for signature in &signatures {
            let request = request(signature, Full::from(SECRET_BODY));
            let response = service.call(request).await.unwrap();
            if let Some(rejection) = response.extensions().get::<Rejection>() {
                print(rejection);
                print(&format_args!("{rejection}"));
                print(&format_args!("{:?}", rejection.source()));
            }
            print(&response.headers());
            print(&text(response).await);
        }
    }
    // Public URLs with a password, and an unknown one.
    let with_password = PublicUrl::exact("https://user:sentinel@api.example.com/hook").unwrap();
    let base_with_password = PublicUrl::base("https://user:sentinel@api.example.com").unwrap();
    for public_url in [
        with_password,
        base_with_password,
        PublicUrl::from_fn(|_| Some("https://user:sentinel@api.example.com/hook".into())),
        PublicUrl::from_fn(|_| None),
    ] {
        print(&public_url);
        let service = layer_for(public_url).layer(Bare);
        let request = delivery(&signer, SECRET_BODY, Full::from(SECRET_BODY));
        let response = service.oneshot(request).await.unwrap();
        print(&response.extensions().get::<Rejection>().expect("a rejection"));
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

/// The owner of a key can sign any URL, so a tenant's key must only be accepted for the tenant's
/// own.
#[tokio::test]
async fn keys_of_an_account_are_bound_to_its_url() {
    let base = |url: &str| PublicUrl::base(url).unwrap();
    let tenant_url = base("https://api.example.com").also(base("https://tenant.example"));
    let tenant_url = tenant_url.within("/tenants/7").unwrap();
    let tenant_keys = SigningKeysHandle::new(
        SigningKeys::from_key("sig_tenant").unwrap().with_label("tenant 7").unwrap(),
    );
    let layer = QStashVerifyLayer::new(keys(), PublicUrl::exact(URL).unwrap())
        .also(tenant_keys.clone(), tenant_url)
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
    // Each at the other's URL, and the tenant outside of its part, whatever domain it signs for.
    for (signer, url, target, code) in [
        (&tenant, URL, "/hook", "path_not_allowed"),
        (&tenant, "https://api.example.com/admin", "/admin", "path_not_allowed"),
        (&tenant, "https://tenant.example/admin", "/admin", "path_not_allowed"),
        (&tenant, "https://tenant.example/tenants/77", "/tenants/77", "path_not_allowed"),
        (&tenant, "https://tenant.example/tenants/7/../8", "/tenants/7/../8", "path_not_allowed"),
        (
            &tenant,
            "https://tenant.example/tenants/7/%2e%2E/8",
            "/tenants/7/%2e%2E/8",
            "path_not_allowed",
        ),
        (&tenant, own, "/admin", "subject_mismatch"),
        (&current(), own, "/tenants/7/x", "subject_mismatch"),
    ] {
        let (status, body) = outcome(signer, url, target).await;
        assert!(status == 400 && body.contains(code), "{url} at {target}: {body}");
    }
    for within in ["/tenants/7", "/tenants/7/", "/tenants/7/x/y?a=1"] {
        let url = format!("https://tenant.example{within}");
        assert_eq!(outcome(&tenant, &url, within).await.0, 200, "{within}");
    }
    let (_, body) = outcome(&unknown_key(), URL, "/hook").await;
    assert!(body.contains("signature_mismatch"), "{body}");

    // The tenant's keys are rolled independently.
    tenant_keys.set(SigningKeys::from_key("sig_rolled").unwrap().with_label("tenant 7").unwrap());
    assert_eq!(outcome(&tenant, own, "/tenants/7/x").await.0, 400);
    let rolled = Signer::new("sig_rolled").unwrap();
    assert_eq!(outcome(&rolled, own, "/tenants/7/x").await.0, 200);
    assert_eq!(outcome(&current(), URL, "/hook").await.0, 200);
}

#[tokio::test]
async fn same_keys_for_two_urls_are_accepted_at_both() {
    let exact = |url: &str| PublicUrl::exact(url).unwrap();
    let layer = QStashVerifyLayer::new(keys(), exact("https://a.example/hook"))
        .also(keys(), exact(URL))
        .clock(now);
    assert_eq!(status(&app(layer), hello(&current())).await, StatusCode::OK);
}

/// Of an unsigned request only the method and the path are logged, and every logged text is cut.
#[tokio::test]
async fn long_requests_do_not_flood_the_log() {
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
    for signer in [None, Some(unknown_key())] {
        status(&app, with_long_header(signer, &target)).await;
        let line = log.lines().pop().unwrap();
        assert!(line.len() < 700 && !line.contains("xx"), "{line}");
        assert!(line.contains("rejected a request that QStash did not sign"), "{line}");
        assert!(line.contains(&format!("path=\"/{}\"", "p".repeat(255))), "{line}");
    }
    // The token is valid, but headers are not signed.
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
    // Texts are cut between characters.
    let signer = current();
    let jti = format!("{}{}", "a".repeat(255), "é".repeat(100));
    let token = signer.delivery(URL, b"Hello", now()).claim("jti", jti);
    status(&app, token.request().unwrap()).await;
    let line = log.lines().pop().unwrap();
    assert!(line.contains(&format!("jti=\"{}\"", "a".repeat(255))), "{line}");
}

#[tokio::test]
async fn rejection_in_a_nested_router_logs_the_full_path() {
    let log = Log::capture();
    let routes = Router::new().route("/hook", post(async || "done")).layer(layer());
    let app = Router::new().nest("/api/v1", routes);
    status(&app, Request::post("/api/v1/hook?secret=1").body(Body::empty()).unwrap()).await;
    let line = log.lines().pop().unwrap();
    assert!(line.contains(r#"path="/api/v1/hook""#) && !line.contains("secret"), "{line}");
    assert!(!line.contains("QStash delivery"), "QStash didn't sign it: {line}");
}

#[tokio::test]
async fn query_values_are_redacted_unless_enabled() {
    const SUBJECT: &str = "https://user:pass@api.example.com/x?tenant=secret&flag";
    for (log_values, sub, expected_url) in [
        (
            false,
            "https://***@api.example.com/x?tenant=***&***",
            "https://api.example.com/hook?token=***",
        ),
        (
            true,
            "https://***@api.example.com/x?tenant=secret&flag",
            "https://api.example.com/hook?token=abc",
        ),
    ] {
        let log = Log::capture();
        let layer = if log_values { layer().log_query_values(true) } else { layer() };
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
        let value = if log_values { "abc" } else { "***" };
        assert!(line.contains(&format!("sub=\"{URL}?token={value}\"")), "{line}");
    }
}

/// A roll affects every delivery, so a warning for each would bury the rest of the log.
#[tokio::test]
async fn roll_is_warned_of_once_a_minute_per_key() {
    let log = Log::capture();
    let seconds = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&seconds);
    let keys = keys()
        .also(SigningKeys::new("sig_other_1", "sig_other_2").unwrap().with_label("other").unwrap());
    let layer = QStashVerifyLayer::new(keys, PublicUrl::base(BASE).unwrap())
        .clock(move || now() + Duration::from_secs(clock.load(Ordering::Relaxed)));
    // Clones and services share the interval.
    let apps = [app(layer.clone()), app(layer.body_limit(100))];
    let other = Signer::new("sig_other_2").unwrap();
    let mut warnings = Vec::new();
    for second in [0, 1, 59, 60, 61, 119, 120, 30] {
        seconds.store(second, Ordering::Relaxed);
        for app in &apps {
            for signer in [next(), other.clone()] {
                assert_eq!(status(app, hello(&signer)).await, StatusCode::OK);
            }
        }
        let rolled = log.lines().iter().filter(|line| line.contains("keys were rolled")).count();
        warnings.push(rolled);
    }
    // The last one is after the clock was set back.
    assert_eq!(warnings, [2, 2, 2, 4, 4, 4, 6, 8]);
}

/// Some platforms have no clock, and a forged token must not make a receiver read it.
#[tokio::test]
async fn clock_is_read_only_once_the_mac_is_valid() {
    let app = app(layer().clock(|| panic!("no clock")));
    let token = |signer: &Signer| signer.delivery(URL, b"Hello", now());
    let forged = token(&unknown_key()).token();
    let elsewhere = current().delivery("https://elsewhere.example", b"Hello", now()).token();
    let issuer = token(&current()).claim("iss", "x").token();
    for signature in ["x", "a.b.c", "..", &forged, &elsewhere, &issuer] {
        let status = status(&app, request(signature, "Hello".into())).await;
        assert_eq!(status, 400, "{signature}");
    }
}
