//! One event for each request, with the feature `tracing`. docs/operating.md lists the fields.

use std::time::SystemTime;

use http::{Request, request::Parts};

use super::{rejection::Rejection, replay_response::ReplayResponse};
use crate::replay::{BoxError, guard::Known};

#[cfg(feature = "tracing")]
pub(super) use self::enabled::Tracing;

/// Without the feature, events expand to nothing.
#[cfg(not(feature = "tracing"))]
#[derive(Clone, Default)]
pub(super) struct Tracing(());

#[cfg(not(feature = "tracing"))]
impl Tracing {
    pub(super) fn log_query_values(&mut self, _: bool) {}

    pub(super) fn accepted<B>(&self, _: &Request<B>, _: usize, _: &dyn Fn() -> SystemTime) {}

    pub(super) fn rejected(&self, _: &Parts, _: &Rejection) {}

    pub(super) fn replayed<B>(&self, _: &Request<B>, _: ReplayResponse, _: Known) {}

    pub(super) fn unguarded<B>(&self, _: &Request<B>, _: &BoxError) {}

    pub(super) fn store_unavailable<B>(&self, _: &Request<B>, _: ReplayResponse, _: &BoxError) {}

    pub(super) fn settling_failed(&self, _: &BoxError) {}
}

#[cfg(feature = "tracing")]
mod enabled {
    use std::{
        collections::HashMap,
        sync::{Arc, Mutex, PoisonError},
        time::Duration,
    };

    use http::HeaderMap;

    use super::{BoxError, Known, Parts, Rejection, ReplayResponse, Request, SystemTime};
    use crate::{
        delivery,
        public_url::logged_path,
        url::{RedactedUrl, truncate},
        verify::{Claims, VerifyError},
    };

    /// The value of `messaging.system`. OpenTelemetry has no well-known one for QStash.
    const SYSTEM: &str = "qstash";

    #[derive(Clone, Default)]
    pub(in crate::middleware) struct Tracing {
        log_query_values: bool,
        next_key_warnings: NextKeyWarnings,
    }

    impl Tracing {
        pub(in crate::middleware) fn log_query_values(&mut self, log: bool) {
            self.log_query_values = log;
        }

        pub(in crate::middleware) fn accepted<B>(
            &self,
            request: &Request<B>,
            body_bytes: usize,
            clock: &dyn Fn() -> SystemTime,
        ) {
            let claims = claims(request);
            tracing::debug!(
                target: "tower_qstash",
                key = claims.key_label(),
                jti = claims.jwt_id().map(truncate),
                sub = truncate(&self.subject(claims)),
                message_id = message_id(request.headers()),
                body_bytes,
                messaging.system = SYSTEM,
                messaging.destination.name = truncate(&self.subject(claims)),
                messaging.message.id = message_id(request.headers()),
                messaging.message.body.size = body_bytes,
                "accepted a QStash delivery"
            );
            if claims.signed_with_next_key()
                && self.next_key_warnings.is_due(claims.key_label(), clock())
            {
                tracing::warn!(
                    target: "tower_qstash",
                    key = claims.key_label(),
                    jti = claims.jwt_id().map(truncate),
                    message_id = message_id(request.headers()),
                    messaging.system = SYSTEM,
                    messaging.message.id = message_id(request.headers()),
                    "the signing keys were rolled: QStash now signs with the next key; configure the two keys that \
                     the QStash console shows before they are rolled again, or every delivery will be rejected"
                );
            }
        }

        pub(in crate::middleware) fn rejected(&self, parts: &Parts, rejection: &Rejection) {
            let method = truncate(parts.method.as_str());
            let path = truncate(logged_path(parts));
            // Anyone can send anything in a request without a valid MAC, and as much as they like.
            if rejection.precedes_valid_mac() {
                tracing::warn!(
                    target: "tower_qstash",
                    code = rejection.code(),
                    reason = %rejection,
                    method,
                    path,
                    "rejected a request that QStash did not sign"
                );
                return;
            }
            let (sub, expected) = match rejection {
                Rejection::Verification(VerifyError::SubjectMismatch {
                    subject, expected, ..
                }) => {
                    let expected: Vec<_> = expected.iter().map(|url| self.format(url)).collect();
                    (Some(self.format(subject)), Some(expected.join(" or ")))
                }
                _ => (None, None),
            };
            let sub = sub.as_deref().map(truncate);
            tracing::warn!(
                target: "tower_qstash",
                code = rejection.code(),
                reason = %rejection,
                method,
                path,
                sub,
                expected_url = expected.as_deref().map(truncate),
                message_id = message_id(&parts.headers),
                messaging.system = SYSTEM,
                messaging.destination.name = sub,
                messaging.message.id = message_id(&parts.headers),
                "rejected a QStash delivery"
            );
        }

        fn subject(&self, claims: &Claims) -> String {
            self.format(&RedactedUrl::new(claims.subject()))
        }

        /// A token, or a message, that arrives once more.
        pub(in crate::middleware) fn replayed<B>(
            &self,
            request: &Request<B>,
            response: ReplayResponse,
            known: Known,
        ) {
            let claims = claims(request);
            let known_by = match known {
                Known::Token => "token",
                Known::Message => "message",
            };
            tracing::warn!(
                target: "tower_qstash",
                code = response.code(),
                known_by,
                jti = claims.jwt_id().map(truncate),
                sub = truncate(&self.subject(claims)),
                message_id = message_id(request.headers()),
                messaging.system = SYSTEM,
                messaging.destination.name = truncate(&self.subject(claims)),
                messaging.message.id = message_id(request.headers()),
                "a QStash delivery arrived again, and was not processed again"
            );
        }

        pub(in crate::middleware) fn unguarded<B>(&self, request: &Request<B>, error: &BoxError) {
            tracing::warn!(
                target: "tower_qstash",
                error = %error,
                jti = claims(request).jwt_id().map(truncate),
                message_id = message_id(request.headers()),
                messaging.system = SYSTEM,
                messaging.message.id = message_id(request.headers()),
                "the replay guard's store is unavailable: a QStash delivery is processed without the guard"
            );
        }

        pub(in crate::middleware) fn store_unavailable<B>(
            &self,
            request: &Request<B>,
            response: ReplayResponse,
            error: &BoxError,
        ) {
            tracing::error!(
                target: "tower_qstash",
                code = response.code(),
                error = %error,
                jti = claims(request).jwt_id().map(truncate),
                message_id = message_id(request.headers()),
                messaging.system = SYSTEM,
                messaging.message.id = message_id(request.headers()),
                "the replay guard's store is unavailable: a QStash delivery is left to a retry"
            );
        }

        pub(in crate::middleware) fn settling_failed(&self, error: &BoxError) {
            tracing::error!(
                target: "tower_qstash",
                error = %error,
                "the replay guard could not confirm or release a token, which stays in flight until it expires"
            );
        }

        fn format(&self, url: &RedactedUrl) -> String {
            if self.log_query_values { url.with_query_values() } else { url.to_string() }
        }
    }

    fn claims<B>(request: &Request<B>) -> &Claims {
        request.extensions().get().expect("inserted once verified")
    }

    fn message_id(headers: &HeaderMap) -> Option<&str> {
        delivery::single_value(headers, "upstash-message-id").map(truncate)
    }

    /// When each next key was last warned of. A minute's silence keeps the rest of the log readable.
    #[derive(Clone, Default)]
    struct NextKeyWarnings {
        last: Arc<Mutex<HashMap<String, SystemTime>>>,
    }

    impl NextKeyWarnings {
        fn is_due(&self, label: &str, now: SystemTime) -> bool {
            const INTERVAL: Duration = Duration::from_secs(60);
            // No panic can leave this map in a state that matters.
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // After a clock was set back, the next warning is due.
            let is_recent =
                |last: &SystemTime| now.duration_since(*last).is_ok_and(|age| age < INTERVAL);
            if last.get(label).is_some_and(is_recent) {
                return false;
            }
            last.insert(label.to_owned(), now);
            true
        }
    }
}
