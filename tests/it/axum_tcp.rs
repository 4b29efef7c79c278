//! An axum receiver over TCP, with HTTP/1.1 and HTTP/2.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Bytes, extract::DefaultBodyLimit, routing::post};
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_qstash::QStashVerifyLayer;

use crate::support::{
    URL,
    deliveries::{forged_token, token},
    futures::with_timeout,
    layer, next, now,
};

const LIMIT: usize = 1024 * 1024;
const DRAIN_LIMIT: usize = 64 * 1024;

/// Echoes bodies and counts the calls of its handler.
struct Receiver {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Receiver {
    async fn start(layer: QStashVerifyLayer) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let echo = async move |body: Bytes| {
            counter.fetch_add(1, Ordering::Relaxed);
            body
        };
        let app = Router::new()
            .route("/hook", post(echo))
            .layer(layer.body_limit(LIMIT))
            .layer(DefaultBodyLimit::disable());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> Connection {
        Connection {
            stream: TcpStream::connect(self.address).await.expect("the receiver is up"),
            read: Vec::new(),
        }
    }

    /// Connects with HTTP/2, by prior knowledge.
    async fn http_2(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.expect("the receiver is up");
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = with_timeout(handshake).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    }
}

/// An HTTP/1.1 connection that sends bytes and reads responses.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

struct Response {
    status: u16,
    body: Vec<u8>,
}

impl Connection {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        with_timeout(self.stream.write_all(bytes.as_ref())).await.expect("the receiver reads");
    }

    /// Reads the next response.
    async fn response(&mut self) -> Response {
        self.try_response().await.expect("a response before the connection ends")
    }

    async fn try_response(&mut self) -> Option<Response> {
        loop {
            let end_of_head = self.read.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end_of_head {
                let head = String::from_utf8(self.read[..end].to_vec())
                    .expect("a UTF-8 head")
                    .to_lowercase();
                let status = head[9..12].parse().expect("a status");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
                if self.read.len() >= end + 4 + length {
                    let body = self.read[end + 4..end + 4 + length].to_vec();
                    self.read.drain(..end + 4 + length);
                    return Some(Response { status, body });
                }
            }
            let mut buffer = [0; 64 * 1024];
            match with_timeout(self.stream.read(&mut buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

fn head(token: &str, headers: &str) -> String {
    format!("POST /hook HTTP/1.1\r\nHost: 10.0.0.7\r\nUpstash-Signature: {token}\r\n{headers}\r\n")
}

fn with_length(token: &str, body: &[u8]) -> Vec<u8> {
    let mut request = head(token, &format!("Content-Length: {}\r\n", body.len())).into_bytes();
    request.extend_from_slice(body);
    request
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Creates a body with every byte value.
fn binary(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 256) as u8).collect()
}

#[tokio::test]
async fn connection_survives_rejected_deliveries() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    for round in 1..=20 {
        let body = binary(round * 97);
        connection.send(with_length(&token(&body), &body)).await;
        let response = connection.response().await;
        assert_eq!((response.status, response.body), (200, body.clone()));
        connection.send(with_length(&forged_token(&body), &body)).await;
        assert_eq!(connection.response().await.status, 400);
        connection.send(with_length(&token(b"another"), &body)).await;
        assert_eq!(connection.response().await.status, 400);
        assert_eq!(receiver.calls(), round);
    }
}

#[tokio::test]
async fn pipelined_deliveries_get_responses_in_order() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let mut all = Vec::new();
    for index in 0..10 {
        let body = binary(index);
        all.extend(with_length(&token(&body), &body));
        all.extend(with_length(&forged_token(&body), &body));
    }
    connection.send(all).await;
    for index in 0..10 {
        let response = connection.response().await;
        assert_eq!((response.status, response.body), (200, binary(index)));
        assert_eq!(connection.response().await.status, 400);
    }
}

#[tokio::test]
async fn chunked_body_arrives_unchanged() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let body = binary(50_000);
    for size in [1_000, 4_999, 50_000] {
        connection.send(head(&token(&body), "Transfer-Encoding: chunked\r\n")).await;
        for piece in body.chunks(size) {
            connection.send(chunk(piece)).await;
        }
        // The trailer is not signed, and not forwarded.
        connection.send("0\r\nX-Checksum: 1\r\n\r\n").await;
        let response = connection.response().await;
        assert_eq!(response.status, 200);
        assert_eq!(response.body, body);
    }
    connection.send(head(&token(b""), "Transfer-Encoding: chunked\r\n")).await;
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 200);
    // A request without a length has an empty body.
    connection.send(head(&token(b""), "")).await;
    assert_eq!(connection.response().await.status, 200);
}

#[tokio::test]
async fn declared_or_streamed_body_over_the_limit_is_413() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let largest = binary(1024 * 1024);
    connection.send(with_length(&token(&largest), &largest)).await;
    let response = connection.response().await;
    assert_eq!((response.status, response.body == largest), (200, true));

    // With `Expect: 100-continue`, the declared length alone is rejected.
    let too_large = binary(1024 * 1024 + 1);
    let mut connection = receiver.connect().await;
    let declared = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", too_large.len());
    connection.send(head(&token(&too_large), &declared)).await;
    assert_eq!(connection.response().await.status, 413);

    let mut connection = receiver.connect().await;
    connection.send(head(&token(&too_large), "Transfer-Encoding: chunked\r\n")).await;
    for piece in too_large.chunks(64 * 1024) {
        connection.send(chunk(piece)).await;
    }
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 413);
    assert_eq!(receiver.calls(), 1);
}

#[tokio::test]
async fn expect_100_continue_is_rejected_before_the_body() {
    let receiver = Receiver::start(layer()).await;
    let expect = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let mut connection = receiver.connect().await;
    connection.send(head(&forged_token(b"Hello"), expect)).await;
    assert_eq!(connection.response().await.status, 400);

    let mut connection = receiver.connect().await;
    connection.send(head(&token(b"Hello"), expect)).await;
    assert_eq!(connection.response().await.status, 100);
    connection.send("Hello").await;
    assert_eq!(connection.response().await.status, 200);
    connection.send(head(&token(b"Hello"), expect)).await;
    assert_eq!(connection.response().await.status, 100);
    connection.send("Hallo").await;
    assert_eq!(connection.response().await.status, 400);

    // A body that was asked for is read on when it turns out too large, so the connection survives.
    let too_large = binary(LIMIT + DRAIN_LIMIT / 2);
    let expect = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    let mut connection = receiver.connect().await;
    connection.send(head(&token(&too_large), expect)).await;
    assert_eq!(connection.response().await.status, 100);
    for piece in too_large.chunks(LIMIT / 8) {
        connection.send(chunk(piece)).await;
    }
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 413);
    connection.send(with_length(&token(b"Hello"), b"Hello")).await;
    assert_eq!(connection.response().await.status, 200);
    assert_eq!(receiver.calls(), 2);
}

#[tokio::test]
async fn declared_body_over_the_limit_is_not_awaited() {
    let too_large = binary(LIMIT + 1);
    let declared = head(&token(&too_large), &format!("Content-Length: {}\r\n", too_large.len()));

    let receiver = Receiver::start(layer().drain_limit(0)).await;
    let mut connection = receiver.connect().await;
    connection.send(&declared).await;
    assert_eq!(connection.response().await.status, 413, "without reading the body");

    // At most the drain limit is awaited, as for a forged token.
    let receiver = Receiver::start(layer()).await;
    let forged = declared.replace(&token(&too_large), &forged_token(&too_large));
    for (head, status) in [(declared, 413), (forged, 400)] {
        let mut connection = receiver.connect().await;
        connection.send(head).await;
        connection.send(&too_large[..DRAIN_LIMIT]).await;
        assert_eq!(connection.response().await.status, status);
    }
    assert_eq!(receiver.calls(), 0);
}

#[tokio::test]
async fn streamed_body_is_rejected_once_over_the_limit() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let too_large = binary(LIMIT + 1);
    let (largest, one_more) = too_large.split_at(LIMIT);
    let chunked = "Transfer-Encoding: chunked\r\n";

    connection.send(head(&token(largest), chunked)).await;
    connection.send(chunk(largest)).await;
    connection.send("0\r\n\r\n").await;
    let response = connection.response().await;
    assert_eq!((response.status, response.body == largest), (200, true));

    // One byte over the limit, and the connection survives.
    connection.send(head(&token(&too_large), chunked)).await;
    connection.send([chunk(largest), chunk(one_more)].concat()).await;
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 413);
    connection.send(with_length(&token(b"Hello"), b"Hello")).await;
    assert_eq!(connection.response().await.status, 200);

    // A body that never ends gets its response too.
    connection.send(head(&token(&too_large), chunked)).await;
    connection
        .send([chunk(largest), chunk(one_more), chunk(&largest[..DRAIN_LIMIT])].concat())
        .await;
    assert_eq!(connection.response().await.status, 413);
    assert_eq!(receiver.calls(), 2);
}

#[tokio::test]
async fn rejection_reaches_the_client_within_the_drain_limit() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let body = binary(64 * 1024);
    for _ in 0..3 {
        connection.send(with_length(&forged_token(&body), &body)).await;
        let response = connection.response().await;
        assert_eq!(response.status, 400);
        assert!(String::from_utf8(response.body).unwrap().contains("no configured signing key"));
    }
    connection.send(with_length(&token(b"Hello"), b"Hello")).await;
    assert_eq!(connection.response().await.status, 200);

    let receiver = Receiver::start(layer().drain_limit(0)).await;
    let mut connection = receiver.connect().await;
    connection.send(head(&forged_token(&body), "Content-Length: 65536\r\n")).await;
    assert_eq!(connection.response().await.status, 400, "without reading the body");
}

#[tokio::test]
async fn aborted_request_does_not_affect_the_next() {
    let receiver = Receiver::start(layer()).await;
    for (signature, framing, part) in [
        (token(b"Hello"), "Content-Length: 5\r\n", &b"Hel"[..]),
        (token(b"Hello"), "Transfer-Encoding: chunked\r\n", b"3\r\nHel\r\n"),
        (token(b"Hello"), "Transfer-Encoding: chunked\r\n", b"5\r\nHel"),
        (token(b"Hello"), "Transfer-Encoding: chunked\r\n", b"zz\r\n"),
        // Everything that was signed has arrived, but the body has not ended.
        (token(b"Hello"), "Content-Length: 6\r\n", b"Hello"),
        (token(b"Hello"), "Transfer-Encoding: chunked\r\n", b"5\r\nHello\r\n"),
        (token(b""), "Transfer-Encoding: chunked\r\n", b""),
        (forged_token(b"Hello"), "Content-Length: 5\r\n", b"Hel"),
    ] {
        let mut connection = receiver.connect().await;
        connection.send(head(&signature, framing)).await;
        connection.send(part).await;
        connection.stream.shutdown().await.expect("a half-closed connection");
        if let Some(response) = connection.try_response().await {
            assert_eq!(response.status, 400);
        }
        let mut next = receiver.connect().await;
        let before = receiver.calls();
        next.send(with_length(&token(b"Hello"), b"Hello")).await;
        assert_eq!(next.response().await.status, 200);
        assert_eq!(receiver.calls(), before + 1);
    }
    assert_eq!(receiver.calls(), 8, "only the complete requests");
}

#[tokio::test]
async fn invalid_signature_headers_are_rejected() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let valid = token(b"Hello");
    let cases: [(Vec<u8>, &str); 6] = [
        (b"X-Nothing: 1\r\n".to_vec(), "header is missing"),
        (
            format!("Upstash-Signature: {valid}\r\nupstash-signature: {valid}\r\n").into(),
            "more than one",
        ),
        (b"Upstash-Signature:\r\n".to_vec(), "header is empty"),
        (b"Upstash-Signature:   \r\n".to_vec(), "header is empty"),
        ([b"Upstash-Signature: ".as_slice(), b"\xE9\xFF", b"\r\n"].concat(), "not ASCII"),
        (format!("Upstash-Signature: {}\r\n", "a".repeat(8193)).into(), "8193 bytes"),
    ];
    for (header, reason) in cases {
        connection.send("POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n").await;
        connection.send(header).await;
        connection.send("\r\nHello").await;
        let response = connection.response().await;
        let text = String::from_utf8(response.body).unwrap();
        assert!(response.status == 400 && text.contains(reason), "{reason}: {text}");
    }
    // White space around a header's value is not part of it (RFC 9110 §5.5).
    connection.send(format!("POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nUPSTASH-SIGNATURE: \t {valid} \r\n\r\nHello")).await;
    assert_eq!(connection.response().await.status, 200);
    assert_eq!(receiver.calls(), 1);
}

#[tokio::test]
async fn concurrent_http_2_deliveries_are_independent() {
    let receiver = Receiver::start(layer()).await;
    let sender = receiver.http_2().await;
    let mut deliveries = tokio::task::JoinSet::new();
    for index in 0..40 {
        let mut sender = sender.clone();
        let body = binary(index * 1_777);
        let (signature, expected) = match index % 4 {
            0 => (token(&body), StatusCode::OK),
            1 => (next().delivery(URL, &body, now()).token(), StatusCode::OK),
            2 => (forged_token(&body), StatusCode::BAD_REQUEST),
            _ => (token(b"another"), StatusCode::BAD_REQUEST),
        };
        // The client controls the authority, so it is ignored.
        let request =
            Request::post("http://receiver.internal/hook").header("upstash-signature", signature);
        let request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
        assert!(!request.headers().contains_key(HOST));
        deliveries.spawn(async move {
            let response = with_timeout(sender.send_request(request)).await.expect("a response");
            assert_eq!((response.status(), response.version()), (expected, http::Version::HTTP_2));
            let echoed = with_timeout(response.into_body().collect())
                .await
                .expect("a complete body")
                .to_bytes();
            assert_eq!(expected == StatusCode::OK, echoed == body);
        });
    }
    deliveries.join_all().await;
    assert_eq!(receiver.calls(), 20);
}

/// Over HTTP/2 a rejection resets the stream instead of closing the connection.
#[tokio::test]
async fn http_2_connection_survives_bodies_over_the_limits() {
    let receiver = Receiver::start(layer()).await;
    let mut sender = receiver.http_2().await;
    let [largest, too_large] = [LIMIT, LIMIT + 1].map(binary);
    for (signature, body, status) in [
        (forged_token(&largest), &largest, 400),
        (token(&too_large), &too_large, 413),
        (token(b"another"), &largest, 400),
        (token(&largest), &largest, 200),
    ] {
        let request = Request::post("http://receiver.internal/hook")
            .header("upstash-signature", signature)
            .body(Full::from(body.clone()))
            .expect("a valid request");
        let response = with_timeout(sender.send_request(request)).await.expect("a response");
        assert_eq!(response.status(), status);
        let echoed =
            with_timeout(response.into_body().collect()).await.expect("a complete body").to_bytes();
        assert_eq!(status == 200, echoed == *body);
    }
    assert_eq!(receiver.calls(), 1);
}
