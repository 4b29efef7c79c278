//! Genuine and forged deliveries to each framework, over TCP.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{future::Future, net::SocketAddr};

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_qstash::Signer;
use tower_qstash_compat::{ORIGIN, actix_web, hyper, now, poem, salvo, vercel, warp};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn spawn<Fut>(serve: impl FnOnce(TcpListener) -> Fut) -> SocketAddr
where
    Fut: Future<Output: Send> + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(serve(listener));
    address
}

struct Receiver {
    address: SocketAddr,
    path: &'static str,
    version: Version,
}

impl Receiver {
    async fn post(&self, token: Option<&str>, body: Bytes) -> (StatusCode, String) {
        let http2 = self.version == Version::HTTP_2;
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
        let mut request = Request::post(format!("http://{}{}", self.address, self.path));
        if let Some(token) = token {
            request = request.header("Upstash-Signature", token);
        }
        let response = client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
        assert_eq!(response.version(), self.version);
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    fn sign(&self, key: &str, body: &Bytes) -> String {
        let url = format!("{ORIGIN}{}", self.path);
        Signer::new(key).unwrap().delivery(&url, body, now()).token()
    }
}

async fn lets_only_genuine_deliveries_through(
    address: SocketAddr,
    path: &'static str,
    version: Version,
) {
    let receiver = Receiver { address, path, version };
    let hello = Bytes::from_static(b"Hello");
    let large = Bytes::from(vec![b'x'; 100_000]);
    for body in [Bytes::new(), hello.clone(), large.clone()] {
        for key in ["sig_current", "sig_next"] {
            let token = receiver.sign(key, &body);
            let accepted = receiver.post(Some(&token), body.clone()).await;
            assert_eq!(accepted, (StatusCode::OK, format!("{} bytes", body.len())));
        }
        let forged = receiver.sign("sig_unknown", &body);
        let (status, text) = receiver.post(Some(&forged), body.clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains("signing key"), "{text}");

        let (status, text) = receiver.post(None, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    }
    let (status, text) = receiver.post(Some(&receiver.sign("sig_current", &hello)), large).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(text.contains("body"), "{text}");
}

#[tokio::test]
async fn hyper_with_http_1_and_2() {
    let address = spawn(hyper::serve).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        lets_only_genuine_deliveries_through(address, "/webhook", version).await;
    }
}

#[tokio::test]
async fn warp_with_http_1_and_2() {
    let address = spawn(warp::serve).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        lets_only_genuine_deliveries_through(address, "/webhook", version).await;
    }
}

#[tokio::test]
async fn salvo_hoop() {
    let address = spawn(salvo::serve).await;
    lets_only_genuine_deliveries_through(address, "/webhook", Version::HTTP_11).await;
}

#[tokio::test]
async fn poem_endpoint_and_verifier() {
    let address = spawn(poem::serve).await;
    for path in ["/webhook", "/verifier"] {
        lets_only_genuine_deliveries_through(address, path, Version::HTTP_11).await;
        two_signatures_are_rejected(address, path).await;
    }
}

/// `vercel_runtime::run` without its process: its service behind hyper, which makes the `Incoming`
/// that it takes.
async fn run(service: impl vercel::Function + Sync, listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service.clone();
        tokio::spawn(async move {
            let service = hyper_util::service::TowerToHyperService::new(tower::service_fn(
                move |request: vercel_runtime::Request| {
                    let log = vercel_runtime::LogContext::new(None, None, None);
                    service.clone().oneshot((vercel_runtime::AppState::new(log), request))
                },
            ));
            let connection = auto::Builder::new(TokioExecutor::new());
            drop(connection.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// A rewrite with a named parameter that its destination doesn't use, such as `/:path*`, adds it to
/// the query. One with an unnamed parameter changes nothing.
#[tokio::test]
async fn vercel_rewrite_with_a_named_parameter_is_another_url() {
    let address = spawn(|listener| run(vercel::plain(), listener)).await;
    let published = Receiver { address, path: "/webhook", version: Version::HTTP_11 };
    let rewritten = Receiver { path: "/webhook?path=webhook", ..published };
    let body = Bytes::from_static(b"Hello");
    let token = published.sign("sig_current", &body);
    let (status, _) = published.post(Some(&token), body.clone()).await;
    assert_eq!(status, StatusCode::OK);
    let (status, text) = rewritten.post(Some(&token), body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("\"code\":\"subject_mismatch\""), "{text}");
}

#[tokio::test]
async fn vercel_plain_function() {
    let address = spawn(|listener| run(vercel::plain(), listener)).await;
    lets_only_genuine_deliveries_through(address, "/webhook", Version::HTTP_11).await;
}

#[tokio::test]
async fn vercel_axum_router() {
    let address = spawn(|listener| run(vercel::axum(), listener)).await;
    lets_only_genuine_deliveries_through(address, "/webhook", Version::HTTP_11).await;
}

#[tokio::test]
async fn actix_web_extractor() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Its futures are not `Send`.
    std::thread::spawn(|| {
        ::actix_web::rt::System::new().block_on(actix_web::serve(listener)).unwrap();
    });
    lets_only_genuine_deliveries_through(address, "/webhook", Version::HTTP_11).await;
    two_signatures_are_rejected(address, "/webhook").await;
}

/// The layer does this by itself; around `Verifier` it is the caller's work.
async fn two_signatures_are_rejected(address: SocketAddr, path: &'static str) {
    let receiver = Receiver { address, path, version: Version::HTTP_11 };
    let body = Bytes::from_static(b"Hello");
    let token = receiver.sign("sig_current", &body);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let mut statuses = Vec::new();
    for signatures in 1..=2 {
        let mut request = Request::post(format!("http://{address}{path}"));
        for _ in 0..signatures {
            request = request.header("Upstash-Signature", &token);
        }
        let request = request.body(Full::new(body.clone())).unwrap();
        statuses.push(client.request(request).await.unwrap().status());
    }
    assert_eq!(statuses, [StatusCode::OK, StatusCode::BAD_REQUEST]);
}

#[test]
fn guide_shows_the_code_that_is_driven() {
    let guide = include_str!("../../docs/without-tower.md");
    for (source, start, end) in [
        (
            include_str!("../src/actix_web.rs"),
            "/// A delivery that was verified",
            "/// Serves until",
        ),
        (include_str!("../src/poem.rs"), "async fn verify(", "#[handler]"),
    ] {
        let code = &source[source.find(start).expect("the start")..];
        let code = code.split(end).next().unwrap().trim_end();
        assert!(code.len() > 500 && guide.contains(code), "{code}");
    }
}
