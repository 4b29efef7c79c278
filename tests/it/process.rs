//! Running cargo and the built examples.

use std::{path::PathBuf, process::Command};

/// Builds an example and returns the path of its executable.
///
/// `cargo test --test it` doesn't build examples, so an outdated one could be left.
pub(crate) fn example(name: &str) -> PathBuf {
    let package = ["--package", "tower-qstash-examples", "--all-features"];
    let build = ["build", "--locked", "--message-format=json", "--example", name];
    let messages = cargo(&[&build[..], &package].concat());
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_example =
            message["target"]["name"] == name && message["target"]["kind"][0] == "example";
        is_example.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executable.expect("cargo reports the executable")
}

/// Runs cargo and returns its standard output.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").expect("cargo sets it for tests");
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}
