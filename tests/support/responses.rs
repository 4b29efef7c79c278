//! Reading responses.

use std::fmt::Debug;

use http::Response;
use http_body::Body;
use http_body_util::BodyExt;

/// Reads the body of a response as text.
pub(crate) async fn text<B: Body<Error: Debug>>(response: Response<B>) -> String {
    let bytes = response.into_body().collect().await.expect("a complete body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}
