//! What Tower, and whoever stacks layers, may expect of this one.

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error,
    future::{Ready, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{
    BodyExt, Full, LengthLimitError,
    combinators::{BoxBody, UnsyncBoxBody},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_qstash::{
    Claims, PublicUrl, QStashVerify, QStashVerifyLayer, Rejection, RequestBody, ResponseBody,
    Signer, VerifyError,
};

use crate::support::{BASE, NOW, current, layer, layer_for, now, stranger};

type BoxError = Box<dyn Error + Send + Sync>;
type Boxed = BoxBody<Bytes, BoxError>;

/// A delivery to `/hook` of the base URL.
fn delivery<B>(signer: &Signer, signed: &[u8], body: B) -> Request<B> {
    let token = signer.delivery(&format!("{BASE}/hook"), signed, now()).token();
    Request::post("/hook").header("upstash-signature", token).body(body).expect("a good request")
}

fn full(body: &'static [u8]) -> Full<Bytes> {
    Full::new(Bytes::from_static(body))
}

/// Records the requests that reach it, and answers `inner`.
#[derive(Clone, Default)]
struct Inner {
    requests: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Inner {
    fn calls(&self) -> usize {
        self.requests.lock().expect("no test panicked").len()
    }

    fn service<B>(
        &self,
    ) -> impl Service<Request<B>, Response = Response<String>, Error = Infallible, Future: Send>
    + Clone
    + use<B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::fmt::Debug,
    {
        let requests = Arc::clone(&self.requests);
        service_fn(move |request: Request<B>| {
            let requests = Arc::clone(&requests);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a verified body does not fail").to_bytes();
                requests.lock().expect("no test panicked").push(Request::from_parts(head, body));
                Ok(Response::new("inner".to_owned()))
            }
        })
    }
}

/// A body of the given frames, which counts how often it is polled.
#[derive(Default)]
struct Frames {
    frames: VecDeque<Option<Result<Frame<Bytes>, BoxError>>>,
    declared: u64,
    polls: Arc<AtomicUsize>,
}

impl Frames {
    fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let frames =
            pieces.into_iter().map(|piece| Some(Ok(Frame::data(Bytes::copy_from_slice(piece)))));
        Self { frames: frames.collect(), ..Self::default() }
    }

    fn then(mut self, frame: Result<Frame<Bytes>, BoxError>) -> Self {
        self.frames.push_back(Some(frame));
        self
    }

    /// `Poll::Pending` once, at the place where the chain stands.
    fn then_pending(mut self) -> Self {
        self.frames.push_back(None);
        self
    }

    fn declared(mut self, length: u64) -> Self {
        self.declared = length;
        self
    }

    fn boxed_counting(self) -> (Boxed, Arc<AtomicUsize>) {
        let polls = Arc::clone(&self.polls);
        (BoxBody::new(self), polls)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        assert_ne!(
            self.polls.load(Ordering::Relaxed),
            usize::MAX,
            "polled after its end or an error"
        );
        self.polls.fetch_add(1, Ordering::Relaxed);
        match self.frames.pop_front() {
            Some(None) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Some(Some(Err(error))) => {
                self.polls.store(usize::MAX, Ordering::Relaxed);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.polls.store(usize::MAX, Ordering::Relaxed);
                Poll::Ready(None)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.declared);
        hint
    }
}

async fn text<B: Body<Error: std::fmt::Debug>>(response: Response<B>) -> String {
    let bytes = response.into_body().collect().await.expect("the answer is whole").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("the answer is text")
}

#[tokio::test]
async fn a_genuine_request_arrives_as_it_came() {
    let inner = Inner::default();
    let mut request = delivery(&current(), b"Hello", full(b"Hello"));
    *request.method_mut() = Method::PUT;
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().append("x-twice", "1".parse().unwrap());
    request.headers_mut().append("x-twice", "2".parse().unwrap());
    request.extensions_mut().insert("an extension of someone else");
    let (uri, headers) = (request.uri().clone(), request.headers().clone());

    let response = layer().layer(inner.service()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.extensions().get::<Rejection>().is_none());
    assert_eq!(text(response).await, "inner");

    let seen = inner.requests.lock().unwrap().pop().unwrap();
    assert_eq!((seen.method(), seen.version(), seen.uri()), (&Method::PUT, Version::HTTP_2, &uri));
    assert_eq!(seen.headers(), &headers);
    assert_eq!(seen.extensions().get(), Some(&"an extension of someone else"));
    assert_eq!(
        seen.extensions().get::<Claims>().unwrap().subject(),
        "https://api.example.com/hook"
    );
    assert_eq!(seen.body(), "Hello");
}

#[tokio::test]
async fn bodies_of_every_type_arrive_whole() {
    async fn check<B>(make: impl Fn(Frames) -> B)
    where
        B: RequestBody<Data: Send, Error: Into<BoxError> + std::fmt::Debug> + Send + 'static,
    {
        let bodies = [
            Frames::default(),
            Frames::of([&b"Hello World"[..]]),
            Frames::of([&b""[..], b"Hello World", b""]),
            Frames::of([&b"Hello"[..], b" ", b"World"]),
            Frames::of([&b"Hello"[..], b" World"]).declared(5),
            Frames::of([&b"Hello World"[..]]).declared(11),
            Frames::default()
                .then_pending()
                .then(Ok(Frame::data("Hello World".into())))
                .then_pending(),
            Frames::of([&b"Hello "[..]])
                .then_pending()
                .then(Ok(Frame::data("World".into())))
                .then(Ok(Frame::trailers(http::HeaderMap::new()))),
        ];
        for (index, body) in bodies.into_iter().enumerate() {
            let inner = Inner::default();
            let signed: &[u8] = if index == 0 { b"" } else { b"Hello World" };
            let request = delivery(&current(), signed, make(body));
            let response = layer().layer(inner.service()).oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{index}");
            assert_eq!(inner.requests.lock().unwrap()[0].body(), signed, "{index}");
        }
    }
    check::<Boxed>(BoxBody::new).await;
    check::<UnsyncBoxBody<Bytes, BoxError>>(UnsyncBoxBody::new).await;
    check::<axum::body::Body>(axum::body::Body::new).await;

    let inner = Inner::default();
    let request = delivery(&current(), b"Hello", full(b"Hello"));
    layer().layer(inner.service()).oneshot(request).await.unwrap();
    assert_eq!(inner.calls(), 1);
}

#[tokio::test]
async fn a_body_of_one_frame_is_not_copied() {
    let bytes = Bytes::from(vec![7; 100_000]);
    let sent = bytes.as_ptr();
    let inner = Inner::default();
    let request = delivery(&current(), &bytes, Full::new(bytes.clone()));
    layer().layer(inner.service()).oneshot(request).await.unwrap();
    // Nor where there are frames of nothing before and after it.
    let frames = Frames::of([&b""[..]]).then(Ok(Frame::data(bytes.clone())));
    let body = BoxBody::new(frames.then(Ok(Frame::data(Bytes::new()))));
    let request = delivery(&current(), &bytes, body);
    layer().layer(inner.service()).oneshot(request).await.unwrap();
    for request in &*inner.requests.lock().unwrap() {
        assert_eq!(request.body().as_ptr(), sent);
    }
    assert_eq!(inner.calls(), 2);
}

/// Panics where it is called without having been polled ready, as `ConcurrencyLimit` does.
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
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            2 => ready(Err("the third call fails")),
            _ => ready(Ok(Response::default())),
        }
    }
}

#[tokio::test]
async fn the_instance_that_was_polled_ready_is_called_and_its_error_passes_untouched() {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut service = layer().layer(Strict { ready: false, calls: Arc::clone(&calls) });
    for call in 0..4 {
        let frames = Frames::of([&b"Hel"[..]]).then_pending().then(Ok(Frame::data("lo".into())));
        let request = delivery(&current(), b"Hello", BoxBody::new(frames));
        let result = service.ready().await.unwrap().call(request).await;
        assert_eq!(result.err(), (call == 2).then_some("the third call fails"));
    }
    let forged: Request<Boxed> = delivery(&stranger(), b"Hello", BoxBody::new(Frames::default()));
    assert!(service.ready().await.unwrap().call(forged).await.is_ok());
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_concurrency_limit_inside_is_kept_and_given_back() {
    let inner = Inner::default();
    let mut service = ServiceBuilder::new()
        .layer(layer())
        .layer(tower::limit::ConcurrencyLimitLayer::new(1))
        .service(inner.service());

    // Were the permit not freed by the rejection, the clone would never be ready.
    let body = || BoxBody::new(Frames::of([&b"Hello"[..]]).then_pending());
    let forged = delivery(&stranger(), b"Hello", body());
    let rejected = service.ready().await.unwrap().call(forged).await.unwrap();
    assert_eq!(rejected.status(), StatusCode::BAD_REQUEST);
    let mut clone = service.clone();

    // While a body is read the permit is held; once the answer is there, or nobody waits for it
    // any more, it is free again.
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

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn a_service_that_fails_to_be_ready_says_so() {
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
            unreachable!("it is never ready")
        }
    }
    let mut service = layer().layer(Broken);
    assert_eq!(service.ready().await.err(), Some("broken"));
}

#[tokio::test]
async fn a_rejection_is_a_json_answer_and_rides_in_its_extensions() {
    let inner = Inner::default();
    let request = delivery(&stranger(), b"Hello", full(b"Hello"));
    let response = layer().layer(inner.service()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(!response.headers().contains_key("www-authenticate"));
    let rejection = response.extensions().get::<Rejection>().unwrap().clone();
    assert!(matches!(rejection, Rejection::Verification(VerifyError::SignatureMismatch)));
    // Transparent: a report that walks the sources says everything once.
    assert_eq!(rejection.to_string(), VerifyError::SignatureMismatch.to_string());
    assert!(rejection.source().is_none() && Rejection::MissingSignature.source().is_none());
    assert_eq!(
        response.body().size_hint().exact(),
        Some(text(rejection.response().map(Full::new)).await.len() as u64)
    );
    let answer: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        answer,
        serde_json::json!({ "error": rejection.to_string(), "code": "signature_mismatch" })
    );
    assert_eq!(inner.calls(), 0);
}

#[tokio::test]
async fn the_hook_replaces_the_whole_answer() {
    let hooked = layer().rejection_response(|rejection| {
        let mut response = Response::new(Bytes::from(format!("no: {}", rejection.status())));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response
    });
    let request = || delivery(&stranger(), b"Hello", full(b"Hello"));
    let response = hooked.layer(Inner::default().service()).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert!(response.headers().is_empty());
    assert!(response.extensions().get::<Rejection>().is_some());
    assert_eq!(text(response).await, "no: 400 Bad Request");

    // A hook that forgets the status does not tell QStash that all is well.
    for status in [200, 204, 299] {
        let forgetful = layer().rejection_response(move |_| {
            let mut response = Response::new(Bytes::from_static(b"no"));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            response
        });
        let response = forgetful.layer(Inner::default().service()).oneshot(request()).await;
        let response = response.expect("infallible");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(text(response).await, "no");
    }

    let final_word = layer().rejection_response(Rejection::non_retryable_response);
    let response = final_word.layer(Inner::default().service()).oneshot(request()).await.unwrap();
    assert_eq!(response.status(), 489);
    assert_eq!(response.headers()["upstash-nonretryable-error"], "true");
    assert!(text(response).await.starts_with("{\"error\":"));
}

/// A stranger costs a MAC, not a byte of the body.
#[tokio::test]
async fn nothing_is_read_before_the_head_is_verified() {
    let (body, polls) = Frames::of([&b"Hello"[..]]).declared(5).boxed_counting();
    let service = layer().drain_limit(0).layer(Inner::default().service());
    let response = service.oneshot(delivery(&stranger(), b"Hello", body)).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(polls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_rejected_body_is_drained_up_to_the_limit() {
    let frame = [0; 16 * 1024];
    let hundred = || Frames::of([&frame[..]; 100]);
    let polls_of = async |layer: QStashVerifyLayer, head: Option<&'static str>, body: Frames| {
        let (body, polls) = body.boxed_counting();
        let mut request = delivery(&stranger(), b"Hello", body);
        if let Some(expect) = head {
            request.headers_mut().insert("expect", expect.parse().expect("a header value"));
        }
        let response =
            layer.layer(Inner::default().service()).oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        polls.load(Ordering::Relaxed)
    };
    assert_eq!(polls_of(layer(), None, hundred()).await, 4, "64 KiB by default");
    assert_eq!(polls_of(layer().drain_limit(1), None, hundred()).await, 1);
    assert_eq!(polls_of(layer().drain_limit(16 * 1024 + 1), None, hundred()).await, 2);
    assert_eq!(
        polls_of(layer(), Some("100-continue"), hundred()).await,
        0,
        "not sent, not asked for"
    );
    let empty = Frames::of([&b""[..]; 100]);
    assert_eq!(
        polls_of(layer().drain_limit(10), None, empty).await,
        10,
        "frames of nothing end too"
    );
    let broken = Frames::of([&b"a"[..]]).then(Err("broke off".into()));
    assert_eq!(polls_of(layer(), None, broken).await, usize::MAX, "read to its error, not beyond");
    let short = Frames::of([&b"a"[..]]);
    assert_eq!(polls_of(layer(), None, short).await, usize::MAX, "read to its end, not beyond");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    async fn outcome(limit: usize, body: Frames, signed: &[u8]) -> (StatusCode, usize, usize) {
        let inner = Inner::default();
        let (body, polls) = body.boxed_counting();
        let service = layer().body_limit(limit).drain_limit(0).layer(inner.service());
        let response =
            service.oneshot(delivery(&current(), signed, body)).await.expect("infallible");
        let status = response.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            assert!(text(response).await.contains(&format!("limit of {limit} bytes")));
        }
        (status, polls.load(Ordering::Relaxed), inner.calls())
    }
    let hello = || Frames::of([&b"Hel"[..], b"lo"]);
    let too_large = StatusCode::PAYLOAD_TOO_LARGE;
    assert_eq!(outcome(4, hello(), b"Hello").await, (too_large, 2, 0), "found while streaming");
    assert_eq!(outcome(2, hello(), b"Hello").await, (too_large, 1, 0), "found in the first frame");
    assert_eq!(outcome(4, hello().declared(5), b"Hello").await, (too_large, 0, 0), "declared");
    assert_eq!(outcome(4, hello().declared(u64::MAX), b"Hello").await, (too_large, 0, 0), "a lie");
    assert_eq!(outcome(5, hello(), b"Hello").await, (StatusCode::OK, usize::MAX, 1), "just fits");
    assert_eq!(outcome(0, hello(), b"Hello").await, (too_large, 1, 0));
    assert_eq!(
        outcome(0, Frames::default(), b"").await,
        (StatusCode::OK, usize::MAX, 1),
        "empty fits"
    );
}

/// So that a sender who is a little over the limit reads 413, and not a broken pipe. One that waited
/// for `100 Continue` has it by now, unless the body was refused for its declared length.
#[tokio::test]
async fn what_is_left_of_a_body_over_the_limit_is_drained() {
    let hellos = || Frames::of([&b"Hello"[..]; 10]);
    for (drain_limit, polled, body, expects) in [
        (0, 2, hellos(), false),
        (1, 3, hellos(), false),
        (64 * 1024, usize::MAX, hellos(), false),
        (64 * 1024, usize::MAX, hellos(), true),
        (64 * 1024, usize::MAX, hellos().declared(50), false),
        (64 * 1024, 0, hellos().declared(50), true),
    ] {
        let (body, polls) = body.boxed_counting();
        let service =
            layer().body_limit(7).drain_limit(drain_limit).layer(Inner::default().service());
        let mut request = delivery(&current(), b"Hello", body);
        if expects {
            request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        }
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(polls.load(Ordering::Relaxed), polled, "{drain_limit}, {expects}");
    }
}

/// The declared length is the sender's word, and a body's hint may not shrink as it should.
#[tokio::test]
async fn a_declared_length_that_lies_does_no_harm() {
    for (limit, declared, expected) in [
        (usize::MAX, u64::MAX, StatusCode::OK),
        (usize::MAX, 1 << 62, StatusCode::OK),
        (8, 5, StatusCode::OK),
        (8, 9, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let inner = Inner::default();
        let body = BoxBody::new(Frames::of([&b"Hel"[..], b"lo"]).declared(declared));
        let service = layer().body_limit(limit).layer(inner.service());
        let response = service.oneshot(delivery(&current(), b"Hello", body)).await.unwrap();
        assert_eq!(response.status(), expected, "{limit}, {declared}");
        let arrived = inner.requests.lock().unwrap().pop().map(Request::into_body);
        assert_eq!(arrived.as_deref(), expected.is_success().then_some(&b"Hello"[..]));
    }
}

#[tokio::test]
async fn the_clock_may_be_off_by_the_tolerance_and_no_more() {
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
            let token = current().delivery(&format!("{BASE}/hook"), "Hello", now());
            let request: Request<Full<Bytes>> =
                token.claim(claim, value).request().expect("a good URL");
            let service = layer.layer(Inner::default().service());
            let status = service.oneshot(request).await.unwrap().status();
            assert_eq!(status.is_success(), accepted, "{claim} {value}, tolerance {seconds:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_fails_never_reaches_the_handler() {
    let inner = Inner::default();
    let mut service = layer().layer(inner.service());
    let broken = Frames::of([&b"Hel"[..]]).then(Err("secret detail".into()));
    let response =
        service.call(delivery(&current(), b"Hello", BoxBody::new(broken))).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.source().unwrap().to_string(), "secret detail");
    assert!(!text(response).await.contains("secret detail"));

    // The limit of an outer layer, however deep in the error.
    let limited = axum::body::Body::new(http_body_util::Limited::new(full(b"Hello"), 2));
    let response = layer()
        .layer(inner.service())
        .oneshot(delivery(&current(), b"Hello", limited))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let answer = text(response).await;
    assert!(answer.contains("an outer layer") && !answer.contains("3145728"), "{answer}");
    let direct = Frames::default().then(Err(Box::new(limit_error().await)));
    let response =
        service.call(delivery(&current(), b"Hello", BoxBody::new(direct))).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);

    assert_eq!(inner.calls(), 0);
    let next = delivery(&current(), b"Hello", BoxBody::new(Frames::of([&b"Hello"[..]])));
    assert_eq!(service.call(next).await.unwrap().status(), StatusCode::OK);
}

async fn limit_error() -> LengthLimitError {
    let error =
        http_body_util::Limited::new(full(b"Hello"), 2).collect().await.expect_err("too long");
    *error.downcast().expect("a limit error")
}

#[tokio::test]
async fn a_mismatch_carries_both_urls_for_logs_only() {
    let exact = PublicUrl::exact("https://a.example.com/hook").unwrap();
    let either = exact.also(PublicUrl::base("https://b.example.com/x").unwrap());
    let request = delivery(&current(), b"Hello", full(b"Hello"));
    let response =
        layer_for(either).layer(Inner::default().service()).oneshot(request).await.unwrap();
    let Some(Rejection::Verification(VerifyError::SubjectMismatch { subject, expected, .. })) =
        response.extensions().get()
    else {
        panic!("{:?}", response.extensions().get::<Rejection>());
    };
    assert_eq!(subject.to_string(), "https://api.example.com/hook");
    assert_eq!(
        format!("{expected:?}"),
        r#"["https://a.example.com/hook", "https://b.example.com/x/hook"]"#
    );
    assert!(!text(response).await.contains("example.com"));
}

/// What a set-up is can be looked at, but for what must not be printed.
#[test]
fn a_layer_shows_its_settings() {
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
            + r#"public_url: PublicUrl { sources: [Exact("https://***@a.example/hook"), Base("https://b.example"), "#
            + "LambdaContext, Fn(..), Unchecked] } }], clock_tolerance: 0ns, body_limit: 3145728, "
            + "drain_limit: 65536, drain_timeout: 2s, .. } }"
    );
}

#[test]
fn an_empty_response_body_needs_no_default_of_the_inner_one() {
    struct NoDefault;
    let body = ResponseBody::<NoDefault>::default();
    drop(body);
    assert!(ResponseBody::<Full<Bytes>>::default().is_end_stream());
}

/// Promises about auto traits: broken, this does not compile.
#[test]
fn auto_traits() {
    fn all<T: Clone + Send + Sync + Unpin + 'static>() {}
    fn send<T: Send>(_: &T) {}
    all::<QStashVerifyLayer>();
    all::<QStashVerify<Strict>>();
    all::<PublicUrl>();
    all::<tower_qstash::PublicUrlError>();
    all::<tower_qstash::SigningKeys>();
    all::<tower_qstash::SigningKeysHandle>();
    all::<tower_qstash::SigningKeyError>();
    all::<tower_qstash::Verifier>();
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
    send(&service.call(delivery(&current(), b"", BoxBody::new(Frames::default()))));
}

/// The table in the documentation of `Rejection` is the one place that lists the codes.
#[test]
fn every_code_is_in_the_table_with_its_status() {
    let tables = include_str!("../../src/middleware/rejection.rs");
    let rows = tables.lines().filter_map(|line| line.strip_prefix("/// | `"));
    let rows = rows.filter_map(|row| {
        let (code, rest) = row.split_once("` | ")?;
        Some((code, rest.split(' ').next()?.parse::<u16>().ok()?))
    });
    let rows: std::collections::BTreeMap<_, _> = rows.collect();

    let token = || current().delivery(&format!("{BASE}/hook"), b"Hello", now());
    let verify = |token: String| {
        let verifier = tower_qstash::Verifier::new(crate::support::keys());
        verifier.verify(&token, &format!("{BASE}/hook"), b"Hello", now()).expect_err("invalid")
    };
    let verified = [
        verify("a".repeat(8193)),
        verify("a.b".into()),
        verify("a.b.c".into()),
        verify(current().sign_raw(b"[]", b"{}")),
        verify(stranger().delivery(BASE, b"Hello", now()).token()),
        verify(token().header("alg", "none").token()),
        verify(token().header("crit", 1).token()),
        verify(token().without_claim("sub").token()),
        verify(token().claim("exp", "1").token()),
        verify(token().claim("iss", "x").token()),
        verify(token().claim("sub", "x").token()),
        verify(token().claim("nbf", NOW + 1).token()),
        verify(token().claim("exp", NOW).token()),
        verify(current().delivery(&format!("{BASE}/hook"), b"Hallo", now()).token()),
    ];
    let mut rejections: Vec<_> = verified.map(Rejection::Verification).into();
    rejections.extend([
        Rejection::MissingSignature,
        Rejection::DuplicateSignature,
        Rejection::EmptySignature,
        Rejection::NonAsciiSignature,
        Rejection::RoutingMismatch,
        Rejection::UnknownPublicUrl,
        Rejection::BodyTooLargeForOuterLayer,
        Rejection::BodyUnreadable(Arc::new(std::io::Error::other("x"))),
    ]);
    let found: std::collections::BTreeMap<_, _> = rejections
        .iter()
        .map(|rejection| (rejection.code(), rejection.status().as_u16()))
        .chain([("body_too_large", 413)]) // Its limit makes it impossible to build here.
        .collect();
    assert_eq!(rows, found);
}

#[tokio::test]
async fn the_callback_of_the_largest_free_message_fits_by_default() {
    // Two bodies of 1 MB in base64, and 100 kB of the rest.
    let largest = vec![b'x'; 2 * 1_000_000_usize.div_ceil(3) * 4 + 100_000];
    for (size, status) in [(largest.len(), 200), (3 * 1024 * 1024, 200), (3 * 1024 * 1024 + 1, 413)]
    {
        let body = Bytes::from(vec![b'x'; size]);
        let request = delivery(&current(), &body, Full::new(body.clone()));
        let response = layer().layer(Inner::default().service()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{size}");
    }
}
