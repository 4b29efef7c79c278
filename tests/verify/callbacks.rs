//! Callback bodies: what parses, what fails, and what survives a round trip.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};
use tower_qstash::{Callback, CallbackBuilder, CallbackError, FailureCallback};

const DOCUMENTED: &str = include_str!("../support/callbacks/documented.json");
const DOCUMENTED_FAILURE: &str = include_str!("../support/callbacks/documented_failure.json");

/// Returns a body with the required fields and those in `more`.
fn with(more: &Value) -> Vec<u8> {
    let mut callback =
        json!({ "status": 200, "sourceMessageId": "msg_1", "url": "https://a.example" });
    let fields = callback.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    callback.to_string().into_bytes()
}

fn parse(more: &Value) -> Callback {
    let read = Callback::from_slice(&with(more));
    read.unwrap_or_else(|error| panic!("{more}: {error}"))
}

fn error_of(more: &Value) -> CallbackError {
    match Callback::from_slice(&with(more)) {
        Ok(_) => panic!("{more} parses"),
        Err(error) => error,
    }
}

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

#[test]
fn the_documented_callback_parses() {
    let callback = Callback::from_slice(DOCUMENTED.as_bytes()).expect("as documented");
    assert_eq!(callback.status(), 200);
    assert_eq!(callback.headers()["key"], "value");
    assert_eq!(callback.body(), "base64 encoded rody");
    assert!(!callback.body_is_truncated());
    assert_eq!((callback.retried(), callback.max_retries()), (2, 3));
    assert_eq!(callback.source_message_id(), "msg_xxx");
    assert_eq!(callback.url_group(), Some("myTopic"));
    assert_eq!(callback.endpoint_name(), Some("myEndpoint"));
    assert_eq!(callback.url(), "http://myurl.com");
    assert_eq!(callback.method(), Some("GET"));
    assert_eq!(callback.source_headers()["key"], "value");
    assert!(callback.source_body().starts_with(b"base64"));
    assert_eq!(callback.not_before(), Some(at(1_701_198_458_025)));
    assert_eq!(callback.created_at(), Some(at(1_701_198_447_054)));
    assert_eq!(callback.schedule_id(), Some("scd_xxx"));
    assert_eq!(callback.caller_ip(), "178.247.74.179".parse().ok());
}

#[test]
fn the_documented_failure_callback_parses() {
    let failure =
        FailureCallback::from_slice(DOCUMENTED_FAILURE.as_bytes()).expect("as documented");
    assert_eq!(failure.status(), 400);
    assert_eq!(failure.dlq_id(), Some("1725323658779-0"));
    assert_eq!(failure.source_message_id(), "msg_xxx");
    assert_eq!(failure.workflow_run_id(), None);
}

#[test]
fn a_workflow_failure_callback_names_the_run() {
    let body =
        with(&json!({ "workflowRunId": "wfr_1", "workflowCreatedAt": 1_701_198_447_054_u64 }));
    let failure = FailureCallback::from_slice(&body).expect("a failure callback");
    assert_eq!(failure.workflow_run_id(), Some("wfr_1"));
    assert_eq!(failure.workflow_created_at(), Some(at(1_701_198_447_054)));
}

#[test]
fn missing_and_null_fields_read_as_none_empty_or_zero() {
    let null = json!({
        "header": null, "body": null, "retried": null, "maxRetries": null, "topicName": null,
        "endpointName": null, "method": null, "sourceHeader": null, "sourceBody": null,
        "notBefore": null, "createdAt": null, "scheduleId": null, "callerIP": null,
    });
    for more in [json!({}), null] {
        let callback = parse(&more);
        assert!(callback.headers().is_empty() && callback.source_headers().is_empty());
        assert!(callback.body().is_empty() && callback.source_body().is_empty());
        assert_eq!((callback.retried(), callback.max_retries()), (0, 0));
        assert_eq!([callback.url_group(), callback.endpoint_name(), callback.method()], [None; 3]);
        assert_eq!([callback.not_before(), callback.created_at()], [None; 2]);
        assert_eq!((callback.schedule_id(), callback.caller_ip()), (None, None));
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let callback =
        parse(&json!({ "timeout": {"a": [1, null]}, "labels": ["x"], "ratePerSecond": 1.5 }));
    assert_eq!(callback, parse(&json!({})));
}

#[test]
fn times_are_integers_or_strings_of_digits() {
    for (value, expected) in [
        (json!(1_701_198_447_054_u64), Some(at(1_701_198_447_054))),
        (json!("1701198447054"), Some(at(1_701_198_447_054))),
        (json!(0), Some(UNIX_EPOCH)),
        (json!(-1), UNIX_EPOCH.checked_sub(Duration::from_millis(1))),
    ] {
        assert_eq!(parse(&json!({ "createdAt": value })).created_at(), expected, "{value}");
        assert_eq!(parse(&json!({ "notBefore": value })).not_before(), expected, "{value}");
    }
    // Go's zero time, which not every platform's clock can hold, and the ends of the range.
    for extreme in [-62_135_596_800_000_i64, i64::MIN, i64::MAX] {
        parse(&json!({ "notBefore": extreme })).not_before();
    }
    for value in [
        json!(""),
        json!("yesterday"),
        json!(1.5),
        json!("1.5"),
        json!(" 1"),
        json!([1]),
        json!(1e300),
    ] {
        let error = error_of(&json!({ "createdAt": value }));
        assert_eq!(
            error.to_string(),
            "the callback's field createdAt is not a time in milliseconds"
        );
    }
}

#[test]
fn header_values_are_strings_or_arrays_and_names_ignore_case() {
    let callback = parse(&json!({
        "header": { "Content-Type": "text/plain", "Set-Cookie": ["a=1", "b=2"], "X-None": null, "X-Empty": [] },
        "sourceHeader": { "X-Original": ["é"] },
    }));
    for name in ["content-type", "Content-Type", "CONTENT-TYPE"] {
        assert_eq!(callback.headers().get(name).expect(name), "text/plain");
    }
    let cookies: Vec<_> = callback.headers().get_all("SET-COOKIE").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(callback.headers().len(), 3);
    assert_eq!(callback.source_headers()["x-original"].as_bytes(), "é".as_bytes());
}

#[test]
fn invalid_header_names_and_values_are_left_out() {
    let callback =
        parse(&json!({ "header": { "": "a", "a b": "c", "x": ["1\n2", "3"], "é": "e" } }));
    assert_eq!(callback.headers().len(), 1);
    assert_eq!(callback.headers()["x"], "3");
}

#[test]
fn too_many_headers_are_an_error() {
    let names: serde_json::Map<_, _> =
        (0..40_000).map(|n| (format!("x-{n}"), json!("a"))).collect();
    assert_eq!(error_of(&json!({ "header": names })).field(), Some("header"));
}

#[test]
fn bodies_need_not_be_utf8() {
    let callback = parse(&json!({ "body": "AP+f", "sourceBody": "+/8=" }));
    assert_eq!(callback.body(), &[0, 255, 159][..]);
    assert_eq!(callback.source_body(), &[0xFB, 0xFF][..]);
    // JSON may escape it.
    let escaped = br#"{"status":200,"sourceMessageId":"","url":"","body":"\u002b\/8="}"#;
    assert_eq!(Callback::from_slice(escaped).expect("JSON").body(), &[0xFB, 0xFF][..]);
}

#[test]
fn truncated_bodies_are_decoded_and_marked() {
    for (text, body) in
        [("SGVsbG8", &b"Hello"[..]), ("SGVsb", b"Hel"), ("SGVsbG", b"Hell"), ("S", b"")]
    {
        let callback = parse(&json!({ "body": text, "sourceBody": text }));
        assert_eq!((&callback.body()[..], &callback.source_body()[..]), (body, body), "{text}");
        assert_eq!(callback.body_is_truncated(), body != b"Hello", "{text}");
        assert_eq!(callback.source_body_is_truncated(), body != b"Hello", "{text}");
    }
}

#[test]
fn a_body_shorter_than_its_content_length_is_truncated() {
    let declared = |length: &str, method: &str| {
        parse(&json!({ "body": "SGVsbG8=", "method": method, "header": { "Content-Length": [length] } }))
            .body_is_truncated()
    };
    assert!(declared("6", "POST"));
    assert!(!declared("5", "POST"));
    assert!(!declared("4", "POST"));
    assert!(!declared("many", "POST"));
    assert!(!declared("6", "HEAD"), "the response to HEAD has no body");
}

#[test]
fn no_attempt_follows_the_last_one() {
    let is_last = |status: u16, retried: u32, give_up: bool| {
        let header =
            if give_up { json!({ "Upstash-NonRetryable-Error": ["true"] }) } else { json!({}) };
        let fields =
            json!({ "status": status, "retried": retried, "maxRetries": 3, "header": header });
        parse(&fields).is_last_attempt()
    };
    assert!(is_last(200, 0, false) && is_last(299, 3, false));
    assert!(!is_last(500, 0, false) && !is_last(300, 2, false) && !is_last(0, 2, false));
    assert!(is_last(500, 3, false) && is_last(500, 4, false));
    assert!(is_last(489, 0, true), "it ruled retries out");
    assert!(!is_last(489, 0, false) && !is_last(500, 0, true), "only the two together do");
}

#[test]
fn errors_name_the_field() {
    for (more, text) in [
        (json!({ "status": "200" }), "the callback's field status is not an integer in range"),
        (json!({ "status": 70_000 }), "the callback's field status is not an integer in range"),
        (json!({ "status": null }), "the callback has no field status"),
        (json!({ "retried": -1 }), "the callback's field retried is not an integer in range"),
        (
            json!({ "maxRetries": 1.5 }),
            "the callback's field maxRetries is not an integer in range",
        ),
        (
            json!({ "body": "Hello!" }),
            "the callback's field body is not base64 of the standard alphabet",
        ),
        (
            json!({ "body": "-_8=" }),
            "the callback's field body is not base64 of the standard alphabet",
        ),
        (json!({ "sourceBody": 7 }), "the callback's field sourceBody is not a string"),
        (
            json!({ "sourceBody": "a b" }),
            "the callback's field sourceBody is not base64 of the standard alphabet",
        ),
        (
            json!({ "header": [] }),
            "the callback's field header is not an object of strings or arrays of strings",
        ),
        (
            json!({ "sourceHeader": { "a": 1 } }),
            "the callback's field sourceHeader is not an object of strings or arrays of strings",
        ),
        (json!({ "url": {} }), "the callback's field url is not a string"),
        (json!({ "callerIP": 7 }), "the callback's field callerIP is not a string"),
        (json!({ "sourceMessageId": null }), "the callback has no field sourceMessageId"),
    ] {
        let error = error_of(&more);
        assert_eq!(error.to_string(), text);
        let field = more.as_object().and_then(|fields| fields.keys().next()).expect("a field");
        assert_eq!(error.field(), Some(&**field));
    }
}

#[test]
fn non_objects_are_errors_without_a_field() {
    for body in [
        &b""[..],
        b"null",
        b"[200]",
        b"Hello",
        b"{",
        b"{\"status\": 200,}",
        b"{\"status\":200,\"status\":200,\"sourceMessageId\":\"\",\"url\":\"\"}",
        b"{\"status\":200,\"sourceMessageId\":\"\xFF\",\"url\":\"\"}",
    ] {
        let error = Callback::from_slice(body).expect_err("not an object");
        assert_eq!(error.field(), None, "{}", String::from_utf8_lossy(body));
        assert!(error.to_string().starts_with("the callback is not a JSON object"), "{error}");
    }
}

/// The bodies, the headers and the user info of a URL may be secret.
#[test]
fn debug_and_errors_hold_no_secret() {
    let secret = HeaderValue::from_static("secret");
    let builder = CallbackBuilder::new(200)
        .body("secret")
        .source_body("secret")
        .header(AUTHORIZATION, secret.clone())
        .source_header(AUTHORIZATION, secret)
        .url("https://user:secret@a.example/");
    let failure = builder.clone().build_failure("dlq");
    let shown = format!("{builder:?} {:?} {failure:?}", builder.clone().build());
    assert!(!shown.contains("secret") && !shown.contains("c2VjcmV0"), "{shown}");
    for part in [
        "Callback {",
        "FailureCallback {",
        "body_bytes: 6",
        "authorization",
        "https://***@a.example/",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for field in ["body", "status", "createdAt", "header"] {
        let error = error_of(&json!({ field: "secret!" }));
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_:/.\"\\\\é-]{0,20}"
}

fn headers() -> impl Strategy<Value = Vec<(HeaderName, HeaderValue)>> {
    let value = "[ -~é]{0,20}".prop_map(|value| {
        HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).expect("valid")
    });
    let name = "[a-z][a-z0-9-]{0,8}".prop_map(|name| HeaderName::try_from(name).expect("valid"));
    vec((name, value), 0..6)
}

fn moment() -> impl Strategy<Value = SystemTime> {
    (0..4_000_000_000_000_u64).prop_map(at)
}

fn builder() -> impl Strategy<Value = CallbackBuilder> {
    let body = || vec(any::<u8>(), 0..300);
    let numbers = (any::<u16>(), any::<u32>(), any::<u32>());
    let texts = (text(), text(), option::of(text()), option::of((text(), text())));
    let others = (
        option::of(text()),
        option::of(moment()),
        option::of(moment()),
        option::of(any::<std::net::IpAddr>()),
    );
    let workflow = option::of((text(), moment()));
    (numbers, headers(), body(), texts, headers(), body(), others, workflow).prop_map(
        |(
            (status, retried, max),
            headers,
            body,
            (id, url, method, group),
            source_headers,
            source_body,
            others,
            run,
        )| {
            let mut builder = CallbackBuilder::new(status).retried(retried).max_retries(max);
            builder = builder.body(body).source_body(source_body).source_message_id(&id).url(&url);
            builder = headers.into_iter().fold(builder, |b, (name, value)| b.header(name, value));
            builder = source_headers
                .into_iter()
                .fold(builder, |b, (name, value)| b.source_header(name, value));
            let (schedule, not_before, created_at, address) = others;
            builder = method.into_iter().fold(builder, |b, method| b.method(&method));
            builder =
                group.into_iter().fold(builder, |b, (group, name)| b.url_group(&group, &name));
            builder = schedule.into_iter().fold(builder, |b, id| b.schedule_id(&id));
            builder = not_before.into_iter().fold(builder, CallbackBuilder::not_before);
            builder = created_at.into_iter().fold(builder, CallbackBuilder::created_at);
            builder = address.into_iter().fold(builder, CallbackBuilder::caller_ip);
            run.into_iter().fold(builder, |b, (id, time)| b.workflow_run(&id, time))
        },
    )
}

proptest! {
    #[test]
    fn built_callbacks_parse_unchanged(builder in builder(), dlq_id in text()) {
        let callback = builder.clone().build();
        prop_assert_eq!(Callback::from_slice(&callback.to_vec()), Ok(callback));
        let failure = builder.build_failure(&dlq_id);
        prop_assert_eq!(FailureCallback::from_slice(&failure.to_vec()), Ok(failure));
    }

    /// Times and single headers as strings, padding left out, an unknown field.
    #[test]
    fn documented_and_real_forms_parse_alike(builder in builder(), extra in "[a-z]{1,4}X") {
        let callback = builder.build();
        let mut other: Value = serde_json::from_slice(&callback.to_vec()).expect("JSON");
        let fields = other.as_object_mut().expect("an object");
        for name in ["notBefore", "createdAt", "workflowCreatedAt"] {
            if let Some(time) = fields.get_mut(name) {
                *time = time.to_string().into();
            }
        }
        for name in ["header", "sourceHeader"] {
            for values in fields[name].as_object_mut().expect("an object").values_mut() {
                if let [value] = &values.as_array().expect("an array")[..] {
                    *values = value.clone();
                }
            }
        }
        for name in ["body", "sourceBody"] {
            let unpadded = fields[name].as_str().expect("a string").trim_end_matches('=').to_owned();
            fields[name] = unpadded.into();
        }
        fields.insert(extra, json!({ "status": [0] }));
        prop_assert_eq!(Callback::from_slice(other.to_string().as_bytes()), Ok(callback));
    }

    #[test]
    fn truncated_body_decodes_to_a_prefix(body in vec(any::<u8>(), 1..300), cut in any::<prop::sample::Index>()) {
        let whole = CallbackBuilder::new(200).body(body.clone()).build();
        let mut json: Value = serde_json::from_slice(&whole.to_vec()).expect("JSON");
        let text = json["body"].as_str().expect("a string").to_owned();
        let cut = cut.index(text.len());
        json["body"] = text[..cut].into();
        json["header"] = json!({ "content-length": body.len().to_string() });
        let cut = Callback::from_slice(json.to_string().as_bytes()).expect("a callback");
        prop_assert!(body.starts_with(cut.body()));
        prop_assert_eq!(cut.body_is_truncated(), cut.body().len() < body.len());
    }

    #[test]
    fn any_bytes_parse_or_fail(bytes in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
        let _ = Callback::from_slice(&bytes).map(|callback| callback.to_vec());
        // The documented callback, partly overwritten: what parses, parses again.
        let mut changed = DOCUMENTED.as_bytes().to_vec();
        let at = at.index(changed.len());
        let end = changed.len().min(at + bytes.len() % 4);
        changed[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(callback) = Callback::from_slice(&changed) {
            // Not compared as a whole, because a truncated body is serialized as a complete one.
            let again = Callback::from_slice(&callback.to_vec()).expect("a callback");
            prop_assert_eq!(again.body(), callback.body());
            prop_assert_eq!(again.headers(), callback.headers());
            prop_assert_eq!(again.url(), callback.url());
        }
    }
}
