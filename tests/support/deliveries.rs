//! Deliveries to `/hook`, at the fixed time.

use http::Request;
use tower_qstash::Signer;

use super::{URL, current, now, unknown_key};

/// Returns a token for `body`, published to [`URL`].
pub(crate) fn token(body: impl AsRef<[u8]>) -> String {
    current().delivery(URL, body, now()).token()
}

/// Returns a token that is valid but for its signature, which is made with an unknown key.
pub(crate) fn forged_token(body: impl AsRef<[u8]>) -> String {
    unknown_key().delivery(URL, body, now()).token()
}

/// Creates a delivery of `body` whose token is signed for the bytes `signed`.
pub(crate) fn delivery<B>(signer: &Signer, signed: impl AsRef<[u8]>, body: B) -> Request<B> {
    request(&signer.delivery(URL, signed, now()).token(), body)
}

/// Creates a request with any text as its token.
pub(crate) fn request<B>(token: &str, body: B) -> Request<B> {
    Request::post("/hook").header("upstash-signature", token).body(body).expect("a valid request")
}
