//! Which URL was this request published to?

use std::{fmt, sync::Arc};

use http::request::Parts;

use crate::{
    rejection::Rejection,
    verify::url::{RequestPath, Url, same_destination, without_user_info},
};

/// The URL, or URLs, that messages for this service are published to: the operator's word, held
/// against the claim `sub` of every delivery.
///
/// It cannot be taken from the request: a `Host` header is the sender's word, and whoever receives
/// one delivery of your account could send it on to your other endpoints.
///
/// ```
/// use tower_qstash::PublicUrl;
///
/// // One endpoint.
/// let url = PublicUrl::exact("https://api.example.com/hooks/resize")?;
/// // All of a service, or what a proxy maps to it.
/// let url = PublicUrl::base("https://api.example.com/hooks")?;
/// // Two domains, one service.
/// let url = PublicUrl::base("https://api.example.com")?.also(PublicUrl::base("https://example.org")?);
/// # Ok::<(), tower_qstash::PublicUrlError>(())
/// ```
///
/// Two URLs are the same if RFC 3986 §6.2.2 and §6.2.3 say so (case of scheme and host, default
/// port, empty path, `%7E` for `~`). Besides, one slash at the end of the path does not count, nor
/// the order of the query's names, nor a fragment. All else is exact, but for one thing: an HTTP API
/// of AWS hands on a decoded path, so that on Lambda behind API Gateway a published path that decodes
/// to the request's matches too, except that `%2F` never matches `/`.
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

impl PublicUrl {
    /// Messages are published to exactly this URL, whatever path the request arrives under.
    ///
    /// # Errors
    ///
    /// `""`, `api.example.com/hooks` (no scheme), `ftp://example.com`, `https://`, or a URL with a
    /// space, a control character or a backslash.
    pub fn exact(url: &str) -> Result<Self, PublicUrlError> {
        parse("PublicUrl::exact", url)?;
        Ok(Source::Exact(url.into()).into())
    }

    /// Messages are published to this URL followed by the path and query of the request.
    ///
    /// The path is the one the caller saw: in a nested axum router with its prefix (feature
    /// `axum`), on Lambda with its stage (feature `lambda_http`).
    ///
    /// # Errors
    ///
    /// Those of [`exact`](Self::exact), and a URL with a query or a fragment, such as
    /// `https://api.example.com/?a=b`.
    pub fn base(url: &str) -> Result<Self, PublicUrlError> {
        let problem = Problem::NotABase;
        if !parse("PublicUrl::base", url)?.is_base() {
            return Err(PublicUrlError { argument: "PublicUrl::base", problem });
        }
        Ok(Source::Base(url.into()).into())
    }

    /// Messages are published to `https://`, the domain name in the Lambda request context, and the
    /// path and query that the caller saw. AWS sets that name; a caller cannot.
    ///
    /// The path is `rawPath` for HTTP APIs and Function URLs, and the context's own `path`, which
    /// has the stage or the base path mapping, for REST APIs. An HTTP API's `rawPath` leaves out
    /// the key of an API mapping: there, set a [`base`](Self::base). An ALB tells no domain name:
    /// there every delivery is rejected with 500 until a [`base`](Self::base) is set.
    #[cfg(feature = "lambda_http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "lambda_http")))]
    pub fn lambda_context() -> Self {
        Source::LambdaContext.into()
    }

    /// What the closure makes of the request's head, for set-ups that nobody foresaw. `None` means
    /// that it cannot tell, which rejects the delivery with 500.
    ///
    /// Trust in the head only what your own proxy wrote there: whoever receives one delivery of
    /// your account can send it on with a `Host` or `X-Forwarded-Host` of their own.
    ///
    /// ```
    /// use tower_qstash::PublicUrl;
    ///
    /// // Behind a proxy that always sets this header itself.
    /// let url = PublicUrl::from_request(|head| {
    ///     let original = head.headers.get("x-original-url")?;
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

    /// Messages may be published to this URL or to `other`.
    // Not `or`: `Result` has that too, and a forgotten `?` would silently drop `other`.
    #[must_use]
    pub fn also(mut self, other: Self) -> Self {
        self.sources.extend(other.sources);
        self
    }

    /// Whether the claim `sub` names the URL that `head` was sent to.
    pub(crate) fn check(&self, subject: &str, head: &Parts) -> Result<(), Rejection> {
        if self.sources.iter().any(|source| source.is(subject, head)) {
            return Ok(());
        }
        let expected: Vec<_> = self.sources.iter().filter_map(|source| source.url(head)).collect();
        if expected.is_empty() {
            return Err(Rejection::UnknownPublicUrl);
        }
        Err(Rejection::SubjectMismatch { subject: without_user_info(subject).into(), expected })
    }
}

impl From<Source> for PublicUrl {
    fn from(source: Source) -> Self {
        Self { sources: vec![source] }
    }
}

impl Source {
    fn is(&self, subject: &str, head: &Parts) -> bool {
        match self {
            Self::Exact(url) => same_destination(subject, url),
            Self::FromRequest(url) => url(head).is_some_and(|url| same_destination(subject, &url)),
            Self::Unchecked => true,
            Self::Base(base)
                if original_path(head)
                    .is_some_and(|path| is_written(subject, base, path, head.uri.query())) =>
            {
                true
            }
            _ => match (self.below_base(head), Url::parse(subject)) {
                (Some(url), Some(subject)) => url.same(&subject),
                _ => false,
            },
        }
    }

    /// What `is` compares with, for the operator's log. `None` where the request does not tell.
    fn url(&self, head: &Parts) -> Option<String> {
        match self {
            Self::Exact(url) => Some(without_user_info(url).into()),
            Self::FromRequest(url) => url(head).map(|url| without_user_info(&url).into()),
            _ => self.below_base(head).map(|url| url.to_string()),
        }
    }

    fn below_base<'a>(&'a self, head: &'a Parts) -> Option<Url<'a>> {
        let base = match self {
            Self::Base(url) => Url::parse(url)?,
            #[cfg(feature = "lambda_http")]
            Self::LambdaContext => Url::https(lambda::domain_name(head)?)?,
            _ => return None,
        };
        Some(base.below(original_path(head)?, head.uri.query()))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(url) => f.debug_tuple("Exact").field(&without_user_info(url)).finish(),
            Self::Base(url) => f.debug_tuple("Base").field(&without_user_info(url)).finish(),
            #[cfg(feature = "lambda_http")]
            Self::LambdaContext => f.write_str("LambdaContext"),
            Self::FromRequest(_) => f.write_str("FromRequest(..)"),
            Self::Unchecked => f.write_str("Unchecked"),
        }
    }
}

/// Whether `subject` is, to the letter, `base` with this path and query: mostly so, and quick to see.
fn is_written(subject: &str, base: &str, path: RequestPath<'_>, query: Option<&str>) -> bool {
    let base = base.strip_suffix('/').unwrap_or(base);
    let rest = subject.strip_prefix(base).and_then(|rest| rest.strip_prefix(path.text));
    rest.is_some_and(|rest| match query {
        Some(query) => rest.strip_prefix('?') == Some(query),
        None => rest.is_empty(),
    })
}

/// The path as the caller saw it, before anything on the way took a part of it off.
fn original_path(head: &Parts) -> Option<RequestPath<'_>> {
    #[cfg(feature = "lambda_http")]
    if let Some((path, maybe_decoded)) = lambda::path(head) {
        return RequestPath::new(path, maybe_decoded);
    }
    #[cfg(feature = "axum")]
    if let Some(original) = head.extensions.get::<axum::extract::OriginalUri>() {
        return RequestPath::new(original.path(), false);
    }
    RequestPath::new(head.uri.path(), false)
}

#[cfg(feature = "lambda_http")]
mod lambda {
    use http::request::Parts;
    use lambda_http::{RequestExt, request::RequestContext};

    pub(super) fn domain_name(head: &Parts) -> Option<&str> {
        match head.request_context_ref()? {
            RequestContext::ApiGatewayV1(context) => context.domain_name.as_deref(),
            RequestContext::ApiGatewayV2(context) => context.domain_name.as_deref(),
            _ => None,
        }
    }

    /// Not the path of the URI: `lambda_http` puts a stage before it where none was. And whether it
    /// may be decoded, as HTTP APIs do. Their events of version 1 look like a REST API's, so those
    /// count too; those of version 2 look like a function URL's, which its domain name tells apart.
    pub(super) fn path(head: &Parts) -> Option<(&str, bool)> {
        let raw_path = head.raw_http_path();
        let (path, maybe_decoded) = match head.request_context_ref()? {
            RequestContext::ApiGatewayV1(context) => {
                (context.path.as_deref().unwrap_or(raw_path), true)
            }
            RequestContext::ApiGatewayV2(_) => {
                let domain_name = domain_name(head).unwrap_or_default();
                (raw_path, !domain_name.contains(".lambda-url."))
            }
            _ => (raw_path, false),
        };
        (!path.is_empty()).then_some((path, maybe_decoded))
    }
}

/// A public URL that cannot be one, found at start-up.
///
/// Its `Debug` is its `Display`, since that is what a `main` that returns it prints.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicUrlError {
    argument: &'static str,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Malformed,
    NotABase,
}

impl fmt::Display for PublicUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argument = self.argument;
        match self.problem {
            Problem::Malformed => write!(
                f,
                "the URL given to {argument} is not an absolute http or https URL; write it as https://host/path"
            ),
            Problem::NotABase => write!(
                f,
                "the URL given to {argument} has a query or a fragment; write it as https://host or https://host/prefix"
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

fn parse<'a>(argument: &'static str, url: &'a str) -> Result<Url<'a>, PublicUrlError> {
    let typo = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    Url::parse(url)
        .filter(|_| !url.contains(typo))
        .ok_or(PublicUrlError { argument, problem: Problem::Malformed })
}
