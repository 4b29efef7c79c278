//! The promises of `Cargo.toml`.

use crate::process::cargo;

/// `rust-version` is exactly the highest one among the dependencies, with every feature. A clippy
/// lint checks that our own code needs no newer one.
#[test]
fn rust_version_is_that_of_the_dependencies() {
    let metadata = cargo(&["metadata", "--format-version=1", "--locked", "--all-features"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let package = ["--package", env!("CARGO_PKG_NAME")];
    let edges = ["--locked", "--edges=normal", "--all-features", "--prefix=none"];
    let tree = cargo(&[&["tree"][..], &package, &edges].concat());
    let used: Vec<&str> = tree.lines().collect();

    let version = |package: &serde_json::Value| -> Vec<u32> {
        let text = package["rust_version"].as_str().unwrap_or("1.0");
        text.split('.').map(|part| part.parse().expect("a number")).take(2).collect()
    };
    let packages = metadata["packages"].as_array().unwrap();
    let (ours, others): (Vec<_>, Vec<_>) =
        packages.iter().partition(|package| package["name"] == env!("CARGO_PKG_NAME"));
    let needed = others
        .iter()
        .filter(|package| {
            let line = format!(
                "{} v{}",
                package["name"].as_str().expect("a name"),
                package["version"].as_str().expect("a version")
            );
            used.iter().any(|used| *used == line || used.starts_with(&format!("{line} ")))
        })
        .map(|package| version(package))
        .max();
    assert_eq!(Some(version(ours[0])), needed);
}
