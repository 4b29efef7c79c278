//! Any bytes as a callback's body: nothing panics, and what parses survives a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tower_qstash::{Callback, FailureCallback};

fuzz_target!(|data: &[u8]| {
    let callback = Callback::from_slice(data);
    let failure = FailureCallback::from_slice(data);
    assert_eq!(callback.is_ok(), failure.is_ok(), "only optional fields differ");
    let (Ok(callback), Ok(failure)) = (callback, failure) else { return };

    assert!(!format!("{callback:?}{failure:?}").is_empty());
    let _ = (callback.not_before(), callback.caller_ip(), failure.workflow_created_at());
    let _ = (callback.is_last_attempt(), callback.body_is_truncated());

    // Compared by parts: a truncated body is serialized as a complete one, and headers may change order.
    let json = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("JSON");
    let text = callback.to_vec();
    let again = Callback::from_slice(&text).expect("what was serialized parses");
    assert_eq!(json(&again.to_vec()), json(&text));
    assert_eq!(again.body(), callback.body());
    assert_eq!(again.headers(), callback.headers());
    let text = failure.to_vec();
    let again = FailureCallback::from_slice(&text).expect("what was serialized parses");
    assert_eq!(json(&again.to_vec()), json(&text));
    assert_eq!(again.dlq_id(), failure.dlq_id());
});
