//! Which URL was this request published to?

mod error;
mod target;

use std::{fmt, sync::Arc};

use http::request::Parts;

pub use self::error::PublicUrlError;
#[cfg(feature = "tracing")]
pub(crate) use self::target::logged_path;
use self::{
    error::{Constructor, Problem},
    target::original_path,
};
use crate::url::{
    RedactedUrl, RequestPath, Url, is_equivalent, is_equivalent_query, is_path_within,
};

/// The URL, or URLs, that messages for this service are published to.
///
/// The claim `sub` of every delivery is compared with it. It can't be derived from the request,
/// because the sender controls `Host`: anyone who receives one delivery of your account could replay
/// it at your other endpoints.
///
/// | constructor | the URL | compared with the request |
/// |---|---|---|
/// | [`base`](Self::base) | an origin, joined with the request's path and query | path and query |
/// | [`exact`](Self::exact) | one URL | **the query only: any path of the layer is accepted** |
#[cfg_attr(
    feature = "lambda_http",
    doc = "| [`from_lambda_context`](Self::from_lambda_context) | the domain name in the Lambda request context, with the path and query | path and query |"
)]
/// | [`from_fn`](Self::from_fn) | what your closure returns | what your closure looks at |
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
/// With [`base`](Self::base) and on Lambda, a request is rejected with
/// [`Rejection::RoutingMismatch`](crate::Rejection::RoutingMismatch) if the inner service would see
/// another path or query than the one that was compared. This happens where the URI was rewritten
/// after the original was kept: by the URL parser of `lambda_http`, which resolves `/users/../admin`
/// to `/admin`, or between an axum router and this layer. [`exact`](Self::exact) holds the query to
/// this, and what [`from_fn`](Self::from_fn) looks at is up to the closure.
#[derive(Clone, Debug)]
pub struct PublicUrl {
    candidates: Vec<Candidate>,
}

/// One of the URLs, and the path that requests must lie within.
#[derive(Clone)]
struct Candidate {
    source: Source,
    within: Option<String>,
}

type UrlFn = dyn Fn(&Parts) -> Option<String> + Send + Sync;

#[derive(Clone)]
enum Source {
    Exact(String),
    Base(String),
    #[cfg(feature = "lambda_http")]
    LambdaContext,
    Fn(Arc<UrlFn>),
    Unchecked,
}

/// How the claim `sub` compares with the URL of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    /// Equal, but the inner service would see another path or query.
    RoutedElsewhere,
    /// Equal, but the request's path is outside of [`PublicUrl::within`].
    Outside,
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
        error::parse(Constructor::Exact, url)?;
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
        if !error::parse(Constructor::Base, url)?.is_base() {
            return Err(Constructor::Base.error(Problem::QueryOrFragment));
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
    pub fn from_lambda_context() -> Self {
        Source::LambdaContext.into()
    }

    /// Does not compile without the feature `lambda_http`, and says so.
    #[cfg(not(feature = "lambda_http"))]
    #[doc(hidden)]
    pub fn from_lambda_context<'a>() -> Self
    where
        &'a Self: crate::feature::LambdaHttp,
    {
        // No type implements that trait.
        Source::Unchecked.into()
    }

    /// Computes the URL with a closure, for setups that the other constructors don't cover.
    ///
    /// `None` means that the request doesn't determine the URL, and rejects the delivery with 500. Trust only what
    /// your own proxy wrote into the request: anyone who receives one delivery of your account can send
    /// it on with a `Host` or `X-Forwarded-Host` of their own.
    ///
    /// ```
    /// use tower_qstash::PublicUrl;
    ///
    /// // Behind a proxy that always sets this header itself.
    /// let url = PublicUrl::from_fn(|parts| {
    ///     let original = parts.headers.get("x-original-url")?;
    ///     Some(original.to_str().ok()?.to_owned())
    /// });
    /// ```
    pub fn from_fn(url: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Source::Fn(Arc::new(url)).into()
    }

    /// **Dangerous.** Accepts a message published to any URL.
    ///
    /// Anyone who receives one delivery of your account, at any endpoint, can replay it at this one
    /// within its five minutes. Where anything in the request tells the URL, use
    /// [`from_fn`](Self::from_fn).
    pub fn dangerous_unchecked() -> Self {
        Source::Unchecked.into()
    }

    /// Accepts only requests whose path is `path` or lies below it, such as `/tenants/7` and
    /// `/tenants/7/hook` for `/tenants/7`.
    ///
    /// The owner of a signing key can sign any URL. This confines another party's keys, given to
    /// [`QStashVerifyLayer::also`](crate::QStashVerifyLayer::also), to their own part of the service:
    /// [`base`](Self::base) joins whatever path a request has to its origin, and
    /// [`exact`](Self::exact) compares no path at all. A path with a dot segment is never within
    /// another.
    ///
    /// ```
    /// use tower_qstash::PublicUrl;
    ///
    /// let tenant = PublicUrl::base("https://api.example.com")?.within("/tenants/7")?;
    /// # Ok::<(), tower_qstash::PublicUrlError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A text that doesn't begin with a slash, such as `tenants/7` or `https://example.com/tenants/7`,
    /// and one with a `?`, a `#`, white space or a dot segment.
    pub fn within(mut self, path: &str) -> Result<Self, PublicUrlError> {
        let is_path = path.starts_with('/')
            && !path.contains(|c: char| "?#\\".contains(c) || c.is_whitespace() || c.is_control())
            && is_path_within(path, path);
        if !is_path {
            return Err(Constructor::Within.error(Problem::NotAPath));
        }
        for candidate in &mut self.candidates {
            candidate.within = Some(path.to_owned());
        }
        Ok(self)
    }

    /// Accepts messages that are published to `other` as well.
    // Not `or`: `Result` has that too, and a forgotten `?` would silently drop `other`.
    #[must_use]
    pub fn also(mut self, other: Self) -> Self {
        self.candidates.extend(other.candidates);
        self
    }

    /// Compares the claim `sub` with the URL that the request was sent to.
    pub(crate) fn compare(&self, subject: &str, parts: &Parts) -> Comparison {
        let mut outcome = Comparison::Different;
        for Candidate { source, within } in &self.candidates {
            if !source.matches(subject, parts) {
                continue;
            }
            let path = original_path(parts).map(|path| path.text).unwrap_or_default();
            outcome = if !source.is_routed_as_compared(parts) {
                Comparison::RoutedElsewhere
            } else if within.as_ref().is_some_and(|within| !is_path_within(path, within)) {
                Comparison::Outside
            } else {
                return Comparison::Equal;
            };
        }
        outcome
    }

    /// Returns the URLs that `compare` compares with, as far as the request determines them.
    pub(crate) fn expected(&self, parts: &Parts) -> Vec<RedactedUrl> {
        let urls = self.candidates.iter().filter_map(|candidate| candidate.source.url(parts));
        urls.map(|url| RedactedUrl::new(&url)).collect()
    }
}

impl From<Source> for PublicUrl {
    fn from(source: Source) -> Self {
        Self { candidates: vec![Candidate { source, within: None }] }
    }
}

impl Source {
    fn matches(&self, subject: &str, parts: &Parts) -> bool {
        match self {
            Self::Exact(url) => is_equivalent(subject, url),
            Self::Fn(url) => url(parts).is_some_and(|url| is_equivalent(subject, &url)),
            Self::Unchecked => true,
            Self::Base(base)
                if original_path(parts).is_some_and(|path| {
                    is_concatenation(subject, base, path, parts.uri.query())
                }) =>
            {
                true
            }
            _ => match (self.join(parts), Url::parse(subject)) {
                (Some(url), Some(subject)) => url.is_equivalent(&subject),
                _ => false,
            },
        }
    }

    /// Whether the inner service will see what `matches` has compared.
    fn is_routed_as_compared(&self, parts: &Parts) -> bool {
        match self {
            Self::Exact(url) => {
                let query = Url::parse(url).and_then(|url| url.query()).unwrap_or_default();
                is_equivalent_query(query, parts.uri.query().unwrap_or_default())
                    && target::keeps_query(parts)
            }
            Self::Fn(_) | Self::Unchecked => true,
            _ => target::keeps_path(parts) && target::keeps_query(parts),
        }
    }

    /// Returns the URL that `matches` compares with, if the request determines it.
    fn url(&self, parts: &Parts) -> Option<String> {
        match self {
            Self::Exact(url) => Some(url.clone()),
            Self::Fn(url) => url(parts),
            _ => self.join(parts).map(|url| url.to_string()),
        }
    }

    /// Joins the request's path and query to the base.
    fn join<'a>(&'a self, parts: &'a Parts) -> Option<Url<'a>> {
        let base = match self {
            Self::Base(url) => Url::parse(url)?,
            #[cfg(feature = "lambda_http")]
            Self::LambdaContext => Url::https(crate::lambda_http::domain_name(parts)?)?,
            _ => return None,
        };
        Some(base.join(original_path(parts)?, parts.uri.query()))
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        match &self.within {
            Some(path) => write!(f, " within {path:?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(url) => f.debug_tuple("Exact").field(&RedactedUrl::new(url)).finish(),
            Self::Base(url) => f.debug_tuple("Base").field(&RedactedUrl::new(url)).finish(),
            #[cfg(feature = "lambda_http")]
            Self::LambdaContext => f.write_str("LambdaContext"),
            Self::Fn(_) => f.write_str("Fn(..)"),
            Self::Unchecked => f.write_str("Unchecked"),
        }
    }
}

/// Fast path: whether `subject` is byte for byte `base` + path + query, as it is for most deliveries.
/// It takes 3,506 instructions fewer than parsing the URLs.
fn is_concatenation(subject: &str, base: &str, path: RequestPath<'_>, query: Option<&str>) -> bool {
    let base = base.strip_suffix('/').unwrap_or(base);
    let rest = subject.strip_prefix(base).and_then(|rest| rest.strip_prefix(path.text));
    rest.is_some_and(|rest| match query {
        Some(query) => rest.strip_prefix('?') == Some(query),
        None => rest.is_empty(),
    })
}
