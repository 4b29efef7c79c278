//! Delivers, prints a table, and checks that everything came out as it should.

use std::{error::Error, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

/// A request as it is sent, and the response that must come.
pub(crate) struct Delivery {
    what: &'static str,
    signatures: Vec<String>,
    body: Vec<u8>,
    expected: Expected,
}

enum Expected {
    /// The handler is called with this body.
    Accepted,
    /// The replay guard responds instead of the handler.
    Replayed,
    /// The layer rejects with this code.
    Rejected(&'static str),
}

impl Delivery {
    pub(crate) fn accepted(what: &'static str, signature: String, body: &[u8]) -> Self {
        let expected = Expected::Accepted;
        Self { what, signatures: vec![signature], body: body.into(), expected }
    }

    pub(crate) fn replayed(what: &'static str, signature: String) -> Self {
        let expected = Expected::Replayed;
        Self { what, signatures: vec![signature], body: b"Hello".into(), expected }
    }

    pub(crate) fn rejected<const N: usize>(
        what: &'static str,
        signatures: [String; N],
        code: &'static str,
    ) -> Self {
        let expected = Expected::Rejected(code);
        Self { what, signatures: signatures.into(), body: b"Hello".into(), expected }
    }

    pub(crate) fn with_body(self, body: &[u8]) -> Self {
        Self { body: body.into(), ..self }
    }

    fn is_expected(&self, status: u16, text: &str) -> bool {
        match self.expected {
            Expected::Accepted => {
                let body = Bytes::copy_from_slice(&self.body);
                status == 200 && text == format!("the handler got {} bytes: {body:?}", body.len())
            }
            Expected::Replayed => status == 200 && text == r#"{"message":"already processed"}"#,
            Expected::Rejected(code) => {
                status >= 400 && text.contains(&format!(r#""code":"{code}""#))
            }
        }
    }
}

pub(crate) async fn deliver(
    address: SocketAddr,
    deliveries: &[Delivery],
) -> Result<(), Box<dyn Error>> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    println!("{:4} {:32} {:6} response", "", "delivery", "status");
    let mut unexpected = 0;
    for delivery in deliveries {
        let body = Full::new(Bytes::copy_from_slice(&delivery.body));
        let mut request = Request::post(format!("http://{address}/webhook")).body(body)?;
        for signature in &delivery.signatures {
            request.headers_mut().append("upstash-signature", HeaderValue::from_str(signature)?);
        }
        let response = client.request(request).await?;
        let status = response.status().as_u16();
        let text = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&text);

        let is_expected = delivery.is_expected(status, &text);
        unexpected += usize::from(!is_expected);
        let mark = if is_expected { "ok" } else { "BAD" };
        println!("{mark:4} {:32} {status:6} {}", delivery.what, reason(&text));
    }
    if unexpected > 0 {
        return Err(format!("{unexpected} deliveries did not come out as they should").into());
    }
    println!("\nEvery delivery came out as it should.");
    Ok(())
}

/// Returns the `error` of a rejection, or the handler's own text.
fn reason(text: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    match json.as_ref().and_then(|json| json["error"].as_str()) {
        Some(error) => error.to_owned(),
        None => text.to_owned(),
    }
}
