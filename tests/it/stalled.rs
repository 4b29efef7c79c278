//! Rejected requests whose body is slow or never arrives.

use std::{
    convert::Infallible,
    future::Future,
    io::{Read, Write},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::post};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Channel, combinators::BoxBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn};
use tower_qstash::QStashVerifyLayer;

use crate::support::{
    bodies::{Boxed, Frames, Step},
    deliveries::{delivery, forged_token, token},
    futures::{expect_ready, poll_once, with_timeout},
    layer, unknown_key,
};

/// The number of requests that the concurrency limit admits, and of forged requests that stall.
const LIMIT: usize = 8;
const AN_HOUR: Duration = Duration::from_secs(60 * 60);
/// Short, so that the tests are fast; none of them depends on how short it is.
const SHORT: Duration = Duration::from_millis(200);

fn head(token: &str, content_length: usize) -> String {
    format!(
        "POST /hook HTTP/1.1\r\nHost: 10.0.0.7\r\nConnection: close\r\n\
         Upstash-Signature: {token}\r\nContent-Length: {content_length}\r\n\r\n"
    )
}

fn is_complete_rejection(response: &str) -> bool {
    response.starts_with("HTTP/1.1 400 ")
        && response.contains("\r\n\r\n{\"error\":\"")
        && response.ends_with("\"}")
}

/// Where the concurrency limit is, as seen from the layer.
#[derive(Clone, Copy)]
enum Limit {
    Outer,
    Inner,
    None,
}

/// Counts the requests that reach the layer.
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
        let count = tower::util::MapRequestLayer::new(move |request: Request<Body>| {
            counter.fetch_add(1, Ordering::SeqCst);
            request
        });
        let limited = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
        let app = Router::new().route("/hook", post(async || "done"));
        let app = match limit {
            Limit::Outer => app.layer(layer).layer(count).layer(limited),
            Limit::Inner => app.layer(limited).layer(layer).layer(count),
            Limit::None => app.layer(layer).layer(count),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, requests, permits }
    }

    async fn connect(&self) -> TcpStream {
        with_timeout(TcpStream::connect(self.address)).await.expect("the receiver is up")
    }

    /// Waits until `count` requests have reached the layer.
    async fn wait_for_requests(&self, count: usize) {
        with_timeout(async {
            while self.requests.load(Ordering::SeqCst) < count {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Sends a forged request with a declared length but no body.
    async fn stalled_connection(&self) -> TcpStream {
        let mut stream = self.connect().await;
        with_timeout(stream.write_all(head(&forged_token("Hello"), 60_000).as_bytes()))
            .await
            .expect("written");
        stream
    }

    /// Stalls as many forged requests as the limit admits, each on its own connection.
    async fn stalled_connections(&self) -> Vec<TcpStream> {
        let mut connections = Vec::new();
        for _ in 0..LIMIT {
            connections.push(self.stalled_connection().await);
        }
        self.wait_for_requests(LIMIT).await;
        connections
    }

    /// Stalls as many forged requests as the limit admits, on one HTTP/2 connection, which closes
    /// when the returned set is dropped.
    async fn stalled_streams(&self) -> JoinSet<StatusCode> {
        let io = TokioIo::new(self.connect().await);
        let handshake = http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = with_timeout(handshake).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut streams = JoinSet::new();
        for _ in 0..LIMIT {
            let (body_sender, body) = Channel::<Bytes, Infallible>::new(1);
            let request = Request::post("http://receiver.internal/hook")
                .header("upstash-signature", forged_token("Hello"))
                .header("content-length", 60_000)
                .body(body)
                .expect("a valid request");
            let response = sender.send_request(request);
            let keep_open = sender.clone();
            streams.spawn(async move {
                let status = response.await.expect("a response").status();
                drop((body_sender, keep_open));
                status
            });
        }
        self.wait_for_requests(LIMIT).await;
        streams
    }

    /// Sends as many valid deliveries as the limit admits at once, and waits for their responses.
    async fn valid_deliveries(&self) {
        let mut deliveries = JoinSet::new();
        for _ in 0..LIMIT {
            let mut stream = self.connect().await;
            deliveries.spawn(async move {
                stream
                    .write_all((head(&token("Hello"), 5) + "Hello").as_bytes())
                    .await
                    .expect("written");
                read(&mut stream).await
            });
        }
        for response in deliveries.join_all().await {
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        }
    }

    /// Asserts that valid deliveries wait until `stalled` is dropped.
    async fn assert_blocked_by<T>(&self, stalled: T) {
        assert_eq!(self.permits.available_permits(), 0, "stalled requests hold every permit");
        let mut deliveries = pin!(self.valid_deliveries());
        assert!(timeout(Duration::from_millis(500), &mut deliveries).await.is_err());
        assert_eq!(self.requests.load(Ordering::SeqCst), LIMIT, "no delivery was admitted");
        drop(stalled);
        with_timeout(deliveries).await;
    }
}

/// Reads until the connection ends.
async fn read(stream: &mut TcpStream) -> String {
    let mut response = String::new();
    with_timeout(stream.read_to_string(&mut response)).await.expect("a complete response");
    response
}

#[tokio::test]
async fn stalled_connections_release_an_outer_limit_after_the_timeout() {
    let receiver = Receiver::start(layer().drain_timeout(SHORT), Limit::Outer).await;
    let mut stalled = receiver.stalled_connections().await;
    timeout(Duration::from_secs(20), receiver.valid_deliveries()).await.expect("no permit is held");
    for connection in &mut stalled {
        let response = read(connection).await;
        assert!(is_complete_rejection(&response), "{response}");
    }
}

#[tokio::test]
async fn stalled_streams_release_an_outer_limit_after_the_timeout() {
    let receiver = Receiver::start(layer().drain_timeout(SHORT), Limit::Outer).await;
    let stalled = receiver.stalled_streams().await;
    timeout(Duration::from_secs(20), receiver.valid_deliveries()).await.expect("no permit is held");
    assert_eq!(with_timeout(stalled.join_all()).await, [StatusCode::BAD_REQUEST; LIMIT]);
}

/// Shows that it is the timeout that releases the permits in the two tests above.
#[tokio::test]
async fn stalled_requests_block_an_outer_limit_without_the_timeout() {
    let receiver = Receiver::start(layer().drain_timeout(AN_HOUR), Limit::Outer).await;
    let stalled = receiver.stalled_connections().await;
    receiver.assert_blocked_by(stalled).await;

    let receiver = Receiver::start(layer().drain_timeout(AN_HOUR), Limit::Outer).await;
    let stalled = receiver.stalled_streams().await;
    receiver.assert_blocked_by(stalled).await;
}

#[tokio::test]
async fn stalled_requests_hold_no_permit_of_an_inner_limit() {
    let receiver = Receiver::start(layer().drain_timeout(AN_HOUR), Limit::Inner).await;
    let connections = receiver.stalled_connections().await;
    with_timeout(receiver.valid_deliveries()).await;
    drop(connections);

    let receiver = Receiver::start(layer().drain_timeout(AN_HOUR), Limit::Inner).await;
    let mut streams = receiver.stalled_streams().await;
    with_timeout(receiver.valid_deliveries()).await;
    assert!(streams.try_join_next().is_none(), "they are still stalled");
}

#[tokio::test]
async fn many_stalled_connections_get_responses_by_default() {
    let receiver = Receiver::start(layer(), Limit::None).await;
    let mut stalled = Vec::new();
    for _ in 0..300 {
        stalled.push(receiver.stalled_connection().await);
    }
    for connection in &mut stalled {
        let response = read(connection).await;
        assert!(is_complete_rejection(&response), "{response}");
    }
}

#[tokio::test]
async fn trickling_body_is_cut_off_at_the_timeout() {
    let receiver = Receiver::start(layer().drain_timeout(SHORT), Limit::None).await;
    let (mut reader, mut writer) = receiver.stalled_connection().await.into_split();
    let trickle = tokio::spawn(async move {
        // This would take ten minutes.
        for _ in 0..60_000 {
            sleep(Duration::from_millis(10)).await;
            if writer.write_all(b"x").await.is_err() {
                break;
            }
        }
    });
    let mut response = Vec::new();
    // Bytes sent after the response reset the connection, so this may fail.
    let _ = with_timeout(reader.read_to_end(&mut response)).await;
    let response = String::from_utf8(response).expect("UTF-8");
    assert!(is_complete_rejection(&response), "{response}");
    with_timeout(trickle).await.expect("no panic");
}

/// Writes a whole request in a number of pieces, then reads the response.
fn write_then_read(address: SocketAddr, pieces: usize) -> String {
    const LENGTH: usize = 60_000;
    let mut stream = std::net::TcpStream::connect(address).expect("the receiver is up");
    let a_minute = Some(Duration::from_secs(60));
    stream.set_read_timeout(a_minute).expect("a timeout");
    stream.set_write_timeout(a_minute).expect("a timeout");
    stream.write_all(head(&forged_token("Hello"), LENGTH).as_bytes()).expect("the receiver reads");
    for piece in vec![b'x'; LENGTH].chunks(LENGTH / pieces) {
        if pieces > 1 {
            std::thread::sleep(Duration::from_millis(30));
        }
        stream.write_all(piece).expect("the receiver reads");
    }
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a complete response");
    response
}

#[tokio::test]
async fn client_that_writes_first_receives_the_rejection() {
    for (layer, pieces) in [(layer(), 1), (layer().drain_timeout(AN_HOUR), 10)] {
        let receiver = Receiver::start(layer, Limit::None).await;
        let address = receiver.address;
        let response = tokio::task::spawn_blocking(move || write_then_read(address, pieces));
        let response = response.await.expect("no panic");
        assert!(is_complete_rejection(&response), "{pieces} pieces: {response}");
    }
}

/// Creates a body that never yields anything.
fn stalled() -> Frames {
    Frames::new([Step::Stall])
}

/// Creates a body that yields a byte every three seconds, for longer than any timeout here.
fn trickle() -> Frames {
    let bytes = || [Step::Sleep(Duration::from_secs(3)), Step::data("x")];
    Frames::new((0..1000).flat_map(move |_| bytes()).chain([Step::Stall]))
}

async fn unreachable(_: Request<Boxed>) -> Result<Response<String>, Infallible> {
    unreachable!("forged requests don't reach the inner service")
}

/// Returns the response future of a forged request with this body.
fn reject(
    layer: &QStashVerifyLayer,
    body: Frames,
) -> impl Future<Output = StatusCode> + Unpin + use<> {
    let mut service = layer.layer(service_fn(unreachable));
    assert!(poll_once(&mut service.ready()).is_ready());
    let response = service.call(delivery(&unknown_key(), "Hello", BoxBody::new(body)));
    Box::pin(async { response.await.expect("infallible").status() })
}

#[tokio::test(start_paused = true)]
async fn default_timeout_is_two_seconds() {
    let start = Instant::now();
    assert_eq!(with_timeout(reject(&layer(), stalled())).await, StatusCode::BAD_REQUEST);
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn arriving_frames_do_not_extend_the_timeout() {
    let layer = layer().drain_timeout(Duration::from_secs(10));
    let start = Instant::now();
    assert_eq!(with_timeout(reject(&layer, trickle())).await, StatusCode::BAD_REQUEST);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn drain_limit_is_reached_before_the_timeout() {
    let layer = layer().drain_timeout(Duration::from_secs(100)).drain_limit(5);
    let start = Instant::now();
    assert_eq!(with_timeout(reject(&layer, trickle())).await, StatusCode::BAD_REQUEST);
    assert_eq!(start.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn longest_timeout_is_accepted() {
    let mut endless = reject(&layer().drain_timeout(Duration::MAX), stalled());
    assert!(timeout(AN_HOUR, &mut endless).await.is_err());
}

#[tokio::test]
async fn zero_timeout_never_waits() {
    let response = reject(&layer().drain_timeout(Duration::ZERO), stalled());
    assert_eq!(expect_ready(response), StatusCode::BAD_REQUEST);
    // Any other timeout does.
    assert!(poll_once(&mut reject(&layer().drain_timeout(AN_HOUR), stalled())).is_pending());
}

#[test]
fn body_is_not_awaited_outside_a_runtime() {
    let response = reject(&layer().drain_timeout(AN_HOUR), stalled());
    assert_eq!(expect_ready(response), StatusCode::BAD_REQUEST);
}

#[test]
fn body_is_not_awaited_without_a_timer() {
    let runtimes = [Builder::new_current_thread().build(), Builder::new_multi_thread().build()];
    for runtime in runtimes {
        let runtime = runtime.expect("a runtime");
        let response = reject(&layer().drain_timeout(AN_HOUR), stalled());
        let status = runtime.block_on(async { expect_ready(response) });
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}
