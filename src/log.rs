//! One event for each request, with the feature `tracing`; the fields are listed on the
//! crate's front page.

use http::request::Parts;

#[cfg(feature = "tracing")]
use crate::verify::url::without_user_info;
use crate::{Claims, Rejection};

pub(crate) fn accepted(head: &Parts, claims: &Claims, body_bytes: usize) {
    #[cfg(feature = "tracing")]
    {
        // Looked up only if the event is wanted.
        let message_id = || crate::delivery::only(&head.headers, "upstash-message-id");
        tracing::debug!(
            target: "tower_qstash",
            key = claims.key(),
            jti = claims.jwt_id(),
            sub = &*without_user_info(claims.subject()),
            message_id = message_id(),
            body_bytes,
            "accepted a QStash delivery"
        );
        if claims.key_is_next() {
            tracing::warn!(
                target: "tower_qstash",
                key = claims.key(),
                jti = claims.jwt_id(),
                message_id = message_id(),
                "the signing keys were rolled: QStash now signs with the next key; configure the two keys that \
                 the QStash console shows before they are rolled again, or every delivery will be rejected"
            );
        }
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (head, claims, body_bytes);
}

pub(crate) fn rejected(head: &Parts, rejection: &Rejection) {
    #[cfg(feature = "tracing")]
    {
        let (sub, expected) = match rejection {
            Rejection::SubjectMismatch { subject, expected } => {
                (Some(subject.as_str()), Some(expected))
            }
            _ => (None, None),
        };
        tracing::warn!(
            target: "tower_qstash",
            reason = %rejection,
            sub,
            expected_url = expected.map(|urls| urls.join(" or ")),
            message_id = crate::delivery::only(&head.headers, "upstash-message-id"),
            "rejected a QStash delivery"
        );
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (head, rejection);
}

#[cfg(feature = "axum")]
pub(crate) fn missing_layer(head: &Parts) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "tower_qstash",
        reason = %crate::MissingLayer,
        path = head.uri.path(),
        "a handler asked for Claims on a route without QStashVerifyLayer"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = head;
}
