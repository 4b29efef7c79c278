//! `lambda_http` services in this process, from the event to the answer.

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
async fn the_body_keeps_its_variant_and_its_place_in_memory() {
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
        let place = request.body().as_ref().as_ptr();
        let service = layer_for(PublicUrl::from_lambda_context()).layer(service_fn(
            move |request: Request| async move {
                assert!(as_sent(request.body()), "{:?}", request.body());
                assert_eq!(request.body().as_ref().as_ptr(), place);
                Ok::<_, lambda_http::Error>(Response::new(Body::from("done")))
            },
        ));
        assert_eq!(status(service, request).await, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_body_limit_holds_for_a_body_in_memory() {
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
fn a_body_made_from_bytes_is_binary() {
    assert!(matches!(Body::from_bytes("text".into()), Body::Binary(bytes) if bytes == b"text"));
}

/// An axum router run by `lambda_http::run`: the layer around it, in it, in a nest, below two.
#[tokio::test]
async fn an_axum_router_on_lambda_nested_too() {
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
        // The stage is not in the URL, and lambda_http puts it into the URI.
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

/// `base` on Lambda goes by what the caller saw, too: no invented stage.
#[tokio::test]
async fn a_base_on_lambda_goes_by_the_raw_path() {
    let service = || {
        let base = PublicUrl::base("https://public.example/mapped").expect("a good base");
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

/// Outside Lambda, and where AWS gives no domain name, the context tells nothing.
#[tokio::test]
async fn without_a_request_context_it_cannot_tell() {
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

/// `lambda_http` builds the URI with a WHATWG parser from `Host` and path, so that a handler may see
/// another path than the one that AWS received and the layer compared.
#[tokio::test]
async fn a_delivery_is_routed_where_it_was_verified_or_rejected() {
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
    // The `Host` header, the path as AWS received it, and what comes of a token for that path.
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
            // An ALB in its other mode: `lambda_http` does not look for `Host` there.
            let host_is_ignored = event["headers"].is_null() && host.contains(['/', '?', '\\']);
            let verdict = if host_is_ignored { (200, None) } else { verdict.clone() };
            let base = PublicUrl::base("https://api.example.com").unwrap();
            assert_eq!(outcome(base, &event).await, verdict, "{host}{path}: {event}");
        }
    }
}

/// `RequestExt` and the URI must tell the same query.
#[tokio::test]
async fn a_query_that_only_an_extension_has_is_rejected() {
    let token = sign("https://api.example.com/", b"Hello");
    let query: &[(&str, &str)] = &[("admin", "1")];
    for public_url in [
        PublicUrl::base("https://api.example.com").unwrap(),
        PublicUrl::exact("https://api.example.com/").unwrap(),
    ] {
        let call =
            Call { path: "/", query, signature: Some(&token), ..Call::to("api.example.com") };
        let mut event = call.alb();
        // The fragment swallows the query.
        event["headers"]["host"] = "api.example.com#".into();
        let service = layer_for(public_url).layer(service_fn(async |_: Request| {
            Ok::<_, lambda_http::Error>(Response::new(String::new()))
        }));
        let request = from_str(&event.to_string()).expect("an event");
        assert_eq!(request.uri().query(), None);
        assert_eq!(status(service, request).await, StatusCode::BAD_REQUEST);
    }
}

/// The stage that `lambda_http` adds is no rewriting; another prefix is.
#[tokio::test]
async fn a_stage_before_the_path_is_not_a_rewriting() {
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

/// Emulators such as LocalStack have a port in the domain name.
#[tokio::test]
async fn a_domain_name_with_a_port_is_part_of_the_url() {
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
