//! A receiver on real sockets, in a crowd that means it harm.
//!
//! A test binary of its own, for it counts the heap of the whole process.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Bytes, routing::post};
use peak_alloc::PeakAlloc;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, Signer, SigningKeys};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const KEY: &str = "sig_abuse_current";
const URL: &str = "https://api.example.com/hook";

const GENUINE: usize = 2_000;
const GENUINE_BODY: usize = 16 * KIB;
const GENUINE_CLIENTS: usize = 8;

/// Small enough to be drained.
const REJECTED_BODY: usize = 60 * KIB;

const FORGED: usize = 2_000;
const FORGED_BODY: usize = MIB;
const FORGERS: usize = 48;

/// Bodies over the limit, or not the signed ones, behind a token that is good.
const REPLAYED: usize = 60;
const OVERSIZED_BODY: usize = 64 * MIB;
const REPLAYERS: usize = 2;

const VANDALISM: usize = 400;
const VANDALS: usize = 4;

/// Genuine, and slow: a piece of the body, a pause, a piece.
const SLOW: usize = 8;

/// Senders that begin a body and then stay, silent, to the end.
const SILENT: usize = 64;

/// What the crowd may add to the heap, both ends of its sockets together.
///
/// A stranger costs the receiver about twice the 64 KiB that it drains, as hyper reads ahead, and
/// not the MiB that he sends: were it collected, the forgers alone would hold 48 MiB. Only behind a
/// good token is a body collected, up to the limit of 1 MiB: three times that while it moves to a
/// buffer of twice the size.
const BOUND: usize = (FORGERS + VANDALS) * 128 * KIB
    + REPLAYERS * 3 * MIB
    + (GENUINE_CLIENTS + SLOW) * 4 * (REJECTED_BODY + GENUINE_BODY)
    + SILENT * 64 * KIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_genuine_delivery_gets_through_and_nothing_else() {
    let calls = Arc::new(AtomicUsize::new(0));
    let address = receiver(Arc::clone(&calls)).await;
    let forged = Arc::new(Forged::new());

    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();

    let mut silent = Vec::new();
    for number in 0..SILENT {
        silent.push(begin_and_stay(address, &forged, number).await.expect("a connection"));
    }
    let mut crowd = JoinSet::new();
    for client in 0..GENUINE_CLIENTS {
        crowd.spawn(deliver(address, client));
    }
    for client in 0..SLOW {
        crowd.spawn(deliver_slowly(address, client));
    }
    let answered = Arc::new(Answered::default());
    for client in 0..FORGERS {
        let (forged, answered) = (Arc::clone(&forged), Arc::clone(&answered));
        crowd.spawn(async move {
            for number in (client..FORGED).step_by(FORGERS) {
                let seen = forge(address, &forged, number).await;
                answered.forgers.fetch_add(seen.into(), Ordering::Relaxed);
            }
        });
    }
    for client in 0..REPLAYERS {
        let answered = Arc::clone(&answered);
        crowd.spawn(async move {
            for number in (client..REPLAYED).step_by(REPLAYERS) {
                let seen = replay(address, number).await;
                answered.replayers.fetch_add(seen.into(), Ordering::Relaxed);
            }
        });
    }
    for client in 0..VANDALS {
        let forged = Arc::clone(&forged);
        crowd.spawn(async move {
            for number in (client..VANDALISM).step_by(VANDALS) {
                vandalise(address, &forged, number).await;
            }
        });
    }
    // A receiver that hangs must fail the test, not hang it.
    let join = tokio::time::timeout(Duration::from_secs(300), async {
        while let Some(client) = crowd.join_next().await {
            client.expect("no client saw anything wrong");
        }
    });
    join.await.expect("an end");
    drop(silent);

    assert_eq!(calls.load(Ordering::Relaxed), GENUINE + SLOW, "only the genuine reach the handler");
    let Answered { forgers, replayers } = &*answered;
    assert!(forgers.load(Ordering::Relaxed) > FORGED / 4, "forgers are told: {forgers:?}");
    assert!(replayers.load(Ordering::Relaxed) > 0, "so are the replayers: {replayers:?}");
    let peak = HEAP.peak_usage() - before;
    assert!(peak < BOUND, "{peak} bytes at once, of {BOUND}");
}

/// Counts what reaches its handler, and echoes it.
async fn receiver(calls: Arc<AtomicUsize>) -> SocketAddr {
    let keys = SigningKeys::new(KEY, "sig_abuse_next").expect("two good keys");
    let public_url = PublicUrl::exact(URL).expect("a good URL");
    let verify = QStashVerifyLayer::new(keys, public_url).clock(now);
    let handler = async move |_: Claims, body: Bytes| {
        calls.fetch_add(1, Ordering::Relaxed);
        body
    };
    let app = Router::new().route("/hook", post(handler)).layer(verify);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// Genuine deliveries over one connection. Now and then a small forged one goes before, in
/// the same write: it is rejected and the connection lives on.
async fn deliver(address: SocketAddr, client: usize) {
    let signer = Signer::new(KEY).expect("a good key");
    let rejected = [b'a'; REJECTED_BODY];
    let forged = stranger().delivery(URL, rejected, now()).token();
    let mut connection = connect(address).await.expect("a connection");
    for number in (client..GENUINE).step_by(GENUINE_CLIENTS) {
        let chunked = number.is_multiple_of(2);
        let body: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(GENUINE_BODY).collect();
        let mut packet = Vec::new();
        let forged_before = number.is_multiple_of(3);
        if forged_before {
            packet.extend(request(&forged, &rejected, chunked));
        }
        packet.extend(request(&signer.delivery(URL, &body, now()).token(), &body, chunked));
        connection.write_all(&packet).await.expect("the connection lives on");
        if forged_before {
            assert_eq!(status(&mut connection).await.expect("an answer"), 400);
        }
        let (status, echoed) = answer(&mut connection).await.expect("an answer");
        assert_eq!(status, 200);
        assert!(echoed == body, "delivery {number} arrived as it was sent");
    }
}

async fn deliver_slowly(address: SocketAddr, client: usize) {
    let body: Vec<u8> = client.to_le_bytes().into_iter().cycle().take(GENUINE_BODY).collect();
    let token = Signer::new(KEY).expect("a good key").delivery(URL, &body, now()).token();
    let mut connection = connect(address).await.expect("a connection");
    for piece in request(&token, &body, true).chunks(KIB) {
        connection.write_all(piece).await.expect("the connection lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, echoed) = answer(&mut connection).await.expect("an answer");
    assert_eq!(status, 200);
    assert!(echoed == body, "slowly, and whole");
}

/// How many answers got through to those whom the receiver may hang up on.
#[derive(Default)]
struct Answered {
    forgers: AtomicUsize,
    replayers: AtomicUsize,
}

/// What strangers send, made once: it is not the clients' memory that is measured.
struct Forged {
    /// Heads of deliveries that must be rejected before their body is read.
    heads: Vec<String>,
    /// Genuine deliveries end to end, for a receiver that loses its place in the stream.
    body: Vec<u8>,
}

impl Forged {
    fn new() -> Self {
        let signer = Signer::new(KEY).expect("a good key");
        let genuine =
            request(&signer.delivery(URL, b"smuggled", now()).token(), b"smuggled", false);
        let body: Vec<u8> = genuine.into_iter().cycle().take(FORGED_BODY).collect();
        let long_ago = now() - Duration::from_secs(300);
        let heads = [
            stranger().delivery(URL, &body, now()).token(),
            signer.delivery(URL, &body, long_ago).token(),
            signer.delivery("https://api.example.com/other", &body, now()).token(),
            "no.token.atall".to_owned(),
        ];
        Self { heads: heads.map(|token| head(&token, Some(FORGED_BODY))).into(), body }
    }

    fn head(&self, number: usize) -> &[u8] {
        self.heads[number % self.heads.len()].as_bytes()
    }
}

fn stranger() -> Signer {
    Signer::new("sig_abuse_stranger").expect("a good key")
}

/// A whole body behind a head that is no good. The receiver hangs up on what it does not drain, so
/// that neither sending it nor reading the answer needs to succeed. Whether an answer was read.
async fn forge(address: SocketAddr, forged: &Forged, number: usize) -> bool {
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

/// A body that is too large, or another than was signed, behind a good token. Whether an answer was
/// read.
async fn replay(address: SocketAddr, number: usize) -> bool {
    static PIECE: [u8; 64 * KIB] = [b'a'; 64 * KIB];
    let token = Signer::new(KEY).expect("a good key").delivery(URL, b"signed", now()).token();
    let mut connection = connect(address).await.expect("a connection");
    let (length, expected) = match number % 2 {
        0 => (OVERSIZED_BODY, 413),
        _ => (MIB, 400),
    };
    let sent = async {
        connection.write_all(head(&token, None).as_bytes()).await?;
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

/// Things that break off, or are no HTTP.
async fn vandalise(address: SocketAddr, forged: &Forged, number: usize) {
    let token = Signer::new(KEY).expect("a good key").delivery(URL, b"signed", now()).token();
    let mut packet = Vec::new();
    match number % 5 {
        0 => packet.extend(b"\0\xff"),
        1 => {
            packet.extend(forged.head(number));
            packet.extend(&forged.body[..10 * KIB]);
        }
        // One byte short of what was signed.
        2 => packet
            .extend_from_slice(request(&token, b"signed", false).split_last().expect("bytes").1),
        3 => {
            packet.extend(head(&token, None).as_bytes());
            packet.extend(b"6\r\nsigned\r\nnonsense\r\n\r\n");
        }
        _ => {
            let token = stranger().delivery(URL, b"small", now()).token();
            packet.extend(request(&token, b"small", false));
            packet.extend(b"\0\xff\r\n\r\nPOST /hook HTTP/7\r\n:\r\n\r\n".repeat(100));
        }
    }
    let mut connection = connect(address).await.expect("a connection");
    let _ = connection.write_all(&packet).await;
    // Every other one waits for what the receiver has to say to half a request.
    if number.is_multiple_of(2) {
        let _ = connection.shutdown().await;
        let mut answers = Vec::new();
        let _ = connection.read_to_end(&mut answers).await;
        assert!(!String::from_utf8_lossy(&answers).contains(" 200 OK"));
    }
}

/// A head, a trickle of body, and then nothing; one in sixteen has a good token.
async fn begin_and_stay(
    address: SocketAddr,
    forged: &Forged,
    number: usize,
) -> io::Result<BufReader<TcpStream>> {
    let mut connection = connect(address).await?;
    match number % 16 {
        0 => {
            let token =
                Signer::new(KEY).expect("a good key").delivery(URL, b"signed", now()).token();
            connection.write_all(head(&token, None).as_bytes()).await?;
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

/// The head of a delivery; without a length, its body is sent in chunks.
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
    Ok(answer(connection).await?.0)
}

async fn answer(connection: &mut BufReader<TcpStream>) -> io::Result<(u16, Vec<u8>)> {
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
