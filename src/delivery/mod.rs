//! Delivery metadata from headers that aren't signed.

use std::net::IpAddr;

use http::HeaderMap;

/// Delivery metadata from headers. **None of it is signed.**
///
/// Treat it as untrusted input: a client with a token can send any headers with it. Use it for logs,
/// for ordering, and to distinguish a first attempt from a fifth; never to decide who may do what, or
/// which keys to trust.
///
/// A header that is missing, repeated or malformed is `None`.
///
/// ```
/// use http::HeaderMap;
/// use tower_qstash::UnsignedDelivery;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("upstash-retried", "2".parse().unwrap());
/// let delivery = UnsignedDelivery::from_headers(&headers);
/// assert_eq!(delivery.retried, Some(2));
/// assert_eq!(delivery.message_id, None);
/// ```
///
/// Source: [QStash, Receiving messages](https://upstash.com/docs/qstash/howto/receiving).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsignedDelivery {
    /// `Upstash-Message-Id`: the same for every attempt.
    pub message_id: Option<String>,
    /// `Upstash-Retried`: how often the message was retried before, 0 at the first attempt.
    pub retried: Option<u32>,
    /// `Upstash-Schedule-Id`: the schedule that the message comes from.
    pub schedule_id: Option<String>,
    /// `Upstash-Topic-Name`: the URL group, formerly topic, that the message was published to.
    pub url_group: Option<String>,
    /// `Upstash-Caller-Ip`: the address that the message was published from.
    pub caller_ip: Option<IpAddr>,
    /// `Upstash-Region`: the region that delivers, such as `EU-CENTRAL-1`.
    pub region: Option<String>,
}

impl UnsignedDelivery {
    /// Parses the headers of a request.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let get = |name| single_value(headers, name);
        let owned = |name| get(name).map(str::to_owned);
        Self {
            message_id: owned("upstash-message-id"),
            retried: get("upstash-retried").and_then(|text| text.parse().ok()),
            schedule_id: owned("upstash-schedule-id"),
            url_group: owned("upstash-topic-name"),
            caller_ip: get("upstash-caller-ip").and_then(|text| text.parse().ok()),
            region: owned("upstash-region"),
        }
    }
}

/// Returns the value of a header that is present once, and is text.
pub(crate) fn single_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|value| !value.is_empty())?;
    values.next().is_none().then(|| value.to_str().ok())?
}
