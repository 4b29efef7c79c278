//! A crowd of clients on real sockets: some deliver, others forge, stall, flood, and repeat what
//! they captured.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, routing::post};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower_qstash::Claims;

use crate::support::{
    URL, current,
    deliveries::{forged_token, token},
    now,
};

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

pub(crate) const VALID_BODY: usize = 16 * KIB;
pub(crate) const VALID_CLIENTS: usize = 8;
/// Clients that send a valid delivery in pieces, with pauses.
pub(crate) const SLOW_CLIENTS: usize = 8;

/// Less than the drain limit.
pub(crate) const REJECTED_BODY: usize = 60 * KIB;

pub(crate) const FORGED_BODY: usize = MIB;
pub(crate) const FORGING_CLIENTS: usize = 48;

/// The larger of the two bodies that are sent with another body's token, over the limit.
const OVERSIZED_BODY: usize = 64 * MIB;
pub(crate) const SWAPPING_CLIENTS: usize = 2;

pub(crate) const MALFORMED_CLIENTS: usize = 4;

/// Clients that start a body and then stay connected without sending anything.
pub(crate) const SILENT_CLIENTS: usize = 64;
/// How many of them have a valid token.
pub(crate) const SILENT_WITH_VALID_TOKEN: usize = SILENT_CLIENTS / 16;

const PROCESSED: &[u8] = br#"{"message":"already processed"}"#;

/// How much the clients of each kind send together.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) valid: usize,
    pub(crate) forged: usize,
    /// Requests with a valid token and another body, half of them over the limit.
    pub(crate) swapped: usize,
    pub(crate) malformed: usize,
    /// Clients that forge a delivery, stall in its body until they are rejected, and start again.
    pub(crate) stalling_clients: usize,
    /// Where each valid delivery is sent a second time, while it is delivered.
    pub(crate) repeat_to: Option<SocketAddr>,
}

/// The responses that the crowd received.
#[derive(Debug, Default)]
pub(crate) struct Responses {
    /// Of the handler.
    pub(crate) handled: AtomicUsize,
    /// Of the replay guard.
    pub(crate) refused: AtomicUsize,
    /// The receiver may close the connection instead.
    pub(crate) to_forged: AtomicUsize,
    /// The receiver may close the connection instead.
    pub(crate) to_swapped: AtomicUsize,
    pub(crate) to_stalled: AtomicUsize,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Crowd {
    /// Runs every client until the last valid delivery has its response.
    pub(crate) async fn run(self, receiver: SocketAddr, forged: Arc<Forged>) -> Arc<Responses> {
        let mut silent = Vec::new();
        for number in 0..SILENT_CLIENTS {
            let token = (number < SILENT_WITH_VALID_TOKEN).then(|| token(b"signed"));
            silent.push(start_and_stall(receiver, &forged, number, token).await.expect("sent"));
        }
        let responses = Arc::new(Responses::default());
        let mut stalling = JoinSet::new();
        for client in 0..self.stalling_clients {
            stalling.spawn(stall_again(
                receiver,
                client,
                Arc::clone(&forged),
                Arc::clone(&responses),
            ));
        }
        let mut clients = JoinSet::new();
        for client in 0..VALID_CLIENTS {
            clients.spawn(self.deliver(receiver, client, Arc::clone(&responses)));
        }
        for client in 0..SLOW_CLIENTS {
            clients.spawn(self.deliver_slowly(receiver, client, Arc::clone(&responses)));
        }
        for client in 0..FORGING_CLIENTS {
            let (forged, responses) = (Arc::clone(&forged), Arc::clone(&responses));
            clients.spawn(async move {
                for number in (client..self.forged).step_by(FORGING_CLIENTS) {
                    if send_forged(receiver, &forged, number).await {
                        count(&responses.to_forged);
                    }
                }
            });
        }
        for client in 0..SWAPPING_CLIENTS {
            let responses = Arc::clone(&responses);
            clients.spawn(async move {
                for number in (client..self.swapped).step_by(SWAPPING_CLIENTS) {
                    if send_swapped(receiver, number).await {
                        count(&responses.to_swapped);
                    }
                }
            });
        }
        for client in 0..MALFORMED_CLIENTS {
            let forged = Arc::clone(&forged);
            clients.spawn(async move {
                for number in (client..self.malformed).step_by(MALFORMED_CLIENTS) {
                    send_malformed(receiver, &forged, number).await;
                }
            });
        }
        if let Some(receiver) = self.repeat_to {
            for client in 0..VALID_CLIENTS {
                let numbers = (client..self.deliveries()).step_by(VALID_CLIENTS);
                let responses = Arc::clone(&responses);
                clients.spawn(async move { self.repeat(receiver, numbers, &responses).await });
            }
        }
        // A receiver that hangs must fail the test instead of hanging it.
        let join = tokio::time::timeout(Duration::from_secs(300), async {
            while let Some(client) = clients.join_next().await {
                client.expect("no client panicked");
            }
        });
        join.await.expect("the receiver does not hang");
        while let Some(client) = stalling.try_join_next() {
            client.expect("no client panicked");
        }
        drop((silent, stalling));
        responses
    }

    /// Returns the number of valid deliveries.
    pub(crate) fn deliveries(self) -> usize {
        self.valid + SLOW_CLIENTS
    }

    /// Sends valid deliveries over one connection. Every third one follows a small forged one in the
    /// same write, which is rejected without closing the connection.
    async fn deliver(self, receiver: SocketAddr, client: usize, responses: Arc<Responses>) {
        let rejected = [b'a'; REJECTED_BODY];
        let forged = forged_token(rejected);
        let mut connection = connect(receiver).await.expect("a connection");
        for number in (client..self.valid).step_by(VALID_CLIENTS) {
            let after_forged = number.is_multiple_of(3);
            let mut packet = Vec::new();
            if after_forged {
                packet.extend(request(&forged, &rejected, number.is_multiple_of(2)));
            }
            packet.extend(delivery(number));
            connection.write_all(&packet).await.expect("the connection survives");
            if after_forged {
                assert_eq!(status(&mut connection).await.expect("a response"), 400);
            }
            self.assert_delivered(&mut connection, number, &responses).await;
        }
    }

    async fn deliver_slowly(self, receiver: SocketAddr, client: usize, responses: Arc<Responses>) {
        let number = self.valid + client;
        let mut connection = connect(receiver).await.expect("a connection");
        for piece in delivery(number).chunks(KIB) {
            connection.write_all(piece).await.expect("the connection survives");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.assert_delivered(&mut connection, number, &responses).await;
    }

    /// Sends valid deliveries that another client delivers, too.
    async fn repeat(
        self,
        receiver: SocketAddr,
        numbers: impl Iterator<Item = usize>,
        responses: &Responses,
    ) {
        let mut connection = connect(receiver).await.expect("a connection");
        for number in numbers {
            connection.write_all(&delivery(number)).await.expect("the connection survives");
            self.assert_delivered(&mut connection, number, responses).await;
        }
    }

    /// Sends every valid delivery again, and asserts that none is handled.
    pub(crate) async fn repeat_all(self, receiver: SocketAddr) {
        let responses = Responses::default();
        self.repeat(receiver, 0..self.deliveries(), &responses).await;
        assert_eq!(responses.refused.into_inner(), self.deliveries(), "all were refused");
    }

    /// Reads the response to a valid delivery: of the handler, or, if it is also sent by another
    /// client, of the replay guard.
    async fn assert_delivered(
        self,
        connection: &mut BufReader<TcpStream>,
        number: usize,
        responses: &Responses,
    ) {
        let (status, content) = response(connection).await.expect("a response");
        if (status, &content) == (200, &body(number)) {
            count(&responses.handled);
            return;
        }
        let is_refused = status == 409 || (status, &content[..]) == (200, PROCESSED);
        assert!(is_refused && self.repeat_to.is_some(), "delivery {number}: {status}");
        count(&responses.refused);
    }
}

/// How often each delivery was handled. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Handled(Arc<Mutex<BTreeMap<Vec<u8>, usize>>>);

impl Handled {
    /// Creates a router whose handler echoes bodies.
    pub(crate) fn router(&self) -> Router {
        let handled = self.clone();
        let handler = async move |_: Claims, body: Bytes| {
            let number = body[..body.len().min(8)].to_vec();
            *handled.0.lock().expect("no handler panicked").entry(number).or_default() += 1;
            body
        };
        Router::new().route("/hook", post(handler))
    }

    /// Asserts that each of so many deliveries was handled once, and nothing else was.
    pub(crate) fn assert_each_once(&self, deliveries: usize) {
        let expected = (0..deliveries).map(|number| (number.to_le_bytes().to_vec(), 1)).collect();
        assert_eq!(*self.0.lock().expect("no handler panicked"), expected);
    }
}

/// Starts a receiver, and returns its address.
pub(crate) async fn start(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// What forging clients send, built once so that it doesn't count as the receiver's memory.
pub(crate) struct Forged {
    /// Heads of deliveries that must be rejected before their body is read.
    heads: Vec<String>,
    /// A sequence of valid deliveries, which a receiver would accept if it lost track of the body.
    body: Vec<u8>,
}

impl Forged {
    pub(crate) fn new() -> Self {
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
async fn send_forged(receiver: SocketAddr, forged: &Forged, number: usize) -> bool {
    let mut connection = connect(receiver).await.expect("a connection");
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
async fn send_swapped(receiver: SocketAddr, number: usize) -> bool {
    static PIECE: [u8; 64 * KIB] = [b'a'; 64 * KIB];
    let mut connection = connect(receiver).await.expect("a connection");
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
async fn send_malformed(receiver: SocketAddr, forged: &Forged, number: usize) {
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
    let mut connection = connect(receiver).await.expect("a connection");
    let _ = connection.write_all(&packet).await;
    // Half of the clients read the response.
    if number.is_multiple_of(2) {
        let _ = connection.shutdown().await;
        let mut responses = Vec::new();
        let _ = connection.read_to_end(&mut responses).await;
        assert!(!String::from_utf8_lossy(&responses).contains(" 200 OK"));
    }
}

/// Sends a head and the start of a body, with this token or a forged one.
async fn start_and_stall(
    receiver: SocketAddr,
    forged: &Forged,
    number: usize,
    token: Option<String>,
) -> io::Result<BufReader<TcpStream>> {
    let mut connection = connect(receiver).await?;
    match token {
        Some(token) => {
            connection.write_all(head(&token, None).as_bytes()).await?;
            connection.write_all(b"2\r\nsi\r\n").await?;
        }
        None => {
            connection.write_all(forged.head(number)).await?;
            for _ in 0..8 {
                connection.write_all(b"a").await?;
            }
        }
    }
    Ok(connection)
}

/// Stalls in the body of one forged delivery after the other.
async fn stall_again(
    receiver: SocketAddr,
    client: usize,
    forged: Arc<Forged>,
    responses: Arc<Responses>,
) {
    for number in client.. {
        let stalled = start_and_stall(receiver, &forged, number, None).await;
        let status = status(&mut stalled.expect("sent")).await;
        assert_eq!(status.expect("a response"), 400);
        count(&responses.to_stalled);
    }
}

async fn connect(receiver: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    Ok(BufReader::new(TcpStream::connect(receiver).await?))
}

/// Returns the body of a valid delivery.
fn body(number: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(VALID_BODY).collect()
}

/// Returns a valid delivery. Its token is the same each time.
fn delivery(number: usize) -> Vec<u8> {
    let body = body(number);
    request(&token(&body), &body, number.is_multiple_of(2))
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
