//! `lambda_http` services in this process, from the event to the response.

use axum::{Router, extract::OriginalUri, routing::post};
use http::StatusCode;
use lambda_http::{Body, Request, Response, request::from_str};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_qstash::{PublicUrl, Rejection, RequestBody};

use crate::{
    lambda_events::Call,
    support::{current, layer_for, now},
};

const DOMAIN: &str = "hooks.example.com";

fn request(call: &Call<'_>) -> Request {
    from_str(&call.http_api().to_string()).expect("an event")
}

fn sign(url: &str, body: &[u8]) -> String {
    current().delivery(url, body, now()).token()
}

async fn status<S, B>(service: S, request: Request) -> StatusCode
where
    S: Service<Request, Response = http::Response<B>, Error: std::fmt::Debug>,
{
    service.oneshot(request).await.expect("infallible").status()
}

#[tokio::test]
async fn the_inner_service_receives_the_same_body_unmoved() {
    let cases: [(Option<&[u8]>, bool, fn(&Body) -> bool); 5] = [
        (Some(b"text"), false, |body| matches!(body, Body::Text(text) if text == "text")),
        (Some(b""), false, |body| matches!(body, Body::Text(text) if text.is_empty())),
        (Some(b"\xFF\0"), true, |body| matches!(body, Body::Binary(bytes) if bytes == b"\xFF\0")),
        (Some(b""), true, |body| matches!(body, Body::Binary(bytes) if bytes.is_empty())),
        (None, false, |body| matches!(body, Body::Empty)),
    ];
    for (body, base64, as_sent) in cases {
        let token = sign("https://hooks.example.com/hook", body.unwrap_or_default());
        let request = request(&Call { body, base64, signature: Some(&token), ..Call::to(DOMAIN) });
        let address = request.body().as_ref().as_ptr();
        let service = layer_for(PublicUrl::from_lambda_context()).layer(service_fn(
            move |request: Request| async move {
                assert!(as_sent(request.body()), "{:?}", request.body());
                assert_eq!(request.body().as_ref().as_ptr(), address);
                Ok::<_, lambda_http::Error>(Response::new(Body::from("done")))
            },
        ));
        assert_eq!(status(service, request).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_body_in_memory_over_the_limit_is_rejected() {
    let token = sign("https://hooks.example.com/hook", b"Hello");
    for (limit, expected) in [(5, StatusCode::OK), (4, StatusCode::PAYLOAD_TOO_LARGE)] {
        let layer = layer_for(PublicUrl::from_lambda_context()).body_limit(limit);
        let service = layer.layer(service_fn(async |_: Request| {
            Ok::<_, lambda_http::Error>(Response::new(String::new()))
        }));
        let request = request(&Call { signature: Some(&token), ..Call::to(DOMAIN) });
        assert_eq!(status(service, request).await, expected);
    }
}

#[test]
fn a_body_built_from_bytes_is_binary() {
    assert!(matches!(Body::from_bytes("text".into()), Body::Binary(bytes) if bytes == b"text"));
}

/// The layer around an axum router and at several depths of nesting.
#[tokio::test]
async fn nested_axum_routers_verify_the_whole_path() {
    let layer = || layer_for(PublicUrl::from_lambda_context());
    let routes = || {
        let handler = async |original: OriginalUri, body: String| {
            assert_eq!((original.path(), body.as_str()), ("/prod/api/v1/hook", "Hello"));
        };
        Router::new().route("/hook", post(handler))
    };
    let in_prod = |router: Router| Router::new().nest("/prod", router);
    let apps: Vec<Router> = vec![
        in_prod(Router::new().nest("/api/v1", routes())).layer(layer()),
        in_prod(Router::new().nest("/api/v1", routes().layer(layer()))),
        in_prod(Router::new().nest("/api", Router::new().nest("/v1", routes().layer(layer())))),
        in_prod(Router::new().nest("/api", Router::new().nest("/v1", routes()).layer(layer()))),
    ];
    let url = "https://hooks.example.com/api/v1/hook?a=1";
    let token = sign(url, b"Hello");
    let inner = sign("https://hooks.example.com/hook?a=1", b"Hello");
    for app in apps {
        // The stage isn't part of the URL, but lambda_http adds it to the URI.
        let call = |signature| Call {
            stage: "prod",
            path: "/api/v1/hook",
            query: &[("a", "1")],
            signature,
            ..Call::to(DOMAIN)
        };
        assert_eq!(status(app.clone(), request(&call(Some(&token)))).await, StatusCode::OK);
        assert_eq!(
            status(app.clone(), request(&call(Some(&inner)))).await,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(status(app, request(&call(None))).await, StatusCode::BAD_REQUEST);
    }
}

/// `PublicUrl::base` uses the path that the caller requested, without the stage.
#[tokio::test]
async fn a_base_on_lambda_is_joined_with_the_raw_path() {
    let service = || {
        let base = PublicUrl::base("https://public.example/mapped").expect("a valid base");
        let inner = service_fn(async |_: Request| {
            Ok::<_, lambda_http::Error>(Response::new(String::new()))
        });
        layer_for(base).layer(inner)
    };
    let token = sign("https://public.example/mapped/hook", b"Hello");
    let call = Call { stage: "prod", signature: Some(&token), ..Call::to(DOMAIN) };
    assert_eq!(status(service(), request(&call)).await, StatusCode::OK);
    let token = sign("https://public.example/mapped/prod/hook", b"Hello");
    let call = Call { stage: "prod", signature: Some(&token), ..Call::to(DOMAIN) };
    assert_eq!(status(service(), request(&call)).await, StatusCode::BAD_REQUEST);
}

/// Outside Lambda, or with an invalid domain name in the context, the URL can't be determined.
#[tokio::test]
async fn a_missing_or_invalid_domain_name_is_a_setup_error() {
    let token = sign("https://hooks.example.com/hook", b"Hello");
    let service = || {
        let inner = service_fn(async |_: Request| {
            Ok::<_, lambda_http::Error>(Response::new(String::new()))
        });
        layer_for(PublicUrl::from_lambda_context()).layer(inner)
    };
    let bare =
        http::Request::post("/hook").header("upstash-signature", &token).body(Body::from("Hello"));
    assert_eq!(status(service(), bare.unwrap()).await, StatusCode::INTERNAL_SERVER_ERROR);
    for domain in ["", "hooks.example.com/hook#", "user@hooks.example.com", "hooks.example.com?"] {
        let mut event = Call { signature: Some(&token), ..Call::to(DOMAIN) }.http_api();
        event["requestContext"]["domainName"] = domain.into();
        let request = from_str(&event.to_string()).unwrap();
        assert_eq!(status(service(), request).await, StatusCode::INTERNAL_SERVER_ERROR, "{domain}");
    }
}

/// `lambda_http` parses `Host` and path into the URI as WHATWG specifies, so the handler may see
/// another path than the one that AWS received and the layer verified.
#[tokio::test]
async fn a_path_that_lambda_http_rewrites_is_rejected() {
    async fn outcome(public_url: PublicUrl, event: &serde_json::Value) -> (u16, Option<String>) {
        let Ok(request) = std::panic::catch_unwind(|| from_str(&event.to_string())) else {
            panic!("lambda_http panics on {event}");
        };
        let service = layer_for(public_url).layer(service_fn(async |request: Request| {
            Ok::<_, lambda_http::Error>(Response::new(request.uri().to_string()))
        }));
        let response = service.oneshot(request.expect("an event")).await.expect("infallible");
        let code =
            response.extensions().get::<Rejection>().map(|rejection| rejection.code().into());
        (response.status().as_u16(), code)
    }

    let rejected = |code: &str| (400, Some(code.to_owned()));
    let routing_mismatch = || rejected("routing_mismatch");
    // The `Host` header, the path as AWS received it, and the outcome of a token for that path.
    let cases = [
        ("api.example.com", "/webhook", (200, None)),
        ("api.example.com:8080", "/webhook", (200, None)),
        ("API.EXAMPLE.COM", "/webhook", (200, None)),
        ("api.example.com", "/a%20b", (200, None)),
        ("api.example.com", "/a b", (200, None)),
        ("api.example.com", "/caf\u{e9}", (200, None)),
        ("api.example.com", "/a//b/", (200, None)),
        ("api.example.com", "/", (200, None)),
        ("api.example.com/admin#", "/webhook", routing_mismatch()),
        ("api.example.com/admin?", "/webhook", rejected("subject_mismatch")),
        ("api.example.com?admin=1#", "/", rejected("subject_mismatch")),
        ("api.example.com\\admin#", "/webhook", routing_mismatch()),
        ("api.example.com/x", "/webhook", routing_mismatch()),
        ("api.example.com", "/users/../admin", routing_mismatch()),
        ("api.example.com", "/users/./admin", routing_mismatch()),
        ("api.example.com", "/users/%2e%2e/admin", routing_mismatch()),
        ("api.example.com", "/users/%2E./admin", routing_mismatch()),
        ("api.example.com", "/..", routing_mismatch()),
        ("api.example.com", "/a\\b", routing_mismatch()),
        ("api.example.com", "/ad\tmin", routing_mismatch()),
    ];
    for (host, path, verdict) in cases {
        let token = sign(&format!("https://api.example.com{path}"), b"Hello");
        let call = Call {
            path,
            context_path: path,
            signature: Some(&token),
            ..Call::to("api.example.com")
        };
        let events = [
            call.http_api(),
            call.function_url(),
            call.rest_api(),
            call.alb(),
            call.alb_multi_value(),
        ];
        for mut event in events {
            for headers in ["headers", "multiValueHeaders"] {
                if event[headers].is_object() {
                    let host =
                        if headers == "headers" { host.into() } else { serde_json::json!([host]) };
                    event[headers]["host"] = host;
                }
            }
            // With multi-value headers, `lambda_http` ignores an ALB event's `Host`.
            let host_is_ignored = event["headers"].is_null() && host.contains(['/', '?', '\\']);
            let verdict = if host_is_ignored { (200, None) } else { verdict.clone() };
            let base = PublicUrl::base("https://api.example.com").unwrap();
            assert_eq!(outcome(base, &event).await, verdict, "{host}{path}: {event}");
        }
    }
}

/// A handler may read the query from `RequestExt`, so it must be the same as in the URI.
#[tokio::test]
async fn a_query_that_is_only_in_an_extension_is_rejected() {
    let token = sign("https://api.example.com/", b"Hello");
    let query: &[(&str, &str)] = &[("admin", "1")];
    for public_url in [
        PublicUrl::base("https://api.example.com").unwrap(),
        PublicUrl::exact("https://api.example.com/").unwrap(),
    ] {
        let call =
            Call { path: "/", query, signature: Some(&token), ..Call::to("api.example.com") };
        let mut event = call.alb();
        // The URI's query becomes part of a fragment.
        event["headers"]["host"] = "api.example.com#".into();
        let service = layer_for(public_url).layer(service_fn(async |_: Request| {
            Ok::<_, lambda_http::Error>(Response::new(String::new()))
        }));
        let request = from_str(&event.to_string()).expect("an event");
        assert_eq!(request.uri().query(), None);
        assert_eq!(status(service, request).await, StatusCode::BAD_REQUEST);
    }
}

/// `lambda_http` adds the stage to the path, which is not a mismatch. Any other prefix is.
#[tokio::test]
async fn only_the_stage_may_precede_the_verified_path() {
    for (stage, host, verdict) in [
        ("prod", "hooks.example.com", 200),
        ("$default", "hooks.example.com", 200),
        ("$default", "hooks.example.com/prod", 400),
        ("prod", "hooks.example.com/prod", 400),
    ] {
        let token = sign("https://hooks.example.com/hook", b"Hello");
        let call = Call { stage, signature: Some(&token), ..Call::to(DOMAIN) };
        for mut event in [call.http_api(), call.rest_api()] {
            event["headers"]["host"] = host.into();
            let service = layer_for(PublicUrl::from_lambda_context()).layer(service_fn(
                async |_: Request| Ok::<_, lambda_http::Error>(Response::new(String::new())),
            ));
            let request = from_str(&event.to_string()).expect("an event");
            assert_eq!(status(service, request).await, verdict, "{stage} {host}");
        }
    }
}

/// Emulators such as LocalStack include a port in the domain name.
#[tokio::test]
async fn a_port_in_the_domain_name_is_compared() {
    for (url, verdict) in [
        ("https://x.example:4566/hook", 200),
        ("https://X.EXAMPLE:4566/hook", 200),
        ("https://x.example/hook", 400),
        ("https://x.example:4567/hook", 400),
        ("http://x.example:4566/hook", 400),
    ] {
        let token = sign(url, b"Hello");
        let call = Call { signature: Some(&token), ..Call::to("x.example:4566") };
        for event in [call.http_api(), call.rest_api(), call.function_url()] {
            let service = layer_for(PublicUrl::from_lambda_context()).layer(service_fn(
                async |_: Request| Ok::<_, lambda_http::Error>(Response::new(String::new())),
            ));
            let request = from_str(&event.to_string()).expect("an event");
            assert_eq!(status(service, request).await, verdict, "{url}");
        }
    }
}

/// With `AWS_LAMBDA_HTTP_IGNORE_STAGE_IN_PATH`, `lambda_http` leaves the stage out of the URI; a REST
/// API's context has it all the same.
#[tokio::test]
async fn a_stage_in_the_context_only_is_accepted() {
    for (url, path, context_path, uri, verdict) in [
        ("/prod/hook", "/hook", "/prod/hook", "/hook", 200),
        ("/prod/hook", "/hook", "/prod/hook", "/prod/hook", 200),
        ("/prod", "/", "/prod", "/prod/", 200),
        ("/prod/", "/", "/prod/", "/prod/", 200),
        ("/v1/hook", "/hook", "/v1/hook", "/hook", 200),
        ("/prod/hook", "/hook", "/prod/hook", "/admin", 400),
        ("/prod/hook", "/hook", "/prod/hook", "/other/hook", 400),
    ] {
        let token = sign(&format!("https://hooks.example.com{url}"), b"Hello");
        let call =
            Call { stage: "prod", path, context_path, signature: Some(&token), ..Call::to(DOMAIN) };
        let mut request = from_str(&call.rest_api().to_string()).expect("an event");
        // Not by the variable, which would be set for all tests of this process.
        *request.uri_mut() = uri.parse().expect("a URI");
        let service =
            layer_for(PublicUrl::from_lambda_context()).layer(service_fn(async |_: Request| {
                Ok::<_, lambda_http::Error>(Response::new(String::new()))
            }));
        assert_eq!(status(service, request).await, verdict, "{url} at {uri}");
    }
}

/// An empty path in a REST API's context is like a missing one: the path of the event is compared, so
/// that a handler which routes by it sees no other than the URI's.
#[tokio::test]
async fn an_empty_context_path_does_not_hide_the_event_path() {
    for (url, path, uri, verdict) in [
        ("/hook", "/hook", "/hook", 200),
        ("/hook", "/hook", "/prod/hook", 200),
        ("/", "/", "/", 200),
        ("/", "/admin", "/", 400),
        ("/hook", "/admin", "/hook", 400),
        ("/admin", "/admin", "/hook", 400),
    ] {
        let token = sign(&format!("https://hooks.example.com{url}"), b"Hello");
        let call = Call { stage: "prod", path, signature: Some(&token), ..Call::to(DOMAIN) };
        for context_path in [serde_json::Value::Null, "".into()] {
            let mut event = call.rest_api();
            event["requestContext"]["path"] = context_path;
            let mut request = from_str(&event.to_string()).expect("an event");
            *request.uri_mut() = uri.parse().expect("a URI");
            let service = layer_for(PublicUrl::from_lambda_context()).layer(service_fn(
                async |_: Request| Ok::<_, lambda_http::Error>(Response::new(String::new())),
            ));
            let context_path = &event["requestContext"]["path"];
            let outcome = status(service, request).await;
            assert_eq!(outcome, verdict, "{url}, {path}, {uri}, {context_path}");
        }
    }
}
