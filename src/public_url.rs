//! Which URL was this request published to?

use std::{fmt, sync::Arc};

use http::request::Parts;

use crate::verify::{
    RedactedUrl,
    url::{RequestPath, Url, same_destination, same_query},
};

/// The URL, or URLs, that messages for this service are published to.
///
/// The claim `sub` of every delivery is compared with it. It can't be derived from the request,
/// because the sender controls `Host`: whoever receives one delivery of your account could send it
/// on to your other endpoints.
///
/// | constructor | the URL | compared with the request |
/// |---|---|---|
/// | [`base`](Self::base) | an origin, and the request's path and query below it | path and query |
/// | [`exact`](Self::exact) | one URL | **the query only: any path of the layer is accepted** |
#[cfg_attr(
    feature = "lambda_http",
    doc = "| [`lambda_context`](Self::lambda_context) | the domain name in the Lambda request context, with the path and query | path and query |"
)]
/// | [`from_request`](Self::from_request) | what your closure returns | what your closure looks at |
/// | [`dangerous_unchecked`](Self::dangerous_unchecked) | any | nothing |
///
/// ```
/// use tower_qstash::PublicUrl;
///
/// // A whole service, or what a proxy maps to it.
/// let url = PublicUrl::base("https://api.example.com/hooks")?;
/// // One endpoint, whose path a proxy rewrites.
/// let url = PublicUrl::exact("https://api.example.com/hooks/resize")?;
/// // Two domains, one service.
/// let url = PublicUrl::base("https://api.example.com")?.also(PublicUrl::base("https://example.org")?);
/// # Ok::<(), tower_qstash::PublicUrlError>(())
/// ```
///
/// # Which URLs are equal
///
/// Two URLs are equal if RFC 3986 §6.2.2 and §6.2.3 say so (case of scheme and host, default port,
/// empty path, `%7E` for `~`). In addition, one slash at the end of the path does not count, nor the
/// order of the names in the query, nor a fragment. Everything else is compared exactly, with one
/// exception: HTTP APIs of AWS decode the path, so that on Lambda behind API Gateway a published path
/// that decodes to the request's is equal too, except that `%2F` never equals `/`.
///
/// # What is verified is what is routed
///
/// Where the path or query that the inner service sees is not the one that was compared, the request
/// is rejected with [`Rejection::RoutingMismatch`](crate::Rejection::RoutingMismatch). This happens
/// where something between the client and this layer rewrote the URI, such as the URL parser of
/// `lambda_http`, which resolves `/users/../admin` to `/admin`.
#[derive(Clone, Debug)]
pub struct PublicUrl {
    sources: Vec<Source>,
}

type FromRequest = dyn Fn(&Parts) -> Option<String> + Send + Sync;

#[derive(Clone)]
enum Source {
    Exact(String),
    Base(String),
    #[cfg(feature = "lambda_http")]
    LambdaContext,
    FromRequest(Arc<FromRequest>),
    Unchecked,
}

/// How the claim `sub` compares with the URL of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    /// Equal, but the inner service would see another path or query.
    RoutedElsewhere,
    Different,
}

impl PublicUrl {
    /// Accepts messages that are published to exactly this URL.
    ///
    /// The request must have the query of `url`, but **its path is not compared**, so that a proxy
    /// may rewrite it. A layer with an exact URL is for one endpoint: under a `Router::layer` with
    /// several routes, a message for this URL is accepted at every one of them. Use
    /// [`base`](Self::base) there.
    ///
    /// # Errors
    ///
    /// `""`, `api.example.com/hooks` (no scheme), `ftp://example.com`, `https://` (no host),
    /// `https://example.com:port`, a URL in quotation marks, or one with a space, a control character
    /// or a backslash.
    pub fn exact(url: &str) -> Result<Self, PublicUrlError> {
        parse(Constructor::Exact, url)?;
        Ok(Source::Exact(url.into()).into())
    }

    /// Accepts messages that are published to this URL followed by the request's path and query.
    ///
    /// The path is the one the caller saw: in a nested axum router with its prefix (feature
    /// `axum`), on Lambda with its stage (feature `lambda_http`).
    ///
    /// # Errors
    ///
    /// Those of [`exact`](Self::exact), and a URL with a query or a fragment, such as
    /// `https://api.example.com/?a=b`.
    pub fn base(url: &str) -> Result<Self, PublicUrlError> {
        if !parse(Constructor::Base, url)?.is_base() {
            let problem = Problem::QueryOrFragment;
            return Err(PublicUrlError { constructor: Constructor::Base, problem });
        }
        Ok(Source::Base(url.into()).into())
    }

    /// Accepts messages that are published to `https://`, the domain name in the Lambda request
    /// context, and the path and query that the caller saw. AWS sets that name; a caller can't.
    ///
    /// The path is `rawPath` for HTTP APIs and function URLs, and the context's own `path`, which
    /// includes the stage or the base path mapping, for REST APIs. An HTTP API's `rawPath` leaves out
    /// the key of an API mapping: use [`base`](Self::base) there. ALB events don't include a domain
    /// name, so every delivery is rejected with 500. Use `base` instead.
    ///
    /// `cargo lambda watch` sets the domain name to `localhost`, whatever its port: publish to, or
    /// sign for, `https://localhost/<path>`.
    #[cfg(feature = "lambda_http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "lambda_http")))]
    pub fn lambda_context() -> Self {
        Source::LambdaContext.into()
    }

    /// Does not compile without the feature `lambda_http`, and says so.
    #[cfg(not(feature = "lambda_http"))]
    #[doc(hidden)]
    pub fn lambda_context<'a>() -> Self
    where
        &'a Self: crate::feature::LambdaHttp,
    {
        // No type implements that trait.
        Source::Unchecked.into()
    }

    /// Computes the URL with a closure, for setups that the other constructors don't cover.
    ///
    /// `None` means that the URL can't be told, and rejects the delivery with 500. Trust only what
    /// your own proxy wrote into the request: whoever receives one delivery of your account can send
    /// it on with a `Host` or `X-Forwarded-Host` of their own.
    ///
    /// ```
    /// use tower_qstash::PublicUrl;
    ///
    /// // Behind a proxy that always sets this header itself.
    /// let url = PublicUrl::from_request(|parts| {
    ///     let original = parts.headers.get("x-original-url")?;
    ///     Some(original.to_str().ok()?.to_owned())
    /// });
    /// ```
    pub fn from_request(url: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Source::FromRequest(Arc::new(url)).into()
    }

    /// **Dangerous.** Accepts a message published to any URL.
    ///
    /// Whoever receives one delivery of your account, at whatever endpoint, can send it to this
    /// one within its five minutes.
    pub fn dangerous_unchecked() -> Self {
        Source::Unchecked.into()
    }

    /// Accepts messages that are published to `other` as well.
    // Not `or`: `Result` has that too, and a forgotten `?` would silently drop `other`.
    #[must_use]
    pub fn also(mut self, other: Self) -> Self {
        self.sources.extend(other.sources);
        self
    }

    /// Compares the claim `sub` with the URL that the request was sent to.
    pub(crate) fn compare(&self, subject: &str, parts: &Parts) -> Comparison {
        let mut outcome = Comparison::Different;
        for source in self.sources.iter().filter(|source| source.is(subject, parts)) {
            if source.is_what_is_routed(parts) {
                return Comparison::Equal;
            }
            outcome = Comparison::RoutedElsewhere;
        }
        outcome
    }

    /// Returns what `compare` compares with, for the operator's log; nothing where the request does
    /// not tell.
    pub(crate) fn expected(&self, parts: &Parts) -> Vec<RedactedUrl> {
        let urls = self.sources.iter().filter_map(|source| source.url(parts));
        urls.map(|url| RedactedUrl::new(&url)).collect()
    }
}

impl From<Source> for PublicUrl {
    fn from(source: Source) -> Self {
        Self { sources: vec![source] }
    }
}

impl Source {
    fn is(&self, subject: &str, parts: &Parts) -> bool {
        match self {
            Self::Exact(url) => same_destination(subject, url),
            Self::FromRequest(url) => url(parts).is_some_and(|url| same_destination(subject, &url)),
            Self::Unchecked => true,
            Self::Base(base)
                if original_path(parts)
                    .is_some_and(|path| is_written(subject, base, path, parts.uri.query())) =>
            {
                true
            }
            _ => match (self.below_base(parts), Url::parse(subject)) {
                (Some(url), Some(subject)) => url.same(&subject),
                _ => false,
            },
        }
    }

    /// Whether the inner service sees what `is` has compared.
    fn is_what_is_routed(&self, parts: &Parts) -> bool {
        match self {
            Self::Exact(url) => {
                let query = Url::parse(url).and_then(|url| url.query()).unwrap_or_default();
                same_query(query, parts.uri.query().unwrap_or_default())
                    && routing::keeps_query(parts)
            }
            Self::FromRequest(_) | Self::Unchecked => true,
            _ => routing::keeps_path(parts) && routing::keeps_query(parts),
        }
    }

    fn url(&self, parts: &Parts) -> Option<String> {
        match self {
            Self::Exact(url) => Some(url.clone()),
            Self::FromRequest(url) => url(parts),
            _ => self.below_base(parts).map(|url| url.to_string()),
        }
    }

    fn below_base<'a>(&'a self, parts: &'a Parts) -> Option<Url<'a>> {
        let base = match self {
            Self::Base(url) => Url::parse(url)?,
            #[cfg(feature = "lambda_http")]
            Self::LambdaContext => Url::https(lambda::domain_name(parts)?)?,
            _ => return None,
        };
        Some(base.below(original_path(parts)?, parts.uri.query()))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(url) => f.debug_tuple("Exact").field(&RedactedUrl::new(url)).finish(),
            Self::Base(url) => f.debug_tuple("Base").field(&RedactedUrl::new(url)).finish(),
            #[cfg(feature = "lambda_http")]
            Self::LambdaContext => f.write_str("LambdaContext"),
            Self::FromRequest(_) => f.write_str("FromRequest(..)"),
            Self::Unchecked => f.write_str("Unchecked"),
        }
    }
}

/// Fast path: whether `subject` is byte for byte `base` with this path and query, as it is for most
/// deliveries.
fn is_written(subject: &str, base: &str, path: RequestPath<'_>, query: Option<&str>) -> bool {
    let base = base.strip_suffix('/').unwrap_or(base);
    let rest = subject.strip_prefix(base).and_then(|rest| rest.strip_prefix(path.text));
    rest.is_some_and(|rest| match query {
        Some(query) => rest.strip_prefix('?') == Some(query),
        None => rest.is_empty(),
    })
}

/// Returns the path as the caller saw it, before anything on the way took a part of it off.
fn original_path(parts: &Parts) -> Option<RequestPath<'_>> {
    #[cfg(feature = "lambda_http")]
    if let Some((path, maybe_decoded)) = lambda::path(parts) {
        return RequestPath::new(path, maybe_decoded);
    }
    RequestPath::new(original_uri(parts).path(), false)
}

/// Returns the path for the operator's log.
#[cfg(any(feature = "tracing", feature = "axum"))]
pub(crate) fn logged_path(parts: &Parts) -> &str {
    original_path(parts).map_or(parts.uri.path(), |path| path.text)
}

/// Returns the URI as the outermost router saw it.
fn original_uri(parts: &Parts) -> &http::Uri {
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get::<axum::extract::OriginalUri>() {
        return original;
    }
    &parts.uri
}

/// Does the inner service see the path and the query that were compared?
mod routing {
    use super::{Parts, original_uri};

    pub(super) fn keeps_path(parts: &Parts) -> bool {
        let original = original_uri(parts);
        #[cfg(feature = "lambda_http")]
        if !super::lambda::is_path_of_event(original.path(), parts) {
            return false;
        }
        // A nest takes off the start of the path, and leaves a slash where nothing remains.
        let path = parts.uri.path();
        path == "/" || original.path().ends_with(path)
    }

    pub(super) fn keeps_query(parts: &Parts) -> bool {
        #[cfg(feature = "lambda_http")]
        if !super::lambda::is_query_of_event(parts) {
            return false;
        }
        let _ = parts;
        true
    }
}

#[cfg(feature = "lambda_http")]
mod lambda {
    use http::request::Parts;
    use lambda_http::{RequestExt, request::RequestContext};

    use crate::verify::url::same_path;

    pub(super) fn domain_name(parts: &Parts) -> Option<&str> {
        match parts.request_context_ref()? {
            RequestContext::ApiGatewayV1(context) => context.domain_name.as_deref(),
            RequestContext::ApiGatewayV2(context) => context.domain_name.as_deref(),
            _ => None,
        }
    }

    /// Returns the path as the caller saw it, and whether it may be decoded, as HTTP APIs do. Their
    /// events of version 1 look like a REST API's, so those count too; those of version 2 look like a
    /// function URL's, which its domain name tells apart.
    ///
    /// Not the path of the URI: `lambda_http` puts a stage before it where none was.
    pub(super) fn path(parts: &Parts) -> Option<(&str, bool)> {
        let raw_path = parts.raw_http_path();
        let (path, maybe_decoded) = match parts.request_context_ref()? {
            RequestContext::ApiGatewayV1(context) => {
                (context.path.as_deref().unwrap_or(raw_path), true)
            }
            RequestContext::ApiGatewayV2(_) => {
                let domain_name = domain_name(parts).unwrap_or_default();
                (raw_path, !domain_name.contains(".lambda-url."))
            }
            _ => (raw_path, false),
        };
        (!path.is_empty()).then_some((path, maybe_decoded))
    }

    /// Whether `path`, which `lambda_http` has written with a WHATWG parser from `Host` and the
    /// event's path, is still that path, or that path behind the stage.
    pub(super) fn is_path_of_event(path: &str, parts: &Parts) -> bool {
        let Some((compared, _)) = self::path(parts) else { return true };
        let stage = match parts.request_context_ref() {
            Some(RequestContext::ApiGatewayV1(context)) => context.stage.as_deref(),
            Some(RequestContext::ApiGatewayV2(context)) => context.stage.as_deref(),
            _ => None,
        };
        let behind_stage = || {
            let path = path.strip_prefix('/')?.strip_prefix(stage?)?;
            Some(same_path(path, compared))
        };
        same_path(path, compared) || behind_stage() == Some(true)
    }

    /// Whether the query in the URI and the one that `RequestExt` has are the same.
    pub(super) fn is_query_of_event(parts: &Parts) -> bool {
        if parts.request_context_ref().is_none() {
            return true;
        }
        let of_event = parts.query_string_parameters_ref();
        match (parts.uri.query(), of_event) {
            (None | Some(""), None) => true,
            (query, _) => query.unwrap_or_default().parse() == Ok(parts.query_string_parameters()),
        }
    }
}

/// The error returned when a [`PublicUrl`] is invalid.
///
/// Its `Debug` is its `Display`, since that is what a `main` that returns it prints.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicUrlError {
    constructor: Constructor,
    problem: Problem,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Constructor {
    Exact,
    Base,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Empty,
    Quoted,
    WhiteSpace,
    Backslash,
    NoScheme,
    OtherScheme,
    NoHost,
    Port,
    Malformed,
    QueryOrFragment,
}

impl fmt::Display for PublicUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Empty => "is empty",
            Problem::Quoted => "has quotation marks around it",
            Problem::WhiteSpace => "contains white space or a control character",
            Problem::Backslash => "contains a backslash",
            Problem::NoScheme => "has no scheme",
            Problem::OtherScheme => "has another scheme than http or https",
            Problem::NoHost => "has no host",
            Problem::Port => "has a port that is not a number below 65536",
            Problem::Malformed => "is malformed",
            Problem::QueryOrFragment => "has a query or a fragment",
        };
        match self.constructor {
            Constructor::Exact => write!(
                f,
                "the URL given to PublicUrl::exact {problem}; write the whole URL that messages are published to, \
                 such as https://api.example.com/hook"
            ),
            Constructor::Base => write!(
                f,
                "the URL given to PublicUrl::base {problem}; write the origin that messages are published to, \
                 such as https://api.example.com: the path of each request is added to it"
            ),
        }
    }
}

impl fmt::Debug for PublicUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for PublicUrlError {}

fn parse(constructor: Constructor, url: &str) -> Result<Url<'_>, PublicUrlError> {
    let error = |problem| PublicUrlError { constructor, problem };
    const QUOTES: [char; 2] = ['"', '\''];
    if url.is_empty() {
        return Err(error(Problem::Empty));
    }
    if url.starts_with(QUOTES) || url.ends_with(QUOTES) {
        return Err(error(Problem::Quoted));
    }
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(error(Problem::WhiteSpace));
    }
    if url.contains('\\') {
        return Err(error(Problem::Backslash));
    }
    Url::parse(url).ok_or_else(|| error(malformed(url)))
}

/// Returns what is wrong with a URL that could not be parsed.
fn malformed(url: &str) -> Problem {
    let Some((scheme, rest)) = url.split_once("://") else { return Problem::NoScheme };
    if scheme.contains(['/', '.', '?']) {
        // The `://` belongs to a path or a query.
        return Problem::NoScheme;
    }
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Problem::OtherScheme;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    match host_and_port.rsplit_once(':') {
        _ if host_and_port.is_empty() => Problem::NoHost,
        Some(("", _)) => Problem::NoHost,
        Some((host, _)) if !host.starts_with('[') || host.ends_with(']') => Problem::Port,
        _ => Problem::Malformed,
    }
}
