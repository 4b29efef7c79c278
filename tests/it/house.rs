//! The house: which module may import which, what the pure modules must not know, and how public
//! functions are documented.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each module of `src/`, and the modules that it may import. Arrows point down: none of them is
/// imported by a module above it.
const MODULES: &[(&str, &[&str])] = &[
    ("testing", &["delivery", "keys", "request_body", "url", "verify"]),
    (
        "middleware",
        &["delivery", "forward", "keys", "public_url", "replay", "response", "url", "verify"],
    ),
    ("replay", &["verify"]),
    ("public_url", &["axum", "feature", "lambda_http", "url"]),
    ("axum", &["delivery", "missing_layer", "request_body", "response", "verify"]),
    ("lambda_http", &["request_body", "url"]),
    ("missing_layer", &["url", "verify"]),
    ("verify", &["keys", "url"]),
    ("keys", &[]),
    ("delivery", &["url"]),
    ("feature", &[]),
    ("forward", &["request_body"]),
    ("request_body", &[]),
    ("response", &[]),
    ("url", &[]),
];

/// Modules of bytes, strings and times only.
const PURE: [&str; 2] = ["url", "verify"];
const IMPURE: [&str; 11] = [
    "axum::",
    "http::",
    "http_body",
    "hyper",
    "lambda_http::",
    "std::env",
    "tokio",
    "tower",
    ".await",
    "async ",
    "SystemTime::now",
];

#[test]
fn modules_import_only_what_lies_below() {
    let mut ranks = BTreeMap::new();
    for (rank, (module, _)) in MODULES.iter().enumerate() {
        ranks.insert(*module, rank);
    }
    for (module, imports) in MODULES {
        for import in *imports {
            assert!(ranks[import] > ranks[module], "{module} is not above {import}");
        }
    }

    let mut seen = BTreeSet::new();
    for (module, file, code) in code() {
        if ["lib", "guides"].contains(&module.as_str()) {
            continue;
        }
        let (_, allowed) =
            MODULES.iter().find(|(name, _)| *name == module).expect("a module of the table");
        for import in imports(&code) {
            assert!(
                import.starts_with(char::is_lowercase),
                "{file:?} imports {import} through lib.rs"
            );
            assert!(
                import == module || allowed.contains(&import.as_str()),
                "{file:?} imports {import}"
            );
        }
        seen.insert(module);
    }
    assert_eq!(seen.len(), MODULES.len(), "every module of the table exists");
}

#[test]
fn pure_modules_know_no_http_no_tower_no_clock() {
    for (module, file, code) in code() {
        if PURE.contains(&module.as_str()) {
            for word in IMPURE {
                assert!(!code.contains(word), "{file:?} has {word}");
            }
        }
    }
}

/// Counts the public functions and methods with a summary, and those whose summary begins with a verb
/// in the third person.
#[test]
fn summaries_begin_with_a_verb() {
    let (mut verbs, mut others) = (0, Vec::new());
    for file in files() {
        let text = fs::read_to_string(&file).expect("a source file");
        let mut summary = None;
        for line in text.lines().map(str::trim_start) {
            if let Some(doc) = line.strip_prefix("/// ") {
                summary = summary.or(Some(doc.to_owned()));
            } else if line.starts_with("pub fn ") || line.starts_with("pub async fn ") {
                let Some(summary) = summary.take() else { continue };
                // After the warning in bold.
                let text = summary.trim_start_matches("**Dangerous.** ");
                let first = text.split(' ').next().unwrap_or_default();
                let is_verb = first.ends_with('s') && !["This", "Its", "Is"].contains(&first);
                if is_verb {
                    verbs += 1;
                } else {
                    others.push(format!("{}: {summary}", file.display()));
                }
            } else if !line.starts_with("///") && !line.starts_with("#[") {
                summary = None;
            }
        }
    }
    let total = verbs + others.len();
    assert!(verbs * 100 >= total * 75, "{verbs} of {total} begin with a verb: {others:#?}");
    println!("{verbs} of {total} summaries begin with a verb");
}

/// Returns each file's module, path, and code without comments and tests.
fn code() -> impl Iterator<Item = (String, PathBuf, String)> {
    files().into_iter().map(|file| {
        let in_src = file.strip_prefix(source()).expect("a file of src/");
        let first = in_src.iter().next().expect("a name").to_str().expect("ASCII");
        let module = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).expect("a source file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        (module, file.clone(), code.collect::<Vec<_>>().join("\n"))
    })
}

/// Returns the names that follow `crate::`, also within braces.
fn imports(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (index, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    names.push(identifier(&group[start..index]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.push(identifier(&group[start..index]));
                    start = index + 1;
                }
                _ => {}
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn identifier(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the files of `src/` but for those that have only tests.
fn files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![source()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.file_stem().is_some_and(|name| name == "tests") {
                continue;
            }
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    assert!(files.len() > 20, "the sources were found");
    files
}
