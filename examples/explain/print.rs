//! The report, as text.

use serde_json::Value;

use crate::{
    input::Input,
    rules::{Report, Verdict},
    time::{distance, format_time},
};

pub(crate) fn print(input: &Input, report: &Report, colored: bool) {
    let paint = |code: &str, text: &str| match colored {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let trust = match report.is_verified {
        true => "verified by the signature",
        false => "UNVERIFIED: anyone may have written them",
    };
    println!("{}", paint("1", &format!("Header and claims, {trust}")));
    for (name, value) in report.header.iter().chain(&report.claims) {
        println!("  {:5} {}", printable(name), shown(name, value, input.at));
    }
    println!("\n{} {}", paint("1", "Rules, at"), format_time(input.at));
    for rule in &report.rules {
        let verdict = match rule.verdict {
            Verdict::Passed => paint("32", "passed     "),
            Verdict::Failed => paint("31", "failed     "),
            Verdict::NotChecked => paint("33", "not checked"),
        };
        let text = rule.text.replace('\n', &format!("\n{:28}", ""));
        println!("  {verdict}  {:12}  {text}", rule.name);
    }
    let of = |verdict| report.rules.iter().find(|rule| rule.verdict == verdict);
    let todo = of(Verdict::Failed).or_else(|| of(Verdict::NotChecked));
    println!(
        "\n{} {}",
        paint("1", "What to do:"),
        todo.map_or("nothing; this delivery is accepted.", |rule| &rule.advice)
    );
}

fn shown(name: &str, value: &Value, now: i64) -> String {
    match (name, value.as_i64(), value.as_str()) {
        ("exp" | "iat" | "nbf", Some(time), _) => {
            format!("{time}  {}  {}", format_time(time), distance(time, now))
        }
        ("sub", _, Some(url)) => redacted(url),
        (_, _, Some(text)) if !text.is_empty() => printable(text),
        _ => printable(&value.to_string()),
    }
}

/// Returns the URL without user name and password, because this output may be pasted somewhere.
pub(crate) fn redacted(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = &authority[..authority.find(['/', '?', '#']).unwrap_or(authority.len())];
    match authority.rsplit_once('@') {
        Some((user_info, _)) => printable(&url.replacen(&format!("{user_info}@"), "***@", 1)),
        None => printable(url),
    }
}

/// Escapes control characters: anyone may have written the token, and it must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
