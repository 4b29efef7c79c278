//! Prints the public API of a crate from the JSON that rustdoc wrote: `tower-qstash-public-api FILE`.
//!
//! Exits with 3 if this toolchain's JSON has another format than the one that it reads.

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use public_api::Builder;

/// The format of rustdoc's JSON that the dependency `public-api` reads.
const FORMAT: u64 = 57;

/// The module that exists only in the documentation.
const GUIDES: &str = "tower_qstash::guides";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let file = env::args().nth(1).ok_or("usage: tower-qstash-public-api FILE")?;
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    if json["format_version"] != FORMAT {
        eprintln!("rustdoc wrote format {}, and this reads {FORMAT}", json["format_version"]);
        return Ok(ExitCode::from(3));
    }
    // Without the implementations for every type, such as `Into`. `Send` and `Sync` stay, since a
    // private field can take them away.
    let api = Builder::from_rustdoc_json(Path::new(&file))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(false)
        .omit_auto_derived_impls(false)
        .build()?;
    for item in api.items().map(ToString::to_string).filter(|item| is_worth_a_line(item)) {
        println!("{item}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns whether a change of this item would tell a reviewer something.
fn is_worth_a_line(item: &str) -> bool {
    let is_guide = item.split_whitespace().any(|word| word.starts_with(GUIDES));
    let is_impl =
        |names: &[&str]| names.iter().any(|name| item.contains(&format!("::{name} for ")));
    // The line of the implementation says it.
    let is_method =
        |names: &[&str]| names.iter().any(|name| item.contains(&format!("::{name}(&self")));
    !is_guide
        && !is_impl(&[
            "Freeze",
            "RefUnwindSafe",
            "StructuralPartialEq",
            "UnsafeUnpin",
            "UnwindSafe",
        ])
        && !is_method(&["clone", "cmp", "eq", "fmt", "hash", "partial_cmp"])
}
