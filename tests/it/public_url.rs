//! Public URLs in every setup. Each cause in docs/troubleshooting.md, "It says the message was published
//! to another URL", is reproduced: deliveries are rejected with the wrong setting and accepted with the
//! one of that page.

use axum::{Router, body::Body, response::IntoResponse, routing::post};
use http::{Request, Response, StatusCode, Uri};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_http::normalize_path::NormalizePathLayer;
use tower_qstash::{PublicUrl, Rejection, VerifyError};

use crate::support::{BASE, current, layer, layer_for, now};

fn base(url: &str) -> PublicUrl {
    PublicUrl::base(url).expect("a valid base")
}

fn exact(url: &str) -> PublicUrl {
    PublicUrl::exact(url).expect("a valid URL")
}

/// Returns a delivery published to `subject` that requests `target`.
fn delivery(subject: &str, target: &str) -> Request<Body> {
    let token = current().delivery(subject, b"Hello", now()).token();
    Request::post(target)
        .header("upstash-signature", token)
        .body("Hello".into())
        .expect("a valid request")
}

async fn call<S, B>(service: S, request: Request<Body>) -> Response<()>
where
    S: Service<Request<Body>, Response = Response<B>, Error: std::fmt::Debug>,
{
    service.oneshot(request).await.expect("infallible").map(drop)
}

/// Returns the status of the response, and on a subject mismatch the URLs for the log.
async fn outcome(
    public_url: PublicUrl,
    request: Request<Body>,
) -> (StatusCode, Option<(String, Vec<String>)>) {
    let app = layer_for(public_url).layer(Router::new().fallback(ok));
    let response = call(app, request).await;
    let urls = match response.extensions().get() {
        Some(Rejection::Verification(VerifyError::SubjectMismatch {
            subject, expected, ..
        })) => {
            let expected = expected.iter().map(ToString::to_string).collect();
            Some((subject.to_string(), expected))
        }
        _ => None,
    };
    (response.status(), urls)
}

/// Asserts that a delivery is rejected with `wrong`, which expects the URL `expected`, and accepted
/// with `right`.
async fn assert_fixed(
    subject: &str,
    target: &str,
    wrong: PublicUrl,
    expected: &str,
    right: PublicUrl,
) {
    let rejected = outcome(wrong, delivery(subject, target)).await;
    let subject_logged = subject.replace("=1", "=***");
    let urls = Some((subject_logged, vec![expected.to_owned()]));
    assert_eq!(rejected, (StatusCode::BAD_REQUEST, urls));
    let accepted = outcome(right, delivery(subject, target)).await;
    assert_eq!(accepted, (StatusCode::OK, None));
}

async fn ok() -> &'static str {
    "ok"
}

#[tokio::test]
async fn a_tls_proxy_needs_an_https_base() {
    let published = "https://api.example.com/hook";
    let wrong = base("http://api.example.com");
    assert_fixed(
        published,
        "/hook",
        wrong,
        "http://api.example.com/hook",
        base("https://api.example.com"),
    )
    .await;
}

#[tokio::test]
async fn an_internal_port_does_not_belong_in_the_base() {
    let published = "https://api.example.com/hook";
    let wrong = base("https://api.example.com:3000");
    assert_fixed(
        published,
        "/hook",
        wrong,
        "https://api.example.com:3000/hook",
        base("https://api.example.com"),
    )
    .await;
}

#[tokio::test]
async fn several_domains_are_joined_with_also() {
    let published = "https://www.example.com/hook";
    let wrong = base("https://example.com");
    let right = base("https://example.com").also(base("https://www.example.com"));
    assert_fixed(published, "/hook", wrong, "https://example.com/hook", right).await;
}

#[tokio::test]
async fn preview_deployments_need_a_closure() {
    let published = "https://pr-7.preview.example.com/hook";
    let of_preview = || {
        PublicUrl::from_fn(|parts| {
            let host = parts.headers.get("x-forwarded-host")?.to_str().ok()?;
            Some(format!("https://{host}{}", parts.uri.path_and_query()?))
        })
    };
    let mut request = delivery(published, "/hook");
    request.headers_mut().insert("x-forwarded-host", "pr-7.preview.example.com".parse().unwrap());
    assert_eq!(outcome(base("https://example.com"), delivery(published, "/hook")).await.0, 400);
    assert_eq!(outcome(of_preview(), request).await, (StatusCode::OK, None));

    // `None` from the closure is a setup error, unless another URL matches.
    assert_eq!(
        outcome(of_preview(), delivery(published, "/hook")).await,
        (StatusCode::INTERNAL_SERVER_ERROR, None)
    );
    let and_exact = of_preview().also(exact(published));
    assert_eq!(outcome(and_exact, delivery(published, "/hook")).await, (StatusCode::OK, None));
}

#[tokio::test]
async fn a_stripped_prefix_belongs_in_the_base() {
    let published = "https://api.example.com/jobs/hook?a=1";
    let wrong = base("https://api.example.com");
    let right = base("https://api.example.com/jobs");
    assert_fixed(published, "/hook?a=1", wrong, "https://api.example.com/hook?a=***", right).await;
}

#[tokio::test]
async fn a_rewritten_path_needs_exact() {
    let published = "https://api.example.com/hook";
    let wrong = base("https://api.example.com");
    let right = exact("https://api.example.com/hook");
    assert_fixed(
        published,
        "/internal/v2/hook",
        wrong,
        "https://api.example.com/internal/v2/hook",
        right,
    )
    .await;
}

#[tokio::test]
async fn an_extended_query_needs_a_closure() {
    let published = "https://api.example.com/hook?a=1";
    let target = "/hook?a=1&via=proxy";
    let right = PublicUrl::from_fn(|parts| {
        let query = parts.uri.query()?.strip_suffix("&via=proxy")?;
        Some(format!("https://api.example.com{}?{query}", parts.uri.path()))
    });
    let wrong = base("https://api.example.com");
    assert_fixed(published, target, wrong, "https://api.example.com/hook?a=***&via=***", right)
        .await;
}

#[tokio::test]
async fn a_path_in_another_case_needs_exact() {
    // A slash at the end is ignored, unlike case.
    let slash = delivery("https://api.example.com/hook/", "/hook");
    assert_eq!(outcome(base(BASE), slash).await, (StatusCode::OK, None));
    let published = "https://api.example.com/Hook";
    let right = exact("https://api.example.com/Hook");
    assert_fixed(published, "/hook", base(BASE), "https://api.example.com/hook", right).await;
}

#[tokio::test]
async fn a_path_with_other_slashes_needs_exact() {
    for (sent, arrives) in [("/a%2Fb", "/a/b"), ("/a//b", "/a/b"), ("/hook//", "/hook")] {
        let published = format!("https://api.example.com{sent}");
        let expected = format!("https://api.example.com{arrives}");
        assert_fixed(&published, arrives, base(BASE), &expected, exact(&published)).await;
    }
}

#[tokio::test]
async fn the_path_of_the_request_does_not_belong_in_the_base() {
    let published = "https://api.example.com/api/hook";
    let twice = "https://api.example.com/api/api/hook";
    assert_fixed(published, "/api/hook", base("https://api.example.com/api"), twice, base(BASE))
        .await;
}

/// Without `OriginalUri`, a nested router knows only the rest of its path.
#[tokio::test]
async fn an_unknown_nest_prefix_belongs_in_the_base() {
    let without_original_uri = |mut request: Request<Body>| {
        request.extensions_mut().remove::<axum::extract::OriginalUri>();
        request
    };
    let nested = |public_url, removes_original_uri| {
        let verify = layer_for(public_url);
        let routes = Router::new().route("/hook", post(ok));
        Router::new().nest(
            "/api",
            if removes_original_uri {
                routes.layer(ServiceBuilder::new().map_request(without_original_uri).layer(verify))
            } else {
                routes.layer(verify)
            },
        )
    };
    let request = || delivery("https://api.example.com/api/hook", "/api/hook");
    assert_eq!(call(nested(base(BASE), true), request()).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(call(nested(base(BASE), false), request()).await.status(), StatusCode::OK);
    let with_prefix = base("https://api.example.com/api");
    assert_eq!(call(nested(with_prefix, true), request()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn two_lambda_domains_are_joined_with_also() {
    use lambda_http::{Body, Request, request::from_str};

    use crate::lambda_events::Call;

    let (own, of_the_api) = ("hooks.example.com", "abcdef1234.execute-api.us-east-1.amazonaws.com");
    let status = async |public_url, published: &str, arrives| {
        let token =
            current().delivery(&format!("https://{published}/hook"), "Hello", now()).token();
        let event = Call { signature: Some(&token), ..Call::to(arrives) }.http_api();
        let service = layer_for(public_url).layer(tower::service_fn(async |_: Request| {
            Ok::<_, lambda_http::Error>(Response::new(Body::Empty))
        }));
        let request = from_str(&event.to_string()).expect("an event");
        service.oneshot(request).await.expect("infallible").status()
    };
    let either = || base(&format!("https://{own}")).also(base(&format!("https://{of_the_api}")));
    for (one, other) in [(own, of_the_api), (of_the_api, own)] {
        let wrong = base(&format!("https://{other}"));
        assert_eq!(status(wrong, one, one).await, StatusCode::BAD_REQUEST);
        assert_eq!(status(PublicUrl::from_lambda_context(), one, one).await, StatusCode::OK);
        assert_eq!(
            status(PublicUrl::from_lambda_context(), one, other).await,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(status(either(), one, other).await, StatusCode::OK);
    }
}

/// A middleware that strips a prefix, as axum's `nest` does, but without an `OriginalUri`.
#[tokio::test]
async fn the_layer_goes_outside_a_rewriting_middleware() {
    let strip = |mut request: Request<Body>| {
        *request.uri_mut() = Uri::from_static("/hook");
        request
    };
    let request = || delivery("https://api.example.com/api/hook", "/api/hook");
    let handler = || Router::new().route("/hook", post(ok));
    let outside = ServiceBuilder::new().map_request(strip).layer(layer()).service(handler());
    assert_eq!(call(outside, request()).await.status(), StatusCode::BAD_REQUEST);
    let inside = ServiceBuilder::new().layer(layer()).map_request(strip).service(handler());
    assert_eq!(call(inside, request()).await.status(), StatusCode::OK);
    let with_base = layer_for(base("https://api.example.com/api"));
    let with_base = ServiceBuilder::new().map_request(strip).layer(with_base).service(handler());
    assert_eq!(call(with_base, request()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn dangerous_unchecked_accepts_any_url() {
    for subject in ["https://elsewhere.example/x", "queue:resize", ""] {
        let unchecked = PublicUrl::dangerous_unchecked();
        assert_eq!(outcome(unchecked, delivery(subject, "/hook")).await, (StatusCode::OK, None));
    }
    let mut tampered = delivery("https://elsewhere.example/x", "/hook");
    *tampered.body_mut() = "Hallo".into();
    assert_eq!(
        outcome(PublicUrl::dangerous_unchecked(), tampered).await.0,
        StatusCode::BAD_REQUEST
    );
}

/// `exact` also compares the query, or a token would be accepted with any query.
#[tokio::test]
async fn exact_compares_the_query_and_not_the_path() {
    for (published, target, verdict) in [
        ("/hook", "/hook", 200),
        ("/hook", "/hook?", 200),
        ("/hook", "/internal/v2", 200),
        ("/hook", "/hook?tenant=evil&admin=1", 400),
        ("/hook?a=1&b=2", "/hook?a=1&b=2", 200),
        ("/hook?a=1&b=2", "/internal?b=2&a=1", 200),
        ("/hook?a=1&b=2", "/hook", 400),
        ("/hook?a=1&b=2", "/hook?a=1", 400),
        ("/hook?a=1&b=2", "/hook?a=1&b=3", 400),
        ("/hook?a=1&b=2", "/hook?a=1&b=2&admin=1", 400),
    ] {
        let published = format!("{BASE}{published}");
        let app = layer_for(exact(&published)).layer(Router::new().fallback(ok));
        let response = call(app, delivery(&published, target)).await;
        assert_eq!(response.status(), verdict, "{published} at {target}");
        let code = response.extensions().get::<Rejection>().map(Rejection::code);
        assert_eq!(code, (verdict == 400).then_some("routing_mismatch"));
    }
    // With several URLs, the query must be that of the URL in the token.
    let either = || exact(&format!("{BASE}/hook")).also(exact(&format!("{BASE}/hook?admin=1")));
    for (published, target, verdict) in [
        ("/hook", "/hook", 200),
        ("/hook?admin=1", "/hook?admin=1", 200),
        ("/hook", "/hook?admin=1", 400),
        ("/hook?admin=1", "/hook", 400),
    ] {
        let request = delivery(&format!("{BASE}{published}"), target);
        assert_eq!(outcome(either(), request).await.0, verdict, "{published} at {target}");
    }
}

/// The original URI is verified, and the URI that the handler sees must be the end of it.
#[tokio::test]
async fn a_uri_that_is_not_the_end_of_the_original_is_rejected() {
    let rewrite = |uri: &'static str| {
        move |mut request: Request<Body>| {
            *request.uri_mut() = Uri::from_static(uri);
            request
        }
    };
    for (uri, verdict) in [
        ("/hook", 200),
        ("/hook/", 200),
        ("/", 200),
        ("/api/hook", 200),
        ("/admin", 400),
        ("/hook/admin", 400),
        ("/hook//", 400),
    ] {
        let stack = ServiceBuilder::new().map_request(rewrite(uri)).layer(layer());
        let app = Router::new().nest("/api", Router::new().fallback(ok).layer(stack));
        let response = call(app, delivery(&format!("{BASE}/api/hook"), "/api/hook")).await;
        assert_eq!(response.status(), verdict, "{uri}");
    }
}

/// Wherever the layer is in a router, each route accepts only what was published to its path.
#[tokio::test]
async fn every_place_in_an_axum_router_verifies_the_whole_path() {
    let routes = || Router::new().route("/hook", post(ok)).route("/other", post(ok));
    let one_route =
        |path| Router::new().route(path, post(ok).layer(layer())).route("/open", post(ok));
    let places: Vec<(&str, &str, Router)> = vec![
        ("whole router", "/hook", routes().layer(layer())),
        ("route_layer", "/hook", routes().route_layer(layer())),
        ("one route", "/hook", one_route("/hook")),
        ("around a nest", "/api/hook", Router::new().nest("/api", routes()).layer(layer())),
        ("in a nest", "/api/hook", Router::new().nest("/api", routes().layer(layer()))),
        ("a route in a nest", "/api/hook", Router::new().nest("/api", one_route("/hook"))),
        (
            "inside two nests",
            "/api/v1/hook",
            Router::new().nest("/api", Router::new().nest("/v1", routes().layer(layer()))),
        ),
        (
            "between two nests",
            "/api/v1/hook",
            Router::new().nest("/api", Router::new().nest("/v1", routes()).layer(layer())),
        ),
        (
            "a nested service",
            "/api/hook",
            Router::new().nest_service("/api", layer().layer(routes())),
        ),
        (
            "a path with parameters",
            "/7/hook",
            Router::new().route("/{id}/hook", post(ok)).layer(layer()),
        ),
        ("a merged router", "/hook", Router::new().merge(routes().layer(layer()))),
        ("the fallback", "/nowhere/else", Router::new().fallback(ok).layer(layer())),
        (
            "a nest's fallback",
            "/api/else",
            Router::new().nest("/api", Router::new().fallback(ok).layer(layer())),
        ),
    ];
    for (place, path, app) in places {
        let url = format!("{BASE}{path}");
        let valid = call(app.clone(), delivery(&url, path)).await;
        assert_eq!(valid.status(), StatusCode::OK, "{place}");
        let with_query = format!("{path}?a=1&b=2");
        let valid = call(app.clone(), delivery(&format!("{BASE}{with_query}"), &with_query)).await;
        assert_eq!(valid.status(), StatusCode::OK, "{place}, with a query");
        // Published to the path that an inner router sees, to the parent, or to a sibling.
        for other in ["/hook/hook", "/", "/other", "/api", "/v1/hook", "/hook-admin"] {
            let replayed = call(app.clone(), delivery(&format!("{BASE}{other}"), path)).await;
            assert_eq!(replayed.status(), StatusCode::BAD_REQUEST, "{place}: {other} at {path}");
        }
        if path.starts_with("/api") {
            let inner = format!("{BASE}{}", path.strip_prefix("/api").unwrap());
            let replayed = call(app, delivery(&inner, path)).await;
            assert_eq!(replayed.status(), StatusCode::BAD_REQUEST, "{place}: {inner}");
        }
    }
}

#[tokio::test]
async fn deliveries_through_normalize_path_are_accepted() {
    let app = Router::new().route("/hook", post(ok)).layer(layer());
    let app = NormalizePathLayer::trim_trailing_slash().layer(app);
    for (published, target) in
        [("/hook/", "/hook/"), ("/hook", "/hook"), ("/hook/?a=1", "/hook/?a=1")]
    {
        let request = delivery(&format!("{BASE}{published}"), target);
        assert_eq!(call(app.clone(), request).await.status(), StatusCode::OK, "{published}");
    }
    let request = delivery(&format!("{BASE}/other/"), "/hook/");
    assert_eq!(call(app, request).await.status(), StatusCode::BAD_REQUEST);
}

/// HTTP/2 requests and those through a forward proxy carry an authority, which the sender controls.
#[tokio::test]
async fn the_authority_of_a_request_is_ignored() {
    let app = || Router::new().nest("/api", Router::new().route("/hook", post(ok)).layer(layer()));
    for authority in ["https://api.example.com", "https://10.0.0.7:3000", "http://evil.example"] {
        let mut request =
            delivery("https://api.example.com/api/hook", &format!("{authority}/api/hook"));
        request.headers_mut().insert("host", "evil.example".parse().unwrap());
        assert_eq!(call(app(), request).await.status(), StatusCode::OK, "{authority}");
    }
    let replayed = delivery("https://evil.example/api/hook", "https://evil.example/api/hook");
    assert_eq!(call(app(), replayed).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_mismatch_shows_urls_only_to_the_operator() {
    let app = layer().layer(Router::new().fallback(ok));
    let response = app.oneshot(delivery("https://elsewhere.example/x", "/hook")).await.unwrap();
    let Some(Rejection::Verification(VerifyError::SubjectMismatch { subject, expected, .. })) =
        response.extensions().get()
    else {
        panic!("no subject mismatch");
    };
    assert_eq!(subject.to_string(), "https://elsewhere.example/x");
    assert_eq!(format!("{expected:?}"), r#"["https://api.example.com/hook"]"#);
    let body = axum::body::to_bytes(response.into_response().into_body(), 10_000).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(!body.contains("example"), "{body}");
}
