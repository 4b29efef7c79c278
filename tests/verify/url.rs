//! When are the claim `sub` and the URL of a request the same destination?

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use lambda_http::Body;
use proptest::prelude::*;
use tower::{Layer, ServiceExt};
use tower_qstash::{PublicUrl, RequestBody, Verifier, VerifyError};

use crate::lambda_events::Call;
use crate::support::{current, keys, layer_for, now};

/// A `sub`, and the URL that the request was sent to, as the operator knows it.
type Pair = (&'static str, &'static str);

const SAME: &[Pair] = &[
    // As published, from any of today's QStash deliveries.
    ("https://api.example.com/hooks/resize", "https://api.example.com/hooks/resize"),
    ("https://api.example.com/hooks?a=1&b=2", "https://api.example.com/hooks?a=1&b=2"),
    // The default port, typed out when publishing, or by a proxy's configuration.
    ("https://api.example.com:443/a", "https://api.example.com/a"),
    ("http://api.example.com:80/a", "http://api.example.com/a"),
    ("https://api.example.com:/a", "https://api.example.com/a"),
    ("https://api.example.com:0443/a", "https://api.example.com/a"),
    // A port of its own: a tunnel, the local development server.
    ("http://localhost:3000/webhook", "http://localhost:3000/webhook"),
    ("http://127.0.0.1:3000/webhook", "http://127.0.0.1:3000/webhook"),
    // Case of scheme and host: RFC 3986 §6.2.2.1.
    ("https://API.Example.COM/a", "https://api.example.com/a"),
    ("HTTPS://api.example.com/a", "https://api.example.com/a"),
    // The empty path: RFC 3986 §6.2.3. A browser's bar shows it without the slash.
    ("https://api.example.com", "https://api.example.com/"),
    ("https://api.example.com?a=1", "https://api.example.com/?a=1"),
    ("https://api.example.com:443", "https://api.example.com/"),
    // One slash at the end: the origin took it off on both sides.
    ("https://api.example.com/hooks/", "https://api.example.com/hooks"),
    ("https://api.example.com/hooks", "https://api.example.com/hooks/"),
    ("https://api.example.com/hooks/?a=1", "https://api.example.com/hooks?a=1"),
    // Percent-encoding of unreserved characters: RFC 3986 §6.2.2.2. Python's quote of old did `~`.
    ("https://api.example.com/%7Euser", "https://api.example.com/~user"),
    ("https://api.example.com/a%2Db%2Ec%5Fd", "https://api.example.com/a-b.c_d"),
    ("https://api.example.com/%61bc", "https://api.example.com/abc"),
    // Case of the hex digits: RFC 3986 §6.2.2.1. Go writes upper case, curl's user what he typed.
    ("https://api.example.com/a%c3%a9", "https://api.example.com/a%C3%A9"),
    ("https://api.example.com/a%2fb", "https://api.example.com/a%2Fb"),
    // What no URL may hold stands for its encoding: HTTP APIs decode rawPath.
    ("https://api.example.com/a%20b", "https://api.example.com/a b"),
    ("https://api.example.com/caf%C3%A9", "https://api.example.com/café"),
    ("https://api.example.com/100%25", "https://api.example.com/100%"),
    // Queries: the same text, or the same decoded pairs. REST and ALB events lose the order of
    // names, and write anew what they decoded.
    ("https://api.example.com/a?b=1&c=2", "https://api.example.com/a?c=2&b=1"),
    ("https://api.example.com/a?x=1&y=2&x=3", "https://api.example.com/a?y=2&x=1&x=3"),
    ("https://api.example.com/a?q=a+b", "https://api.example.com/a?q=a%20b"),
    ("https://api.example.com/a?q=%7E", "https://api.example.com/a?q=~"),
    ("https://api.example.com/a?q=a%2Cb", "https://api.example.com/a?q=a,b"),
    ("https://api.example.com/a?q=caf%C3%A9", "https://api.example.com/a?q=café"),
    ("https://api.example.com/a?u=https%3A%2F%2Fb", "https://api.example.com/a?u=https://b"),
    ("https://api.example.com/a?flag", "https://api.example.com/a?flag="),
    // A missing and an empty query: Lambda's rawQueryString cannot tell them apart.
    ("https://api.example.com/a?", "https://api.example.com/a"),
    ("https://api.example.com/a?&", "https://api.example.com/a?"),
    ("https://api.example.com/a?b=1&", "https://api.example.com/a?b=1"),
    // A fragment is never sent: RFC 9110 §7.1.
    ("https://api.example.com/a#top", "https://api.example.com/a"),
    ("https://api.example.com/a?b=1#top", "https://api.example.com/a?b=1"),
    // An IPv6 literal: RFC 3986 §3.2.2.
    ("http://[::1]:3000/a", "http://[::1]:3000/a"),
    ("https://[2001:DB8::1]/a", "https://[2001:db8::1]:443/a"),
    // User-info, published with it and stated with it.
    ("https://user:pass@api.example.com/a", "https://user:pass@api.example.com:443/a"),
    // Unicode and punycode hosts as typed.
    ("https://bücher.example/a", "https://bücher.example/a"),
    ("https://xn--bcher-kva.example/a", "https://XN--bcher-kva.example/a"),
    // Text that is no URL is equal to itself: a verifier without a layer may sign what it likes.
    ("queue:resize", "queue:resize"),
];

const DIFFERENT: &[Pair] = &[
    // Another scheme: TLS ends at a proxy and the operator wrote http.
    ("https://api.example.com/a", "http://api.example.com/a"),
    ("http://api.example.com:443/a", "https://api.example.com/a"),
    // Another port, or the other scheme's default: the one behind the proxy, as frameworks log it.
    ("https://api.example.com:8443/a", "https://api.example.com/a"),
    ("https://api.example.com:80/a", "https://api.example.com/a"),
    ("https://api.example.com:4430/a", "https://api.example.com:443/a"),
    // Ports that are none: a typo, or an overflow that a parser wraps to 443.
    ("https://api.example.com:65979/a", "https://api.example.com:443/a"),
    ("https://api.example.com:+443/a", "https://api.example.com/a"),
    ("https://api.example.com:４４３/a", "https://api.example.com/a"),
    // Another host: the apex for a subdomain, DNS's dot at the end, a slip of the hand, an encoding.
    ("https://example.com/a", "https://api.example.com/a"),
    ("https://api.example.com./a", "https://api.example.com/a"),
    ("https://api.example.co/a", "https://api.example.com/a"),
    ("https://api%2Eexample.com/a", "https://api.example.com/a"),
    // Prefix attacks on the host.
    ("https://api.example.com.evil.org/a", "https://api.example.com/a"),
    ("https://api.example.com@evil.org/a", "https://api.example.com/a"),
    ("https://evil.org/https://api.example.com/a", "https://api.example.com/a"),
    ("https://evil.org?https://api.example.com/a", "https://api.example.com/a"),
    ("https://evil.org#@api.example.com/a", "https://api.example.com/a"),
    (r"https://evil.org\@api.example.com/a", "https://api.example.com/a"),
    ("https://api.example.com:443@evil.org/a", "https://api.example.com/a"),
    ("https://api.example.com%2F@evil.org/a", "https://api.example.com/a"),
    // Prefix attacks on the path.
    ("https://api.example.com/hooks", "https://api.example.com/hooks-admin"),
    ("https://api.example.com/hooks", "https://api.example.com/hooks/admin"),
    ("https://api.example.com/hooks/admin", "https://api.example.com/hooks"),
    ("https://api.example.com", "https://api.example.com/hooks"),
    // One slash at the end does not count, a second does; nor does one in the middle vanish.
    ("https://api.example.com/hooks//", "https://api.example.com/hooks"),
    ("https://api.example.com//hooks", "https://api.example.com/hooks"),
    ("https://api.example.com/a//b", "https://api.example.com/a/b"),
    // The path is exact: case, dot segments, delimiters.
    ("https://api.example.com/Hooks", "https://api.example.com/hooks"),
    ("https://api.example.com/a/../hooks", "https://api.example.com/hooks"),
    ("https://api.example.com/./hooks", "https://api.example.com/hooks"),
    ("https://api.example.com/a%2Fb", "https://api.example.com/a/b"),
    ("https://api.example.com/a%3Fb=1", "https://api.example.com/a?b=1"),
    ("https://api.example.com/a%3Bb", "https://api.example.com/a;b"),
    ("https://api.example.com/a+b", "https://api.example.com/a%20b"),
    ("https://api.example.com/%257Euser", "https://api.example.com/~user"),
    ("https://api.example.com/a%00", "https://api.example.com/a"),
    // Queries: another value, name, count, or order of one name's values; what a replay would change.
    ("https://api.example.com/a?b=1", "https://api.example.com/a?b=2"),
    ("https://api.example.com/a?b=1", "https://api.example.com/a"),
    ("https://api.example.com/a", "https://api.example.com/a?admin=true"),
    ("https://api.example.com/a?b=1", "https://api.example.com/a?b=1&b=1"),
    ("https://api.example.com/a?x=1&x=2", "https://api.example.com/a?x=2&x=1"),
    ("https://api.example.com/a?B=1", "https://api.example.com/a?b=1"),
    ("https://api.example.com/a?q=a%2Bb", "https://api.example.com/a?q=a+b"),
    ("https://api.example.com/a?q=a%26b=1", "https://api.example.com/a?q=a&b=1"),
    ("https://api.example.com/a?q=%FF", "https://api.example.com/a?q=%FE"),
    ("https://api.example.com/a?b=1;c=2", "https://api.example.com/a?b=1&c=2"),
    // User-info is never equal to none, nor to another.
    ("https://user@api.example.com/a", "https://api.example.com/a"),
    ("https://@api.example.com/a", "https://api.example.com/a"),
    ("https://user:a@api.example.com/a", "https://user:b@api.example.com/a"),
    // Unicode and punycode are the same host to a browser; here only as typed.
    ("https://bücher.example/a", "https://xn--bcher-kva.example/a"),
    ("https://BÜCHER.example/a", "https://bücher.example/a"),
    // IPv6 literals as typed, and not as part of something longer.
    ("http://[::1]:3000/a", "http://[0:0:0:0:0:0:0:1]:3000/a"),
    ("http://[::1].evil.org:3000/a", "http://[::1]:3000/a"),
    // No URL at all: an empty claim, a path or a host as they stand in settings of frameworks.
    ("", "https://api.example.com/"),
    ("/a", "https://api.example.com/a"),
    ("api.example.com/a", "https://api.example.com/a"),
    ("//api.example.com/a", "https://api.example.com/a"),
    (" https://api.example.com/a", "https://api.example.com/a"),
    ("ftp://api.example.com/a", "https://api.example.com/a"),
    ("https:///a", "https://api.example.com/a"),
];

/// Whether a token for `subject` is good at `url`.
fn accepted(subject: &str, url: &str) -> bool {
    let token = current().delivery(subject, b"", now()).token();
    match Verifier::new(keys()).verify(&token, url, b"", now()) {
        Ok(_) => true,
        Err(VerifyError::SubjectMismatch { .. }) => false,
        Err(other) => panic!("{other}"),
    }
}

/// The same through the layer, where `public_url` is configured and `path` is requested.
async fn status(subject: &str, public_url: PublicUrl, path: &str) -> StatusCode {
    let request = Request::post(path).body(Full::<Bytes>::default()).expect("a good request");
    status_of(subject, public_url, request).await
}

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

/// A request to `url` as it arrives on Lambda, where it can be one: `https`, the default port, no
/// user-info. First from what tells its domain name, then from what does not.
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

/// Another path with the query of `url`, where that can be a request's.
fn with_query_of(url: &str) -> Option<String> {
    let url = url.split('#').next()?;
    let query = url.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
    let target = format!("/other{query}");
    target.parse::<http::Uri>().is_ok().then_some(target)
}

#[test]
fn the_table_is_long_enough_to_be_worth_its_name() {
    assert!(SAME.len() >= 40 && DIFFERENT.len() >= 50, "{} and {}", SAME.len(), DIFFERENT.len());
}

#[test]
fn the_same_destination_gets_in_whichever_way_round() {
    for (subject, url) in SAME {
        assert!(accepted(subject, url), "{subject} at {url}");
        assert!(accepted(url, subject), "{url} at {subject}");
    }
}

#[test]
fn another_destination_stays_out_whichever_way_round() {
    for (subject, url) in DIFFERENT {
        assert!(!accepted(subject, url), "{subject} at {url}");
        assert!(!accepted(url, subject), "{url} at {subject}");
    }
}

/// Every front agrees with the table wherever the URL can be configured and requested.
#[tokio::test]
async fn the_layer_agrees_with_the_table() {
    let mut compared = [0; 4];
    let verdicts = [(SAME, StatusCode::OK), (DIFFERENT, StatusCode::BAD_REQUEST)];
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
                    // A gateway may have decoded the path: either may be what was sent.
                    let decoded = *subject == "https://api.example.com/a%3Bb";
                    let verdict = if decoded { StatusCode::OK } else { verdict };
                    assert_eq!(status, verdict, "{subject} at {url}");
                }
                let origin = url.split_inclusive('/').take(3).collect::<String>();
                let origin = origin.split(['?', '#']).next().expect("an origin");
                for request in balancers {
                    let origin = PublicUrl::base(origin).expect("a good base");
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
    assert_eq!(compared[0], SAME.len() + DIFFERENT.len());
    assert!(compared.into_iter().all(|count| count > 80), "{compared:?}");
}

#[tokio::test]
async fn a_base_may_have_a_prefix_and_does_not_run_into_the_host() {
    let base = |url| PublicUrl::base(url).unwrap();
    let ok = StatusCode::OK;
    let bad = StatusCode::BAD_REQUEST;
    let table = [
        ("https://api.example.com/v1/a?b=1", base("https://api.example.com/v1"), "/a?b=1", ok),
        ("https://api.example.com/v1/a", base("https://api.example.com/v1/"), "/a", ok),
        ("https://api.example.com/v1", base("https://api.example.com/v1"), "/", ok),
        ("https://api.example.com/v1/", base("https://api.example.com/v1/"), "/", ok),
        ("https://api.example.com/v1/a/", base("https://api.example.com/v1"), "/a", ok),
        ("https://api.example.com", base("https://api.example.com/"), "/", ok),
        ("https://api.example.com/v1", base("https://api.example.com/v1"), "/a", bad),
        ("https://api.example.com/a", base("https://api.example.com/v1"), "/a", bad),
        ("https://api.example.com/v1a", base("https://api.example.com/v1"), "/a", bad),
        // `OPTIONS *`, whose path does not start with a slash.
        ("https://api.example.com*", base("https://api.example.com"), "*", bad),
        // The request's own host, as HTTP/2 and proxies send it, is not asked.
        ("https://api.example.com/a", base("https://api.example.com"), "http://evil.org/a", ok),
        ("https://evil.org/a", base("https://api.example.com"), "https://evil.org/a", bad),
    ];
    for (subject, public_url, path, verdict) in table {
        let description = format!("{subject} at {path} below {public_url:?}");
        let status = status(subject, public_url, path).await;
        // With nothing else to compare, a path that cannot be one tells nothing: 500.
        let verdict = if path == "*" { StatusCode::INTERNAL_SERVER_ERROR } else { verdict };
        assert_eq!(status, verdict, "{description}");
    }
}

#[test]
fn an_invalid_public_url_is_refused_with_its_problem_and_the_form_wanted() {
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
        // Following the advice must not put a path in twice.
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
        assert_eq!(format!("{error:?}"), error.to_string(), "what a main that returns it prints");
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

/// A URL taken apart, so that a part can be changed.
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

/// The pairs of a query, the last first.
fn reversed(query: &str) -> String {
    query.split('&').rev().collect::<Vec<_>>().join("&")
}

proptest! {
    #[test]
    fn a_url_is_the_same_as_itself(parts in parts()) {
        prop_assert!(accepted(&parts.url(), &parts.url()));
        // Not by its text alone.
        prop_assert!(accepted(&parts.url(), &parts.url().replacen("http", "HTTP", 1)));
    }

    #[test]
    fn sameness_is_symmetric(a in ".{0,40}", b in ".{0,40}", c in parts(), d in parts(), which in any::<[bool; 5]>()) {
        prop_assert_eq!(accepted(&a, &b), accepted(&b, &a));
        // Two URLs with some parts in common: now the same, now not.
        let mut similar = Parts { scheme: c.scheme, host: c.host.to_uppercase(), ..d };
        if which[0] { similar.port = c.port; }
        if which[1] { similar.segments.clone_from(&c.segments); }
        if which[2] { similar.query.clone_from(&c.query); }
        if which[3] { similar.segments.push(String::new()); }
        if which[4] { similar.query = similar.query.map(|query| reversed(&query)); }
        prop_assert_eq!(accepted(&c.url(), &similar.url()), accepted(&similar.url(), &c.url()));
    }

    #[test]
    fn what_normalisation_covers_does_not_matter(parts in parts()) {
        let written_otherwise = Parts {
            host: parts.host.to_uppercase(),
            port: parts.port.or(Some(if parts.scheme == "https" { 443 } else { 80 })),
            segments: parts.segments.iter().map(|segment| segment.replace('~', "%7e")).collect(),
            ..parts.clone()
        };
        prop_assert!(accepted(&parts.url(), &written_otherwise.url()));
        let with_slash = Parts { query: None, ..parts };
        let url = with_slash.url();
        let slashed = format!("{url}/");
        prop_assert!(accepted(&url, &slashed));
    }

    #[test]
    fn a_change_of_host_port_or_segment_matters(parts in parts(), index: prop::sample::Index, other in "[a-z]{9,12}") {
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
