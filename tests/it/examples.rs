//! Runs the examples as a user would, and checks what they print.

use std::process::{Output, Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};
use tower_qstash::{CallbackBuilder, Signer, SigningKeys, Verifier};

use crate::{
    process::example,
    service::{Service, real_now},
    support::{CURRENT_KEY, NEXT_KEY, current, futures::with_timeout},
};

const KEYS: [(&str, &str); 2] =
    [("QSTASH_CURRENT_SIGNING_KEY", CURRENT_KEY), ("QSTASH_NEXT_SIGNING_KEY", NEXT_KEY)];

fn command(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(example(name));
    for variable in ["PUBLIC_URL", "BIND", "QSTASH_REGION", "QSTASH_DEV", KEYS[0].0, KEYS[1].0] {
        command.env_remove(variable);
    }
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    with_timeout(command(name, arguments, variables).output()).await.expect("the example starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The running axum example, on a free port. Dropping it stops the process.
struct Receiver {
    process: Child,
    address: String,
}

impl Receiver {
    async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let variables = [&[("BIND", "127.0.0.1:0")], variables].concat();
        let mut process =
            command("axum", arguments, &variables).spawn().expect("the example starts");
        let mut line = String::new();
        let mut printed = BufReader::new(process.stdout.as_mut().expect("piped"));
        with_timeout(printed.read_line(&mut line)).await.expect("a line");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split(',').next());
        let address = address.expect("the address it listens on").to_owned();
        Self { process, address }
    }

    /// Stops the process and returns its log.
    async fn stop(mut self) -> String {
        with_timeout(self.process.kill()).await.expect("still running");
        let mut log = String::new();
        let mut stderr = self.process.stderr.take().expect("piped");
        with_timeout(stderr.read_to_string(&mut log)).await.expect("text");
        log
    }

    /// Posts `Hello`, signed for `url`, to `path`, and returns the status and body of the response.
    async fn deliver(&self, path: &str, url: &str, signer: &Signer) -> (u16, String) {
        self.post(path, &signer.delivery(url, b"Hello", real_now()).token()).await
    }

    /// Posts `Hello` with this token.
    async fn post(&self, path: &str, token: &str) -> (u16, String) {
        use http_body_util::{BodyExt, Full};
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        let request = http::Request::post(format!("http://{}{path}", self.address))
            .header("upstash-signature", token)
            .body(Full::<bytes::Bytes>::from("Hello"))
            .expect("a valid request");
        let response =
            with_timeout(client.build_http().request(request)).await.expect("a response");
        let status = response.status().as_u16();
        let body = with_timeout(response.into_body().collect()).await.expect("a whole body");
        (status, text(&body.to_bytes()))
    }
}

#[tokio::test]
async fn quickstart_prints_every_delivery_with_its_status() {
    let output = run("quickstart", &[], &[]).await;
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}{}", text(&output.stderr));
    let lines = [
        ("signed with the current key", "200"),
        ("the same delivery again", "200"),
        ("signed with the next key", "200"),
        ("an empty body", "200"),
        ("a binary body", "200"),
        ("a tampered body", "400"),
        ("the URL of another endpoint", "400"),
        ("expired", "400"),
        ("not yet valid", "400"),
        ("signed with an unknown key", "400"),
        ("alg: none, not signed", "400"),
        ("alg: none, signed with the key", "400"),
        ("no signature", "400"),
        ("two signatures", "400"),
        ("a body over the limit", "413"),
    ];
    let marked = |line: &&str| line.starts_with("ok ") || line.starts_with("BAD ");
    let table: Vec<_> = table.lines().filter(marked).collect();
    assert_eq!(table.len(), lines.len(), "{table:#?}");
    for (line, (what, status)) in table.iter().zip(lines) {
        assert!(line.starts_with(&format!("ok   {what:32} {status:>6} ")), "{line}");
    }
}

#[tokio::test]
async fn axum_example_verifies_both_routes() {
    let receiver =
        Receiver::start(&[], &[KEYS[0], KEYS[1], ("PUBLIC_URL", "https://api.example.com")]).await;
    for path in ["/webhook", "/api/qstash/webhook"] {
        let url = format!("https://api.example.com{path}");
        let response = receiver.deliver(path, &url, &current()).await;
        assert_eq!(response, (200, r#"{"message":"ok"}"#.to_owned()));
        let unknown_key = Signer::new("sig_unknown").unwrap();
        let (status, body) = receiver.deliver(path, &url, &unknown_key).await;
        assert!(status == 400 && body.starts_with(r#"{"error":"#), "{body}");
        let (status, _) = receiver.deliver(path, "https://api.example.com/other", &current()).await;
        assert_eq!(status, 400);
    }
    let log = receiver.stop().await;
    assert!(log.contains("jti=\"jwt_"), "{log}");
    assert!(log.contains("expected_url=\"https://api.example.com/api/qstash/webhook\""), "{log}");
}

#[tokio::test]
async fn axum_example_accepts_development_keys_only_with_its_flag() {
    let development = Signer::dangerous_development_server();
    let url = "http://localhost:3000/webhook";
    let receiver = Receiver::start(&["--dev-server"], &[]).await;
    assert_eq!(receiver.deliver("/webhook", url, &development).await.0, 200);
    assert_eq!(receiver.deliver("/webhook", url, &current()).await.0, 400);
    assert!(receiver.stop().await.contains("WARNING"));

    let receiver = Receiver::start(&[], &KEYS).await;
    assert_eq!(receiver.deliver("/webhook", url, &development).await.0, 400);
    assert_eq!(receiver.deliver("/webhook", url, &current()).await.0, 200);
}

#[tokio::test]
async fn axum_example_with_a_replay_guard_handles_a_token_once() {
    let url = "http://localhost:3000/webhook";
    let token = current().delivery(url, b"Hello", real_now()).token();
    for (arguments, again, calls) in [
        (&["--replay", "memory"][..], r#"{"message":"already processed"}"#, 1),
        (&[], r#"{"message":"ok"}"#, 2),
    ] {
        let receiver = Receiver::start(arguments, &KEYS).await;
        let response = receiver.post("/webhook", &token).await;
        assert_eq!(response, (200, r#"{"message":"ok"}"#.to_owned()));
        assert_eq!(receiver.post("/webhook", &token).await, (200, again.to_owned()));
        let log = receiver.stop().await;
        assert_eq!(log.matches("running the job").count(), calls, "{log}");
        assert_eq!(
            log.contains("code=\"already_processed\" known_by=\"token\""),
            calls == 1,
            "{log}"
        );
    }
}

#[tokio::test]
async fn axum_example_without_its_redis_leaves_deliveries_to_a_retry() {
    // Nothing listens there.
    let receiver = Receiver::start(&["--replay", "redis://127.0.0.1:9"], &KEYS).await;
    let (status, body) =
        receiver.deliver("/webhook", "http://localhost:3000/webhook", &current()).await;
    assert!(status == 503 && body.contains(r#""code":"store_unavailable""#), "{status} {body}");
    assert!(!receiver.stop().await.contains("running the job"));
}

#[tokio::test]
async fn axum_example_stops_with_advice_on_invalid_settings() {
    let published = [("QSTASH_CURRENT_SIGNING_KEY", "sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r"), KEYS[1]];
    let cases: [(&[&str], &[(&str, &str)], &str); 9] = [
        (
            &[],
            &[KEYS[0], KEYS[1], ("QSTASH_DEV", "true")],
            "the environment variable QSTASH_DEV asks for the local development server's",
        ),
        (&[], &[], "the environment variable QSTASH_CURRENT_SIGNING_KEY is not set"),
        (
            &[],
            &published,
            "the signing key QSTASH_CURRENT_SIGNING_KEY is one of the local development server's",
        ),
        (
            &[],
            &[KEYS[0], KEYS[1], ("PUBLIC_URL", "localhost")],
            "PUBLIC_URL: the URL given to PublicUrl::base",
        ),
        (
            &[],
            &[KEYS[0], KEYS[1], ("PUBLIC_URL", "")],
            "PUBLIC_URL: the URL given to PublicUrl::base",
        ),
        (&[], &[KEYS[0], KEYS[1], ("BIND", "nowhere")], "BIND=nowhere: "),
        (&["--help"], &[], "usage: "),
        (&["--replay"], &KEYS, "usage: "),
        (&["--replay", "http://localhost"], &KEYS, "the Redis URL"),
    ];
    for (arguments, variables, start) in cases {
        let output = run("axum", arguments, variables).await;
        let stderr = text(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.starts_with(start) && stderr.lines().count() == 1, "{stderr}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn axum_example_refuses_settings_that_are_not_text() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    for variable in ["PUBLIC_URL", "BIND"] {
        let mut command = command("axum", &[], &[KEYS[0], KEYS[1], ("BIND", "127.0.0.1:0")]);
        command.env(variable, OsStr::from_bytes(b"\xFF"));
        let output = with_timeout(command.output()).await.expect("the example starts");
        let stderr = text(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.starts_with(variable) && stderr.lines().count() == 1, "{stderr}");
    }
}

/// The README's pair of commands, with keys and with `--dev-server`.
#[tokio::test]
async fn send_delivers_to_the_axum_example() {
    for (arguments, keys) in [(&[][..], &KEYS[..]), (&["--dev-server"], &[])] {
        // The receiver needs its public URL, and with it the port, before it starts.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let bind = free.expect("a free port").to_string();
        let origin = format!("http://{bind}");
        let receiver = Receiver::start(
            arguments,
            &[keys, &[("BIND", &bind), ("PUBLIC_URL", &origin)]].concat(),
        )
        .await;
        let url = format!("{origin}/webhook");
        let file = format!("@{}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        for body in [&[][..], &["Hello"], &[&file]] {
            let output = run("send", &[arguments, &[&url], body].concat(), keys).await;
            assert_eq!(
                text(&output.stdout),
                "200 OK\n{\"message\":\"ok\"}\n",
                "{}",
                text(&output.stderr)
            );
        }
        let forged = run("send", &[&url], &[("QSTASH_CURRENT_SIGNING_KEY", "sig_unknown")]).await;
        assert!(
            text(&forged.stdout)
                .starts_with("400 Bad Request\n{\"error\":\"no configured signing key")
        );
        drop(receiver);
    }
}

/// A local receiver is usually configured with its production URL.
#[tokio::test]
async fn send_signs_for_another_url_than_it_posts_to() {
    let published = "https://api.example.com/webhook";
    let receiver =
        Receiver::start(&[], &[KEYS[0], KEYS[1], ("PUBLIC_URL", "https://api.example.com")]).await;
    let url = format!("http://{}/webhook", receiver.address);

    let cases: [(&[&str], &str); 4] = [
        (&["--as", published, &url, "Hello"], "200 OK\n{\"message\":\"ok\"}\n"),
        (&[&url, "Hello", "--as", published], "200 OK\n{\"message\":\"ok\"}\n"),
        (&["--as", "https://api.example.com/other", &url, "Hello"], "400 Bad Request\n"),
        (&[&url, "Hello"], "400 Bad Request\n"),
    ];
    for (arguments, start) in cases {
        let output = run("send", arguments, &KEYS).await;
        let printed = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(printed.starts_with(start), "{arguments:?}: {printed}");
    }
    let log = receiver.stop().await;
    assert!(log.contains(&format!("sub=\"{url}\" expected_url=\"{published}\"")), "{log}");
}

#[tokio::test]
async fn send_prints_the_token_instead_of_delivering_it() {
    let url = "https://api.example.com/webhook";
    // Nothing listens there.
    let arguments = ["--token", "--as", url, "http://127.0.0.1:9/", "-Hello"];
    let output = run("send", &arguments, &KEYS).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let token = printed.strip_suffix('\n').expect("a line");
    let keys = SigningKeys::new(CURRENT_KEY, NEXT_KEY).expect("valid keys");
    Verifier::new(keys).verify(token, url, b"-Hello", real_now()).expect("a valid token");
}

#[tokio::test]
async fn send_prints_its_help_without_keys() {
    for arguments in [&["--help"][..], &["-h"], &["--as", "https://a.example", "--help"]] {
        let output = run("send", arguments, &[]).await;
        let help = text(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        assert!(help.starts_with("usage: "), "{help}");
        for option in ["--as", "--dev-server", "--token", "--help"] {
            assert!(help.contains(option), "{option} in {help}");
        }
    }
}

#[tokio::test]
async fn send_stops_with_advice_on_invalid_arguments() {
    let cases: [(&[&str], &[(&str, &str)], &str); 8] = [
        (&[], &KEYS, "usage: "),
        (&["http://127.0.0.1:9/", "a", "b"], &KEYS, "usage: "),
        (&["--dev", "http://127.0.0.1:9/"], &KEYS, "unknown option --dev; usage: "),
        (&["http://127.0.0.1:9/", "--as"], &KEYS, "--as needs the URL to sign for"),
        (&["http://a b/"], &KEYS, "http://a b/: "),
        (&["http://127.0.0.1:9/"], &[], "set QSTASH_CURRENT_SIGNING_KEY"),
        (&["http://127.0.0.1:9/", "@/no/such/file"], &KEYS, "/no/such/file: "),
        (&["http://127.0.0.1:9/", "Hello"], &KEYS, "http://127.0.0.1:9/ does not respond: "),
    ];
    for (arguments, variables, start) in cases {
        let output = run("send", arguments, variables).await;
        let stderr = text(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.starts_with(start) && stderr.lines().count() == 1, "{stderr}");
    }
}

/// A job that succeeds, one that can never succeed, and what both callbacks log.
#[tokio::test]
async fn callbacks_report_what_became_of_a_job() {
    let receiver = Service::start("callbacks", &KEYS).await;
    let (status, result) = receiver.deliver("/job", "resize 7", &current()).await;
    assert_eq!((status, &*result), (200, "image 7 is resized"));
    let (refusal, reason) = receiver.deliver("/job", "rotate 7", &current()).await;
    assert_eq!((refusal, &*reason), (489, r#"{"error":"expected: resize NUMBER"}"#));

    let done = CallbackBuilder::new(status).body(result).source_message_id("msg_done");
    let retried = CallbackBuilder::new(503).retried(1).source_message_id("msg_retried");
    for callback in [done.build(), retried.build()] {
        assert_eq!(receiver.deliver("/callback", callback.to_vec(), &current()).await.0, 200);
    }
    let failure = CallbackBuilder::new(refusal).body(reason).source_body("rotate 7");
    let failure = failure.source_message_id("msg_failed").build_failure("dlq-7");
    assert_eq!(receiver.deliver("/failure", failure.to_vec(), &current()).await.0, 200);
    for (message, parts) in [
        ("done", ["msg_done", "image 7 is resized"]),
        ("will be retried", ["msg_retried", "503"]),
        ("gave up", ["msg_failed", "dlq-7"]),
    ] {
        receiver.logged(message, 1).await;
        let log = receiver.log();
        let line = log.lines().find(|line| line.contains(message)).expect("logged");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }

    // An unverified callback is not read, and a body that is no callback is not retried.
    let unknown = Signer::new("sig_unknown").unwrap();
    for path in ["/job", "/callback", "/failure"] {
        assert_eq!(receiver.deliver(path, failure.to_vec(), &unknown).await.0, 400, "{path}");
    }
    for path in ["/callback", "/failure"] {
        assert_eq!(receiver.deliver(path, "resize 7", &current()).await.0, 489, "{path}");
    }
}
