//! Signed deliveries as QStash would send them, to test handlers without QStash.

#[cfg(feature = "callbacks")]
mod callbacks;

use std::{fmt, time::SystemTime};

use base64::{
    Engine,
    prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use hmac::Mac;
use http::Request;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

#[cfg(feature = "callbacks")]
pub use self::callbacks::CallbackBuilder;
use crate::{
    keys::{KeyedMac, SigningKeyError, development_server_mac, testing_mac},
    request_body::RequestBody,
    url::RedactedUrl,
    verify::NumericDate,
};

/// Signs tokens with the claims that QStash sends today, to test receivers with.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_qstash::{Signer, SigningKeys, Verifier};
///
/// let (url, body) = ("https://example.com/hook", b"Hello World");
/// let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// let token = Signer::new("sig_current")?.delivery(url, body, now).token();
///
/// let verifier = Verifier::new(SigningKeys::new("sig_current", "sig_next")?);
/// assert!(verifier.verify(&token, url, body, now).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A handler's test, here behind an axum router, with a whole signed request:
///
/// ```
/// use std::time::SystemTime;
/// use axum::{Router, body::Body, http::header::CONTENT_TYPE, routing::post};
/// use tower::ServiceExt;
/// use tower_qstash::{Claims, PublicUrl, QStashVerifyLayer, Signer, SigningKeys};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = SigningKeys::new("sig_current", "sig_next")?;
/// let verify = QStashVerifyLayer::new(keys, PublicUrl::base("https://api.example.com")?);
/// let app = Router::new().route("/webhook", post(async |_: Claims| "done")).layer(verify);
///
/// let delivery = Signer::new("sig_current")?.delivery(
///     "https://api.example.com/webhook",
///     r#"{"order": 7}"#,
///     SystemTime::now(),
/// );
/// let mut request = delivery.request::<Body>()?;
/// // Whatever else the handler needs; no header is signed.
/// request.headers_mut().insert(CONTENT_TYPE, "application/json".parse()?);
/// let response = app.oneshot(request).await?;
/// assert_eq!(response.status(), 200);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Signer {
    mac: KeyedMac,
}

impl Signer {
    /// Creates a signer with this key.
    ///
    /// # Errors
    ///
    /// Those of [`SigningKeys::from_key`](crate::SigningKeys::from_key).
    pub fn new(key: &str) -> Result<Self, SigningKeyError> {
        Ok(Self { mac: testing_mac(key)? })
    }

    /// Creates a signer with the published current key of the local development server's first user,
    /// for receivers with
    /// [`SigningKeys::dangerous_development_server`](crate::SigningKeys::dangerous_development_server).
    pub fn dangerous_development_server() -> Self {
        Self { mac: development_server_mac() }
    }

    /// Creates a delivery of `body`, published to `url`. Its token is issued at `now` and valid for 300
    /// seconds, as QStash's are. Its `jti` is always the same one.
    pub fn delivery(&self, url: &str, body: impl AsRef<[u8]>, now: SystemTime) -> DeliveryBuilder {
        let body = body.as_ref();
        let now = NumericDate::from(now).as_secs();
        let claims = json!({
            "aud": "",
            "body": BASE64_URL_SAFE.encode(Sha256::digest(body)),
            "exp": now.saturating_add(300),
            "iat": now,
            "iss": "Upstash",
            "jti": "jwt_6uZo7ULWr9MuezYSoTvxiYEKYHoB",
            // Go's zero time, as in QStash's tokens.
            "nbf": -62_135_596_800_i64,
            "sub": url,
        });
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        DeliveryBuilder {
            signer: self.clone(),
            header: object(header),
            claims: object(claims),
            url: url.into(),
            body: Bytes::copy_from_slice(body),
        }
    }

    /// Signs any two texts as the header and the claims of a token, whether valid or not.
    ///
    /// ```
    /// use std::time::UNIX_EPOCH;
    /// use tower_qstash::{Signer, SigningKeys, Verifier, VerifyError};
    ///
    /// let signer = Signer::new("sig_current")?;
    /// let verifier = Verifier::new(SigningKeys::new("sig_current", "sig_next")?);
    /// let verify = |token: &str| verifier.verify(token, "https://example.com/", b"", UNIX_EPOCH);
    ///
    /// let token = signer.sign_raw(br#"{"alg":"none"}"#, b"{}");
    /// assert_eq!(verify(&token), Err(VerifyError::UnsupportedAlgorithm));
    ///
    /// let token = signer.sign_segments("eyJhbGciOiJIUzI1NiJ9.e30=");
    /// assert!(matches!(verify(&token), Err(VerifyError::InvalidEncoding { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sign_raw(&self, header: &[u8], claims: &[u8]) -> String {
        let [header, claims] = [header, claims].map(|text| BASE64_URL_SAFE_NO_PAD.encode(text));
        self.sign_segments(&format!("{header}.{claims}"))
    }

    /// Appends the signature to a text, which should be two segments joined by a dot.
    /// [`sign_raw`](Self::sign_raw) has an example.
    pub fn sign_segments(&self, message: &str) -> String {
        let tag = self.mac.clone().chain_update(message).finalize().into_bytes();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    }
}

/// Builds a signed delivery, or only its token. Claims and the JOSE header can be changed, to test what
/// a receiver does with an invalid one.
///
/// ```
/// # use std::time::UNIX_EPOCH;
/// # let signer = tower_qstash::Signer::new("sig_current")?;
/// let expires_early = signer
///     .delivery("https://example.com/hook", b"", UNIX_EPOCH)
///     .claim("exp", 1)
///     .without_claim("jti")
///     .token();
/// let unsigned = signer
///     .delivery("https://example.com/hook", b"", UNIX_EPOCH)
///     .header("alg", "none")
///     .request::<http_body_util::Full<bytes::Bytes>>()?;
/// assert_eq!(unsigned.uri().path(), "/hook");
/// assert!(unsigned.headers().contains_key("upstash-signature"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until its token or request is taken"]
pub struct DeliveryBuilder {
    signer: Signer,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    url: String,
    body: Bytes,
}

impl DeliveryBuilder {
    /// Sets a claim to any JSON value.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Removes a claim.
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a member of the JOSE header, such as `alg`, to any JSON value. The signature remains an
    /// HMAC-SHA256.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    /// Returns the signed token, for the header `Upstash-Signature`.
    pub fn token(self) -> String {
        let [header, claims] = [self.header, self.claims].map(|part| Value::from(part).to_string());
        self.signer.sign_raw(header.as_bytes(), claims.as_bytes())
    }

    /// Returns the whole delivery: a `POST` to the URL, with the body and the signed token.
    ///
    /// # Errors
    ///
    /// A URL that [`http::Uri`] refuses, such as `https://example.com/a b`.
    pub fn request<B: RequestBody>(self) -> http::Result<Request<B>> {
        let (url, body) = (self.url.clone(), self.body.clone());
        Request::post(url).header("upstash-signature", self.token()).body(B::from_bytes(body))
    }
}

/// Formats neither the claims nor the body.
impl fmt::Debug for DeliveryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryBuilder")
            .field("url", &RedactedUrl::new(&self.url))
            .finish_non_exhaustive()
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
