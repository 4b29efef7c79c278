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
/// The label, the queue, the flow-control key and the number of retries that a message was published
/// with are not delivered.
///
/// Sources: [QStash, Receiving messages](https://upstash.com/docs/qstash/howto/receiving). It doesn't
/// list `Upstash-Region`, which the official SDK for TypeScript reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnsignedDelivery {
    /// `Upstash-Message-Id`, which is the same for every attempt.
    pub message_id: Option<String>,
    /// `Upstash-Retried`, the number of retries before this attempt, 0 at the first one.
    pub retried: Option<u32>,
    /// `Upstash-Schedule-Id`, the schedule that the message comes from.
    pub schedule_id: Option<String>,
    /// `Upstash-Topic-Name`, the URL group, formerly topic, that the message was published to.
    pub url_group: Option<String>,
    /// `Upstash-Caller-Ip`, the address that the message was published from.
    pub caller_ip: Option<IpAddr>,
    /// `Upstash-Region`, the region that delivers, exactly as QStash writes it: `US-EAST-1`,
    /// `EU-CENTRAL-1`.
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

    /// Returns whether QStash won't retry this delivery, given the number of retries that the message
    /// was published with (3 unless `Upstash-Retries` said otherwise), which is not delivered.
    ///
    /// Without a valid `Upstash-Retried` header it returns `false`.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use tower_qstash::UnsignedDelivery;
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.insert("upstash-retried", "3".parse().unwrap());
    /// let delivery = UnsignedDelivery::from_headers(&headers);
    /// assert!(delivery.is_last_attempt(3));
    /// assert!(!delivery.is_last_attempt(5));
    /// ```
    ///
    /// Source: [QStash, Retry](https://upstash.com/docs/qstash/features/retry).
    pub fn is_last_attempt(&self, max_retries: u32) -> bool {
        self.retried.is_some_and(|retried| retried >= max_retries)
    }
}

/// Returns the value of a header that is present once, and is text.
pub(crate) fn single_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|value| !value.is_empty())?;
    values.next().is_none().then(|| value.to_str().ok())?
}
