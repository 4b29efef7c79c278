//! Common stacks: each one compiles, forwards a valid delivery and rejects a forged one.

use std::{convert::Infallible, fmt::Debug, time::Duration};

use axum::{
    Router,
    body::Body,
    error_handling::HandleErrorLayer,
    extract::DefaultBodyLimit,
    middleware::{Next, from_fn},
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::Full;
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
    timeout::{RequestBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
};
use tower_qstash::{Claims, RequestBody};

use crate::support::{
    BASE, URL, current, futures::with_timeout, layer, now, responses::text, unknown_key,
};

const BODY: &str = "Hello World";
/// No test waits for it.
const LONG: Duration = Duration::from_secs(3600);

/// Echoes a verified request.
async fn echo<B>(request: Request<B>) -> Result<Response<B>, Infallible> {
    let (parts, body) = request.into_parts();
    assert!(parts.extensions.get::<Claims>().is_some());
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

/// Sends a valid and a forged delivery to `/hook`.
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
    for (signer, status) in [(current(), StatusCode::OK), (unknown_key(), StatusCode::BAD_REQUEST)]
    {
        let request = signer.delivery(&url, BODY, now()).request::<Q>().expect("a valid URL");
        let response = stack.ready().await.expect("ready").call(request).await.expect("a response");
        assert_eq!(response.status(), status);
        let body = text(response).await;
        assert_eq!(body == BODY, status == StatusCode::OK, "{body}");
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

/// What docs/stacks.md says about the routes that each call covers.
#[tokio::test]
async fn routers_guard_what_the_guide_says() {
    async fn status(router: Router, path: &str) -> u16 {
        let request = Request::get(path).body(Body::empty()).expect("a valid request");
        router.oneshot(request).await.expect("infallible").status().as_u16()
    }
    let open = || Router::new().route("/open", get("open"));
    let routes = || Router::new().route("/hook", get(async |_: Claims| "inner"));

    // The fallback of the router that is merged counts.
    for (router, unknown) in [
        (open().merge(routes().layer(layer())), 400),
        (routes().layer(layer()).merge(open()), 404),
        (open().merge(routes().route_layer(layer())), 404),
        (routes().route_layer(layer()).merge(open()), 404),
    ] {
        for (path, expected) in [("/hook", 400), ("/open", 200), ("/unknown", unknown)] {
            assert_eq!(status(router.clone(), path).await, expected, "{path}");
        }
    }
    // A route that is added later is open, so `Claims` closes it.
    let late = Router::new().layer(layer()).merge(routes());
    assert_eq!(status(late, "/hook").await, 500);
    let fallback = Router::new().fallback(async || "open").layer(layer());
    assert_eq!(status(fallback, "/unknown").await, 400);
    let fallback = Router::new().layer(layer()).fallback(async || "open");
    assert_eq!(status(fallback, "/unknown").await, 200);
    // Nesting brings no default fallback along.
    let nested = Router::new().nest("/jobs", routes().layer(layer()));
    for (path, expected) in [("/jobs/hook", 400), ("/jobs/unknown", 404), ("/unknown", 404)] {
        assert_eq!(status(nested.clone(), path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn axum_with_tower_http_layers() {
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

/// A timeout needs a default response body, which a trace's body doesn't have.
#[tokio::test]
async fn outer_timeout_with_an_inner_trace() {
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LONG))
        .layer(layer())
        .layer(TraceLayer::new_for_http())
        .service_fn(echo::<Full<Bytes>>);
    check(stack).await;
}

#[tokio::test]
async fn axum_with_fallible_layers() {
    async fn failed(_: BoxError) -> StatusCode {
        StatusCode::SERVICE_UNAVAILABLE
    }
    let outer = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(failed))
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(tower::timeout::TimeoutLayer::new(LONG))
        .layer(layer());
    check_axum(hook().layer(outer)).await;

    let inner = ServiceBuilder::new()
        .layer(layer())
        .layer(HandleErrorLayer::new(failed))
        .layer(tower::timeout::TimeoutLayer::new(LONG))
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(LoadShedLayer::new());
    check_axum(hook().layer(inner)).await;

    let buffered = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(failed))
        .layer(BufferLayer::new(8))
        .layer(layer())
        .layer(HandleErrorLayer::new(failed))
        .layer(BufferLayer::new(8));
    check_axum(hook().layer(buffered)).await;
}

#[tokio::test]
async fn axum_with_middleware_from_fn() {
    async fn outer(request: axum::extract::Request, next: Next) -> axum::response::Response {
        assert!(request.extensions().get::<Claims>().is_none());
        next.run(request).await
    }
    async fn inner(
        _: Claims,
        request: axum::extract::Request,
        next: Next,
    ) -> impl axum::response::IntoResponse {
        next.run(request).await
    }
    check_axum(hook().layer(from_fn(inner)).layer(layer()).layer(from_fn(outer))).await;
    let stack = ServiceBuilder::new().layer(from_fn(outer)).layer(layer()).layer(from_fn(inner));
    check_axum(hook().layer(stack)).await;
}

/// If an outer layer wraps the request's body, the layer has to be told which one to forward.
#[tokio::test]
async fn outer_layers_that_wrap_the_body() {
    let limited = ServiceBuilder::new()
        .layer(RequestBodyLimitLayer::new(BODY.len()))
        .layer(layer().forward_as::<Body>());
    check_axum(hook().layer(limited.clone())).await;

    let signer = current();
    let too_long = signer.delivery(URL, b"Hello Worlds", now());
    let too_long = too_long.request::<Body>().unwrap();
    let response = hook().layer(limited).oneshot(too_long).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let decompressed = ServiceBuilder::new()
        .layer(RequestDecompressionLayer::new())
        .layer(layer().forward_as::<Body>());
    check_axum(hook().layer(decompressed)).await;

    // The body of this timeout is not `Unpin`.
    let timed = ServiceBuilder::new()
        .layer(RequestBodyTimeoutLayer::new(LONG))
        .layer(RequestBodyLimitLayer::new(BODY.len()))
        .layer(layer().forward_as::<Body>());
    check_axum(hook().layer(timed)).await;

    // Boxing it outside works as well.
    let boxed = ServiceBuilder::new()
        .layer(RequestBodyLimitLayer::new(BODY.len()))
        .map_request(|request: Request<_>| request.map(Body::new))
        .layer(layer());
    check_axum(hook().layer(boxed)).await;

    // With one call for each layer, axum boxes it.
    let limited = RequestBodyLimitLayer::new(BODY.len());
    check_axum(hook().layer(layer()).layer(limited)).await;

    // Without axum.
    let limited = ServiceBuilder::new()
        .layer(RequestBodyLimitLayer::new(BODY.len()))
        .layer(layer().forward_as::<Full<Bytes>>())
        .service_fn(echo);
    check::<Full<Bytes>, _, _>(limited).await;
}

#[tokio::test]
async fn inner_layers_that_wrap_the_body() {
    let stack = ServiceBuilder::new()
        .layer(layer())
        .layer(RequestBodyLimitLayer::new(BODY.len()))
        .layer(RequestDecompressionLayer::new());
    check_axum(hook().layer(stack)).await;
}

/// QStash signs the bytes that it sends, so with `Content-Encoding: gzip` the compressed ones.
#[tokio::test]
async fn decompression_works_only_as_an_inner_layer() {
    let compressed = gzip(BODY.as_bytes());
    let deliver = || {
        let signer = current();
        let token = signer.delivery(URL, &compressed, now());
        let mut request = token.request::<Body>().expect("a valid URL");
        request
            .headers_mut()
            .insert(header::CONTENT_ENCODING, "gzip".parse().expect("a header value"));
        request
    };

    let inner = ServiceBuilder::new().layer(layer()).layer(RequestDecompressionLayer::new());
    let response = hook().layer(inner).oneshot(deliver()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, BODY);

    let outer = ServiceBuilder::new()
        .layer(RequestDecompressionLayer::new())
        .layer(layer().forward_as::<Body>());
    let response = hook().layer(outer).oneshot(deliver()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = text(response).await;
    assert!(body.contains("body"), "{body}");
}

/// Creates a gzip file of one stored block (RFC 1951 §3.2.4, RFC 1952 §2.3).
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

/// axum's extractors have a limit of 2 MB, whatever the layer's is.
#[tokio::test]
async fn body_over_two_megabytes_needs_both_limits_raised() {
    let body = vec![0; 3 * 1024 * 1024];
    let deliver = |router: Router| {
        let request = current().delivery(URL, &body, now()).request::<Body>();
        router.oneshot(request.expect("a valid URL"))
    };
    let large = || layer().body_limit(body.len());
    let rejected = deliver(hook().layer(large())).await.unwrap();
    assert_eq!(rejected.status(), StatusCode::PAYLOAD_TOO_LARGE);
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
    // `BoxService` is not `Clone`, but a buffer around it is.
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

    /// Checks that each `run` function of lambda_http accepts the stack. None of them is polled.
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
    async fn string(request: Event) -> Result<Response<String>, Error> {
        Ok(echo(request).await?.map(|body| String::from_utf8_lossy(&body).into_owned()))
    }
    let traced = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LONG))
        .layer(layer())
        .layer(TraceLayer::new_for_http());

    check_lambda(layer().layer(service_fn(body))).await;
    check_lambda(layer().layer(service_fn(string))).await;
    check_lambda(traced.clone().service_fn(body)).await;
    check_lambda(traced.service_fn(string)).await;
}

#[tokio::test]
async fn axum_router_on_lambda() {
    // Inside the router the layer gets axum's body, outside it Lambda's.
    let (inside, outside) = (hook().layer(layer()), layer().layer(hook()));
    drop(lambda_http::run(inside.clone()));
    drop(lambda_http::run(outside.clone()));
    drop(lambda_http::run_with_streaming_response(inside.clone()));
    drop(lambda_http::run_with_streaming_response(outside.clone()));
    check::<lambda_http::Body, _, _>(inside).await;
    check::<lambda_http::Body, _, _>(outside).await;
}

#[tokio::test]
async fn plain_hyper_server() {
    let stack = ServiceBuilder::new().layer(layer().forward_as::<Full<Bytes>>()).service_fn(echo);
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
        // Sends a delivery that was published to the public URL to the loopback address.
        let to_loopback =
            tower::util::MapRequest::new(client, move |request: Request<Full<Bytes>>| {
                let (mut parts, body) = request.into_parts();
                parts.uri = format!("http://{address}{}", parts.uri.path()).parse().expect("a URL");
                Request::from_parts(parts, body)
            });
        with_timeout(check(to_loopback)).await;
    }
}
