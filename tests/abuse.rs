//! A receiver on real sockets, under load from valid, forged, malformed, slow and silent clients.
//!
//! A test target of its own, because it counts the heap of the whole process.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, routing::post};
use peak_alloc::PeakAlloc;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower_qstash::{Claims, PublicUrl};

#[expect(dead_code, reason = "shared with the other test targets")]
mod support;

use support::{
    URL, current,
    deliveries::{forged_token, token},
    layer_for, now,
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const VALID: usize = 2_000;
const VALID_BODY: usize = 16 * KIB;
const VALID_CLIENTS: usize = 8;

/// Less than the drain limit.
const REJECTED_BODY: usize = 60 * KIB;

const FORGED: usize = 2_000;
const FORGED_BODY: usize = MIB;
const FORGING_CLIENTS: usize = 48;

/// Requests with a valid token and another body, half of them over the limit.
const REPLAYED: usize = 60;
const OVERSIZED_BODY: usize = 64 * MIB;
const REPLAYING_CLIENTS: usize = 2;

const MALFORMED: usize = 400;
const MALFORMED_CLIENTS: usize = 4;

/// Clients that send a valid delivery in pieces, with pauses.
const SLOW_CLIENTS: usize = 8;

/// Clients that start a body and then stay connected without sending anything.
const SILENT_CLIENTS: usize = 64;

/// The heap that the load may take, with both ends of its sockets.
///
/// A forged request takes about twice the drain limit of 64 KiB, because hyper reads ahead, instead
/// of the 1 MiB that it sends: buffered, those alone would take 48 MiB. A body is only buffered for
/// a valid token, up to the limit of 3 MiB, which few clients reach at the same time.
const BOUND: usize = (FORGING_CLIENTS + MALFORMED_CLIENTS) * 128 * KIB
    + REPLAYING_CLIENTS * 3 * MIB
    + (VALID_CLIENTS + SLOW_CLIENTS) * 4 * (REJECTED_BODY + VALID_BODY)
    + SILENT_CLIENTS * 64 * KIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_valid_deliveries_get_through_under_load() {
    let calls = Arc::new(AtomicUsize::new(0));
    let address = start_receiver(Arc::clone(&calls)).await;
    let forged = Arc::new(Forged::new());

    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();

    let mut silent = Vec::new();
    for number in 0..SILENT_CLIENTS {
        silent.push(start_and_stall(address, &forged, number).await.expect("a connection"));
    }
    let mut clients = JoinSet::new();
    for client in 0..VALID_CLIENTS {
        clients.spawn(deliver(address, client));
    }
    for client in 0..SLOW_CLIENTS {
        clients.spawn(deliver_slowly(address, client));
    }
    let responses = Arc::new(Responses::default());
    for client in 0..FORGING_CLIENTS {
        let (forged, responses) = (Arc::clone(&forged), Arc::clone(&responses));
        clients.spawn(async move {
            for number in (client..FORGED).step_by(FORGING_CLIENTS) {
                let received = send_forged(address, &forged, number).await;
                responses.to_forged.fetch_add(received.into(), Ordering::Relaxed);
            }
        });
    }
    for client in 0..REPLAYING_CLIENTS {
        let responses = Arc::clone(&responses);
        clients.spawn(async move {
            for number in (client..REPLAYED).step_by(REPLAYING_CLIENTS) {
                let received = replay(address, number).await;
                responses.to_replayed.fetch_add(received.into(), Ordering::Relaxed);
            }
        });
    }
    for client in 0..MALFORMED_CLIENTS {
        let forged = Arc::clone(&forged);
        clients.spawn(async move {
            for number in (client..MALFORMED).step_by(MALFORMED_CLIENTS) {
                send_malformed(address, &forged, number).await;
            }
        });
    }
    // A receiver that hangs must fail the test instead of hanging it.
    let join = tokio::time::timeout(Duration::from_secs(300), async {
        while let Some(client) = clients.join_next().await {
            client.expect("no client panicked");
        }
    });
    join.await.expect("the receiver does not hang");
    drop(silent);

    assert_eq!(calls.load(Ordering::Relaxed), VALID + SLOW_CLIENTS, "calls of the handler");
    let Responses { to_forged, to_replayed } = &*responses;
    assert!(to_forged.load(Ordering::Relaxed) > FORGED / 4, "{to_forged:?} responses received");
    assert!(to_replayed.load(Ordering::Relaxed) > 0, "{to_replayed:?} responses received");
    let peak = HEAP.peak_usage() - before;
    assert!(peak < BOUND, "{peak} bytes, more than {BOUND}");
}

/// Starts a receiver that counts the calls of its handler and echoes bodies.
async fn start_receiver(calls: Arc<AtomicUsize>) -> SocketAddr {
    let verify = layer_for(PublicUrl::exact(URL).expect("a valid URL"));
    let handler = async move |_: Claims, body: Bytes| {
        calls.fetch_add(1, Ordering::Relaxed);
        body
    };
    let app = Router::new().route("/hook", post(handler)).layer(verify);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Sends valid deliveries over one connection. Every third one follows a small forged one in the
/// same write, which is rejected without closing the connection.
async fn deliver(address: SocketAddr, client: usize) {
    let rejected = [b'a'; REJECTED_BODY];
    let forged = forged_token(rejected);
    let mut connection = connect(address).await.expect("a connection");
    for number in (client..VALID).step_by(VALID_CLIENTS) {
        let chunked = number.is_multiple_of(2);
        let body: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(VALID_BODY).collect();
        let mut packet = Vec::new();
        let after_forged = number.is_multiple_of(3);
        if after_forged {
            packet.extend(request(&forged, &rejected, chunked));
        }
        packet.extend(request(&token(&body), &body, chunked));
        connection.write_all(&packet).await.expect("the connection survives");
        if after_forged {
            assert_eq!(status(&mut connection).await.expect("a response"), 400);
        }
        let (status, echoed) = response(&mut connection).await.expect("a response");
        assert_eq!(status, 200);
        assert!(echoed == body, "delivery {number} arrived unchanged");
    }
}

async fn deliver_slowly(address: SocketAddr, client: usize) {
    let body: Vec<u8> = client.to_le_bytes().into_iter().cycle().take(VALID_BODY).collect();
    let mut connection = connect(address).await.expect("a connection");
    for piece in request(&token(&body), &body, true).chunks(KIB) {
        connection.write_all(piece).await.expect("the connection survives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, echoed) = response(&mut connection).await.expect("a response");
    assert_eq!(status, 200);
    assert!(echoed == body, "the slow delivery arrived unchanged");
}

/// Counts the responses to requests on which the receiver may close the connection.
#[derive(Default)]
struct Responses {
    to_forged: AtomicUsize,
    to_replayed: AtomicUsize,
}

/// What forging clients send, built once so that it doesn't count as the receiver's memory.
struct Forged {
    /// Heads of deliveries that must be rejected before their body is read.
    heads: Vec<String>,
    /// A sequence of valid deliveries, which a receiver would accept if it lost track of the body.
    body: Vec<u8>,
}

impl Forged {
    fn new() -> Self {
        let smuggled = request(&token(b"smuggled"), b"smuggled", false);
        let body: Vec<u8> = smuggled.into_iter().cycle().take(FORGED_BODY).collect();
        let long_ago = now() - Duration::from_secs(300);
        let heads = [
            forged_token(&body),
            current().delivery(URL, &body, long_ago).token(),
            current().delivery("https://api.example.com/other", &body, now()).token(),
            "no.token.atall".to_owned(),
        ];
        Self { heads: heads.map(|token| head(&token, Some(FORGED_BODY))).into(), body }
    }

    fn head(&self, number: usize) -> &[u8] {
        self.heads[number % self.heads.len()].as_bytes()
    }
}

/// Sends a request that must be rejected before its body is read, and returns whether a response
/// was received. The receiver closes the connection on a body over the drain limit, so sending it
/// and reading the response may fail.
async fn send_forged(address: SocketAddr, forged: &Forged, number: usize) -> bool {
    let mut connection = connect(address).await.expect("a connection");
    let sent = async {
        connection.write_all(forged.head(number)).await?;
        connection.write_all(&forged.body).await
    };
    let _ = sent.await;
    let status = status(&mut connection).await;
    assert!(matches!(status, Ok(400) | Err(_)), "{status:?}");
    status.is_ok()
}

/// Sends a body that is too large, or not the signed one, with a valid token. Returns whether a
/// response was received.
async fn replay(address: SocketAddr, number: usize) -> bool {
    static PIECE: [u8; 64 * KIB] = [b'a'; 64 * KIB];
    let mut connection = connect(address).await.expect("a connection");
    let (length, expected) = match number % 2 {
        0 => (OVERSIZED_BODY, 413),
        _ => (MIB, 400),
    };
    let sent = async {
        connection.write_all(head(&token(b"signed"), None).as_bytes()).await?;
        for _ in 0..length / PIECE.len() {
            connection.write_all(format!("{:x}\r\n", PIECE.len()).as_bytes()).await?;
            connection.write_all(&PIECE).await?;
            connection.write_all(b"\r\n").await?;
        }
        connection.write_all(b"0\r\n\r\n").await
    };
    let _ = sent.await;
    let status = status(&mut connection).await;
    assert!(status.as_ref().map_or(true, |status| *status == expected), "{status:?}");
    status.is_ok()
}

/// Sends an incomplete request, or bytes that are not HTTP.
async fn send_malformed(address: SocketAddr, forged: &Forged, number: usize) {
    let token = token(b"signed");
    let mut packet = Vec::new();
    match number % 5 {
        0 => packet.extend(b"\0\xff"),
        1 => {
            packet.extend(forged.head(number));
            packet.extend(&forged.body[..10 * KIB]);
        }
        // The last byte is missing.
        2 => packet
            .extend_from_slice(request(&token, b"signed", false).split_last().expect("bytes").1),
        3 => {
            packet.extend(head(&token, None).as_bytes());
            packet.extend(b"6\r\nsigned\r\nnonsense\r\n\r\n");
        }
        _ => {
            packet.extend(request(&forged_token(b"small"), b"small", false));
            packet.extend(b"\0\xff\r\n\r\nPOST /hook HTTP/7\r\n:\r\n\r\n".repeat(100));
        }
    }
    let mut connection = connect(address).await.expect("a connection");
    let _ = connection.write_all(&packet).await;
    // Half of the clients read the response.
    if number.is_multiple_of(2) {
        let _ = connection.shutdown().await;
        let mut responses = Vec::new();
        let _ = connection.read_to_end(&mut responses).await;
        assert!(!String::from_utf8_lossy(&responses).contains(" 200 OK"));
    }
}

/// Sends a head and the start of a body; one in sixteen has a valid token.
async fn start_and_stall(
    address: SocketAddr,
    forged: &Forged,
    number: usize,
) -> io::Result<BufReader<TcpStream>> {
    let mut connection = connect(address).await?;
    match number % 16 {
        0 => {
            connection.write_all(head(&token(b"signed"), None).as_bytes()).await?;
            connection.write_all(b"2\r\nsi\r\n").await?;
        }
        _ => {
            connection.write_all(forged.head(number)).await?;
            for _ in 0..8 {
                connection.write_all(b"a").await?;
            }
        }
    }
    Ok(connection)
}

async fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    Ok(BufReader::new(TcpStream::connect(address).await?))
}

fn request(token: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    let mut request = head(token, (!chunked).then_some(body.len())).into_bytes();
    if !chunked {
        request.extend(body);
        return request;
    }
    for piece in body.chunks(5 * KIB) {
        request.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        request.extend(piece);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

/// Returns the head of a delivery. Without a length, its body is chunked.
fn head(token: &str, length: Option<usize>) -> String {
    let framing = match length {
        Some(length) => format!("content-length: {length}"),
        None => "transfer-encoding: chunked".to_owned(),
    };
    format!(
        "POST /hook HTTP/1.1\r\nhost: localhost\r\nupstash-signature: {token}\r\n{framing}\r\n\r\n"
    )
}

async fn status(connection: &mut BufReader<TcpStream>) -> io::Result<u16> {
    Ok(response(connection).await?.0)
}

async fn response(connection: &mut BufReader<TcpStream>) -> io::Result<(u16, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head["HTTP/1.1 ".len()..][..3].parse().expect("a status");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.expect("a length").parse().expect("a number");
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    Ok((status, body))
}
