//! What the stores log by themselves, with the feature `tracing`: everything that no response waits
//! for. The rest is in the guard's verdicts, and the middleware logs it with the delivery.

pub(super) fn memory_full(forgotten: u64) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "tower_qstash",
        forgotten,
        "the replay guard's memory is full: the token nearest its end was forgotten and could be used again; \
         raise the capacity"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = forgotten;
}

#[cfg(feature = "redis")]
pub(super) fn release_failed(error: &super::BoxError) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "tower_qstash",
        error = %error,
        "a token could not be released in the background, and stays in flight until it expires"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = error;
}
