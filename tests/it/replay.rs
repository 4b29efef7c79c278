//! The replay guard in the layer: what each event does to the token, and what is responded.

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    middleware::{Next, from_fn},
    response::Response as AxumResponse,
    routing::post,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::{catch_panic::CatchPanicLayer, timeout::TimeoutLayer};
use tower_qstash::{
    Claims, Lifetime, MemoryStore, QStashVerifyLayer, Rejection, ReplayGuard, ReplayKey,
    ReplayResponse, ReplayStore, Reserve, non_retryable, retry_after,
};

use crate::{
    scripted_store::ScriptedStore,
    support::{
        BASE, CURRENT_KEY, NOW, URL, current,
        deliveries::{request, token},
        futures::{expect_ready, poll_once, with_timeout},
        layer,
        log::Log,
        now,
        responses::text,
        services::{Bare, Recorder},
    },
};

const DAY: Duration = Duration::from_secs(86_400);
const PROCESSED: &str = r#"{"message":"already processed"}"#;

type Body = Full<Bytes>;
type Req = Request<Body>;

/// Creates a request with this token and the body `Hello`.
fn hello(token: &str) -> Req {
    request(token, Full::from("Hello"))
}

/// The outcome of a request: status, `Retry-After`, the guard's name for it, body.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u16,
    retry_after: Option<u64>,
    replayed: Option<ReplayResponse>,
    body: String,
}

impl Outcome {
    fn inner() -> Self {
        Self { status: 200, retry_after: None, replayed: None, body: "inner".into() }
    }

    fn processed() -> Self {
        let replayed = Some(ReplayResponse::AlreadyProcessed);
        Self { status: 200, retry_after: None, replayed, body: PROCESSED.into() }
    }

    fn in_flight(seconds: u64) -> Self {
        let body =
            r#"{"error":"this delivery is being processed already","code":"in_flight"}"#.into();
        let replayed = Some(ReplayResponse::InFlight);
        Self { status: 409, retry_after: Some(seconds), replayed, body }
    }

    fn unavailable() -> Self {
        let body = r#"{"error":"the replay guard's store is unavailable; see the receiver's log","code":"store_unavailable"}"#;
        let replayed = Some(ReplayResponse::StoreUnavailable);
        Self { status: 503, retry_after: None, replayed, body: body.into() }
    }
}

async fn outcome<B>(response: Response<B>) -> Outcome
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after
        .map(|value| value.to_str().ok().and_then(|value| value.parse().ok()).expect("seconds"));
    let replayed = response.extensions().get::<ReplayResponse>().copied();
    if let Some(replayed) = replayed {
        assert_eq!(response.status(), replayed.status());
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(response.extensions().get::<Rejection>().is_none());
    }
    Outcome {
        status: response.status().as_u16(),
        retry_after,
        replayed,
        body: text(response).await,
    }
}

/// A receiver with a guard: a layer, and an inner service that counts its calls.
#[derive(Clone)]
struct Receiver {
    layer: QStashVerifyLayer,
    inner: Recorder,
}

impl Receiver {
    fn new(guard: ReplayGuard) -> Self {
        Self { layer: layer().replay_guard(guard), inner: Recorder::default() }
    }

    async fn send(&self, request: Req) -> Outcome {
        outcome(self.layer.layer(self.inner.service()).oneshot(request).await.unwrap()).await
    }

    /// Sends a delivery to another inner service, behind the same guard.
    async fn send_to<S, E>(
        &self,
        inner: S,
        token: &str,
    ) -> Result<Response<tower_qstash::ResponseBody<String>>, E>
    where
        S: Service<Req, Response = Response<String>, Error = E> + Clone,
    {
        self.layer.layer(inner).oneshot(hello(token)).await
    }

    /// Lets the inner service respond with this status.
    async fn respond(&self, token: &str, status: u16) -> Outcome {
        let inner = service_fn(move |_: Req| async move {
            let mut response = Response::new("handler".to_owned());
            *response.status_mut() = StatusCode::from_u16(status).expect("a valid status");
            Ok::<_, Infallible>(response)
        });
        outcome(self.send_to(inner, token).await.unwrap()).await
    }
}

/// An inner service that never responds.
fn stuck() -> impl Service<Req, Response = Response<String>, Error = Infallible> + Clone {
    service_fn(async |_: Req| pending().await)
}

/// Both kinds of store; the second waits in each of its operations.
fn guards() -> [ReplayGuard; 2] {
    let store = ScriptedStore::default();
    store.script().pending = 1;
    [ReplayGuard::in_memory(), ReplayGuard::new(store)]
}

#[tokio::test]
async fn first_arrival_is_forwarded_and_the_next_is_processed_already() {
    for guard in guards() {
        let receiver = Receiver::new(guard);
        let token = token("Hello");
        assert_eq!(receiver.send(hello(&token)).await, Outcome::inner());
        for _ in 0..3 {
            assert_eq!(receiver.send(hello(&token)).await, Outcome::processed());
        }
        let requests = receiver.inner.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].body(), "Hello");
        assert_eq!(requests[0].extensions().get::<Claims>().unwrap().subject(), URL);
    }
}

#[tokio::test]
async fn second_arrival_in_flight_waits_for_the_end_of_the_token() {
    for guard in guards() {
        let mut receiver = Receiver::new(guard);
        let token = token("Hello");
        let mut first = Box::pin(receiver.layer.layer(stuck()).oneshot(hello(&token)));
        for _ in 0..3 {
            assert!(poll_once(&mut first).is_pending());
        }
        assert_eq!(receiver.send(hello(&token)).await, Outcome::in_flight(300));
        receiver.layer = receiver.layer.clock(|| now() + Duration::from_millis(99_500));
        assert_eq!(receiver.send(hello(&token)).await, Outcome::in_flight(201));
        receiver.layer = receiver.layer.clock_tolerance(Duration::from_secs(7));
        assert_eq!(receiver.send(hello(&token)).await, Outcome::in_flight(208));
        // The client hung up: the outcome is unknown.
        drop(first);
        assert_eq!(receiver.send(hello(&token)).await, Outcome::in_flight(208));
        assert_eq!(receiver.inner.calls(), 0);
    }
}

#[tokio::test]
async fn rejected_delivery_takes_no_token() {
    let store = ScriptedStore::default();
    let receiver = Receiver::new(ReplayGuard::new(store.clone()));
    let token = token("Hello");
    assert_eq!(receiver.send(request(&token, Full::from("Tampered"))).await.status, 400);
    assert_eq!(receiver.send(hello(&token.replace('.', "x."))).await.status, 400);
    assert!(store.journal.take().is_empty());
    assert_eq!(receiver.send(hello(&token)).await, Outcome::inner());
}

#[tokio::test]
async fn every_2xx_is_confirmed_and_everything_else_released() {
    for guard in guards() {
        let receiver = Receiver::new(guard);
        for status in [200, 201, 202, 204, 206, 299] {
            let token = token_of(status.into());
            let handler = receiver.respond(&token, status).await;
            assert_eq!((handler.status, &handler.body[..]), (status, "handler"));
            assert_eq!(receiver.send(hello(&token)).await, Outcome::processed(), "{status}");
        }
        assert_eq!(receiver.inner.calls(), 0);
        let others = [100, 300, 301, 304, 307, 400, 401, 404, 409, 422, 429, 489, 500, 503, 599];
        for (number, status) in others.into_iter().enumerate() {
            let token = token_of(status.into());
            let handler = receiver.respond(&token, status).await;
            let expected =
                Outcome { status, retry_after: None, replayed: None, body: "handler".into() };
            assert_eq!(handler, expected);
            assert_eq!(receiver.send(hello(&token)).await, Outcome::inner(), "{status}");
            assert_eq!(receiver.inner.calls(), number + 1);
        }
    }
}

/// Returns a token for `Hello` that differs from those of other numbers.
fn token_of(number: u64) -> String {
    current().delivery(URL, "Hello", now()).claim("jti", format!("jwt_{number}")).token()
}

#[tokio::test]
async fn ready_made_failures_are_released_and_unchanged() {
    let receiver = Receiver::new(ReplayGuard::in_memory());
    let token = token("Hello");
    let given_up = service_fn(async |_: Req| Ok::<_, Infallible>(non_retryable("never")));
    let response = receiver.send_to(given_up, &token).await.unwrap();
    assert_eq!(response.headers()["upstash-nonretryable-error"], "true");
    assert_eq!(outcome(response).await.status, 489);
    let later = service_fn(async |_: Req| Ok::<_, Infallible>(retry_after(DAY, "later")));
    let later = outcome(receiver.send_to(later, &token).await.unwrap()).await;
    assert_eq!((later.retry_after, later.replayed), (Some(86_400), None));
    assert_eq!(receiver.send(hello(&token)).await, Outcome::inner());
}

#[tokio::test]
async fn error_of_the_inner_service_is_released_and_unchanged() {
    for guard in guards() {
        let receiver = Receiver::new(guard);
        let token = token("Hello");
        let failing = service_fn(async |_: Req| Err::<Response<String>, _>("broken"));
        assert_eq!(receiver.send_to(failing, &token).await.unwrap_err(), "broken");
        assert_eq!(receiver.send(hello(&token)).await, Outcome::inner());
    }
}

#[tokio::test]
async fn response_is_unchanged_if_settling_fails() {
    let log = Log::capture();
    let store = ScriptedStore::default();
    let receiver = Receiver::new(ReplayGuard::new(store.clone()));
    store.fail(&["confirm", "release"]);
    for (status, settling) in [
        (202, &["reserve", "confirm"][..]),
        (404, &["reserve", "release", "release in background"]),
    ] {
        let token = token_of(status.into());
        let inner = service_fn(move |_: Req| async move {
            let response = Response::builder().status(status).header("x-handler", "yes");
            Ok::<_, Infallible>(response.extension(7_u8).body("handler".to_owned()).unwrap())
        });
        let response = receiver.send_to(inner, &token).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-handler"]),
            (status, &"yes".parse().unwrap())
        );
        assert_eq!(response.headers().len(), 1);
        assert_eq!(response.extensions().get(), Some(&7_u8));
        assert_eq!(text(response).await, "handler");
        assert_eq!(store.journal.take(), settling);
        let line = log.lines().pop().unwrap();
        assert!(line.contains("ERROR") && line.contains("could not confirm or release"), "{line}");
        assert!(line.contains(&format!("the store failed to {}", settling[1])), "{line}");
    }
}

/// Where the inner service panics.
#[derive(Clone, Copy, Debug)]
enum Panics {
    Call,
    FirstPoll,
    LaterPoll,
}

type BoxedResponse = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

/// Panics without the hook's message.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("scripted"))
}

fn panicking(
    place: Panics,
) -> impl Service<Req, Response = Response<String>, Error = Infallible, Future = BoxedResponse>
+ Clone
+ Send {
    service_fn(move |_: Req| -> BoxedResponse {
        let mut polls = match place {
            Panics::Call => panic_quietly(),
            Panics::FirstPoll => 0,
            Panics::LaterPoll => 2,
        };
        Box::pin(poll_fn(move |context| {
            if polls == 0 {
                panic_quietly();
            }
            polls -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    })
}

#[tokio::test]
async fn panic_is_released_with_a_catching_layer_outside_and_inside() {
    for place in [Panics::Call, Panics::FirstPoll, Panics::LaterPoll] {
        for guard in guards() {
            let receiver = Receiver::new(guard);
            let token = token("Hello");
            let outside = CatchPanicLayer::new().layer(receiver.layer.layer(panicking(place)));
            let response = outside.oneshot(hello(&token)).await.unwrap();
            assert_eq!(response.status(), 500, "{place:?} was caught outside");

            let inside = receiver.layer.layer(CatchPanicLayer::new().layer(panicking(place)));
            let response = inside.oneshot(hello(&token)).await.unwrap();
            assert_eq!(response.status(), 500, "{place:?} was caught inside");

            assert_eq!(receiver.send(hello(&token)).await, Outcome::inner(), "{place:?}");
            assert_eq!(receiver.send(hello(&token)).await, Outcome::processed(), "{place:?}");
        }
    }
}

/// Its thread panics, but not its handler: whether that has finished is unknown.
#[tokio::test]
async fn future_dropped_by_a_panic_elsewhere_stays_in_flight() {
    for guard in guards() {
        let receiver = Receiver::new(guard);
        let token = token("Hello");
        let mut service = receiver.layer.layer(stuck());
        let mut future = Box::pin(service.call(hello(&token)));
        for _ in 0..3 {
            assert!(poll_once(&mut future).is_pending());
        }
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let _future = future;
            panic_quietly()
        }));
        assert!(unwound.is_err());
        assert_eq!(receiver.send(hello(&token)).await, Outcome::in_flight(300));
    }
}

#[tokio::test]
async fn store_that_is_down_gets_the_delivery_sent_again() {
    let store = ScriptedStore::default();
    let receiver = Receiver::new(ReplayGuard::new(store.clone()));
    let token = token("Hello");
    store.fail(&["reserve"]);
    assert_eq!(receiver.send(hello(&token)).await, Outcome::unavailable());
    assert_eq!(store.journal.take(), ["reserve", "release in background"]);
    assert_eq!(receiver.inner.calls(), 0);
    store.fail(&[]);
    store.script().reserve = Some(Reserve::Unknowable);
    assert_eq!(receiver.send(hello(&token)).await, Outcome::unavailable());
    store.script().reserve = None;
    assert_eq!(receiver.send(hello(&token)).await, Outcome::inner());
    assert_eq!(receiver.send(hello(&token)).await, Outcome::processed());
}

#[tokio::test]
async fn open_guard_lets_deliveries_through_while_its_store_is_down() {
    let log = Log::capture();
    let store = ScriptedStore::default();
    let receiver = Receiver::new(ReplayGuard::new(store.clone()).open_when_down());
    let token = token("Hello");
    store.fail(&["reserve", "confirm"]);
    for calls in 1..3 {
        assert_eq!(receiver.send(hello(&token)).await, Outcome::inner());
        assert_eq!(receiver.inner.calls(), calls);
    }
    let lines = log.lines();
    let warnings: Vec<_> = lines.iter().filter(|line| line.contains("without the guard")).collect();
    assert_eq!(warnings.len(), 2);
    assert!(
        warnings.iter().all(|line| line.contains("WARN") && line.contains("failed to reserve"))
    );
    // As soon as the store works again, so does the guard.
    store.fail(&["reserve"]);
    assert_eq!(receiver.send(hello(&token)).await, Outcome::inner());
    store.fail(&[]);
    assert_eq!(receiver.send(hello(&token)).await, Outcome::processed());
}

#[tokio::test]
async fn full_memory_forgets_with_a_warning_and_responds_as_ever() {
    let log = Log::capture();
    let store = Arc::new(MemoryStore::with_capacity(10));
    let receiver = Receiver::new(ReplayGuard::in_memory_with(Arc::clone(&store)));
    for number in 0..20_u64 {
        let delivery = current().delivery(URL, "Hello", now()).claim("exp", NOW + 300 + number);
        assert_eq!(receiver.send(hello(&delivery.token())).await, Outcome::inner());
    }
    assert_eq!((store.len(), store.forgotten()), (10, 10));
    let warnings: Vec<_> =
        log.lines().into_iter().filter(|line| line.contains("is full")).collect();
    // At the first, second, fourth and eighth.
    assert_eq!(warnings.len(), 4);
    assert!(warnings.iter().all(|line| line.contains("WARN")), "{warnings:?}");
    // Those nearest their end were forgotten.
    for number in 10..20_u64 {
        let delivery = current().delivery(URL, "Hello", now()).claim("exp", NOW + 300 + number);
        assert_eq!(receiver.send(hello(&delivery.token())).await, Outcome::processed());
    }
}

#[tokio::test]
async fn responses_of_the_guard_do_not_go_through_the_hook() {
    let store = ScriptedStore::default();
    let mut receiver = Receiver::new(ReplayGuard::new(store.clone()));
    let hooked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&hooked);
    receiver.layer = receiver.layer.rejection_response(move |rejection| {
        count.fetch_add(1, Ordering::Relaxed);
        rejection.non_retryable_response()
    });
    let token = token("Hello");
    for (reserve, expected) in [
        (Reserve::Done, Outcome::processed()),
        (Reserve::InFlight, Outcome::in_flight(300)),
        (Reserve::Unknowable, Outcome::unavailable()),
    ] {
        store.script().reserve = Some(reserve);
        assert_eq!(receiver.send(hello(&token)).await, expected);
    }
    store.fail(&["reserve"]);
    assert_eq!(receiver.send(hello(&token)).await, Outcome::unavailable());
    assert_eq!(hooked.load(Ordering::Relaxed), 0);
    assert_eq!(receiver.send(request(&token, Full::from("Tampered"))).await.status, 489);
    assert_eq!(hooked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn delivery_is_logged_as_accepted_once_its_token_is_reserved() {
    let log = Log::capture();
    let store = ScriptedStore::default();
    store.script().pending = 1;
    let receiver = Receiver::new(ReplayGuard::new(store.clone()));
    let token = token("Hello");
    let events = |log: &Log| -> Vec<(String, String)> {
        let lines = log.lines().into_iter();
        let lines = lines.map(|line| {
            let (level, rest) = line.trim_start().split_once(' ').unwrap();
            let message = rest.split_once("tower_qstash: ").unwrap().1;
            (level.to_owned(), message.to_owned())
        });
        lines.collect()
    };

    let mut first = Box::pin(receiver.send(hello(&token)));
    assert!(poll_once(&mut first).is_pending());
    assert_eq!(store.journal.take(), ["reserve"]);
    assert_eq!(events(&log), [], "it may still be refused");
    assert_eq!(first.await, Outcome::inner());
    assert_eq!(receiver.send(hello(&token)).await, Outcome::processed());
    store.script().reserve = Some(Reserve::InFlight);
    assert_eq!(receiver.send(hello(&token)).await, Outcome::in_flight(300));
    store.fail(&["reserve"]);
    assert_eq!(receiver.send(hello(&token)).await, Outcome::unavailable());

    let events = events(&log);
    let expected = [
        ("DEBUG", "accepted a QStash delivery", ""),
        ("WARN", "arrived again", r#"code="already_processed" known_by="token""#),
        ("WARN", "arrived again", r#"code="in_flight""#),
        (
            "ERROR",
            "store is unavailable",
            r#"code="store_unavailable" error=the store failed to reserve"#,
        ),
    ];
    assert_eq!(events.len(), expected.len(), "{events:?}");
    for ((level, line), (expected, message, fields)) in events.iter().zip(expected) {
        assert_eq!(level, expected, "{line}");
        assert!(line.contains(message) && line.contains(fields), "{line}");
        assert!(line.contains(r#"jti="jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB""#), "{line}");
    }
}

#[tokio::test]
async fn nothing_prints_a_token_or_its_key() {
    let log = Log::capture();
    let mut printed = String::new();
    let store = ScriptedStore::default();
    let token = token("Hello");
    for guard in [
        ReplayGuard::in_memory().namespace("secret namespace"),
        ReplayGuard::new(store.clone()).remember_messages(DAY),
    ] {
        let receiver = Receiver::new(guard.clone());
        printed.push_str(&format!("{guard:?} {:?}", receiver.layer));
        printed.push_str(&format!("{:?}", receiver.layer.layer(Bare)));
        for failing in [&[][..], &[], &["reserve"], &["confirm", "release"]] {
            store.fail(failing);
            for status in [500, 200] {
                printed.push_str(&format!("{:?}", receiver.respond(&token, status).await));
            }
        }
    }
    assert!(log.lines().len() > 8, "the events were captured");
    printed.push_str(&log.text());
    let segments: Vec<_> = token.split('.').collect();
    let mac = BASE64_URL_SAFE_NO_PAD.decode(segments[2]).unwrap();
    let key = u128::from_be_bytes(mac[..16].try_into().unwrap());
    let printed = printed.to_lowercase();
    for secret in [
        segments[1].to_lowercase(),
        segments[2].to_lowercase(),
        segments[2][..12].to_lowercase(),
        format!("{key:x}"),
        format!("{key}"),
        format!("{:?}", &mac[..16]),
        format!("{:x}", key >> 64),
        CURRENT_KEY.to_lowercase(),
        "secret namespace".into(),
    ] {
        assert!(!printed.contains(&secret), "{secret} was printed");
    }
}

/// A flood must not fill the log as well.
#[tokio::test]
async fn forgotten_tokens_are_logged_at_powers_of_two() {
    let log = Log::capture();
    let store = MemoryStore::with_capacity(1);
    let lifetime = Lifetime::new(now().into(), (now() + DAY).into());
    for number in 0..10_u128 {
        store.confirm(ReplayKey::from_bytes(number.to_be_bytes()), lifetime).await.unwrap();
    }
    assert_eq!(store.forgotten(), 9);
    let expected = [1, 2, 4, 8].map(|forgotten| {
        format!(
            "WARN tower_qstash: the replay guard's memory is full: the token nearest its end was forgotten and \
             could be used again; raise the capacity forgotten={forgotten}"
        )
    });
    let lines = log.lines();
    assert_eq!(lines.iter().map(|line| line.trim_start()).collect::<Vec<_>>(), expected);
}

/// A delivery of a message, with a token of its own.
fn message(id: Option<&str>, number: u64, subject: &str, body: &'static str) -> Req {
    let delivery = current().delivery(subject, body, now());
    let token = delivery.claim("jti", format!("jwt_{number}")).token();
    let path = subject.strip_prefix(BASE).expect("a URL under the base");
    let request = Request::post(path).header("upstash-signature", token);
    let request = match id {
        Some(id) => request.header("upstash-message-id", id),
        None => request,
    };
    request.body(Full::from(body)).expect("a valid request")
}

#[tokio::test]
async fn later_token_of_a_remembered_message_is_processed_already() {
    const OTHER: &str = "https://api.example.com/other";
    for guard in guards() {
        let log = Log::capture();
        let receiver = Receiver::new(guard.remember_messages(DAY));
        let failed = service_fn(async |_: Req| Err::<Response<String>, _>("failed"));
        let first = receiver.layer.layer(failed);
        first.oneshot(message(Some("msg_1"), 1, URL, "Hello")).await.unwrap_err();
        let again = |number| message(Some("msg_1"), number, URL, "Hello");
        assert_eq!(receiver.send(again(2)).await, Outcome::inner(), "the first attempt failed");
        assert_eq!(receiver.send(again(3)).await, Outcome::processed());
        let line = log.lines().pop().unwrap();
        assert!(line.contains("WARN") && line.contains(r#"known_by="message""#), "{line}");
        // Its own token was not used up, and gets the same response again.
        assert_eq!(receiver.send(again(3)).await, Outcome::processed());

        // The id is not signed: it never stands for other content.
        for (what, other) in [
            ("another body", message(Some("msg_1"), 4, URL, "Hello!")),
            ("another destination", message(Some("msg_1"), 5, OTHER, "Hello")),
            ("another id", message(Some("msg_2"), 6, URL, "Hello")),
            ("no id", message(None, 7, URL, "Hello")),
        ] {
            assert_eq!(receiver.send(other).await, Outcome::inner(), "{what}");
        }
        assert_eq!(receiver.inner.calls(), 5);
    }
    // Off by default.
    let receiver = Receiver::new(ReplayGuard::in_memory());
    for number in 1..3 {
        let again = message(Some("msg_1"), number, URL, "Hello");
        assert_eq!(receiver.send(again).await, Outcome::inner());
    }
}

/// One clock is ahead by the tolerance, the other behind by as much. Whatever either of them still
/// accepts, the store they share still knows.
#[tokio::test]
async fn layers_at_both_ends_of_the_tolerance_leave_no_gap() {
    const TOLERANCE: u64 = 100;
    let time = Arc::new(AtomicU64::new(NOW));
    let guard = ReplayGuard::in_memory();
    let receiver = |offset: i64| {
        let (mut receiver, time) = (Receiver::new(guard.clone()), Arc::clone(&time));
        let clock = move || {
            let seconds = time.load(Ordering::Relaxed).checked_add_signed(offset).unwrap();
            std::time::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let tolerance = Duration::from_secs(TOLERANCE);
        receiver.layer = receiver.layer.clock(clock).clock_tolerance(tolerance);
        receiver
    };
    let offset = i64::try_from(TOLERANCE).unwrap();
    let receivers = [receiver(offset), receiver(-offset)];
    for first in 0..2 {
        time.store(NOW, Ordering::Relaxed);
        let delivery = current().delivery(URL, "Hello", now());
        let token = delivery.claim("jti", format!("jwt_{first}")).token();
        assert_eq!(receivers[first].send(hello(&token)).await, Outcome::inner());
        let (mut processed, mut expired) = ([0, 0], [0, 0]);
        for second in 0..600 {
            time.store(NOW + second, Ordering::Relaxed);
            for (index, receiver) in receivers.iter().enumerate() {
                // Others arrive as well, which is when the store forgets what is over.
                let other = current().delivery(URL, "Hello", now()).claim("exp", NOW + 10_000);
                let other = other.claim("jti", format!("{first} {second} {index}")).token();
                assert_eq!(receiver.send(hello(&other)).await, Outcome::inner());
                let outcome = receiver.send(hello(&token)).await;
                match outcome.status {
                    400 => expired[index] += 1,
                    _ => {
                        assert_eq!(outcome, Outcome::processed(), "second {second}, {index}");
                        processed[index] += 1;
                    }
                }
            }
        }
        // Up to `exp`, and up to `exp` + twice the tolerance.
        assert_eq!((processed, expired), ([300, 500], [300, 100]));
    }
}

#[tokio::test]
async fn token_of_any_expiry_is_guarded() {
    let expiries: [Value; 6] =
        [json!(i64::MIN), json!(-1), json!(0), json!(NOW + 1), json!(NOW + 300), json!(i64::MAX)];
    let mut accepted = 0;
    for tolerance in [Duration::ZERO, Duration::from_secs(NOW + 2), Duration::MAX] {
        for exp in &expiries {
            for clock in [now(), std::time::UNIX_EPOCH] {
                let mut receiver =
                    Receiver::new(ReplayGuard::in_memory().remember_messages(Duration::MAX));
                receiver.layer = receiver.layer.clock_tolerance(tolerance).clock(move || clock);
                let token =
                    current().delivery(URL, "Hello", now()).claim("exp", exp.clone()).token();
                let failed = receiver.respond(&token, 500).await;
                if failed.status == 400 {
                    continue;
                }
                accepted += 1;
                let mut stuck = Box::pin(receiver.layer.layer(stuck()).oneshot(hello(&token)));
                assert!(poll_once(&mut stuck).is_pending());
                let again = receiver.send(hello(&token)).await;
                assert_eq!(again.replayed, Some(ReplayResponse::InFlight));
                let retry_after = again.retry_after.unwrap();
                assert!((1..=86_400).contains(&retry_after), "{exp}: {retry_after}");

                let other = current().delivery(URL, "Hello", now()).claim("exp", exp.clone());
                let other = other.claim("jti", "other").token();
                assert_eq!(receiver.send(hello(&other)).await, Outcome::inner(), "{exp}");
                assert_eq!(receiver.send(hello(&other)).await, Outcome::processed(), "{exp}");
            }
        }
    }
    assert!((12..36).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn failures_make_the_guard_forget_nothing() {
    let store = Arc::new(MemoryStore::with_capacity(1_000));
    let receiver = Receiver::new(ReplayGuard::in_memory_with(Arc::clone(&store)));
    let done: Vec<_> = (0..500).map(token_of).collect();
    for token in &done {
        assert_eq!(receiver.send(hello(token)).await, Outcome::inner());
    }
    let failing: Vec<_> = (500..1_000).map(token_of).collect();
    let failed = service_fn(async |_: Req| Err::<Response<String>, _>("failed"));
    let mut service = receiver.layer.layer(failed);
    for _ in 0..100 {
        for token in &failing {
            assert_eq!(expect_ready(service.call(hello(token))).unwrap_err(), "failed");
        }
    }
    assert_eq!((store.len(), store.forgotten()), (500, 0));
    for token in &done {
        assert_eq!(receiver.send(hello(token)).await, Outcome::processed());
    }
    assert_eq!(receiver.inner.calls(), 500);
}

#[tokio::test]
async fn guards_in_one_chain_need_namespaces() {
    let store = Arc::new(MemoryStore::new());
    let guard = |name| ReplayGuard::in_memory_with(Arc::clone(&store)).namespace(name);
    for (number, outer, inner, expected) in [
        (1, "outer", "inner", Outcome::inner()),
        (2, "", "inner", Outcome::inner()),
        (3, "same", "same", Outcome::in_flight(300)),
    ] {
        let token = token_of(number);
        let recorder = Recorder::default();
        let chain = layer()
            .replay_guard(guard(outer))
            .layer(layer().replay_guard(guard(inner)).layer(recorder.service()));
        let first = chain.clone().oneshot(hello(&token)).await.unwrap();
        let passes = expected.status == 200;
        assert_eq!(outcome(first).await, expected, "{outer} {inner}");
        if passes {
            let again = chain.oneshot(hello(&token)).await.unwrap();
            assert_eq!(outcome(again).await, Outcome::processed());
        }
        assert_eq!(recorder.calls(), usize::from(passes));
    }
}

/// The owner of a key chooses `exp`. docs/replays.md says that each party needs a guard of its own.
#[tokio::test]
async fn tokens_of_the_far_future_displace_all_others_in_a_shared_guard() {
    let far = |number: u64| {
        let delivery = current().delivery(URL, "Hello", now()).claim("exp", 32_503_680_000_u64);
        delivery.claim("jti", format!("jwt_far_{number}")).token()
    };
    for (shared, expected) in [(true, Outcome::inner()), (false, Outcome::processed())] {
        let store = Arc::new(MemoryStore::with_capacity(10));
        let own = Receiver::new(ReplayGuard::in_memory_with(Arc::clone(&store)).namespace("own"));
        let store = if shared { store } else { Arc::new(MemoryStore::with_capacity(10)) };
        let other = Receiver::new(ReplayGuard::in_memory_with(store).namespace("other"));
        for number in 0..10 {
            assert_eq!(other.send(hello(&far(number))).await, Outcome::inner());
        }
        for number in 0..2 {
            assert_eq!(own.send(hello(&token_of(number))).await, Outcome::inner());
        }
        assert_eq!(own.send(hello(&token_of(0))).await, expected, "shared: {shared}");
    }
}

#[tokio::test(start_paused = true)]
async fn timeout_releases_inside_and_leaves_in_flight_outside() {
    let timeout = || {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        TimeoutLayer::with_status_code(status, Duration::from_secs(30))
    };
    for guard in guards() {
        let receiver = Receiver::new(guard);
        let (first, second) = (token_of(1), token_of(2));
        let inside = receiver.layer.layer(timeout().layer(stuck()));
        assert_eq!(inside.oneshot(hello(&first)).await.unwrap().status(), 503);
        assert_eq!(receiver.send(hello(&first)).await, Outcome::inner());

        let outside = timeout().layer(receiver.layer.layer(stuck()));
        assert_eq!(outside.oneshot(hello(&second)).await.unwrap().status(), 503);
        assert_eq!(receiver.send(hello(&second)).await, Outcome::in_flight(300));
    }
}

/// The recipe of docs/replays.md: a task around the layer.
#[tokio::test]
async fn spawned_stack_is_settled_after_the_client_hung_up() {
    async fn finish(
        request: Request<axum::body::Body>,
        next: Next,
    ) -> Result<AxumResponse, StatusCode> {
        tokio::spawn(next.run(request)).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    }
    for guard in guards() {
        let (go_on, wait) = tokio::sync::watch::channel(false);
        let webhook = async move |_: Claims| {
            wait.clone().wait_for(|go_on| *go_on).await.expect("the sender lives");
            "done"
        };
        let app = Router::new()
            .route("/hook", post(webhook))
            .layer(layer().replay_guard(guard))
            .layer(from_fn(finish));
        let deliver = || {
            let request = hello(&token_of(1)).map(axum::body::Body::new);
            app.clone().oneshot(request)
        };
        let delivered = async {
            let mut hung_up = Box::pin(deliver());
            assert!(poll_once(&mut hung_up).is_pending());
            // Until the handler waits.
            while deliver().await.unwrap().status() != StatusCode::CONFLICT {}
            drop(hung_up);

            go_on.send(true).expect("the handler waits");
            loop {
                let again = outcome(deliver().await.unwrap()).await;
                if again == Outcome::processed() {
                    break;
                }
                assert_eq!(again, Outcome::in_flight(300));
                tokio::task::yield_now().await;
            }
        };
        with_timeout(delivered).await;
    }
}
