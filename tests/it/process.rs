//! Other processes, and the patience to wait for them.

use std::{path::PathBuf, process::Command, time::Duration};

/// Waits so long that only what hangs runs into it: a bug must fail a test, not hang it.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("within a minute")
}

/// Builds the example of that name and returns its path. An example with dependencies of its own is a
/// package. `cargo test --test it` alone would leave an old executable in place.
pub(crate) fn example(name: &str) -> PathBuf {
    let (package, kind) = match name.starts_with(env!("CARGO_PKG_NAME")) {
        true => (["--package", name], "bin"),
        false => (["--example", name], "example"),
    };
    let build = ["build", "--locked", "--message-format=json"];
    let messages = cargo(&[&build[..], &package].concat());
    let executable = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name && message["target"]["kind"][0] == kind;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executable.expect("cargo names the executable it built")
}

/// What cargo prints on its standard output.
pub(crate) fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").expect("tests are run by cargo");
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}
