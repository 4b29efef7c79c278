//! Rejected requests whose body is late, or never comes.

use std::{
    convert::Infallible,
    future::Future,
    io::{Read, Write},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::{Router, extract::Request, routing::post};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Channel, combinators::UnsyncBoxBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, Sleep, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn};
use tower_qstash::QStashVerifyLayer;

use crate::{
    process::in_time,
    support::{BASE, current, layer, now, stranger},
};

/// What the concurrency limit admits, and how many forgers stall.
const LIMIT: usize = 8;
const AN_HOUR: Duration = Duration::from_secs(60 * 60);
/// A bound as short as a test can afford; nothing depends on how short it is.
const SOON: Duration = Duration::from_millis(200);

fn token() -> String {
    current().delivery(&format!("{BASE}/hook"), b"Hello", now()).token()
}

fn forged() -> String {
    stranger().delivery(&format!("{BASE}/hook"), b"Hello", now()).token()
}

fn head(signature: &str, content_length: usize) -> String {
    format!(
        "POST /hook HTTP/1.1\r\nHost: 10.0.0.7\r\nConnection: close\r\n\
         Upstash-Signature: {signature}\r\nContent-Length: {content_length}\r\n\r\n"
    )
}

fn is_whole_rejection(response: &str) -> bool {
    response.starts_with("HTTP/1.1 400 ")
        && response.contains("\r\n\r\n{\"error\":\"")
        && response.ends_with("\"}")
}

#[derive(Clone, Copy)]
enum Limit {
    Outside,
    Inside,
    Nowhere,
}

/// An axum receiver that counts the requests that reach the layer.
struct Receiver {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    permits: Arc<Semaphore>,
}

impl Receiver {
    async fn start(layer: QStashVerifyLayer, limit: Limit) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let permits = Arc::new(Semaphore::new(LIMIT));
        let counter = Arc::clone(&requests);
        let count = tower::util::MapRequestLayer::new(move |request: Request| {
            counter.fetch_add(1, Ordering::SeqCst);
            request
        });
        let limited = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
        let app = Router::new().route("/hook", post(async || "done"));
        let app = match limit {
            Limit::Outside => app.layer(layer).layer(count).layer(limited),
            Limit::Inside => app.layer(limited).layer(layer).layer(count),
            Limit::Nowhere => app.layer(layer).layer(count),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, requests, permits }
    }

    async fn connect(&self) -> TcpStream {
        in_time(TcpStream::connect(self.address)).await.expect("the receiver is up")
    }

    /// Waits until `count` requests have reached the layer.
    async fn reached_by(&self, count: usize) {
        in_time(async {
            while self.requests.load(Ordering::SeqCst) < count {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// A forged token, a declared length, and no body.
    async fn stalled_connection(&self) -> TcpStream {
        let mut stream = self.connect().await;
        in_time(stream.write_all(head(&forged(), 60_000).as_bytes())).await.expect("written");
        stream
    }

    /// As many forgers as the limit admits, each on a connection of its own.
    async fn stalled_connections(&self) -> Vec<TcpStream> {
        let mut connections = Vec::new();
        for _ in 0..LIMIT {
            connections.push(self.stalled_connection().await);
        }
        self.reached_by(LIMIT).await;
        connections
    }

    /// As many forgers as the limit admits, on one HTTP/2 connection that ends with what is
    /// returned.
    async fn stalled_streams(&self) -> JoinSet<StatusCode> {
        let io = TokioIo::new(self.connect().await);
        let handshake = http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = in_time(handshake).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut streams = JoinSet::new();
        for _ in 0..LIMIT {
            let (unfinished, body) = Channel::<Bytes, Infallible>::new(1);
            let request = Request::post("http://receiver.internal/hook")
                .header("upstash-signature", forged())
                .header("content-length", 60_000)
                .body(body)
                .expect("a valid request");
            let response = sender.send_request(request);
            let keep_open = sender.clone();
            streams.spawn(async move {
                let status = response.await.expect("a response").status();
                drop((unfinished, keep_open));
                status
            });
        }
        self.reached_by(LIMIT).await;
        streams
    }

    /// As many genuine deliveries as the limit admits, all at once. Returns when all are through.
    async fn genuine_deliveries(&self) {
        let mut deliveries = JoinSet::new();
        for _ in 0..LIMIT {
            let mut stream = self.connect().await;
            deliveries.spawn(async move {
                stream.write_all((head(&token(), 5) + "Hello").as_bytes()).await.expect("written");
                read(&mut stream).await
            });
        }
        for response in deliveries.join_all().await {
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        }
    }

    /// That genuine deliveries wait until `stalled` is dropped, and no longer.
    async fn holds_deliveries_while<T>(&self, stalled: T) {
        assert_eq!(self.permits.available_permits(), 0, "the forgers hold every permit");
        let mut deliveries = pin!(self.genuine_deliveries());
        assert!(timeout(Duration::from_millis(500), &mut deliveries).await.is_err());
        assert_eq!(self.requests.load(Ordering::SeqCst), LIMIT, "only the forgers were admitted");
        drop(stalled);
        in_time(deliveries).await;
    }
}

/// Everything up to the end of the connection.
async fn read(stream: &mut TcpStream) -> String {
    let mut response = String::new();
    in_time(stream.read_to_string(&mut response)).await.expect("a response in full");
    response
}

#[tokio::test]
async fn stalled_forgers_hold_an_outer_limit_no_longer_than_the_timeout() {
    let receiver = Receiver::start(layer().drain_timeout(SOON), Limit::Outside).await;
    let mut forgers = receiver.stalled_connections().await;
    timeout(Duration::from_secs(20), receiver.genuine_deliveries()).await.expect("in time");
    for forger in &mut forgers {
        let response = read(forger).await;
        assert!(is_whole_rejection(&response), "{response}");
    }
}

#[tokio::test]
async fn stalled_streams_hold_an_outer_limit_no_longer_than_the_timeout() {
    let receiver = Receiver::start(layer().drain_timeout(SOON), Limit::Outside).await;
    let forgers = receiver.stalled_streams().await;
    timeout(Duration::from_secs(20), receiver.genuine_deliveries()).await.expect("in time");
    assert_eq!(in_time(forgers.join_all()).await, [StatusCode::BAD_REQUEST; LIMIT]);
}

/// The counterpart of the two tests before: it is the timeout that lets deliveries in.
#[tokio::test]
async fn without_the_timeout_stalled_forgers_keep_deliveries_out() {
    let receiver = Receiver::start(layer().drain_timeout(AN_HOUR), Limit::Outside).await;
    let forgers = receiver.stalled_connections().await;
    receiver.holds_deliveries_while(forgers).await;

    let receiver = Receiver::start(layer().drain_timeout(AN_HOUR), Limit::Outside).await;
    let forgers = receiver.stalled_streams().await;
    receiver.holds_deliveries_while(forgers).await;
}

#[tokio::test]
async fn stalled_forgers_take_no_place_in_an_inner_limit() {
    let receiver = Receiver::start(layer().drain_timeout(AN_HOUR), Limit::Inside).await;
    let connections = receiver.stalled_connections().await;
    in_time(receiver.genuine_deliveries()).await;
    drop(connections);

    let receiver = Receiver::start(layer().drain_timeout(AN_HOUR), Limit::Inside).await;
    let mut streams = receiver.stalled_streams().await;
    in_time(receiver.genuine_deliveries()).await;
    assert!(streams.try_join_next().is_none(), "they still stall");
}

#[tokio::test]
async fn many_stalled_connections_are_all_answered_by_default() {
    let receiver = Receiver::start(layer(), Limit::Nowhere).await;
    let mut forgers = Vec::new();
    for _ in 0..300 {
        forgers.push(receiver.stalled_connection().await);
    }
    for forger in &mut forgers {
        let response = read(forger).await;
        assert!(is_whole_rejection(&response), "{response}");
    }
}

#[tokio::test]
async fn a_trickled_body_is_cut_off_at_the_timeout() {
    let receiver = Receiver::start(layer().drain_timeout(SOON), Limit::Nowhere).await;
    let (mut reader, mut writer) = receiver.stalled_connection().await.into_split();
    let trickle = tokio::spawn(async move {
        // Ten minutes, if the receiver let it.
        for _ in 0..60_000 {
            sleep(Duration::from_millis(10)).await;
            if writer.write_all(b"x").await.is_err() {
                break;
            }
        }
    });
    let mut response = Vec::new();
    // What was sent too late resets the connection after the response.
    let _ = in_time(reader.read_to_end(&mut response)).await;
    let response = String::from_utf8(response).expect("text");
    assert!(is_whole_rejection(&response), "{response}");
    in_time(trickle).await.expect("no panic");
}

/// A client that reads nothing before it has written everything, in so many pieces.
fn write_then_read(address: SocketAddr, pieces: usize) -> String {
    const LENGTH: usize = 60_000;
    let mut stream = std::net::TcpStream::connect(address).expect("the receiver is up");
    let a_minute = Some(Duration::from_secs(60));
    stream.set_read_timeout(a_minute).expect("a timeout");
    stream.set_write_timeout(a_minute).expect("a timeout");
    stream.write_all(head(&forged(), LENGTH).as_bytes()).expect("the receiver reads");
    for piece in vec![b'x'; LENGTH].chunks(LENGTH / pieces) {
        if pieces > 1 {
            std::thread::sleep(Duration::from_millis(30));
        }
        stream.write_all(piece).expect("the receiver reads on");
    }
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response in full");
    response
}

#[tokio::test]
async fn a_client_that_writes_its_whole_body_first_receives_the_rejection() {
    for (layer, pieces) in [(layer(), 1), (layer().drain_timeout(AN_HOUR), 10)] {
        let receiver = Receiver::start(layer, Limit::Nowhere).await;
        let address = receiver.address;
        let response = tokio::task::spawn_blocking(move || write_then_read(address, pieces));
        let response = response.await.expect("no panic");
        assert!(is_whole_rejection(&response), "{pieces} pieces: {response}");
    }
}

type Boxed = UnsyncBoxBody<Bytes, Infallible>;

/// One byte every so often, for so many times, and then nothing more, nor an end.
struct Trickle {
    every: Duration,
    times: usize,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Trickle {
    fn body(every: Duration, times: usize) -> Boxed {
        Self { every, times, sleep: None }.boxed_unsync()
    }
}

impl Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.times == 0 {
            return Poll::Pending;
        }
        let every = self.every;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(every)));
        std::task::ready!(sleep.as_mut().poll(context));
        self.sleep = None;
        self.times -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

fn never() -> Boxed {
    Trickle::body(Duration::ZERO, 0)
}

async fn uncalled(_: Request<Boxed>) -> Result<Response<String>, Infallible> {
    unreachable!("no forged request gets here")
}

/// The future of a forged request with this body.
fn reject(
    layer: &QStashVerifyLayer,
    body: Boxed,
) -> impl Future<Output = StatusCode> + Unpin + use<> {
    let mut service = layer.layer(service_fn(uncalled));
    let ready = pin!(service.ready()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(ready.is_ready());
    let request = Request::post("/hook").header("upstash-signature", forged()).body(body);
    let response = service.call(request.expect("a valid request"));
    Box::pin(async { response.await.expect("infallible").status() })
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn the_timeout_is_two_seconds_by_default() {
    let start = Instant::now();
    assert_eq!(in_time(reject(&layer(), never())).await, StatusCode::BAD_REQUEST);
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn frames_that_arrive_do_not_extend_the_timeout() {
    let layer = layer().drain_timeout(Duration::from_secs(10));
    let trickle = Trickle::body(Duration::from_secs(3), 1000);
    let start = Instant::now();
    assert_eq!(in_time(reject(&layer, trickle)).await, StatusCode::BAD_REQUEST);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_drain_limit_ends_the_wait_before_the_timeout() {
    let layer = layer().drain_timeout(Duration::from_secs(100)).drain_limit(5);
    let trickle = Trickle::body(Duration::from_secs(3), 1000);
    let start = Instant::now();
    assert_eq!(in_time(reject(&layer, trickle)).await, StatusCode::BAD_REQUEST);
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_any_length_is_taken() {
    let mut endless = reject(&layer().drain_timeout(Duration::MAX), never());
    assert!(timeout(AN_HOUR, &mut endless).await.is_err());
}

#[tokio::test]
async fn a_timeout_of_zero_never_waits() {
    let mut response = reject(&layer().drain_timeout(Duration::ZERO), never());
    assert_eq!(poll_once(&mut response), Poll::Ready(StatusCode::BAD_REQUEST));
    // The counterpart: with any other it does.
    assert!(poll_once(&mut reject(&layer().drain_timeout(AN_HOUR), never())).is_pending());
}

#[test]
fn outside_a_runtime_a_body_is_not_waited_for() {
    let mut response = reject(&layer().drain_timeout(AN_HOUR), never());
    assert_eq!(poll_once(&mut response), Poll::Ready(StatusCode::BAD_REQUEST));
}

#[test]
fn in_a_runtime_without_a_timer_a_body_is_not_waited_for() {
    let runtimes = [Builder::new_current_thread().build(), Builder::new_multi_thread().build()];
    for runtime in runtimes {
        let runtime = runtime.expect("a runtime");
        let mut response = reject(&layer().drain_timeout(AN_HOUR), never());
        let polled = runtime.block_on(async { poll_once(&mut response) });
        assert_eq!(polled, Poll::Ready(StatusCode::BAD_REQUEST));
    }
}
