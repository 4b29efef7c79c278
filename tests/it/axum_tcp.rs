//! An axum receiver over real TCP: HTTP/1.1 and HTTP/2, bodies as they come on the wire.

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

use crate::{
    process::in_time,
    support::{BASE, current, layer, next, now, stranger},
};

const LIMIT: usize = 1024 * 1024;
const DRAIN: usize = 64 * 1024;

/// A receiver that echoes bodies and counts the calls of its handler.
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

    /// An HTTP/2 connection by prior knowledge.
    async fn http_2(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.expect("the receiver is up");
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = in_time(handshake).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    }
}

/// One HTTP/1.1 connection, written and read by hand.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Connection {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        in_time(self.stream.write_all(bytes.as_ref())).await.expect("the receiver reads");
    }

    /// The next answer on this connection.
    async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer before the end of the connection")
    }

    async fn try_answer(&mut self) -> Option<Answer> {
        loop {
            let end_of_head = self.read.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end_of_head {
                let head = String::from_utf8(self.read[..end].to_vec())
                    .expect("a text head")
                    .to_lowercase();
                let status = head[9..12].parse().expect("a status");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
                if self.read.len() >= end + 4 + length {
                    let body = self.read[end + 4..end + 4 + length].to_vec();
                    self.read.drain(..end + 4 + length);
                    return Some(Answer { status, body });
                }
            }
            let mut buffer = [0; 64 * 1024];
            match in_time(self.stream.read(&mut buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

fn token(body: &[u8]) -> String {
    current().delivery(&format!("{BASE}/hook"), body, now()).token()
}

fn forged(body: &[u8]) -> String {
    stranger().delivery(&format!("{BASE}/hook"), body, now()).token()
}

fn head(signature: &str, more: &str) -> String {
    format!("POST /hook HTTP/1.1\r\nHost: 10.0.0.7\r\nUpstash-Signature: {signature}\r\n{more}\r\n")
}

fn sized(signature: &str, body: &[u8]) -> Vec<u8> {
    let mut request = head(signature, &format!("Content-Length: {}\r\n", body.len())).into_bytes();
    request.extend_from_slice(body);
    request
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Bytes of every value, of a length that no frame divides.
fn binary(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + index / 256) as u8).collect()
}

#[tokio::test]
async fn genuine_and_rejected_deliveries_share_a_connection() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    for round in 1..=20 {
        let body = binary(round * 97);
        connection.send(sized(&token(&body), &body)).await;
        let answer = connection.answer().await;
        assert_eq!((answer.status, answer.body), (200, body.clone()));
        connection.send(sized(&forged(&body), &body)).await;
        assert_eq!(connection.answer().await.status, 400);
        connection.send(sized(&token(b"another"), &body)).await;
        assert_eq!(connection.answer().await.status, 400);
        assert_eq!(receiver.calls(), round);
    }
}

#[tokio::test]
async fn pipelined_deliveries_are_answered_in_order() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let mut all = Vec::new();
    for index in 0..10 {
        let body = binary(index);
        all.extend(sized(&token(&body), &body));
        all.extend(sized(&forged(&body), &body));
    }
    connection.send(all).await;
    for index in 0..10 {
        let answer = connection.answer().await;
        assert_eq!((answer.status, answer.body), (200, binary(index)));
        assert_eq!(connection.answer().await.status, 400);
    }
}

#[tokio::test]
async fn chunked_bodies_arrive_byte_for_byte() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let body = binary(50_000);
    for size in [1_000, 4_999, 50_000] {
        connection.send(head(&token(&body), "Transfer-Encoding: chunked\r\n")).await;
        for piece in body.chunks(size) {
            connection.send(chunk(piece)).await;
        }
        // With a trailer, which is not signed and not handed on.
        connection.send("0\r\nX-Checksum: 1\r\n\r\n").await;
        let answer = connection.answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, body);
    }
    connection.send(head(&token(b""), "Transfer-Encoding: chunked\r\n")).await;
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.answer().await.status, 200);
    // No body at all, and no length: an empty one has a hash too.
    connection.send(head(&token(b""), "")).await;
    assert_eq!(connection.answer().await.status, 200);
}

#[tokio::test]
async fn the_limit_is_413_whether_declared_or_streamed() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let largest = binary(1024 * 1024);
    connection.send(sized(&token(&largest), &largest)).await;
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.body == largest), (200, true));

    // Declared: with `Expect` the body need not even be sent.
    let too_large = binary(1024 * 1024 + 1);
    let mut connection = receiver.connect().await;
    let declared = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", too_large.len());
    connection.send(head(&token(&too_large), &declared)).await;
    assert_eq!(connection.answer().await.status, 413);

    let mut connection = receiver.connect().await;
    connection.send(head(&token(&too_large), "Transfer-Encoding: chunked\r\n")).await;
    for piece in too_large.chunks(64 * 1024) {
        connection.send(chunk(piece)).await;
    }
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.answer().await.status, 413);
    assert_eq!(receiver.calls(), 1);
}

#[tokio::test]
async fn who_expects_100_continue_is_told_at_once() {
    let receiver = Receiver::start(layer()).await;
    let expect = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let mut connection = receiver.connect().await;
    connection.send(head(&forged(b"Hello"), expect)).await;
    assert_eq!(connection.answer().await.status, 400);

    let mut connection = receiver.connect().await;
    connection.send(head(&token(b"Hello"), expect)).await;
    assert_eq!(connection.answer().await.status, 100);
    connection.send("Hello").await;
    assert_eq!(connection.answer().await.status, 200);
    connection.send(head(&token(b"Hello"), expect)).await;
    assert_eq!(connection.answer().await.status, 100);
    connection.send("Hallo").await;
    assert_eq!(connection.answer().await.status, 400);

    // Over the limit while it streams: asked for, so read on, and the connection lives.
    let too_large = binary(LIMIT + DRAIN / 2);
    let expect = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    let mut connection = receiver.connect().await;
    connection.send(head(&token(&too_large), expect)).await;
    assert_eq!(connection.answer().await.status, 100);
    for piece in too_large.chunks(LIMIT / 8) {
        connection.send(chunk(piece)).await;
    }
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.answer().await.status, 413);
    connection.send(sized(&token(b"Hello"), b"Hello")).await;
    assert_eq!(connection.answer().await.status, 200);
    assert_eq!(receiver.calls(), 2);
}

#[tokio::test]
async fn a_declared_body_over_the_limit_is_not_waited_for() {
    let too_large = binary(LIMIT + 1);
    let declared = head(&token(&too_large), &format!("Content-Length: {}\r\n", too_large.len()));

    let receiver = Receiver::start(layer().drain_limit(0)).await;
    let mut connection = receiver.connect().await;
    connection.send(&declared).await;
    assert_eq!(connection.answer().await.status, 413, "answered without a byte of the body");

    // No more of it is waited for than is drained; nor is it where the head is forged.
    let receiver = Receiver::start(layer()).await;
    let forged = declared.replace(&token(&too_large), &forged(&too_large));
    for (head, status) in [(declared, 413), (forged, 400)] {
        let mut connection = receiver.connect().await;
        connection.send(head).await;
        connection.send(&too_large[..DRAIN]).await;
        assert_eq!(connection.answer().await.status, status);
    }
    assert_eq!(receiver.calls(), 0);
}

#[tokio::test]
async fn a_streamed_body_is_refused_once_it_is_over_the_limit() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let too_large = binary(LIMIT + 1);
    let (largest, one_more) = too_large.split_at(LIMIT);
    let chunked = "Transfer-Encoding: chunked\r\n";

    connection.send(head(&token(largest), chunked)).await;
    connection.send(chunk(largest)).await;
    connection.send("0\r\n\r\n").await;
    let answer = connection.answer().await;
    assert_eq!((answer.status, answer.body == largest), (200, true));

    // A byte too many, and the connection lives on.
    connection.send(head(&token(&too_large), chunked)).await;
    connection.send([chunk(largest), chunk(one_more)].concat()).await;
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.answer().await.status, 413);
    connection.send(sized(&token(b"Hello"), b"Hello")).await;
    assert_eq!(connection.answer().await.status, 200);

    // A body that never ends is answered all the same.
    connection.send(head(&token(&too_large), chunked)).await;
    connection.send([chunk(largest), chunk(one_more), chunk(&largest[..DRAIN])].concat()).await;
    assert_eq!(connection.answer().await.status, 413);
    assert_eq!(receiver.calls(), 2);
}

/// The reason reaches the sender, and the connection lives on, where the body is within the drain
/// limit.
#[tokio::test]
async fn a_rejected_body_is_read_so_that_the_reason_arrives() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let body = binary(64 * 1024);
    for _ in 0..3 {
        connection.send(sized(&forged(&body), &body)).await;
        let answer = connection.answer().await;
        assert_eq!(answer.status, 400);
        assert!(String::from_utf8(answer.body).unwrap().contains("no configured signing key"));
    }
    connection.send(sized(&token(b"Hello"), b"Hello")).await;
    assert_eq!(connection.answer().await.status, 200);

    let receiver = Receiver::start(layer().drain_limit(0)).await;
    let mut connection = receiver.connect().await;
    connection.send(head(&forged(&body), "Content-Length: 65536\r\n")).await;
    assert_eq!(connection.answer().await.status, 400, "answered without a byte of the body");
}

#[tokio::test]
async fn a_sender_that_hangs_up_harms_nobody() {
    let receiver = Receiver::start(layer()).await;
    for (signature, framing, part) in [
        (token(b"Hello"), "Content-Length: 5\r\n", &b"Hel"[..]),
        (token(b"Hello"), "Transfer-Encoding: chunked\r\n", b"3\r\nHel\r\n"),
        (token(b"Hello"), "Transfer-Encoding: chunked\r\n", b"5\r\nHel"),
        (token(b"Hello"), "Transfer-Encoding: chunked\r\n", b"zz\r\n"),
        // All that was signed has come, and still it is not the end.
        (token(b"Hello"), "Content-Length: 6\r\n", b"Hello"),
        (token(b"Hello"), "Transfer-Encoding: chunked\r\n", b"5\r\nHello\r\n"),
        (token(b""), "Transfer-Encoding: chunked\r\n", b""),
        (forged(b"Hello"), "Content-Length: 5\r\n", b"Hel"),
    ] {
        let mut connection = receiver.connect().await;
        connection.send(head(&signature, framing)).await;
        connection.send(part).await;
        connection.stream.shutdown().await.expect("half closed");
        if let Some(answer) = connection.try_answer().await {
            assert_eq!(answer.status, 400);
        }
        let mut next = receiver.connect().await;
        let before = receiver.calls();
        next.send(sized(&token(b"Hello"), b"Hello")).await;
        assert_eq!(next.answer().await.status, 200);
        assert_eq!(receiver.calls(), before + 1);
    }
    assert_eq!(receiver.calls(), 8, "only the whole ones");
}

#[tokio::test]
async fn bad_signature_headers_on_the_wire() {
    let receiver = Receiver::start(layer()).await;
    let mut connection = receiver.connect().await;
    let good = token(b"Hello");
    let cases: [(Vec<u8>, &str); 6] = [
        (b"X-Nothing: 1\r\n".to_vec(), "header is missing"),
        (
            format!("Upstash-Signature: {good}\r\nupstash-signature: {good}\r\n").into(),
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
        let answer = connection.answer().await;
        let text = String::from_utf8(answer.body).unwrap();
        assert!(answer.status == 400 && text.contains(reason), "{reason}: {text}");
    }
    // White space around a header's value is not part of it (RFC 9110 §5.5).
    connection.send(format!("POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nUPSTASH-SIGNATURE: \t {good} \r\n\r\nHello")).await;
    assert_eq!(connection.answer().await.status, 200);
    assert_eq!(receiver.calls(), 1);
}

#[tokio::test]
async fn http_2_deliveries_side_by_side() {
    let receiver = Receiver::start(layer()).await;
    let sender = receiver.http_2().await;
    let mut deliveries = tokio::task::JoinSet::new();
    for index in 0..40 {
        let mut sender = sender.clone();
        let body = binary(index * 1_777);
        let (signature, expected) = match index % 4 {
            0 => (token(&body), StatusCode::OK),
            1 => (next().delivery(&format!("{BASE}/hook"), &body, now()).token(), StatusCode::OK),
            2 => (forged(&body), StatusCode::BAD_REQUEST),
            _ => (token(b"another"), StatusCode::BAD_REQUEST),
        };
        // The authority is the sender's word, and not asked.
        let request =
            Request::post("http://receiver.internal/hook").header("upstash-signature", signature);
        let request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
        assert!(!request.headers().contains_key(HOST));
        deliveries.spawn(async move {
            let answer = in_time(sender.send_request(request)).await.expect("an answer");
            assert_eq!((answer.status(), answer.version()), (expected, http::Version::HTTP_2));
            let echoed =
                in_time(answer.into_body().collect()).await.expect("a whole answer").to_bytes();
            assert_eq!(expected == StatusCode::OK, echoed == body);
        });
    }
    deliveries.join_all().await;
    assert_eq!(receiver.calls(), 20);
}

/// Here a refused sender is stopped by a reset of its stream, not by the end of the connection.
#[tokio::test]
async fn http_2_outlives_bodies_over_every_limit() {
    let receiver = Receiver::start(layer()).await;
    let mut sender = receiver.http_2().await;
    let [largest, too_large] = [LIMIT, LIMIT + 1].map(binary);
    for (signature, body, status) in [
        (forged(&largest), &largest, 400),
        (token(&too_large), &too_large, 413),
        (token(b"another"), &largest, 400),
        (token(&largest), &largest, 200),
    ] {
        let request = Request::post("http://receiver.internal/hook")
            .header("upstash-signature", signature)
            .body(Full::from(body.clone()))
            .expect("a good request");
        let answer = in_time(sender.send_request(request)).await.expect("an answer");
        assert_eq!(answer.status(), status);
        let echoed =
            in_time(answer.into_body().collect()).await.expect("a whole answer").to_bytes();
        assert_eq!(status == 200, echoed == *body);
    }
    assert_eq!(receiver.calls(), 1);
}
