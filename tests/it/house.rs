//! The house: which module may import which, what the pure modules must not know, how public items are
//! documented, and where an error belongs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use crate::repository::{read, root, rust_files};

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
        let text = read(&file);
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

/// Each public item shows how it is used: with an example of its own or by a link to a guide or to an
/// item that has one. A method may also stand in the example of its type, or of what its type links to.
///
/// tests/public-api.txt lists the items, and their documentation is read from the sources.
#[test]
fn public_items_have_an_example_or_a_link_to_one() {
    let documented = documented();
    let code = |item: &str| documented.get(item).map_or("", |docs| docs.code.as_str());
    let links = |item: &str| documented.get(item).map_or(&[][..], |docs| docs.links.as_slice());
    let has_example = |item: &str| {
        let (owner, name) = item.split_once("::").unwrap_or(("", item));
        let of_owner = links(owner).iter().map(|link| code(link)).chain([code(owner)]);
        !code(item).is_empty() || of_owner.into_iter().any(|code| names_function(code, name))
    };
    let guides = read("src/guides/mod.rs");
    let is_guide = |link: &str| {
        let name = link.strip_prefix("guides::");
        name.is_some_and(|name| guides.contains(&format!("pub mod {name} {{")))
    };

    let items = public_items();
    assert!(items.len() > 100, "{items:?}");
    let mut missing = Vec::new();
    for item in &items {
        assert!(documented.contains_key(item), "{item} has no documentation in src/");
        if !has_example(item) && !links(item).iter().any(|link| is_guide(link) || has_example(link))
        {
            missing.push(item);
        }
    }
    assert!(
        missing.is_empty(),
        "add an example, or link to an item or guide that has one: {missing:#?}"
    );
}

/// Returns whether the code calls or implements a function of this name.
fn names_function(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        [".", "::", "fn "].iter().any(|prefix| before.ends_with(prefix))
            && ["(", "::<"].iter().any(|suffix| after.starts_with(suffix))
    })
}

/// What the documentation of an item holds.
#[derive(Default)]
struct Docs {
    /// Its examples.
    code: String,
    /// The items and guides that it links to, without `crate::`.
    links: Vec<String>,
}

/// Returns the names of the public types, traits, functions and methods: `Claims`, `Claims::subject`.
/// Methods of implemented traits have their documentation elsewhere.
fn public_items() -> BTreeSet<String> {
    let text = read("tests/public-api.txt");
    let mut items = BTreeSet::new();
    let mut implements_trait = false;
    for line in text.lines().map(|line| line.trim_start_matches("#[non_exhaustive] ")) {
        if line.starts_with("impl") {
            implements_trait = line.contains(" for ");
            continue;
        }
        let Some((is_function, _, path)) = declaration(line) else { continue };
        implements_trait &= is_function;
        let Some(path) = path.strip_prefix("tower_qstash::") else { continue };
        let path = path_of(path);
        if !(is_function && implements_trait && path.len() == 2) {
            items.insert(path.join("::"));
        }
    }
    items
}

/// Returns the names at the beginning of `QStashVerifyLayer<F>::also(self, …`.
fn path_of(mut text: &str) -> Vec<String> {
    let mut path = Vec::new();
    loop {
        let name = identifier(text);
        text = &text[name.len()..];
        // The parameters of a type, which have none of their own.
        if text.starts_with('<') {
            text = text.split_once('>').map_or("", |(_, rest)| rest);
        }
        path.push(name);
        let Some(rest) = text.strip_prefix("::") else { return path };
        text = rest;
    }
}

/// Splits a declaration into whether it is that of a function, whether it is public, and what follows
/// the keyword.
fn declaration(line: &str) -> Option<(bool, bool, &str)> {
    let public = line.strip_prefix("pub ");
    let rest = public.unwrap_or(line);
    let rest = rest.strip_prefix("async ").unwrap_or(rest);
    let rest = rest.strip_prefix("const ").filter(|rest| rest.starts_with("fn ")).unwrap_or(rest);
    let (keyword, rest) = rest.split_once(' ')?;
    let is_function = keyword == "fn";
    (is_function || ["enum", "struct", "trait"].contains(&keyword)).then_some((
        is_function,
        public.is_some(),
        rest,
    ))
}

/// Reads the documentation of the public items in src/.
fn documented() -> BTreeMap<String, Docs> {
    let mut items = BTreeMap::new();
    for file in files() {
        let text = read(&file);
        // Whose methods follow; those of a macro have several owners.
        let mut owners = Vec::new();
        let mut in_trait = false;
        let mut docs = Vec::new();
        for line in text.lines() {
            let (is_indented, line) = (line.starts_with(' '), line.trim_start());
            if let Some(doc) = line.strip_prefix("///") {
                docs.push(doc.trim_start());
                continue;
            }
            if line.starts_with("impl") {
                in_trait = false;
                owners = owners_of(line);
            }
            if let Some((is_function, is_public, name)) = declaration(line) {
                let name = identifier(name);
                let is_method = is_function && is_indented;
                if is_public || (is_method && in_trait) {
                    let names = match is_method {
                        true => owners.iter().map(|owner| format!("{owner}::{name}")).collect(),
                        false => vec![name.clone()],
                    };
                    for name in names {
                        let owner = name.split("::").next().unwrap_or_default();
                        let read = read_docs(&docs, owner);
                        // The first one: stand-ins without a feature come after.
                        if !docs.is_empty() {
                            items.entry(name).or_insert(read);
                        }
                    }
                }
                if !is_function {
                    in_trait = is_public && line.contains("trait ");
                    owners = vec![name];
                }
            }
            if line.is_empty() || line.ends_with(['{', '}', ';']) {
                docs.clear();
            }
        }
    }
    items
}

/// Returns the type whose methods an `impl` has, or none if it implements a trait.
fn owners_of(line: &str) -> Vec<String> {
    let rest = line.strip_prefix("impl").unwrap_or_default();
    if line.contains(" for ") {
        Vec::new()
    } else if rest.trim_start().starts_with('$') {
        ["Callback", "FailureCallback"].map(str::to_owned).to_vec()
    } else {
        // After the parameters: `impl<S, F> QStashVerify<S, F> {`.
        vec![identifier(rest.strip_prefix('<').map_or(rest, |rest| {
            rest.split_once("> ").map(|(_, owner)| owner).unwrap_or_default()
        }))]
    }
}

fn read_docs(docs: &[&str], owner: &str) -> Docs {
    let mut read = Docs::default();
    for (index, part) in docs.join("\n").split("```").enumerate() {
        if index % 2 == 1 {
            read.code += part;
            continue;
        }
        // `[text](target)`, and [`target`].
        let targets = part.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let named = part.split("[`").skip(1).filter_map(|rest| rest.split("`]").next());
        for link in targets.chain(named) {
            let link = link.split('#').next().unwrap_or_default();
            let link = link.trim_start_matches("crate::").trim_start_matches("super::");
            read.links.push(link.replace("Self", owner));
        }
    }
    read
}

/// The claims with a rule of their own, each with the error of a claim that breaks it. A new rule
/// belongs here; CONTRIBUTING.md, "To add a claim rule", says where else.
const CLAIM_RULES: [(&str, &str); 5] = [
    ("iss", "IssuerMismatch"),
    ("sub", "SubjectMismatch"),
    ("nbf", "NotYetValid"),
    ("exp", "Expired"),
    ("body", "BodyMismatch"),
];

/// Neither the compiler nor another test notices where one of these places lacks an error.
#[test]
fn each_error_of_verification_is_tested_explained_and_documented() {
    let errors = codes("src/verify/error.rs");
    assert!(errors.len() >= 14, "{errors:?}");
    let tests = read("tests/verify/core.rs");
    let explain = read("examples/explain/rules.rs");
    let oracle = read("fuzz/fuzz_targets/oracle.rs");
    for (error, code) in &errors {
        let variant = format!("VerifyError::{error}");
        assert!(
            tests.contains(&variant) || tests.contains(&format!("\"{code}")),
            "add a test of {variant} to tests/verify/core.rs"
        );
        let rule = CLAIM_RULES.iter().find(|(_, of_rule)| of_rule == error);
        let is_explained = match rule {
            Some((claim, _)) => explain.contains(&format!("verify(\"{claim}\", ")),
            None => explain.contains(&variant),
        };
        assert!(
            is_explained,
            "let examples/explain/rules.rs check {variant}, and if it is the rule of a claim, add it to \
             CLAIM_RULES in this file"
        );
    }
    for (claim, error) in CLAIM_RULES {
        assert!(errors.contains_key(error), "{error} is no error");
        assert!(
            oracle.contains(&format!("claims.get(\"{claim}\")")),
            "let fuzz/fuzz_targets/oracle.rs check {claim}"
        );
    }

    let rejection = read("src/middleware/rejection.rs");
    let guide = read("docs/troubleshooting.md");
    let codes = errors.into_values().chain(codes("src/middleware/rejection.rs").into_values());
    for code in codes {
        assert!(
            rejection.contains(&format!("/// | `{code}` | "))
                && guide.contains(&format!("\n| `{code}` | ")),
            "add {code} to the tables in src/middleware/rejection.rs and docs/troubleshooting.md, and to \
             `rejections` in tests/it/contract.rs"
        );
    }
}

/// Returns the variants and their codes, from the function `code` of a file.
fn codes(file: &str) -> BTreeMap<String, String> {
    let text = read(file);
    let (_, function) = text.split_once("pub fn code(").expect("a function `code`");
    let (function, _) = function.split_once("\n    }\n").expect("its end");
    let mut codes = BTreeMap::new();
    for line in function.lines() {
        let Some(code) = line.split('"').nth(1) else { continue };
        let (_, variant) = line.split_once("Self::").unwrap_or_default();
        codes.insert(identifier(variant), code.to_owned());
    }
    codes
}

#[test]
fn contributing_names_every_room_script_and_step() {
    let page = read("CONTRIBUTING.md");
    let names = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.into_string().expect("ASCII")).collect::<BTreeSet<_>>()
    };
    for name in names("src") {
        let name = if name.ends_with(".rs") { name } else { format!("{name}/") };
        let has_line = page.lines().any(|line| line.starts_with(&format!("  {name} ")));
        assert!(has_line, "give {name} a line in the house of CONTRIBUTING.md");
    }
    for script in names("scripts") {
        assert!(page.contains(&format!("`scripts/{script}")), "CONTRIBUTING.md lacks {script}");
    }
    let check = read("scripts/check");
    let steps = check.lines().filter_map(|line| line.trim_start().strip_prefix("step \""));
    let steps: Vec<_> = steps.filter_map(|step| step.split([':', '"']).next()).collect();
    assert!(steps.len() > 10, "{steps:?}");
    for step in steps {
        assert!(
            page.contains(&format!("\n| {step} | ")),
            "add the step \"{step}\" of scripts/check to the table in CONTRIBUTING.md"
        );
    }
}

#[test]
fn workflow_checks_the_lowest_rust() {
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let version = version.expect("rust-version").trim_matches('"');
    let workflow = read(".github/workflows/check.yml");
    for command in
        [format!("rustup toolchain install {version} "), format!("cargo +{version} check ")]
    {
        assert!(workflow.contains(&command), ".github/workflows/check.yml: {command}");
    }
}

/// Returns each file's module, path, and code without comments and tests.
fn code() -> impl Iterator<Item = (String, PathBuf, String)> {
    files().into_iter().map(|file| {
        let in_src = file.strip_prefix(source()).expect("a file of src/");
        let first = in_src.iter().next().expect("a name").to_str().expect("ASCII");
        let module = first.trim_end_matches(".rs").to_owned();
        let text = read(&file);
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
    root().join("src")
}

/// Returns the files of `src/` but for those that have only tests.
fn files() -> Vec<PathBuf> {
    let mut files = rust_files("src");
    files.retain(|file| !file.with_extension("").iter().any(|name| name == "tests"));
    assert!(files.len() > 20, "the sources were found");
    files
}
