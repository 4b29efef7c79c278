//! What every test needs: two keys, a fixed time, a signer.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tower_qstash::{PublicUrl, QStashVerifyLayer, Signer, SigningKeys};

pub(crate) const CURRENT_KEY: &str = "sig_test_current_5kVXAD7q";
pub(crate) const NEXT_KEY: &str = "sig_test_next_9wQmZ2pL";
pub(crate) const STRANGERS_KEY: &str = "sig_test_stranger_1hYc8R";
pub(crate) const BASE: &str = "https://api.example.com";

/// The time of every test that has a clock.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

pub(crate) fn keys() -> SigningKeys {
    SigningKeys::new(CURRENT_KEY, NEXT_KEY).expect("two good keys")
}

pub(crate) fn current() -> Signer {
    Signer::new(CURRENT_KEY).expect("a good key")
}

pub(crate) fn next() -> Signer {
    Signer::new(NEXT_KEY).expect("a good key")
}

pub(crate) fn stranger() -> Signer {
    Signer::new(STRANGERS_KEY).expect("a good key")
}

/// A layer at the fixed time, for everything below `https://api.example.com`.
pub(crate) fn layer() -> QStashVerifyLayer {
    layer_for(PublicUrl::base(BASE).expect("a good base"))
}

pub(crate) fn layer_for(public_url: PublicUrl) -> QStashVerifyLayer {
    QStashVerifyLayer::new(keys(), public_url).clock(now)
}

/// Waits so long that only what hangs runs into it: a bug must fail a test, not hang it.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("within a minute")
}

/// The built example of that name. Built here, since `cargo test --test it` alone would leave an
/// old one lying about.
pub(crate) fn example(name: &str) -> PathBuf {
    let messages = cargo(&["build", "--locked", "--message-format=json", "--example", name]);
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["target"]["kind"][0] == "example";
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executable.expect("cargo names the executable it built")
}

/// What cargo prints on its standard output.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    #[expect(clippy::disallowed_methods, reason = "cargo tells a test where it is")]
    let cargo = std::env::var("CARGO").expect("tests are run by cargo");
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}
