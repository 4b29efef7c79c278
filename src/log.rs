//! One event for each request, with the feature `tracing`. The crate docs list the fields.

use http::{Method, request::Parts};

#[cfg(feature = "tracing")]
use {
    crate::{MissingLayer, VerifyError, public_url::logged_path, verify::RedactedUrl},
    std::{
        collections::HashMap,
        sync::{Arc, Mutex, PoisonError},
        time::{Duration, SystemTime},
    },
};

use crate::{Claims, Rejection, layer::Settings};

pub(crate) fn accepted(parts: &Parts, claims: &Claims, body_bytes: usize, settings: &Settings) {
    #[cfg(feature = "tracing")]
    {
        // Looked up only if the event is wanted.
        let message_id = || message_id(parts);
        tracing::debug!(
            target: "tower_qstash",
            key = claims.key(),
            jti = claims.jwt_id().map(cut),
            sub = cut(&settings.logged(&RedactedUrl::new(claims.subject()))),
            message_id = message_id(),
            body_bytes,
            "accepted a QStash delivery"
        );
        if claims.key_is_next() && settings.warns_of_next_key(claims.key()) {
            tracing::warn!(
                target: "tower_qstash",
                key = claims.key(),
                jti = claims.jwt_id().map(cut),
                message_id = message_id(),
                "the signing keys were rolled: QStash now signs with the next key; configure the two keys that \
                 the QStash console shows before they are rolled again, or every delivery will be rejected"
            );
        }
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (parts, claims, body_bytes, settings);
}

pub(crate) fn rejected(parts: &Parts, rejection: &Rejection, settings: &Settings) {
    #[cfg(feature = "tracing")]
    {
        let path = cut(logged_path(parts));
        // Whatever else a request without a valid MAC says may come from anybody, in any size.
        if rejection.is_unsigned() {
            tracing::warn!(
                target: "tower_qstash",
                code = rejection.code(),
                reason = %rejection,
                method = cut(parts.method.as_str()),
                path,
                "rejected a request that QStash did not sign"
            );
            return;
        }
        let (sub, expected) = match rejection {
            Rejection::Verify(VerifyError::SubjectMismatch { subject, expected, .. }) => {
                let expected: Vec<_> = expected.iter().map(|url| settings.logged(url)).collect();
                (Some(settings.logged(subject)), Some(expected.join(" or ")))
            }
            _ => (None, None),
        };
        tracing::warn!(
            target: "tower_qstash",
            code = rejection.code(),
            reason = %rejection,
            method = cut(parts.method.as_str()),
            path,
            sub = sub.as_deref().map(cut),
            expected_url = expected.as_deref().map(cut),
            message_id = message_id(parts),
            "rejected a QStash delivery"
        );
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (parts, rejection, settings);
}

pub(crate) fn missing_layer(method: &Method, path: &str) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "tower_qstash",
        code = "missing_layer",
        reason = %MissingLayer,
        method = cut(method.as_str()),
        path = cut(path),
        "a handler asked for Claims on a route without QStashVerifyLayer"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (method, path);
}

/// When each next key was last warned of. Once a minute is enough for an operator.
#[cfg(feature = "tracing")]
#[derive(Clone, Default)]
pub(crate) struct NextKeyWarnings {
    last: Arc<Mutex<HashMap<String, SystemTime>>>,
}

#[cfg(feature = "tracing")]
impl NextKeyWarnings {
    pub(crate) fn is_due(&self, label: &str, now: SystemTime) -> bool {
        const INTERVAL: Duration = Duration::from_secs(60);
        // A poisoned lock still guards a map of times, which any state of is fine.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back has no say in this: the next warning is due.
        let is_recent =
            |last: &SystemTime| now.duration_since(*last).is_ok_and(|age| age < INTERVAL);
        if last.get(label).is_some_and(is_recent) {
            return false;
        }
        last.insert(label.to_owned(), now);
        true
    }
}

#[cfg(feature = "tracing")]
fn message_id(parts: &Parts) -> Option<&str> {
    crate::delivery::only(&parts.headers, "upstash-message-id").map(cut)
}

/// Cuts a text that a client chose to what a log should hold.
#[cfg(feature = "tracing")]
fn cut(text: &str) -> &str {
    const LIMIT: usize = 256;
    let is_end = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=LIMIT.min(text.len())).rev().find(is_end).unwrap_or_default();
    &text[..end]
}
