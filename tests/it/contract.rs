//! The contract with Tower and with the layers around this one.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    fmt::Debug,
    future::{Ready, ready},
    iter,
    marker::{PhantomData, PhantomPinned},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::{
    BodyExt, Full, LengthLimitError, Limited,
    combinators::{BoxBody, UnsyncBoxBody},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
use tower_qstash::{
    As, Claims, PublicUrl, QStashVerify, QStashVerifyLayer, Rejection, ReplayGuard, ReplayResponse,
    RequestBody, ResponseBody, Signer, SigningKeys, Verifier, VerifyError,
};

use crate::support::{
    BASE, NOW, URL,
    bodies::{BoxError, Boxed, ENDED, Frames, Step},
    current,
    deliveries::delivery,
    futures::poll_once,
    keys, layer, layer_for, now,
    responses::text,
    services::{Bare, Recorder},
    unknown_key,
};

fn full(body: &'static [u8]) -> Full<Bytes> {
    Full::new(Bytes::from_static(body))
}

#[tokio::test]
async fn verified_request_reaches_the_inner_service_unchanged() {
    let inner = Recorder::default();
    let mut request = delivery(&current(), b"Hello", full(b"Hello"));
    *request.method_mut() = Method::PUT;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().append("x-twice", "1".parse().unwrap());
    request.headers_mut().append("x-twice", "2".parse().unwrap());
    request.extensions_mut().insert("an extension of an outer layer");
    let (uri, headers) = (request.uri().clone(), request.headers().clone());

    let response = layer().layer(inner.service()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.extensions().get::<Rejection>().is_none());
    assert_eq!(text(response).await, "inner");

    let seen = inner.requests().pop().unwrap();
    assert_eq!((seen.method(), seen.version(), seen.uri()), (&Method::PUT, Version::HTTP_2, &uri));
    assert_eq!(seen.headers(), &headers);
    assert_eq!(seen.extensions().get(), Some(&"an extension of an outer layer"));
    assert_eq!(seen.extensions().get::<Claims>().unwrap().subject(), URL);
    assert_eq!(seen.body(), "Hello");
}

#[tokio::test]
async fn every_body_type_arrives_complete() {
    async fn check<B>(build: impl Fn(Frames) -> B)
    where
        B: RequestBody<Data: Send, Error: Into<BoxError> + Debug> + Send + 'static,
    {
        let bodies = [
            Frames::new([]),
            Frames::of(["Hello World"]),
            Frames::of(["", "Hello World", ""]),
            Frames::of(["Hello", " ", "World"]),
            Frames::of(["Hello", " World"]).with_lower_bound(5),
            Frames::of(["Hello World"]).with_lower_bound(11),
            Frames::of(["Hello", " World"]).with_exact_length(11),
            Frames::new([Step::Yield, Step::data("Hello World"), Step::Yield]),
            Frames::new([
                Step::data("Hello "),
                Step::Yield,
                Step::data("World"),
                Step::Frame(Frame::trailers(HeaderMap::new())),
            ]),
        ];
        for (index, body) in bodies.into_iter().enumerate() {
            let inner = Recorder::default();
            let signed: &[u8] = if index == 0 { b"" } else { b"Hello World" };
            let request = delivery(&current(), signed, build(body));
            let response = layer().layer(inner.service()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{index}");
            assert_eq!(inner.requests()[0].body(), signed, "{index}");
        }
    }
    check::<Boxed>(BoxBody::new).await;
    check::<UnsyncBoxBody<Bytes, BoxError>>(UnsyncBoxBody::new).await;
    check::<axum::body::Body>(axum::body::Body::new).await;

    let inner = Recorder::default();
    let request = delivery(&current(), b"Hello", full(b"Hello"));
    layer().layer(inner.service()).oneshot(request).await.unwrap();
    assert_eq!(inner.calls(), 1);
}

#[tokio::test]
async fn forward_as_takes_any_body_and_forwards_the_named_one() {
    async fn check<T: From<Bytes> + Send + 'static>(body: fn(T) -> axum::body::Body) {
        for guarded in [false, true] {
            for (frames, signed) in [
                (Frames::new([]), ""),
                (Frames::of(["Hello World"]), "Hello World"),
                (Frames::of(["Hello", "", " World"]), "Hello World"),
                (Frames::new([Step::data("Hello"), Step::Yield]), "Hello"),
            ] {
                let mut layer = layer();
                if guarded {
                    layer = layer.replay_guard(ReplayGuard::in_memory());
                }
                let echo = move |request: Request<T>| async move {
                    assert!(request.extensions().get::<Claims>().is_some());
                    Ok::<_, Infallible>(Response::new(body(request.into_body())))
                };
                let service = layer.forward_as::<T>().layer(service_fn(echo));
                let request = delivery(&current(), signed, frames);
                let response = service.clone().oneshot(request).await.expect("infallible");
                assert_eq!(response.status(), StatusCode::OK);
                assert_eq!(text(response).await, signed);

                let tampered = delivery(&current(), "Hallo", Frames::of(["Hello"]));
                let response = service.oneshot(tampered).await.expect("infallible");
                assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            }
        }
    }
    check::<Bytes>(axum::body::Body::from).await;
    check::<Vec<u8>>(axum::body::Body::from).await;
    check::<Full<Bytes>>(axum::body::Body::new).await;
    check::<axum::body::Body>(|body| body).await;
}

/// A body that is neither `Send` nor `Unpin`, whose error is a text.
struct Local {
    frames: RefCell<std::vec::IntoIter<Result<&'static str, &'static str>>>,
    _not_send: PhantomData<Rc<()>>,
    _not_unpin: PhantomPinned,
}

impl Local {
    fn new(frames: Vec<Result<&'static str, &'static str>>) -> Self {
        let frames = RefCell::new(frames.into_iter());
        Self { frames, _not_send: PhantomData, _not_unpin: PhantomPinned }
    }
}

impl Body for Local {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let frame = self.frames.borrow_mut().next();
        Poll::Ready(frame.map(|data| data.map(|data| Frame::data(Bytes::from(data)))))
    }
}

#[tokio::test]
async fn nothing_has_to_be_send_or_unpin() {
    for layer in [layer(), layer().replay_guard(ReplayGuard::in_memory())] {
        let not_send = Rc::new(());
        let webhook = move |request: Request<Vec<u8>>| {
            let not_send = Rc::clone(&not_send);
            async move {
                tokio::task::yield_now().await;
                drop(not_send);
                Ok::<_, Infallible>(Response::new(format!("{} bytes", request.body().len())))
            }
        };
        let service = layer.forward_as::<Vec<u8>>().layer(service_fn(webhook));
        let valid = delivery(&current(), "Hello", Local::new(vec![Ok("Hel"), Ok("lo")]));
        let response = service.clone().oneshot(valid).await.unwrap();
        assert_eq!(text(response).await, "5 bytes");
        let broken = delivery(&current(), "Hello", Local::new(vec![Ok("Hel"), Err("broken off")]));
        let response = service.oneshot(broken).await.unwrap();
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.code(), "body_unreadable");
        assert_eq!(rejection.source().unwrap().to_string(), "broken off");
    }
}

/// Doesn't compile if the layer or its services ask more of a platform, or give less.
#[test]
fn services_are_send_where_their_parts_are() {
    fn bounds<S, B>(mut service: S, body: B)
    where
        S: Service<Request<B>, Future: Send + 'static, Response: Send + Sync>,
        S: Clone + Send + Sync + 'static,
    {
        drop(service.call(Request::new(body)));
    }
    let webhook = async |_: Request<Bytes>| Ok::<_, Infallible>(Response::new(String::new()));
    bounds(layer().forward_as::<Bytes>().layer(service_fn(webhook)), Frames::new([]));
    let same = async |_: Request<Boxed>| Ok::<_, Infallible>(Response::new(String::new()));
    bounds(layer().layer(service_fn(same)), BoxBody::new(Frames::new([])));

    // Whatever is forwarded, and whoever is inside.
    fn all<T: Clone + Send + Sync + Unpin + Debug + 'static>() {}
    all::<QStashVerifyLayer<As<Local>>>();
    all::<QStashVerify<u8, As<Local>>>();
    assert_eq!(
        format!("{:?}", layer().forward_as::<Bytes>()),
        format!("{:?}", layer()),
        "the forwarded type is not shown"
    );
}

#[tokio::test]
async fn body_of_one_frame_is_not_copied() {
    let bytes = Bytes::from(vec![7; 100_000]);
    let sent = bytes.as_ptr();
    let inner = Recorder::default();
    let request = delivery(&current(), &bytes, Full::new(bytes.clone()));
    layer().layer(inner.service()).oneshot(request).await.unwrap();
    let between_empty_frames = Frames::of([Bytes::new(), bytes.clone(), Bytes::new()]);
    let request = delivery(&current(), &bytes, BoxBody::new(between_empty_frames));
    layer().layer(inner.service()).oneshot(request).await.unwrap();
    for request in &*inner.requests() {
        assert_eq!(request.body().as_ptr(), sent);
    }
    assert_eq!(inner.calls(), 2);

    let pointer = async |request: Request<Bytes>| {
        Ok::<_, Infallible>(Response::new(format!("{:p}", request.body().as_ptr())))
    };
    let request = delivery(&current(), &bytes, Frames::of([bytes.clone()]));
    let service = layer().forward_as::<Bytes>().layer(service_fn(pointer));
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(text(response).await, format!("{sent:p}"));
}

/// Panics when it is called without having been polled ready, as `ConcurrencyLimit` does.
struct Strict {
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self { ready: false, calls: Arc::clone(&self.calls) }
    }
}

impl Service<Request<Boxed>> for Strict {
    type Response = Response<String>;
    type Error = &'static str;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Boxed>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called before it was ready");
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            2 => ready(Err("the third call fails")),
            _ => ready(Ok(Response::default())),
        }
    }
}

#[tokio::test]
async fn ready_instance_is_called_and_its_error_is_returned() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut service = layer().layer(Strict { ready: false, calls: Arc::clone(&calls) });
    for call in 0..4 {
        let frames = Frames::new([Step::data("Hel"), Step::Yield, Step::data("lo")]);
        let request = delivery(&current(), b"Hello", BoxBody::new(frames));
        let result = service.ready().await.unwrap().call(request).await;
        assert_eq!(result.err(), (call == 2).then_some("the third call fails"));
    }
    let forged = delivery(&unknown_key(), b"Hello", BoxBody::new(Frames::new([])));
    assert!(service.ready().await.unwrap().call(forged).await.is_ok());
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn permit_of_an_inner_concurrency_limit_is_released() {
    let mut service = ServiceBuilder::new()
        .layer(layer())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Recorder::default().service());

    // The rejection must release the permit, or the clone would never be ready.
    let body = || BoxBody::new(Frames::new([Step::data("Hello"), Step::Yield]));
    let forged = delivery(&unknown_key(), b"Hello", body());
    let rejected = service.ready().await.unwrap().call(forged).await.unwrap();
    assert_eq!(rejected.status(), StatusCode::BAD_REQUEST);
    let mut clone = service.clone();

    // The permit is held while the body is read, until the future completes or is dropped.
    let mut reading =
        Box::pin(service.ready().await.unwrap().call(delivery(&current(), b"Hello", body())));
    assert!(poll_once(&mut reading).is_pending());
    assert!(poll_once(&mut clone.ready()).is_pending());
    assert_eq!(reading.await.unwrap().status(), StatusCode::OK);
    let mut abandoned =
        Box::pin(clone.ready().await.unwrap().call(delivery(&current(), b"Hello", body())));
    assert!(poll_once(&mut abandoned).is_pending());
    drop(abandoned);
    assert!(poll_once(&mut service.ready()).is_ready());
}

#[tokio::test]
async fn poll_ready_error_of_the_inner_service_is_returned() {
    #[derive(Clone)]
    struct Broken;
    impl Service<Request<Full<Bytes>>> for Broken {
        type Response = Response<String>;
        type Error = &'static str;
        type Future = Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Err("broken"))
        }

        fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
            unreachable!("never ready")
        }
    }
    let mut service = layer().layer(Broken);
    assert_eq!(service.ready().await.err(), Some("broken"));
}

#[tokio::test]
async fn rejection_is_json_and_in_the_extensions() {
    let inner = Recorder::default();
    let request = delivery(&unknown_key(), b"Hello", full(b"Hello"));
    let response = layer().layer(inner.service()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(!response.headers().contains_key("www-authenticate"));
    let rejection = response.extensions().get::<Rejection>().unwrap().clone();
    assert!(matches!(rejection, Rejection::Verification(VerifyError::SignatureMismatch)));
    // Transparent, so that a report which walks the sources prints each text once.
    assert_eq!(rejection.to_string(), VerifyError::SignatureMismatch.to_string());
    assert!(rejection.source().is_none() && Rejection::MissingSignature.source().is_none());
    assert_eq!(
        response.body().size_hint().exact(),
        Some(text(rejection.response().map(Full::new)).await.len() as u64)
    );
    let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        body,
        serde_json::json!({ "error": rejection.to_string(), "code": "signature_mismatch" })
    );
    assert_eq!(inner.calls(), 0);
}

#[tokio::test]
async fn rejection_response_replaces_all_but_the_extensions() {
    let teapot = layer().rejection_response(|rejection| {
        let mut response = Response::new(Bytes::from(format!("no: {}", rejection.status())));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response
    });
    let request = || delivery(&unknown_key(), b"Hello", full(b"Hello"));
    let response = teapot.layer(Bare).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert!(response.headers().is_empty());
    assert!(response.extensions().get::<Rejection>().is_some());
    assert_eq!(text(response).await, "no: 400 Bad Request");

    // QStash would take a 2xx response as a successful delivery.
    for status in [200, 204, 299] {
        let successful = layer().rejection_response(move |_| {
            let mut response = Response::new(Bytes::from_static(b"no"));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            response
        });
        let response = successful.layer(Bare).oneshot(request()).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(text(response).await, "no");
    }

    let non_retryable = layer().rejection_response(Rejection::non_retryable_response);
    let response = non_retryable.layer(Bare).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), 489);
    assert_eq!(response.headers()["upstash-nonretryable-error"], "true");
    assert!(text(response).await.starts_with("{\"error\":"));
}

#[tokio::test]
async fn body_is_not_read_before_the_token_is_verified() {
    let (body, polls) = Frames::of(["Hello"]).with_exact_length(5).boxed_with_polls();
    let service = layer().drain_limit(0).layer(Bare);
    let response = service.oneshot(delivery(&unknown_key(), b"Hello", body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(polls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn rejected_body_is_discarded_up_to_the_limit() {
    async fn polls(layer: QStashVerifyLayer, expect: Option<&'static str>, body: Frames) -> usize {
        let (body, polls) = body.boxed_with_polls();
        let mut request = delivery(&unknown_key(), b"Hello", body);
        if let Some(expect) = expect {
            request.headers_mut().insert("expect", expect.parse().expect("a header value"));
        }
        let response = layer.layer(Bare).oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        polls.load(Ordering::Relaxed)
    }
    let long = || Frames::of(iter::repeat_n(vec![0; 16 * 1024], 100));
    assert_eq!(polls(layer(), None, long()).await, 4, "64 KiB by default");
    assert_eq!(polls(layer().drain_limit(1), None, long()).await, 1);
    assert_eq!(polls(layer().drain_limit(16 * 1024 + 1), None, long()).await, 2);
    assert_eq!(polls(layer(), Some("100-continue"), long()).await, 0, "not requested");
    let empty = Frames::of([""; 100]);
    assert_eq!(polls(layer().drain_limit(10), None, empty).await, 10, "an empty frame is a byte");
    let broken = Frames::new([Step::data("a"), Step::Fail("broken".into())]);
    assert_eq!(polls(layer(), None, broken).await, ENDED, "read to its error");
    assert_eq!(polls(layer(), None, Frames::of(["a"])).await, ENDED, "read to its end");
}

#[tokio::test]
async fn body_over_the_limit_is_rejected_with_413() {
    async fn outcome(limit: usize, body: Frames, signed: &[u8]) -> (StatusCode, usize, usize) {
        let inner = Recorder::default();
        let (body, polls) = body.boxed_with_polls();
        let service = layer().body_limit(limit).drain_limit(0).layer(inner.service());
        let response =
            service.oneshot(delivery(&current(), signed, body)).await.expect("infallible");
        let status = response.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            assert!(text(response).await.contains(&format!("limit of {limit} bytes")));
        }
        (status, polls.load(Ordering::Relaxed), inner.calls())
    }
    let hello = || Frames::of(["Hel", "lo"]);
    let declared = |length| hello().with_lower_bound(length);
    let too_large = StatusCode::PAYLOAD_TOO_LARGE;
    assert_eq!(outcome(4, hello(), b"Hello").await, (too_large, 2, 0), "found in the last frame");
    assert_eq!(outcome(2, hello(), b"Hello").await, (too_large, 1, 0), "found in the first frame");
    assert_eq!(outcome(4, declared(5), b"Hello").await, (too_large, 0, 0), "declared");
    assert_eq!(outcome(4, declared(u64::MAX), b"Hello").await, (too_large, 0, 0), "not true");
    assert_eq!(outcome(5, hello(), b"Hello").await, (StatusCode::OK, ENDED, 1), "just fits");
    assert_eq!(outcome(0, hello(), b"Hello").await, (too_large, 1, 0));
    assert_eq!(outcome(0, Frames::new([]), b"").await, (StatusCode::OK, ENDED, 1), "empty");
}

/// A client a little over the limit then receives the 413 instead of a broken pipe. One that
/// expects `100 Continue` has been sent it by then, unless its declared length was too large.
#[tokio::test]
async fn body_over_the_limit_is_discarded_after_413() {
    let streamed = || Frames::of(["Hello"; 10]);
    let declared = || streamed().with_exact_length(50);
    for (drain_limit, expected_polls, body, expects_continue) in [
        (0, 2, streamed(), false),
        (1, 3, streamed(), false),
        (64 * 1024, ENDED, streamed(), false),
        (64 * 1024, ENDED, streamed(), true),
        (64 * 1024, ENDED, declared(), false),
        (64 * 1024, 0, declared(), true),
    ] {
        let (body, polls) = body.boxed_with_polls();
        let service = layer().body_limit(7).drain_limit(drain_limit).layer(Bare);
        let mut request = delivery(&current(), b"Hello", body);
        if expects_continue {
            request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        }
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let polls = polls.load(Ordering::Relaxed);
        assert_eq!(polls, expected_polls, "{drain_limit}, {expects_continue}");
    }
}

/// The declared length is untrusted, and a size hint may stay the same as frames are read.
#[tokio::test]
async fn wrong_declared_length_is_harmless() {
    for (limit, declared, expected) in [
        (usize::MAX, u64::MAX, StatusCode::OK),
        (usize::MAX, 1 << 62, StatusCode::OK),
        (8, 5, StatusCode::OK),
        (8, 9, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let inner = Recorder::default();
        let body = BoxBody::new(Frames::of(["Hel", "lo"]).with_lower_bound(declared));
        let service = layer().body_limit(limit).layer(inner.service());
        let response = service.oneshot(delivery(&current(), b"Hello", body)).await.unwrap();
        assert_eq!(response.status(), expected, "{limit}, {declared}");
        let received = inner.requests().pop().map(Request::into_body);
        assert_eq!(received.as_deref(), expected.is_success().then_some(&b"Hello"[..]));
    }
}

#[tokio::test]
async fn clock_tolerance_widens_nbf_and_exp() {
    let claims = [("exp", NOW), ("exp", NOW - 5), ("nbf", NOW + 1), ("nbf", NOW + 5)];
    for (seconds, verdicts) in [
        (None, [false, false, false, false]),
        (Some(1), [true, false, true, false]),
        (Some(5), [true, false, true, true]),
        (Some(6), [true, true, true, true]),
    ] {
        let layer = match seconds {
            None => layer(),
            Some(seconds) => layer().clock_tolerance(Duration::from_secs(seconds)),
        };
        for ((claim, value), accepted) in claims.into_iter().zip(verdicts) {
            let delivery = current().delivery(URL, "Hello", now()).claim(claim, value);
            let request = delivery.request::<Full<Bytes>>().expect("a valid URL");
            let status = layer.layer(Bare).oneshot(request).await.unwrap().status();
            assert_eq!(status.is_success(), accepted, "{claim} {value}, tolerance {seconds:?}");
        }
    }
}

#[tokio::test]
async fn failing_body_never_reaches_the_handler() {
    let inner = Recorder::default();
    let mut service = layer().layer(inner.service());
    let broken = Frames::new([Step::data("Hel"), Step::Fail("secret detail".into())]);
    let response =
        service.call(delivery(&current(), b"Hello", BoxBody::new(broken))).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.source().unwrap().to_string(), "secret detail");
    assert!(!text(response).await.contains("secret detail"));

    // The limit of an outer layer is found however deep it is in the error's sources.
    let limited = axum::body::Body::new(Limited::new(full(b"Hello"), 2));
    let response = layer()
        .layer(inner.service())
        .oneshot(delivery(&current(), b"Hello", limited))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let body = text(response).await;
    assert!(body.contains("an outer layer") && !body.contains("3145728"), "{body}");
    let direct = Frames::new([Step::Fail(Box::new(limit_error().await))]);
    let response =
        service.call(delivery(&current(), b"Hello", BoxBody::new(direct))).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);

    assert_eq!(inner.calls(), 0);
    let valid = delivery(&current(), b"Hello", BoxBody::new(Frames::of(["Hello"])));
    assert_eq!(service.call(valid).await.unwrap().status(), StatusCode::OK);
}

async fn limit_error() -> LengthLimitError {
    let error = Limited::new(full(b"Hello"), 2).collect().await.expect_err("over the limit");
    *error.downcast().expect("a limit error")
}

#[tokio::test]
async fn subject_mismatch_holds_urls_that_no_response_shows() {
    let exact = PublicUrl::exact("https://a.example.com/hook").unwrap();
    let either = exact.also(PublicUrl::base("https://b.example.com/x").unwrap());
    let request = delivery(&current(), b"Hello", full(b"Hello"));
    let response = layer_for(either).layer(Bare).oneshot(request).await.unwrap();
    let Some(Rejection::Verification(VerifyError::SubjectMismatch { subject, expected, .. })) =
        response.extensions().get()
    else {
        panic!("{:?}", response.extensions().get::<Rejection>());
    };
    assert_eq!(subject.to_string(), URL);
    assert_eq!(
        format!("{expected:?}"),
        r#"["https://a.example.com/hook", "https://b.example.com/x/hook"]"#
    );
    assert!(!text(response).await.contains("example.com"));
}

#[test]
fn debug_of_the_layer_shows_its_configuration() {
    let public_url = PublicUrl::exact("https://user:secret@a.example/hook")
        .unwrap()
        .also(PublicUrl::base("https://b.example").unwrap())
        .also(PublicUrl::from_lambda_context())
        .also(PublicUrl::from_fn(|_| None))
        .also(PublicUrl::dangerous_unchecked());
    assert_eq!(
        format!("{:?}", layer_for(public_url)),
        r#"QStashVerifyLayer { config: Config { accounts: [Account { keys: SigningKeys["current", "next"], "#
            .to_owned()
            + r#"public_url: PublicUrl { candidates: [Exact("https://***@a.example/hook"), Base("https://b.example"), "#
            + "LambdaContext, Fn(..), Unchecked] } }], clock_tolerance: 0ns, body_limit: 3145728, "
            + "drain_limit: 65536, drain_timeout: 2s, replay_guard: None, .. } }"
    );
}

#[test]
fn debug_of_service_and_future_shows_their_state() {
    #[derive(Clone, Debug)]
    struct Handler;
    impl Service<Request<Full<Bytes>>> for Handler {
        type Response = Response<String>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<String>, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
            std::future::pending()
        }
    }
    let mut service = layer().layer(Handler);
    let shown = format!("{service:?}");
    assert!(shown.starts_with("QStashVerify { inner: Handler, config: Config { "), "{shown}");

    let mut guarded = layer().replay_guard(ReplayGuard::in_memory()).layer(Handler);
    let mut valid = pin!(service.call(delivery(&current(), b"Hello", full(b"Hello"))));
    let rejected = pin!(service.call(delivery(&unknown_key(), b"Hello", full(b"Hello"))));
    let mut handled_once = pin!(guarded.call(delivery(&current(), b"Hello", full(b"Hello"))));
    let shown = |state: &str| format!("ResponseFuture {{ state: {state:?}, .. }}");
    assert_eq!(format!("{valid:?}"), shown("Reading"));
    assert_eq!(format!("{rejected:?}"), shown("Rejecting"));
    assert!(poll_once(&mut valid).is_pending());
    assert_eq!(format!("{valid:?}"), shown("Calling"));
    assert!(poll_once(&mut handled_once).is_pending());
    assert_eq!(format!("{handled_once:?}"), shown("Guarded"));
}

#[test]
fn default_response_body_needs_no_default_inner_body() {
    struct NoDefault;
    let body = ResponseBody::<NoDefault>::default();
    drop(body);
    assert!(ResponseBody::<Full<Bytes>>::default().is_end_stream());
}

/// Doesn't compile if a public type loses an auto trait.
#[test]
fn public_types_have_their_auto_traits() {
    fn all<T: Clone + Send + Sync + Unpin + 'static>() {}
    fn send<T: Send>(_: &T) {}
    all::<QStashVerifyLayer>();
    all::<QStashVerify<Strict>>();
    all::<PublicUrl>();
    all::<tower_qstash::PublicUrlError>();
    all::<tower_qstash::SigningKeys>();
    all::<tower_qstash::SigningKeysHandle>();
    all::<tower_qstash::SigningKeyError>();
    all::<Verifier>();
    all::<tower_qstash::BodyVerifier>();
    all::<tower_qstash::NumericDate>();
    all::<tower_qstash::UnsignedDelivery>();
    all::<Signer>();
    all::<tower_qstash::DeliveryBuilder>();
    all::<Claims>();
    all::<Rejection>();
    all::<VerifyError>();
    all::<tower_qstash::MissingLayer>();
    all::<tower_qstash::Callback>();
    all::<tower_qstash::FailureCallback>();
    all::<tower_qstash::CallbackError>();
    all::<tower_qstash::CallbackBuilder>();
    fn body<T: Send + Sync + Unpin>() {}
    body::<ResponseBody<Full<Bytes>>>();

    let mut service = layer().layer(Strict { ready: true, calls: Arc::default() });
    send(&service.call(delivery(&current(), b"", BoxBody::new(Frames::new([])))));
}

/// Returns the codes and statuses in the rows of tables: `| code | status | …`.
fn table(text: &'static str, start: &str) -> BTreeMap<&'static str, u16> {
    let rows = text.lines().filter_map(|line| line.strip_prefix(start));
    let rows = rows.filter_map(|row| {
        let (code, rest) = row.split_once("` | ")?;
        Some((code, rest.split(' ').next()?.parse().ok()?))
    });
    rows.collect()
}

/// Returns every code of a rejection, with its status.
fn rejections() -> BTreeMap<&'static str, u16> {
    let token = || current().delivery(URL, b"Hello", now());
    let verify = |token: String| {
        let verifier = Verifier::new(keys());
        verifier.verify(&token, URL, b"Hello", now()).expect_err("invalid")
    };
    let verified = [
        verify("a".repeat(8193)),
        verify("a.b".into()),
        verify("a.b.c".into()),
        verify(current().sign_raw(b"[]", b"{}")),
        verify(unknown_key().delivery(BASE, b"Hello", now()).token()),
        verify(token().header("alg", "none").token()),
        verify(token().header("crit", 1).token()),
        verify(token().without_claim("sub").token()),
        verify(token().claim("exp", "1").token()),
        verify(token().claim("iss", "x").token()),
        verify(token().claim("sub", "x").token()),
        verify(token().claim("nbf", NOW + 1).token()),
        verify(token().claim("exp", NOW).token()),
        verify(current().delivery(URL, b"Hallo", now()).token()),
    ];
    let mut rejections: Vec<_> = verified.map(Rejection::Verification).into();
    rejections.extend([
        Rejection::MissingSignature,
        Rejection::DuplicateSignature,
        Rejection::EmptySignature,
        Rejection::NonAsciiSignature,
        Rejection::RoutingMismatch,
        Rejection::PathNotAllowed,
        Rejection::UnknownPublicUrl,
        Rejection::BodyTooLargeForOuterLayer,
        Rejection::BodyUnreadable(Arc::new(std::io::Error::other("x"))),
    ]);
    rejections
        .iter()
        .map(|rejection| (rejection.code(), rejection.status().as_u16()))
        .chain([("body_too_large", 413)]) // Its limit makes it impossible to build here.
        .collect()
}

#[test]
fn documented_codes_and_statuses_are_complete() {
    let documentation = include_str!("../../src/middleware/rejection.rs");
    assert_eq!(table(documentation, "/// | `"), rejections());
}

#[test]
fn the_guide_says_what_to_do_about_every_code() {
    let mut codes = rejections();
    for replay in [
        ReplayResponse::AlreadyProcessed,
        ReplayResponse::InFlight,
        ReplayResponse::StoreUnavailable,
    ] {
        codes.insert(replay.code(), replay.status().as_u16());
    }
    let missing_layer = Claims::from_request(&Request::new(())).expect_err("no layer");
    codes.insert(missing_layer.code(), 500);
    assert_eq!(table(include_str!("../../docs/troubleshooting.md"), "| `"), codes);
}

/// Each message that stops a service at its start is in the guide, up to what to do about it.
#[test]
fn the_guide_has_every_error_at_start_up() {
    const CURRENT: &str = "QSTASH_CURRENT_SIGNING_KEY";
    let guide = include_str!("../../docs/troubleshooting.md");
    let rows = guide.lines().filter_map(|line| Some(line.strip_prefix("| ")?.split_once(" | ")?.0));
    let rows: Vec<_> = rows.map(|message| message.replace('…', CURRENT)).collect();

    let from = |current: &str| {
        SigningKeys::from_lookup(|name| match name {
            CURRENT => Some(current.to_owned()),
            "QSTASH_NEXT_SIGNING_KEY" => Some("sig_next".to_owned()),
            _ => None,
        })
        .expect_err("an invalid key")
        .to_string()
    };
    let refused = [
        "",
        "sig_a\n",
        "\"sig_a\"",
        "sig_\0",
        "undefined",
        "sig_***",
        "eyJhbGciOi",
        "sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r",
        "sig_7RvLjqfZBvP5KEUimQCE1pvpLuou",
    ];
    let mut errors: Vec<_> = refused.into_iter().map(from).collect();
    let dev = SigningKeys::from_lookup(|name| (name == "QSTASH_DEV").then(|| "true".into()));
    let equal = SigningKeys::new("sig_a", "sig_a").expect_err("equal").to_string();
    errors.extend([
        SigningKeys::from_lookup(|_| None).expect_err("no key").to_string(),
        dev.expect_err("development").to_string(),
        equal.replace("next", CURRENT),
        keys().with_label("").expect_err("no label").to_string(),
        PublicUrl::base("api.example.com").expect_err("no scheme").to_string(),
        PublicUrl::base("https://a.example/?b=c").expect_err("a query").to_string(),
        PublicUrl::base(BASE)
            .and_then(|url| url.within("tenants/7"))
            .expect_err("relative")
            .to_string(),
    ]);
    for error in errors {
        assert!(rows.iter().any(|row| error.starts_with(row)), "{error}");
    }
}

#[tokio::test]
async fn largest_callback_of_the_free_plan_fits_the_default_limit() {
    // Two bodies of 1 MB in base64, and 100 kB for everything else.
    let largest = vec![b'x'; 2 * 1_000_000_usize.div_ceil(3) * 4 + 100_000];
    for (size, status) in [(largest.len(), 200), (3 * 1024 * 1024, 200), (3 * 1024 * 1024 + 1, 413)]
    {
        let body = Bytes::from(vec![b'x'; size]);
        let request = delivery(&current(), &body, Full::new(body.clone()));
        let response = layer().layer(Bare).oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{size}");
    }
}
