//! Receivers over TCP that share one Redis, while it is stopped, killed and flushed.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, routing::post};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{sync::Semaphore, task::JoinSet};
use tower::{Layer, ServiceExt, service_fn};
use tower_qstash::{RedisStore, ReplayGuard, ReplayResponse};

use crate::{
    server::{PATIENCE, Server, free_port},
    support::{NOW, URL, current, deliveries::request, futures::with_timeout, layer, now},
};

const PROCESSED: &str = r#"{"message":"already processed"}"#;

/// A store whose time limit does not come into it, however busy the machine is.
fn patient(server: &Server) -> RedisStore {
    RedisStore::new(&server.url()).unwrap().time_limit(PATIENCE)
}

fn with_default_limit(server: &Server) -> RedisStore {
    RedisStore::new(&server.url()).unwrap()
}

/// How often the handlers were called, for each message. Clones share it.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<HashMap<String, u32>>>);

impl Calls {
    fn note(&self, message: &str) {
        *self.0.lock().unwrap().entry(message.to_owned()).or_default() += 1;
    }

    fn of(&self, message: &str) -> u32 {
        self.0.lock().unwrap().get(message).copied().unwrap_or(0)
    }

    fn messages(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Every message is in, none twice.
    fn assert_each_once(&self, messages: usize) {
        let calls = self.0.lock().unwrap();
        let twice: Vec<_> = calls.iter().filter(|(_, calls)| **calls != 1).collect();
        assert_eq!((calls.len(), &twice[..]), (messages, &[][..]));
    }
}

/// A receiver on a port of its own, and a handler that is given the messages.
#[derive(Clone, Copy)]
struct Receiver(SocketAddr);

impl Receiver {
    async fn start<F>(
        store: RedisStore,
        handler: impl Fn(String) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = StatusCode> + Send + 'static,
    {
        let handler = async move |message: String| (handler(message).await, "handled");
        let app = Router::new()
            .route("/hook", post(handler))
            .layer(layer().replay_guard(ReplayGuard::new(store)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self(address)
    }

    /// Two receivers whose handlers succeed at once, with a store each.
    async fn two(store: impl Fn() -> RedisStore, calls: &Calls) -> [Self; 2] {
        let handler = || {
            let calls = calls.clone();
            move |message: String| {
                calls.note(&message);
                std::future::ready(StatusCode::OK)
            }
        };
        [Self::start(store(), handler()).await, Self::start(store(), handler()).await]
    }
}

#[derive(Debug, PartialEq)]
enum Reply {
    Handled,
    Processed,
    InFlight,
    Unavailable,
    Failed,
}

/// Posts deliveries. The token of a message is always the same.
#[derive(Clone)]
struct Sender(Client<HttpConnector, Full<Bytes>>);

impl Sender {
    fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    async fn post(&self, receiver: Receiver, message: &str) -> Reply {
        let token = current().delivery(URL, message, now()).token();
        let request = Request::post(format!("http://{}/hook", receiver.0))
            .header("upstash-signature", token)
            .body(Full::from(message.to_owned()))
            .unwrap();
        let response = with_timeout(self.0.request(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = with_timeout(body.collect()).await.unwrap().to_bytes();
        let retry_after = parts.headers.get("retry-after").map(|value| value.to_str().unwrap());
        match (parts.status.as_u16(), retry_after) {
            (200, None) if body == "handled" => Reply::Handled,
            (200, None) if body == PROCESSED => Reply::Processed,
            (409, Some("300")) => Reply::InFlight,
            (503, None) => Reply::Unavailable,
            (500, None) if body == "handled" => Reply::Failed,
            other => panic!("{other:?}, {body:?}"),
        }
    }

    /// Posts it to one and the other receiver until it is in: handled, or known to have been. A token
    /// whose confirmation was lost stays in flight.
    async fn post_until_in(
        &self,
        receivers: [Receiver; 2],
        message: &str,
        calls: &Calls,
        seen: &Seen,
    ) {
        let start = Instant::now();
        for receiver in receivers.into_iter().cycle() {
            match self.post(receiver, message).await {
                Reply::Handled | Reply::Processed => return,
                Reply::InFlight if calls.of(message) > 0 => return,
                Reply::InFlight => seen.in_flight.fetch_add(1, Ordering::Relaxed),
                Reply::Unavailable => seen.unavailable.fetch_add(1, Ordering::Relaxed),
                Reply::Failed => panic!("no handler fails here"),
            };
            assert!(start.elapsed() < PATIENCE, "{message} never got in");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[derive(Default)]
struct Seen {
    in_flight: AtomicUsize,
    unavailable: AtomicUsize,
}

impl Seen {
    fn unavailable(&self) -> usize {
        self.unavailable.load(Ordering::Relaxed)
    }
}

fn messages(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("{number}"))
}

/// Runs these, fifty at a time.
async fn at_once<T: Send + 'static>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let (mut running, mut outputs) = (JoinSet::new(), Vec::new());
    for future in futures {
        if running.len() == 50 {
            outputs.push(running.join_next().await.unwrap().unwrap());
        }
        running.spawn(future);
    }
    outputs.extend(running.join_all().await);
    outputs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_posted_to_two_receivers_at_once_is_handled_once() {
    const COUNT: usize = 1_000;
    let Some(server) = Server::start() else { return };
    let (sender, calls) = (Sender::new(), Calls::default());
    // Handlers of even messages wait until the other receiver has responded; the others race.
    let gates: Arc<Vec<_>> = Arc::new((0..COUNT).map(|_| Semaphore::new(0)).collect());
    let handler = {
        let (calls, gates) = (calls.clone(), Arc::clone(&gates));
        move |message: String| {
            let (calls, gates) = (calls.clone(), Arc::clone(&gates));
            async move {
                calls.note(&message);
                let number: usize = message.parse().unwrap();
                if number.is_multiple_of(2) {
                    drop(with_timeout(gates[number].acquire()).await.unwrap());
                }
                StatusCode::OK
            }
        }
    };
    let receivers = [
        Receiver::start(patient(&server), handler.clone()).await,
        Receiver::start(patient(&server), handler).await,
    ];

    let deliveries = messages(COUNT).map(|message| {
        let (sender, gates) = (sender.clone(), Arc::clone(&gates));
        async move {
            let number: usize = message.parse().unwrap();
            let post = async |receiver| {
                let reply = sender.post(receiver, &message).await;
                gates[number].add_permits(1);
                reply
            };
            let (one, other) = tokio::join!(post(receivers[0]), post(receivers[1]));
            (number, one, other)
        }
    });
    let mut in_flight = 0;
    for (number, one, other) in at_once(deliveries.collect::<Vec<_>>()).await {
        let other = match (one, other) {
            (Reply::Handled, other) | (other, Reply::Handled) => other,
            neither => panic!("{number}: {neither:?}"),
        };
        match other {
            Reply::InFlight => in_flight += 1,
            Reply::Processed if !number.is_multiple_of(2) => {}
            other => panic!("{number}: {other:?}"),
        }
    }
    assert!(in_flight >= COUNT / 2, "{in_flight}");
    calls.assert_each_once(COUNT);

    let again = messages(COUNT).step_by(10).map(|message| {
        let sender = sender.clone();
        async move { sender.post(receivers[1], &message).await }
    });
    for reply in at_once(again.collect::<Vec<_>>()).await {
        assert_eq!(reply, Reply::Processed);
    }
    calls.assert_each_once(COUNT);
}

/// Captured tokens are replayed afterwards, and once more after another restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_of_the_server_under_load_loses_and_repeats_nothing() {
    const COUNT: usize = 600;
    let log = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut server) = Server::start_with("redis-server", &log) else { return };
    let (sender, calls, seen) = (Sender::new(), Calls::default(), Arc::new(Seen::default()));
    let receivers = Receiver::two(|| with_default_limit(&server), &calls).await;

    let deliveries: Vec<_> = messages(COUNT)
        .map(|message| {
            let (sender, calls, seen) = (sender.clone(), calls.clone(), Arc::clone(&seen));
            async move { sender.post_until_in(receivers, &message, &calls, &seen).await }
        })
        .collect();
    let load = tokio::spawn(at_once(deliveries));
    let wait = async |what: &str, holds: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    wait("under load", &|| calls.messages() >= COUNT / 4).await;
    let pid = server.pid();
    server.kill();
    let before = seen.unavailable();
    wait("refused", &|| seen.unavailable() >= before + 20).await;
    assert!(calls.messages() < COUNT, "it was under load");
    server.restart();
    assert_ne!(server.pid(), pid);
    with_timeout(load).await.unwrap();
    calls.assert_each_once(COUNT);

    for restart in [false, true] {
        if restart {
            let pid = server.pid();
            server.kill();
            server.restart();
            assert_ne!(server.pid(), pid);
        }
        let replays: Vec<_> = messages(COUNT)
            .zip(receivers.into_iter().cycle())
            .map(|(message, receiver)| {
                let sender = sender.clone();
                async move {
                    // A busy machine may exceed the limit.
                    let start = Instant::now();
                    loop {
                        match sender.post(receiver, &message).await {
                            Reply::Unavailable if start.elapsed() < PATIENCE => {}
                            reply => break reply,
                        }
                    }
                }
            })
            .collect();
        let replies = at_once(replays).await;
        assert!(replies.iter().all(|reply| matches!(reply, Reply::Processed | Reply::InFlight)));
        let processed = replies.iter().filter(|reply| **reply == Reply::Processed).count();
        assert!(processed > COUNT / 2, "{processed}");
        calls.assert_each_once(COUNT);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_refused_by_a_stopped_server_all_get_in_afterwards() {
    let Some(server) = Server::start() else { return };
    let (sender, calls, seen) = (Sender::new(), Calls::default(), Arc::new(Seen::default()));
    let receivers = Receiver::two(|| with_default_limit(&server), &calls).await;
    // Connected, so that what follows is sent.
    for (receiver, message) in receivers.into_iter().zip(["first", "second"]) {
        sender.post_until_in([receiver; 2], message, &calls, &seen).await;
    }
    let sets = server.calls("set");

    server.signal("-STOP");
    let stopped = Instant::now();
    let mut count = 0;
    while stopped.elapsed() < Duration::from_millis(600) {
        let refused: Vec<_> = (count..count + 40)
            .map(|number| {
                let sender = sender.clone();
                let receiver = receivers[number % 2];
                async move { sender.post(receiver, &number.to_string()).await }
            })
            .collect();
        for reply in at_once(refused).await {
            assert_eq!(reply, Reply::Unavailable);
        }
        count += 40;
    }
    assert_eq!(calls.messages(), 2);
    server.signal("-CONT");

    let deliveries: Vec<_> = messages(count)
        .map(|message| {
            let (sender, calls, seen) = (sender.clone(), calls.clone(), Arc::clone(&seen));
            async move { sender.post_until_in(receivers, &message, &calls, &seen).await }
        })
        .collect();
    at_once(deliveries).await;
    calls.assert_each_once(2 + count);
    // What was sent to the stopped server was executed, or this test would show nothing.
    let executed = server.calls("set") - sets;
    assert!(executed as usize > 2 * count, "{executed} for {count} deliveries");
}

#[tokio::test]
async fn closed_connections_refuse_no_delivery() {
    let Some(server) = Server::start() else { return };
    let (sender, calls) = (Sender::new(), Calls::default());
    let receivers = Receiver::two(|| patient(&server), &calls).await;
    for receiver in receivers {
        sender.post(receiver, "connects").await;
    }
    for (message, receiver) in messages(50).zip(receivers.into_iter().cycle()) {
        let killed = server.command("CLIENT KILL TYPE normal");
        assert!([":1", ":2"].contains(&&killed[..]), "the store was connected: {killed}");
        assert_eq!(sender.post(receiver, &message).await, Reply::Handled);
        server.command("CLIENT KILL TYPE normal");
        assert_eq!(sender.post(receiver, &message).await, Reply::Processed);
    }
    calls.assert_each_once(51);
}

#[tokio::test]
async fn server_that_is_down_at_the_start_is_503_until_it_is_up() {
    let (sender, calls) = (Sender::new(), Calls::default());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = |port| format!("redis://127.0.0.1:{port}");
    let port = free_port();
    for (port, at_least) in [(port, 0), (silent.local_addr().unwrap().port(), 250)] {
        let [receiver, _] = Receiver::two(|| RedisStore::new(&url(port)).unwrap(), &calls).await;
        for _ in 0..2 {
            let start = Instant::now();
            assert_eq!(sender.post(receiver, "Hello").await, Reply::Unavailable);
            assert!(start.elapsed() >= Duration::from_millis(at_least), "the limit ended it");
            // Less than the five seconds that an attempt to connect may take.
            assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        }
    }
    assert_eq!(calls.messages(), 0);

    let store = || RedisStore::new(&url(port)).unwrap().time_limit(PATIENCE);
    let [receiver, other] = Receiver::two(store, &calls).await;
    assert_eq!(sender.post(receiver, "Hello").await, Reply::Unavailable);
    let Some(_server) = Server::start_at(port) else { return };
    assert_eq!(sender.post(receiver, "Hello").await, Reply::Handled);
    assert_eq!(sender.post(other, "Hello").await, Reply::Processed);
    calls.assert_each_once(1);
}

#[tokio::test]
async fn delivery_is_done_after_a_flush_while_it_was_handled() {
    let Some(server) = Server::start() else { return };
    let (sender, calls, server) = (Sender::new(), Calls::default(), Arc::new(server));
    let handler = {
        let (calls, server) = (calls.clone(), Arc::clone(&server));
        move |message: String| {
            calls.note(&message);
            assert_eq!(server.command("DBSIZE"), ":1", "it is reserved");
            assert_eq!(server.command("FLUSHALL"), "+OK");
            assert_eq!(server.command("DBSIZE"), ":0");
            std::future::ready(StatusCode::OK)
        }
    };
    let receiver = Receiver::start(patient(&server), handler).await;
    assert_eq!(sender.post(receiver, "Hello").await, Reply::Handled);
    assert_eq!(sender.post(receiver, "Hello").await, Reply::Processed);
    calls.assert_each_once(1);
}

/// The first holder fails after a flush; the second still works on it.
#[tokio::test]
async fn failure_after_a_flush_does_not_release_the_next_holder() {
    let Some(server) = Server::start() else { return };
    let (sender, calls) = (Sender::new(), Calls::default());
    let start = async |status| {
        let (gate, calls, called) =
            (Arc::new(Semaphore::new(0)), calls.clone(), Arc::new(Semaphore::new(0)));
        let handler = {
            let (gate, called) = (Arc::clone(&gate), Arc::clone(&called));
            move |message: String| {
                calls.note(&message);
                called.add_permits(1);
                let gate = Arc::clone(&gate);
                async move {
                    drop(with_timeout(gate.acquire()).await.unwrap());
                    status
                }
            }
        };
        (Receiver::start(patient(&server), handler).await, gate, called)
    };
    let (a, a_ends, a_called) = start(StatusCode::INTERNAL_SERVER_ERROR).await;
    let (b, b_ends, b_called) = start(StatusCode::OK).await;
    let [c, _] = Receiver::two(|| patient(&server), &calls).await;
    let hold = |receiver| {
        let sender = sender.clone();
        tokio::spawn(async move { sender.post(receiver, "Hello").await })
    };

    let first = hold(a);
    drop(with_timeout(a_called.acquire()).await.unwrap());
    assert_eq!(server.command("FLUSHALL"), "+OK");
    let second = hold(b);
    drop(with_timeout(b_called.acquire()).await.unwrap());
    a_ends.add_permits(1);
    assert_eq!(first.await.unwrap(), Reply::Failed);
    assert_eq!(sender.post(c, "Hello").await, Reply::InFlight);
    b_ends.add_permits(1);
    assert_eq!(second.await.unwrap(), Reply::Handled);
    assert_eq!(sender.post(c, "Hello").await, Reply::Processed);
    assert_eq!(calls.of("Hello"), 2, "A's and B's");
}

/// As AWS Lambda does, which freezes a process that has responded.
#[test]
fn token_is_done_when_the_runtime_is_dropped_after_the_response() {
    let Some(server) = Server::start() else { return };
    let calls = Calls::default();
    for store in [patient(&server), patient(&server)] {
        let layer = layer().replay_guard(ReplayGuard::new(store));
        for message in messages(20) {
            let inner = service_fn(|_: Request<Full<Bytes>>| {
                calls.note(&message);
                std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
            });
            let token = current().delivery(URL, &message, now()).token();
            let delivery = request(&token, Full::from(message.clone()));
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let known = calls.of(&message) > 0;
            let response = runtime.block_on(layer.layer(inner).oneshot(delivery)).unwrap();
            drop(runtime);
            let expected = known.then_some(ReplayResponse::AlreadyProcessed);
            assert_eq!(response.extensions().get().copied(), expected);
        }
    }
    calls.assert_each_once(20);
}

/// The server adds the lifetime to its own clock, and must not overflow.
#[tokio::test]
async fn token_of_any_expiry_is_done_in_redis() {
    let Some(server) = Server::start() else { return };
    for (number, (exp, tolerance)) in [
        (i64::MIN, Duration::MAX),
        (-1, Duration::MAX),
        (i64::try_from(NOW).unwrap() + 1, Duration::ZERO),
        (i64::MAX, Duration::ZERO),
        (i64::MAX, Duration::MAX),
    ]
    .into_iter()
    .enumerate()
    {
        let calls = Calls::default();
        let inner = service_fn(|_: Request<Full<Bytes>>| {
            calls.note("Hello");
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        });
        let guard = ReplayGuard::new(patient(&server)).remember_messages(Duration::MAX);
        let service = layer().clock_tolerance(tolerance).replay_guard(guard).layer(inner);
        let token = current().delivery(URL, "Hello", now()).claim("exp", exp).token();
        let send = async || {
            let mut delivery = request(&token, Full::from("Hello"));
            let id = number.to_string().parse().unwrap();
            delivery.headers_mut().insert("upstash-message-id", id);
            let response = service.clone().oneshot(delivery).await.unwrap();
            assert_eq!(response.status(), 200, "{exp}, {tolerance:?}");
            response.extensions().get().copied()
        };
        assert_eq!(send().await, None);
        assert_eq!(send().await, Some(ReplayResponse::AlreadyProcessed));
        calls.assert_each_once(1);
        server.command("FLUSHALL");
    }
}
