//! Which URLs are equivalent to the claim `sub`, and what the layer makes of them.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use lambda_http::Body;
use proptest::prelude::*;
use tower::{Layer, ServiceExt};
use tower_qstash::{PublicUrl, RequestBody, Verifier, VerifyError};

use crate::lambda_events::Call;
use crate::support::{current, keys, layer_for, now};
use crate::url_pairs::{DIFFERENT, EQUIVALENT};

/// Returns whether a token for `subject` is accepted at `url`.
fn accepted(subject: &str, url: &str) -> bool {
    let token = current().delivery(subject, b"", now()).token();
    match Verifier::new(keys()).verify(&token, url, b"", now()) {
        Ok(_) => true,
        Err(VerifyError::SubjectMismatch { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

/// Returns the layer's response to a delivery for `subject` that requests `path`.
async fn status(subject: &str, public_url: PublicUrl, path: &str) -> StatusCode {
    let request = Request::post(path).body(Full::<Bytes>::default()).expect("a valid request");
    status_of(subject, public_url, request).await
}

/// Returns the layer's response to `request`, signed for `subject`.
async fn status_of<B>(subject: &str, public_url: PublicUrl, mut request: Request<B>) -> StatusCode
where
    B: RequestBody<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let token = current().delivery(subject, b"", now()).token();
    request.headers_mut().insert("upstash-signature", token.parse().expect("ASCII"));
    let inner = tower::service_fn(|_| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    });
    let service = layer_for(public_url).layer(inner);
    service.oneshot(request).await.expect("infallible").status()
}

/// Returns the requests that Lambda receives for `url`, first those with a domain name in their
/// context, then those without. `None` unless `url` is `https` with the default port and no user
/// information.
fn on_lambda(url: &str) -> Option<([Request<Body>; 3], Vec<Request<Body>>)> {
    let rest = url.strip_prefix("https://")?.split('#').next()?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if domain.is_empty() || domain.contains(['@', ':']) {
        return None;
    }
    let path = if path.is_empty() { "/" } else { path };
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    let as_sent: Vec<_> =
        pieces.map(|piece| piece.split_once('=').unwrap_or((piece, ""))).collect();
    let decoded: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let decoded: Vec<_> = decoded.iter().map(|(name, value)| (&**name, &**value)).collect();

    let call = Call { path, context_path: path, query: &as_sent, body: None, ..Call::to(domain) };
    let request = |event: serde_json::Value| {
        lambda_http::request::from_str(&event.to_string()).expect("an event")
    };
    let rest_api = Call { query: &decoded, ..call.clone() }.rest_api();
    let mut balancers = vec![request(call.alb_multi_value())];
    // In its other mode, an ALB keeps only one value of each name.
    let names: std::collections::BTreeSet<_> = as_sent.iter().map(|(name, _)| name).collect();
    if names.len() == as_sent.len() {
        balancers.push(request(call.alb()));
    }
    Some(([call.http_api(), rest_api, call.function_url()].map(request), balancers))
}

/// Returns another path with the query of `url`, if that is a valid request target.
fn with_query_of(url: &str) -> Option<String> {
    let url = url.split('#').next()?;
    let query = url.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    let target = format!("/other{query}");
    target.parse::<http::Uri>().is_ok().then_some(target)
}

/// A table that lost its rows would pass the other tests.
#[test]
fn the_tables_are_long_enough() {
    assert!(
        EQUIVALENT.len() >= 40 && DIFFERENT.len() >= 50,
        "{} and {}",
        EQUIVALENT.len(),
        DIFFERENT.len()
    );
}

#[test]
fn equivalent_urls_are_accepted_in_either_order() {
    for (subject, url) in EQUIVALENT {
        assert!(accepted(subject, url), "{subject} at {url}");
        assert!(accepted(url, subject), "{url} at {subject}");
    }
}

#[test]
fn different_urls_are_rejected_in_either_order() {
    for (subject, url) in DIFFERENT {
        assert!(!accepted(subject, url), "{subject} at {url}");
        assert!(!accepted(url, subject), "{url} at {subject}");
    }
}

/// Compares each kind of `PublicUrl` with the tables, for all URLs that it can be configured with.
#[tokio::test]
async fn every_kind_of_public_url_agrees_with_the_tables() {
    let mut compared = [0; 4];
    let verdicts = [(EQUIVALENT, StatusCode::OK), (DIFFERENT, StatusCode::BAD_REQUEST)];
    for (pairs, verdict) in verdicts {
        for (subject, url) in pairs {
            let closure = PublicUrl::from_fn(|_| Some((*url).to_owned()));
            assert_eq!(status(subject, closure, "/other").await, verdict, "{subject} at {url}");
            compared[0] += 1;
            if let (Ok(exact), Some(target)) = (PublicUrl::exact(url), with_query_of(url)) {
                compared[1] += 1;
                let other = || PublicUrl::exact("https://other.example").unwrap();
                for public_url in [exact.clone(), other().also(exact.clone()), exact.also(other())]
                {
                    let status = status(subject, public_url, &target).await;
                    assert_eq!(status, verdict, "{subject} at {url}");
                }
            }
            if let Some((gateways, balancers)) = on_lambda(url) {
                compared[2] += 1;
                for request in gateways {
                    let status =
                        status_of(subject, PublicUrl::from_lambda_context(), request).await;
                    // A gateway may have decoded the path, so both spellings are accepted.
                    let decoded = *subject == "https://api.example.com/a%3Bb";
                    let verdict = if decoded { StatusCode::OK } else { verdict };
                    assert_eq!(status, verdict, "{subject} at {url}");
                }
                let origin = url.split_inclusive('/').take(3).collect::<String>();
                let origin = origin.split(['?', '#']).next().expect("an origin");
                for request in balancers {
                    let origin = PublicUrl::base(origin).expect("a valid base");
                    assert_eq!(
                        status_of(subject, origin, request).await,
                        verdict,
                        "{subject} at {url}"
                    );
                }
            }
            let Ok(uri) = url.parse::<http::Uri>() else { continue };
            let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
                continue;
            };
            let origin = PublicUrl::base(&format!("{scheme}://{authority}")).unwrap();
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            assert_eq!(status(subject, origin, path).await, verdict, "{subject} at {url}");
            compared[3] += 1;
        }
    }
    assert_eq!(compared[0], EQUIVALENT.len() + DIFFERENT.len());
    assert!(compared.into_iter().all(|count| count > 80), "{compared:?}");
}

#[tokio::test]
async fn a_base_is_joined_with_the_path_of_the_request() {
    let base = |url| PublicUrl::base(url).unwrap();
    let ok = StatusCode::OK;
    let rejected = StatusCode::BAD_REQUEST;
    let table = [
        ("https://api.example.com/v1/a?b=1", base("https://api.example.com/v1"), "/a?b=1", ok),
        ("https://api.example.com/v1/a", base("https://api.example.com/v1/"), "/a", ok),
        ("https://api.example.com/v1", base("https://api.example.com/v1"), "/", ok),
        ("https://api.example.com/v1/", base("https://api.example.com/v1/"), "/", ok),
        ("https://api.example.com/v1/a/", base("https://api.example.com/v1"), "/a", ok),
        ("https://api.example.com", base("https://api.example.com/"), "/", ok),
        ("https://api.example.com/v1", base("https://api.example.com/v1"), "/a", rejected),
        ("https://api.example.com/a", base("https://api.example.com/v1"), "/a", rejected),
        ("https://api.example.com/v1a", base("https://api.example.com/v1"), "/a", rejected),
        // `OPTIONS *`, whose path does not start with a slash.
        ("https://api.example.com*", base("https://api.example.com"), "*", rejected),
        // The request's own authority, which HTTP/2 and proxies send, is ignored.
        ("https://api.example.com/a", base("https://api.example.com"), "http://evil.org/a", ok),
        ("https://evil.org/a", base("https://api.example.com"), "https://evil.org/a", rejected),
    ];
    for (subject, public_url, path, verdict) in table {
        let description = format!("{subject} at {path} with {public_url:?}");
        let status = status(subject, public_url, path).await;
        // Without a path that starts with a slash there is no URL to compare.
        let verdict = if path == "*" { StatusCode::INTERNAL_SERVER_ERROR } else { verdict };
        assert_eq!(status, verdict, "{description}");
    }
}

#[test]
fn invalid_public_urls_are_refused_with_advice() {
    let invalid = [
        ("", "is empty"),
        ("\"https://api.example.com\"", "has quotation marks around it"),
        ("https://api.example.com'", "has quotation marks around it"),
        ("/hooks", "has no scheme"),
        ("api.example.com/hooks", "has no scheme"),
        ("api.example.com:443", "has no scheme"),
        ("api.example.com/?to=https://b.example", "has no scheme"),
        ("//api.example.com", "has no scheme"),
        ("https:/api.example.com", "has no scheme"),
        ("localhost:3000", "has no scheme"),
        ("ftp://api.example.com", "has another scheme than http or https"),
        ("htps://api.example.com", "has another scheme than http or https"),
        ("https://", "has no host"),
        ("https:///hooks", "has no host"),
        ("https://:443/", "has no host"),
        ("https://user@/", "has no host"),
        ("https://api.example.com:port/", "has a port that is not a number below 65536"),
        ("https://api.example.com:+443/", "has a port that is not a number below 65536"),
        ("https://api.example.com:65536/", "has a port that is not a number below 65536"),
        ("https://[::1]:x/", "has a port that is not a number below 65536"),
        ("https://[::1/", "is malformed"),
        ("https://[::1]443/", "is malformed"),
        (" https://api.example.com", "contains white space or a control character"),
        ("https://api.example.com\n", "contains white space or a control character"),
        ("https://api.example.com/a b", "contains white space or a control character"),
        ("https://api.example.com/\0", "contains white space or a control character"),
        (r"https:\\api.example.com", "contains a backslash"),
        (r"https://api.example.com\hooks", "contains a backslash"),
    ];
    for (url, problem) in invalid {
        let error = PublicUrl::exact(url).unwrap_err().to_string();
        let start = format!("the URL given to PublicUrl::exact {problem}; write the whole URL");
        assert!(
            error.starts_with(&start) && error.contains("https://api.example.com/hook"),
            "{url}: {error}"
        );
        let error = PublicUrl::base(url).unwrap_err().to_string();
        let start = format!("the URL given to PublicUrl::base {problem}; write the origin");
        assert!(error.starts_with(&start), "{url}: {error}");
        // Following this advice must not repeat the path.
        assert!(
            error.contains("such as https://api.example.com: the path of each request is added"),
            "{error}"
        );
    }
    for url in
        ["https://api.example.com?a=b", "https://api.example.com/?", "https://api.example.com/#a"]
    {
        assert!(PublicUrl::exact(url).is_ok(), "{url}");
        let error = PublicUrl::base(url).unwrap_err();
        assert_eq!(
            format!("{error:?}"),
            error.to_string(),
            "`Debug`, as printed when `main` returns it"
        );
        let error = error.to_string();
        assert!(
            error.starts_with("the URL given to PublicUrl::base has a query or a fragment;"),
            "{url}"
        );
    }
    for url in
        ["http://localhost:3000", "HTTPS://API.example.com:443/hooks/", "https://[::1]:8443/a"]
    {
        assert!(PublicUrl::base(url).is_ok(), "{url}");
    }
}

/// The parts of a URL.
#[derive(Clone, Debug)]
struct Parts {
    scheme: &'static str,
    host: String,
    port: Option<u16>,
    segments: Vec<String>,
    query: Option<String>,
}

impl Parts {
    fn url(&self) -> String {
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        let path: String = self.segments.iter().map(|segment| format!("/{segment}")).collect();
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        format!("{}://{}{port}{path}{query}", self.scheme, self.host)
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        prop_oneof![Just("http"), Just("https")],
        "[a-z]{1,8}(\\.[a-z]{2,6}){0,2}",
        proptest::option::of(1024_u16..),
        proptest::collection::vec("([a-zA-Z0-9~._-]|%[2-7][0-9A-F]|[!$&'()*+,;=:@]){1,8}", 1..4),
        proptest::option::of("([a-z0-9=&+~]|%[2-7][0-9a-f]){0,16}"),
    )
        .prop_map(|(scheme, host, port, segments, query)| Parts {
            scheme,
            host,
            port,
            segments,
            query,
        })
}

/// Reverses the pairs of a query.
fn reversed(query: &str) -> String {
    query.split('&').rev().collect::<Vec<_>>().join("&")
}

proptest! {
    #[test]
    fn every_url_is_equivalent_to_itself(parts in parts()) {
        prop_assert!(accepted(&parts.url(), &parts.url()));
        // Not only because the texts are equal.
        prop_assert!(accepted(&parts.url(), &parts.url().replacen("http", "HTTP", 1)));
    }

    #[test]
    fn equivalence_is_symmetric(a in ".{0,40}", b in ".{0,40}", c in parts(), d in parts(), which in any::<[bool; 5]>()) {
        prop_assert_eq!(accepted(&a, &b), accepted(&b, &a));
        // Two URLs with some parts in common, equivalent or not.
        let mut similar = Parts { scheme: c.scheme, host: c.host.to_uppercase(), ..d };
        if which[0] { similar.port = c.port; }
        if which[1] { similar.segments.clone_from(&c.segments); }
        if which[2] { similar.query.clone_from(&c.query); }
        if which[3] { similar.segments.push(String::new()); }
        if which[4] { similar.query = similar.query.map(|query| reversed(&query)); }
        prop_assert_eq!(accepted(&c.url(), &similar.url()), accepted(&similar.url(), &c.url()));
    }

    #[test]
    fn normalized_spellings_are_equivalent(parts in parts()) {
        let respelled = Parts {
            host: parts.host.to_uppercase(),
            port: parts.port.or(Some(if parts.scheme == "https" { 443 } else { 80 })),
            segments: parts.segments.iter().map(|segment| segment.replace('~', "%7e")).collect(),
            ..parts.clone()
        };
        prop_assert!(accepted(&parts.url(), &respelled.url()));
        let with_slash = Parts { query: None, ..parts };
        let url = with_slash.url();
        let slashed = format!("{url}/");
        prop_assert!(accepted(&url, &slashed));
    }

    #[test]
    fn a_change_of_scheme_host_port_or_path_is_rejected(parts in parts(), index: prop::sample::Index, other in "[a-z]{9,12}") {
        let url = parts.url();
        let mut changed = vec![
            Parts { host: other.clone(), ..parts.clone() },
            Parts { host: format!("{}.{other}", parts.host), ..parts.clone() },
            Parts { host: format!("{}@{other}", parts.host), ..parts.clone() },
            Parts { port: Some(parts.port.unwrap_or(9) ^ 2), ..parts.clone() },
            Parts { scheme: if parts.scheme == "http" { "https" } else { "http" }, ..parts.clone() },
        ];
        let segment = index.index(parts.segments.len());
        let mut replaced = parts.clone();
        replaced.segments[segment] = other.clone();
        let mut longer = parts.clone();
        longer.segments[segment].push_str(&other);
        let mut inserted = parts.clone();
        inserted.segments.insert(segment, other);
        let mut removed = parts;
        removed.segments.remove(segment);
        changed.extend([replaced, longer, inserted, removed]);
        for changed in changed {
            prop_assert!(!accepted(&url, &changed.url()), "{url} at {}", changed.url());
        }
    }
}
