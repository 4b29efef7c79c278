//! The guides say what is so: events and their fields, settings, features, names of tests and files.

use std::collections::BTreeSet;

use axum::{Router, body::Body, routing::post};
use http::Request;
use tower::ServiceExt;
use tower_qstash::{Claims, QStashVerifyLayer, ReplayGuard, Signer};

use crate::{
    repository::{read, root, rust_files},
    scripted_store::ScriptedStore,
    support::{
        current,
        deliveries::{delivery, request},
        layer,
        log::Log,
        next, now, unknown_key,
    },
};

const OPERATING: &str = include_str!("../../docs/operating.md");
const THREAT_MODEL: &str = include_str!("../../docs/threat-model.md");
const PERFORMANCE: &str = include_str!("../../docs/performance.md");

/// Sends a request with a message id, and returns the events.
async fn events(layer: QStashVerifyLayer, mut request: Request<Body>) -> Vec<String> {
    let log = Log::capture();
    request.headers_mut().insert("upstash-message-id", "msg_7".parse().expect("a value"));
    let app = Router::new().route("/hook", post(async |_: Claims| "done")).layer(layer);
    app.oneshot(request).await.unwrap_or_else(|error| match error {});
    log.lines().iter().map(|line| line.trim_start().to_owned()).collect()
}

fn hello(signer: &Signer) -> Request<Body> {
    delivery(signer, "Hello", "Hello".into())
}

fn elsewhere() -> Request<Body> {
    let token = current().delivery("https://elsewhere.example/x", b"Hello", now()).token();
    request(&token, "Hello".into())
}

/// Returns the events of a delivery that arrives for the second time.
async fn repeated() -> Vec<String> {
    let guarded = layer().replay_guard(ReplayGuard::in_memory());
    events(guarded.clone(), hello(&current())).await;
    events(guarded, hello(&current())).await
}

#[tokio::test]
async fn page_shows_events_as_they_are_logged() {
    let mut lines = Vec::new();
    lines.extend(events(layer(), hello(&current())).await);
    lines.extend(events(layer(), hello(&unknown_key())).await);
    lines.extend(events(layer(), elsewhere()).await);
    lines.extend(repeated().await);
    // The accepted delivery, and then the warning.
    lines.extend(events(layer(), hello(&next())).await.into_iter().skip(1));
    assert_eq!(lines.len(), 5, "{lines:#?}");
    for line in lines {
        assert!(OPERATING.lines().any(|shown| shown.trim() == line), "{line}");
    }
}

/// Returns the names of the fields in an event.
fn fields(event: &str) -> BTreeSet<String> {
    let words = event.split(' ').filter_map(|word| word.split_once('='));
    let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b"._".contains(&b));
    words.map(|(name, _)| name).filter(is_name).map(str::to_owned).collect()
}

/// Returns the names in the table below `header` whose cell in this column is one of `cells`.
fn documented(header: &str, column: usize, cells: &[&str]) -> BTreeSet<String> {
    let lines = OPERATING.lines().skip_while(|line| !line.starts_with(header));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let mut names = BTreeSet::new();
    for row in rows {
        let row: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        if cells.contains(&row[column]) {
            let both = row[..2].iter().filter(|name| !name.is_empty());
            names.extend(both.map(|name| name.trim_matches('`').to_owned()));
        }
    }
    names
}

#[tokio::test]
async fn tables_list_the_fields_of_each_event() {
    const REQUEST: &str = "| field | in OpenTelemetry | `debug` accepted |";
    const GUARD: &str = "| field | in OpenTelemetry | `warn` arrived again |";
    let always = ["yes"];
    let with_id = ["yes", "if present"];
    let with_mac = ["yes", "if the MAC is valid"];
    let on_a_mismatch = ["yes", "if the MAC is valid", "on a mismatch"];

    let accepted = events(layer(), hello(&current())).await.remove(0);
    assert_eq!(fields(&accepted), documented(REQUEST, 2, &with_id));
    let unsigned = events(layer(), hello(&unknown_key())).await.remove(0);
    assert_eq!(fields(&unsigned), documented(REQUEST, 3, &always));
    let tampered = hello(&current()).map(|_| "Hallo".into());
    let tampered = events(layer(), tampered).await.remove(0);
    assert_eq!(fields(&tampered), documented(REQUEST, 3, &with_mac));
    let mismatch = events(layer(), elsewhere()).await.remove(0);
    assert_eq!(fields(&mismatch), documented(REQUEST, 3, &on_a_mismatch));

    let repeated = repeated().await.remove(0);
    assert_eq!(fields(&repeated), documented(GUARD, 2, &with_id));
    let store = ScriptedStore::default();
    store.fail(&["reserve"]);
    let guarded = layer().replay_guard(ReplayGuard::new(store));
    let unavailable = events(guarded, hello(&current())).await.remove(0);
    assert_eq!(fields(&unavailable), documented(GUARD, 3, &with_id));
}

/// Each begins an event of src/, after its line breaks are joined.
#[test]
fn messages_of_other_events_are_in_the_source() {
    let source: String = rust_files("src").iter().map(read).collect();
    let lines = OPERATING.lines().skip_while(|line| !line.starts_with("| level |"));
    let rows: Vec<_> = lines.skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let message = row.split('`').nth(3).expect("the second text in code font");
        assert!(source.contains(&format!("\"{message}")), "{message}");
    }
}

#[test]
fn settings_are_the_methods_of_the_layer() {
    let source = read("src/middleware/layer.rs");
    let names = source.lines().filter_map(|line| line.strip_prefix("    pub fn "));
    let names = names.filter(|signature| !signature.starts_with("new("));
    let mut methods: BTreeSet<_> = names
        .filter_map(|signature| signature.split(['(', '<']).next())
        .map(str::to_owned)
        .collect();
    // Not a setting.
    assert!(methods.remove("signing_keys_handle"));
    methods.extend(["SigningKeys", "PublicUrl"].map(str::to_owned));
    assert_eq!(first_cells("| setting |"), methods);
}

/// The guide repeats the table of `body_limit`.
#[test]
fn plans_are_those_of_the_api_documentation() {
    let source = read("src/middleware/layer.rs");
    let lines = OPERATING.lines().skip_while(|line| !line.starts_with("| plan |"));
    let rows: Vec<_> = lines.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert!(source.contains(&format!("    /// {row}\n")), "{row}");
    }
}

#[test]
fn features_are_those_of_the_manifest() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("\n[features]\n").nth(1).expect("the section");
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter(|line| !line.starts_with('#'));
    let names = names.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let features: BTreeSet<_> =
        names.filter(|name| *name != "default").map(str::to_owned).collect();
    assert_eq!(first_cells("| feature |"), features);
}

/// Returns the first cells of the table of settings or features.
fn first_cells(header: &str) -> BTreeSet<String> {
    let lines = OPERATING.lines().skip_while(|line| !line.starts_with(header));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).expect("a name").to_owned()).collect()
}

/// A name with three words or more in code font is a test, unless it is a code or a field.
#[test]
fn threat_model_names_tests_that_exist() {
    let tests: String = ["tests", "src"].into_iter().flat_map(rust_files).map(read).collect();
    let is_test = |name: &&str| {
        name.matches('_').count() >= 2
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let names: BTreeSet<_> = in_code_font(THREAT_MODEL).filter(is_test).collect();
    for name in &names {
        assert!(tests.contains(&format!("fn {name}(")), "there is no test {name}");
    }
    assert!(names.len() >= 30, "{names:?}");
}

#[test]
fn guides_name_files_that_exist() {
    let mut named = BTreeSet::new();
    for page in [OPERATING, THREAT_MODEL, PERFORMANCE, &read("SECURITY.md")] {
        let folders = ["benches/", "conformance/", "docs/", "examples/", "scripts/", "tests/"];
        for name in in_code_font(page) {
            // A command has arguments.
            let name = name.split(' ').next().unwrap_or_default();
            if folders.iter().any(|folder| name.starts_with(folder)) {
                assert!(root().join(name).exists(), "there is no {name}");
                named.insert(name.to_owned());
            }
        }
    }
    assert!(named.len() >= 12, "{named:?}");
}

/// Returns what stands between single backticks, outside of code blocks.
fn in_code_font(page: &str) -> impl Iterator<Item = &str> {
    let prose = page.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2))
}
