//! The example that explains rejections, run as a user would.

use std::{fmt::Write as _, path::PathBuf, process::Stdio, sync::LazyLock};

use tokio::{io::AsyncWriteExt, process::Command};
use tower_qstash::{DeliveryBuilder, NumericDate, Signer};

use crate::{
    process::example,
    support::{
        BASE, CURRENT_KEY, NEXT_KEY, NOW, current, futures::with_timeout, next, now, unknown_key,
    },
};

const URL: &str = "https://api.example.com/hook";
const BODY: &str = r#"{"image": 7}"#;

/// Built once, because so many tests run it.
static EXPLAIN: LazyLock<PathBuf> = LazyLock::new(|| example("explain"));

struct Explanation {
    status: Option<i32>,
    text: String,
    errors: String,
}

impl Explanation {
    /// Returns `passed`, `failed` or `not checked`, and the text after it.
    fn rule(&self, name: &str) -> (&str, &str) {
        let name = format!(" {name} ");
        let line =
            self.text.lines().find(|line| line.get(13..).is_some_and(|rest| rest.contains(&name)));
        let line = line.unwrap_or_else(|| panic!("{name}: {}{}", self.text, self.errors));
        let (verdict, text) = line.split_once(&name).expect("found");
        (verdict.trim(), text.trim())
    }

    fn advice(&self) -> &str {
        self.text.rsplit_once("What to do: ").expect("advice").1.trim()
    }

    fn verdicts(&self) -> Vec<&str> {
        RULES.map(|name| self.rule(name).0).to_vec()
    }
}

const RULES: [&str; 9] = [
    "form",
    "signature",
    "header",
    "claims",
    "issuer",
    "destination",
    "not before",
    "expiry",
    "body",
];

async fn explain(arguments: &[&str], input: &[u8]) -> Explanation {
    let mut process = Command::new(&*EXPLAIN)
        .args(arguments)
        .env_clear()
        .envs([("QSTASH_CURRENT_SIGNING_KEY", CURRENT_KEY), ("QSTASH_NEXT_SIGNING_KEY", NEXT_KEY)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the example starts");
    // With a token as argument it doesn't read its input, and the pipe breaks.
    let mut stdin = process.stdin.take().expect("piped");
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = with_timeout(process.wait_with_output()).await.expect("it ends");
    Explanation {
        status: output.status.code(),
        text: String::from_utf8(output.stdout).expect("text"),
        errors: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Passes everything that can be known about a delivery signed at the fixed time.
async fn explain_all(token: &str) -> Explanation {
    let at = NOW.to_string();
    explain(&["--keys-from-env", "--url", URL, "--body", BODY, "--at", &at, token], b"").await
}

fn token() -> DeliveryBuilder {
    current().delivery(URL, BODY, now())
}

#[tokio::test]
async fn a_genuine_delivery_passes_every_rule() {
    let explained = explain_all(&token().token()).await;
    assert_eq!(explained.verdicts(), ["passed"; 9], "{}", explained.text);
    assert_eq!(explained.status, Some(0));
    assert_eq!(explained.rule("signature").1, r#"made with the key "current""#);
    assert_eq!(explained.advice(), "nothing; this delivery is accepted.");
    for part in [
        "Header and claims, verified by the signature\n",
        "  alg   HS256\n",
        "  iss   Upstash\n",
        "  sub   https://api.example.com/hook\n",
        "  exp   1700000300  2023-11-14T22:18:20Z  (in 5 min)\n",
        "  iat   1700000000  2023-11-14T22:13:20Z  (now)\n",
        "  nbf   -62135596800  0001-01-01T00:00:00Z  (2022 years ago)\n",
        "Rules, at 2023-11-14T22:13:20Z\n",
    ] {
        assert!(explained.text.contains(part), "{part}{}", explained.text);
    }
    assert!(!explained.text.contains('\x1b'), "colors are for terminals");
}

#[tokio::test]
async fn next_key_asks_for_the_new_pair() {
    let explained = explain_all(&next().delivery(URL, BODY, now()).token()).await;
    let text = explained.rule("signature").1;
    assert!(text.starts_with(r#"made with the key "next": the keys were rolled"#), "{text}");
    assert_eq!(explained.status, Some(0));
}

/// Each rule fails alone, with what to do about it.
#[tokio::test]
async fn each_broken_rule_fails_alone() {
    let cases: [(&str, String, &str); 9] = [
        (
            "signature",
            unknown_key().delivery(URL, BODY, now()).token(),
            "Compare both keys with the QStash console",
        ),
        ("header", token().header("alg", "HS512").token(), "QStash did not issue this token"),
        ("header", token().header("crit", "exp").token(), "QStash did not issue this token"),
        ("claims", token().claim("iat", "yesterday").token(), "QStash did not issue this token"),
        ("issuer", token().claim("iss", "Somebody").token(), "QStash did not issue this token"),
        (
            "destination",
            token().claim("sub", "https://api.example.com/hooks").token(),
            "Publish to the path as the service serves it",
        ),
        ("not before", token().claim("nbf", NOW + 1).token(), "This machine's clock is slow"),
        ("expiry", token().claim("exp", NOW).token(), "A token is valid for five minutes"),
        (
            "body",
            current().delivery(URL, "Hello", now()).token(),
            "Compare the raw body with the one published",
        ),
    ];
    for (broken, token, advice) in cases {
        let explained = explain_all(&token).await;
        for rule in RULES {
            let expected = if rule == broken { "failed" } else { "passed" };
            assert_eq!(explained.rule(rule).0, expected, "{rule}: {}", explained.text);
        }
        assert!(explained.advice().starts_with(advice), "{}", explained.advice());
        assert_eq!(explained.status, Some(1));
        let trust = if broken == "signature" { "UNVERIFIED" } else { "verified by" };
        assert!(explained.text.starts_with(&format!("Header and claims, {trust}")));
    }
}

#[tokio::test]
async fn malformed_tokens_fail_the_form_alone() {
    let long = "a.".repeat(5_000);
    for token in ["", "a.b", "a.b.c", &long, "Bearer"] {
        let explained = explain_all(token).await;
        assert_eq!(explained.rule("form").0, "failed", "{}", explained.text);
        assert_eq!(explained.text.matches("passed ").count(), 0, "{}", explained.text);
        assert_eq!(explained.status, Some(1));
        assert!(explained.advice().starts_with("Give the whole value"), "{}", explained.advice());
    }
}

#[tokio::test]
async fn claims_without_keys_are_unverified() {
    let at = NOW.to_string();
    let token = token().token();
    let explained = explain(&["--url", URL, "--body", BODY, "--at", &at, &token], b"").await;
    assert!(
        explained.text.starts_with("Header and claims, UNVERIFIED: anyone may have written them\n")
    );
    assert_eq!(explained.rule("signature").0, "not checked");
    assert_eq!(explained.text.matches("  passed ").count(), 8, "{}", explained.text);
    assert_eq!(explained.status, Some(1), "not checked is not passed");
    assert!(explained.advice().starts_with("Add --keys-from-env"), "{}", explained.advice());
}

#[tokio::test]
async fn missing_url_and_body_are_not_checked() {
    let at = NOW.to_string();
    let explained = explain(&["--keys-from-env", "--at", &at, &token().token()], b"").await;
    assert_eq!(explained.rule("destination"), ("not checked", "no URL was given"));
    assert_eq!(explained.rule("body"), ("not checked", "no body was given"));
    assert_eq!(explained.rule("signature").1, r#"made with the key "current""#);
    assert!(explained.advice().starts_with("Add --url "), "{}", explained.advice());
    assert_eq!(explained.status, Some(1));
}

/// The token has expired years ago.
#[tokio::test]
async fn time_defaults_to_now() {
    let explained = explain(&["--keys-from-env", &token().token()], b"").await;
    assert_eq!(explained.rule("expiry").0, "failed");
    let iat = format!("add --at {NOW}.");
    assert!(explained.advice().ends_with(&iat), "{}", explained.advice());
    assert!(explained.text.contains("years ago)"), "{}", explained.text);
}

#[tokio::test]
async fn times_are_unix_seconds_or_rfc_3339() {
    let token = token().token();
    for time in [
        "1700000000",
        "2023-11-14T22:13:20Z",
        "2023-11-14t22:13:20.999z",
        "2023-11-15 00:13:20+02:00",
        "2023-11-14T17:43:20-04:30",
    ] {
        let explained = explain(&["--keys-from-env", "--at", time, &token], b"").await;
        assert!(
            explained.text.contains("Rules, at 2023-11-14T22:13:20Z\n"),
            "{time}: {}{}",
            explained.text,
            explained.errors
        );
    }
    for (time, shown) in [
        ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
        ("0", "1970-01-01T00:00:00Z"),
        ("2000-03-01T00:00:00Z", "2000-03-01T00:00:00Z"),
        ("1999-12-31T23:59:60Z", "2000-01-01T00:00:00Z"),
    ] {
        let explained = explain(&["--at", time, &token], b"").await;
        assert!(
            explained.text.contains(&format!("Rules, at {shown}\n")),
            "{time}: {}",
            explained.text
        );
    }
    for time in [
        "",
        "now",
        "2023-11-14",
        "2023-11-14T22:13:20",
        "2023-13-14T22:13:20Z",
        "2023-11-14T25:13:20Z",
        "2023-11-14T22:13:20+2",
        "T:Z",
    ] {
        let explained = explain(&["--at", time, &token], b"").await;
        assert_eq!(explained.status, Some(2), "{time}");
        assert_eq!(explained.errors, format!("--at {time}: neither Unix seconds nor RFC 3339\n"));
    }
}

#[tokio::test]
async fn first_difference_of_the_urls_is_marked() {
    for (published, url, place, what, advice) in [
        ("https://a.example/b", "http://a.example/b", 4, "in the scheme", "If TLS ends at a proxy"),
        (
            "https://a.example/b",
            "https://a.example:8443/b",
            17,
            "in the domain or port",
            "Configure PublicUrl::base with the domain and port",
        ),
        (
            "https://a.example/api/b",
            "https://a.example/b",
            18,
            "in the start of the path",
            "A proxy, a mapping or a nest",
        ),
        ("https://a.example/b", "https://a.example/B", 18, "in the path", "Publish to the path"),
        (
            "https://a.example/b?c=1",
            "https://a.example/b?c=2",
            22,
            "in the query",
            "Publish with the query",
        ),
        (
            "https://u:secret@a.example/",
            "https://u:hidden@a.example/",
            22,
            "only in the user name",
            "Give the PublicUrl the same user name",
        ),
    ] {
        let token = current().delivery(published, BODY, now()).token();
        let at = NOW.to_string();
        let explained = explain(&["--keys-from-env", "--at", &at, "--url", url, &token], b"").await;
        let lines: Vec<&str> = explained.text.lines().collect();
        let marked = lines.iter().position(|line| line.contains("^ they differ")).expect("marked");
        let start = lines[marked - 1].find("http").expect("a URL");
        assert_eq!(lines[marked - 2].find("http"), Some(start), "one above the other");
        assert_eq!(lines[marked].find('^'), Some(start + place), "{}", explained.text);
        assert!(lines[marked].contains(what), "{}", explained.text);
        assert!(explained.advice().starts_with(advice), "{}", explained.advice());
        for secret in ["secret", "hidden"] {
            assert!(!explained.text.contains(secret), "{}", explained.text);
        }
    }
    // Equal, though not the same text.
    let token = current().delivery("https://API.example.com:443/hook/", BODY, now()).token();
    let explained = explain_all(&token).await;
    assert_eq!(explained.rule("destination"), ("passed", "sub is equivalent to the URL"));
}

#[tokio::test]
async fn changes_to_the_body_are_recognized() {
    let at = NOW.to_string();
    for (published, body, advice) in [
        ("Hello", "Hello\n", "The signed body has no line break"),
        ("Hello", "Hello\r\n", "The signed body has no line break"),
        (r#"{"image":7}"#, BODY, "The signed body is the same JSON in compact form"),
        ("", "{}", "The message was published without a body"),
        ("Hello", "Hallo", "Compare the raw body"),
    ] {
        let token = current().delivery(URL, published, now()).token();
        let explained = explain(&["--at", &at, "--body", body, &token], b"").await;
        assert_eq!(explained.rule("body").0, "failed", "{}", explained.text);
        assert!(explained.advice().starts_with(advice), "{}", explained.advice());
    }
}

#[tokio::test]
async fn development_servers_keys_are_recognized() {
    let signer = Signer::dangerous_development_server();
    let token = signer.delivery(URL, BODY, now()).token();
    let explained = explain_all(&token).await;
    assert_eq!(explained.rule("signature").0, "failed");
    assert!(explained.advice().starts_with("The local development server signed this token"));

    let at = NOW.to_string();
    let arguments = ["--dev-server", "--url", URL, "--body", BODY, "--at", &at];
    let explained = explain(&[&arguments[..], &[&token]].concat(), b"").await;
    assert_eq!(explained.status, Some(0), "{}", explained.text);
    let explained = explain(&[&arguments[..], &[&self::token().token()]].concat(), b"").await;
    assert!(explained.advice().starts_with("The local development server did not sign"));
}

/// A token alone, curl's own log, a raw request, an event of AWS Lambda.
#[tokio::test]
async fn token_is_found_in_piped_input() {
    let at = NOW.to_string();
    let token = token().token();
    let known = ["--keys-from-env", "--at", &at];
    let all = [&known[..], &["--url", URL, "--body", BODY]].concat();

    let explained = explain(&all, format!("  {token}\n").as_bytes()).await;
    assert_eq!(explained.status, Some(0), "{}{}", explained.text, explained.errors);

    let curl = format!(
        "* Connected to api.example.com port 443\n> POST /hook HTTP/1.1\r\n> Host: api.example.com\r\n\
         > Upstash-Signature: {token}\r\n> Content-Length: 12\r\n> \r\n< HTTP/1.1 400 Bad Request\r\n"
    );
    let explained = explain(&[&known[..], &["--body", BODY]].concat(), curl.as_bytes()).await;
    assert_eq!(explained.status, Some(0), "{}{}", explained.text, explained.errors);

    let raw = format!(
        "POST /hook HTTP/1.1\r\nhost: api.example.com\r\nX-Forwarded-Proto: https\r\n\
         upstash-signature: {token}\r\ncontent-length: 12\r\n\r\n{BODY}\n"
    );
    let explained = explain(&known, raw.as_bytes()).await;
    assert_eq!(explained.status, Some(0), "{}{}", explained.text, explained.errors);
    let behind_proxy = raw.replace("Proto: https", "Proto: http");
    let explained = explain(&known, behind_proxy.as_bytes()).await;
    assert_eq!(explained.rule("destination").0, "failed", "{}", explained.text);
    // The command line takes precedence.
    let explained = explain(&all, behind_proxy.as_bytes()).await;
    assert_eq!(explained.status, Some(0), "{}", explained.text);

    let event = format!(
        r#"{{"headers": {{"upstash-signature": "{token}"}}, "multiValueHeaders": {{"Upstash-Signature": ["{token}"]}}}}"#
    );
    let explained = explain(&all, event.as_bytes()).await;
    assert_eq!(explained.status, Some(0), "{}{}", explained.text, explained.errors);
}

#[tokio::test]
async fn input_without_one_signature_is_an_error() {
    let request = "POST / HTTP/1.1\nhost: a\n\n";
    let explained = explain(&[], request.as_bytes()).await;
    assert!(explained.errors.starts_with("standard input has no Upstash-Signature header"));
    assert_eq!(explained.status, Some(2));

    let mut twice = request.to_owned();
    for token in [token().token(), unknown_key().delivery(BASE, "", now()).token()] {
        writeln!(twice, "Upstash-Signature: {token}").expect("a string");
    }
    let explained = explain(&[], twice.as_bytes()).await;
    assert!(explained.errors.starts_with("standard input has several"), "{}", explained.errors);
}

#[tokio::test]
async fn tokens_cannot_drive_the_terminal() {
    let token = token().claim("evil", "\u{1b}[2J").claim("sub", "https://a.example/\u{7}").token();
    let explained = explain_all(&token).await;
    assert!(!explained.text.contains(['\u{1b}', '\u{7}']), "{:?}", explained.text);
}

#[tokio::test]
async fn unknown_arguments_are_errors() {
    for (arguments, error) in [
        (&["--help"][..], "usage: "),
        (&["a.b.c", "d.e.f"], "usage: "),
        (&["--url"], "--url needs a value"),
        (&["--body", "@/no/such/file", "a.b.c"], "--body @/no/such/file: "),
    ] {
        let explained = explain(arguments, b"").await;
        assert!(explained.errors.starts_with(error), "{}", explained.errors);
        assert_eq!((explained.status, &*explained.text), (Some(2), ""));
    }
    let date = NumericDate::from(now()).to_string();
    let file = format!("@{}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
    let manifest = include_str!("../../Cargo.toml");
    let token = current().delivery(URL, manifest, now()).token();
    let explained = explain(&["--at", &date, "--body", &file, &token], b"").await;
    assert_eq!(explained.rule("body").0, "passed", "{}", explained.text);
}

#[tokio::test]
async fn the_guide_shows_what_explain_prints() {
    let (token, at) = (current().delivery(URL, "Hello", now()).token(), (NOW + 10).to_string());
    let url = "http://api.example.com/hook";
    let arguments = ["--keys-from-env", "--url", url, "--body", "Hello", "--at", &at, &token];
    let explained = explain(&arguments, b"").await;
    let guide = include_str!("../../docs/troubleshooting.md");
    assert!(guide.contains(&explained.text), "{}", explained.text);
}
