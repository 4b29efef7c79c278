//! The stacks that people build: each compiles, lets a genuine delivery through to the handler and
//! keeps a forged one from it.

use std::{convert::Infallible, fmt::Debug, time::Duration};

use axum::{
    Router,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::DefaultBodyLimit,
    middleware::{Next, from_fn},
    routing::post,
};
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer,
    service_fn,
    util::{BoxCloneService, BoxCloneSyncService, BoxService},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::CorsLayer,
    decompression::RequestDecompressionLayer,
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    timeout::TimeoutLayer,
    trace::TraceLayer,
};
use tower_qstash::{Claims, RequestBody};

use crate::{
    process::in_time,
    support::{BASE, current, layer, now, stranger},
};

const BODY: &[u8] = b"Hello World";
/// Long enough for any machine: no test here waits for it.
const LONG: Duration = Duration::from_secs(3600);

/// A handler that only a verified request satisfies; it echoes, so that the body is seen to arrive.
async fn echo<B>(request: Request<B>) -> Result<Response<B>, Infallible> {
    let (head, body) = request.into_parts();
    assert!(head.extensions.get::<Claims>().is_some());
    Ok(Response::new(body))
}

fn hook() -> Router {
    Router::new().route("/hook", post(axum_echo))
}

async fn axum_echo(_: Claims, body: Bytes) -> Bytes {
    body
}

async fn check_axum(router: Router) {
    check::<Body, _, _>(router).await;
}

/// Sends one genuine and one forged delivery to `/hook`.
async fn check<Q, S, R>(stack: S)
where
    Q: RequestBody,
    S: Service<Request<Q>, Response = Response<R>, Error: Debug>,
    R: http_body::Body<Error: Debug>,
{
    check_at::<Q, S, R>("/hook", stack).await;
}

async fn check_at<Q, S, R>(path: &str, mut stack: S)
where
    Q: RequestBody,
    S: Service<Request<Q>, Response = Response<R>, Error: Debug>,
    R: http_body::Body<Error: Debug>,
{
    let url = format!("{BASE}{path}");
    for (signer, status) in [(current(), StatusCode::OK), (stranger(), StatusCode::BAD_REQUEST)] {
        let request = signer.delivery(&url, BODY, now()).request::<Q>().expect("a good URL");
        let response =
            stack.ready().await.expect("ready").call(request).await.expect("no error passes");
        assert_eq!(response.status(), status);
        let answer = response.into_body().collect().await.expect("a whole answer").to_bytes();
        assert_eq!(answer == BODY, status == StatusCode::OK, "{answer:?}");
    }
}

#[tokio::test]
async fn axum_routers() {
    check_axum(hook().layer(layer())).await;
    check_axum(hook().route_layer(layer())).await;
    check_axum(Router::new().route("/hook", post(axum_echo).layer(layer()))).await;
    check_axum(Router::new().route("/hook", post(axum_echo)).with_state(()).layer(layer())).await;
    check_axum(Router::new().fallback_service(layer().layer(hook()))).await;
    check::<Body, _, _>(layer().layer(hook())).await;

    check_at::<Body, _, _>("/api/hook", Router::new().nest("/api", hook().layer(layer()))).await;
    check_at::<Body, _, _>("/api/hook", Router::new().nest("/api", hook()).layer(layer())).await;
    check_at::<Body, _, _>("/api/hook", Router::new().nest_service("/api", layer().layer(hook())))
        .await;
    check_axum(Router::new().merge(hook().layer(layer())).route("/open", post(async || "open")))
        .await;
}

#[tokio::test]
async fn axum_under_layers_of_tower_http() {
    check_axum(hook().layer(layer()).layer(TraceLayer::new_for_http())).await;
    check_axum(hook().layer(TraceLayer::new_for_http()).layer(layer())).await;

    let request_id = HeaderName::from_static("x-request-id");
    let many = ServiceBuilder::new()
        .layer(CatchPanicLayer::new())
        .layer(SetSensitiveRequestHeadersLayer::new([HeaderName::from_static("upstash-signature")]))
        .layer(SetRequestIdLayer::new(request_id.clone(), MakeRequestUuid))
        .layer(TraceLayer::new_for_http())
        .layer(PropagateRequestIdLayer::new(request_id))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LONG))
        .layer(CorsLayer::permissive())
        .layer(CompressionLayer::new())
        .layer(layer())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LONG))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(CatchPanicLayer::new())
        .layer(TraceLayer::new_for_http());
    check_axum(hook().layer(many)).await;
}

/// The default body of an answer that is cut short must exist, whatever the body below is.
#[tokio::test]
async fn a_timeout_above_a_trace() {
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LONG))
        .layer(layer())
        .layer(TraceLayer::new_for_http())
        .service_fn(echo::<Full<Bytes>>);
    check(stack).await;
}

#[tokio::test]
async fn axum_with_layers_that_fail() {
    async fn failed(_: BoxError) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
    let above = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(failed))
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(tower::timeout::TimeoutLayer::new(LONG))
        .layer(layer());
    check_axum(hook().layer(above)).await;

    let below = ServiceBuilder::new()
        .layer(layer())
        .layer(HandleErrorLayer::new(failed))
        .layer(tower::timeout::TimeoutLayer::new(LONG))
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(LoadShedLayer::new());
    check_axum(hook().layer(below)).await;

    let buffered = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(failed))
        .layer(BufferLayer::new(8))
        .layer(layer())
        .layer(HandleErrorLayer::new(failed))
        .layer(BufferLayer::new(8));
    check_axum(hook().layer(buffered)).await;
}

#[tokio::test]
async fn axum_functions_as_middleware() {
    async fn before(request: axum::extract::Request, next: Next) -> axum::response::Response {
        assert!(request.extensions().get::<Claims>().is_none());
        next.run(request).await
    }
    async fn after(
        _: Claims,
        request: axum::extract::Request,
        next: Next,
    ) -> impl axum::response::IntoResponse {
        next.run(request).await
    }
    check_axum(hook().layer(from_fn(after)).layer(layer()).layer(from_fn(before))).await;
    let stack = ServiceBuilder::new().layer(from_fn(before)).layer(layer()).layer(from_fn(after));
    check_axum(hook().layer(stack)).await;
}

/// What wraps the request's body above needs the one line that boxes it again.
#[tokio::test]
async fn layers_above_that_change_the_body() {
    let limited = ServiceBuilder::new()
        .layer(RequestBodyLimitLayer::new(BODY.len()))
        .map_request(|request: Request<_>| request.map(Body::new))
        .layer(layer());
    check_axum(hook().layer(limited.clone())).await;

    let signer = current();
    let too_long = signer.delivery(&format!("{BASE}/hook"), b"Hello Worlds", now());
    let too_long = too_long.request::<Body>().unwrap();
    let response = hook().layer(limited).oneshot(too_long).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let nothing_compressed = ServiceBuilder::new()
        .layer(RequestDecompressionLayer::new())
        .map_request(|request: Request<_>| request.map(Body::new))
        .layer(layer());
    check_axum(hook().layer(nothing_compressed)).await;

    // One call for each layer, and axum does it.
    let limited = RequestBodyLimitLayer::new(BODY.len());
    check_axum(hook().layer(layer()).layer(limited)).await;

    // Without axum.
    let limited = ServiceBuilder::new()
        .layer(RequestBodyLimitLayer::new(BODY.len()))
        .map_request(|request: Request<_>| request.map(BoxBody::new))
        .layer(layer())
        .service_fn(echo);
    check::<Full<Bytes>, _, _>(limited).await;
}

/// What wraps it below needs nothing.
#[tokio::test]
async fn layers_below_that_change_the_body() {
    let stack = ServiceBuilder::new()
        .layer(layer())
        .layer(RequestBodyLimitLayer::new(BODY.len()))
        .layer(RequestDecompressionLayer::new());
    check_axum(hook().layer(stack)).await;
}

/// QStash signs the bytes that it sends: with `Content-Encoding: gzip`, the compressed ones.
#[tokio::test]
async fn decompression_belongs_below() {
    let compressed = gzip(BODY);
    let deliver = || {
        let signer = current();
        let token = signer.delivery(&format!("{BASE}/hook"), &compressed, now());
        let mut request = token.request::<Body>().expect("a good URL");
        request.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().expect("a value"));
        request
    };

    let below = ServiceBuilder::new().layer(layer()).layer(RequestDecompressionLayer::new());
    let response = hook().layer(below).oneshot(deliver()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), BODY);

    let above = ServiceBuilder::new()
        .layer(RequestDecompressionLayer::new())
        .map_request(|request: Request<_>| request.map(Body::new))
        .layer(layer());
    let response = hook().layer(above).oneshot(deliver()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let answer = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&answer).contains("body"), "{answer:?}");
}

/// A gzip file of one stored block, as RFC 1951 and 1952 have it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("one block");
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(bytes);
    file.extend((!crc).to_le_bytes());
    file.extend(u32::from(length).to_le_bytes());
    file
}

/// axum's extractors have a limit of their own, 2 MB, whatever ours is.
#[tokio::test]
async fn a_body_limit_above_two_megabytes_is_set_twice() {
    let body = vec![0; 3 * 1024 * 1024];
    let deliver = |router: Router| {
        let request = current().delivery(&format!("{BASE}/hook"), &body, now()).request::<Body>();
        router.oneshot(request.expect("a good URL"))
    };
    let large = || layer().body_limit(body.len());
    let refused = deliver(hook().layer(large())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let accepted = deliver(hook().layer(DefaultBodyLimit::disable()).layer(large())).await.unwrap();
    assert_eq!(accepted.status(), StatusCode::OK);
}

#[tokio::test]
async fn boxed_services() {
    let verified = || layer().layer(service_fn(echo::<Full<Bytes>>));
    check(BoxService::new(verified())).await;
    check(BoxCloneService::new(verified())).await;
    check(BoxCloneSyncService::new(verified())).await;
    check(layer().layer(BoxCloneService::new(service_fn(echo::<Full<Bytes>>)))).await;
    check(layer().layer(BoxCloneSyncService::new(service_fn(echo::<Full<Bytes>>)))).await;
    // `BoxService` is no `Clone`; a buffer makes it one.
    let buffered = ServiceBuilder::new()
        .layer(layer())
        .layer(BufferLayer::new(8))
        .service(BoxService::new(service_fn(echo::<Full<Bytes>>)));
    check(buffered).await;
    check(ServiceBuilder::new().boxed_clone_sync().layer(layer()).service_fn(echo::<Full<Bytes>>))
        .await;
}

#[tokio::test]
async fn lambda() {
    use lambda_http::{
        Error, Request as Event, run, run_concurrent, run_with_streaming_response,
        run_with_streaming_response_concurrent,
    };

    /// As lambda_http wants it for each way to run; nothing is polled, so nothing runs.
    async fn check_lambda<S, E, R>(stack: S)
    where
        S: Service<Event, Response = Response<R>, Error = E, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        E: Debug + Into<lambda_http::lambda_runtime::Diagnostic> + Into<Error> + Send + 'static,
        R: http_body::Body<Data = Bytes, Error: Into<Error> + Send + Debug>
            + Unpin
            + Send
            + Sync
            + 'static,
        Response<R>: lambda_http::IntoResponse,
    {
        drop(run(stack.clone()));
        drop(run_concurrent(stack.clone()));
        drop(run_with_streaming_response(stack.clone()));
        drop(run_with_streaming_response_concurrent(stack.clone()));
        check(stack).await;
    }

    async fn body(request: Event) -> Result<Response<lambda_http::Body>, Error> {
        Ok(echo(request).await?)
    }
    async fn text(request: Event) -> Result<Response<String>, Error> {
        Ok(echo(request).await?.map(|body| String::from_utf8_lossy(&body).into_owned()))
    }
    let under = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LONG))
        .layer(layer())
        .layer(TraceLayer::new_for_http());

    check_lambda(layer().layer(service_fn(body))).await;
    check_lambda(layer().layer(service_fn(text))).await;
    check_lambda(under.clone().service_fn(body)).await;
    check_lambda(under.service_fn(text)).await;
}

#[tokio::test]
async fn an_axum_router_on_lambda() {
    // On either side of the router: axum's body, or Lambda's.
    let (inside, outside) = (hook().layer(layer()), layer().layer(hook()));
    drop(lambda_http::run(inside.clone()));
    drop(lambda_http::run(outside.clone()));
    drop(lambda_http::run_with_streaming_response(inside.clone()));
    drop(lambda_http::run_with_streaming_response(outside.clone()));
    check::<lambda_http::Body, _, _>(inside).await;
    check::<lambda_http::Body, _, _>(outside).await;
}

#[tokio::test]
async fn a_plain_hyper_server() {
    let stack = ServiceBuilder::new()
        .map_request(|request: Request<Incoming>| request.map(BoxBody::new))
        .layer(layer())
        .service_fn(echo);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.expect("a client");
            let service = TowerToHyperService::new(stack.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let served = server.serve_connection(TokioIo::new(connection), service).await;
                served.expect("a well-behaved client");
            });
        }
    });

    for http2 in [false, true] {
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
        // The client sends to the loopback address what was published to the public URL.
        let to_loopback =
            tower::util::MapRequest::new(client, move |request: Request<Full<Bytes>>| {
                let (mut head, body) = request.into_parts();
                head.uri = format!("http://{address}{}", head.uri.path()).parse().expect("a URL");
                Request::from_parts(head, body)
            });
        in_time(check(to_loopback)).await;
    }
}
