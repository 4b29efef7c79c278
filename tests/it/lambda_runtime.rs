//! Runs the built Lambda examples against a loopback server that implements the Lambda Runtime API:
//! it hands out events and receives the responses.

use std::{
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    response::IntoResponse,
    routing::{get, post},
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
};

use crate::{
    lambda_events::Call,
    process::example,
    support::{CURRENT_KEY, NEXT_KEY, current, next, unknown_key},
};

/// Long enough that only a process that hangs exceeds it.
const TIMEOUT: Duration = Duration::from_secs(60);

type Responder = oneshot::Sender<Result<Value, Value>>;

/// The Runtime API: the events to hand out, and where to send the response to the current one.
struct Api {
    events: AsyncMutex<mpsc::UnboundedReceiver<(Value, Responder)>>,
    responder: Mutex<Option<Responder>>,
    invocations: AtomicUsize,
}

/// A running function.
struct Function {
    events: mpsc::UnboundedSender<(Value, Responder)>,
    log: Arc<Mutex<String>>,
    process: Child,
}

impl Function {
    async fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_example("lambda", variables).await
    }

    async fn start_example(name: &str, variables: &[(&str, &str)]) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let api = Arc::new(Api {
            events: AsyncMutex::new(receiver),
            responder: Mutex::default(),
            invocations: AtomicUsize::new(0),
        });
        let prefix = "/2018-06-01/runtime";
        let routes = Router::new()
            .route(&format!("{prefix}/invocation/next"), get(next_invocation))
            .route(&format!("{prefix}/invocation/{{id}}/response"), post(response))
            .route(&format!("{prefix}/invocation/{{id}}/error"), post(error))
            .with_state(api);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, routes).await });

        let mut process = function(name, variables)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .spawn()
            .expect("the example starts");
        let log = Arc::default();
        collect(process.stderr.take().expect("piped"), Arc::clone(&log));
        collect(process.stdout.take().expect("piped"), Arc::clone(&log));
        Self { events, log, process }
    }

    /// Returns the function's response to an event.
    async fn call(&mut self, event: Value) -> Value {
        let (responder, response) = oneshot::channel();
        self.events.send((event, responder)).expect("the API is running");
        let response = tokio::time::timeout(TIMEOUT, response).await.expect("a response in time");
        let response = response.expect("a response").expect("no invocation error");
        let exited = self.process.try_wait().expect("a process");
        assert_eq!(exited, None, "the function exited");
        response
    }

    /// Waits until the log, which arrives through a pipe, contains `text`.
    async fn logged(&self, text: &str) {
        self.logged_times(1, text).await;
    }

    async fn logged_times(&self, times: usize, text: &str) {
        let found = async {
            while self.log.lock().expect("no test panicked").matches(text).count() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(TIMEOUT, found).await;
        assert!(in_time.is_ok(), "no {text:?} in {}", self.log.lock().expect("no test panicked"));
    }
}

fn function(name: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(example(name));
    command
        .env_remove("STREAM_RESPONSES")
        .env_remove("PUBLIC_URL")
        .env_remove("QSTASH_REGION")
        .env_remove("QSTASH_DEV")
        .env_remove("QSTASH_CURRENT_SIGNING_KEY")
        .env_remove("QSTASH_NEXT_SIGNING_KEY")
        .env("AWS_LAMBDA_FUNCTION_NAME", "hook")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn collect(pipe: impl AsyncRead + Send + Unpin + 'static, log: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = log.lock().expect("no test panicked");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

async fn next_invocation(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let next = api.events.lock().await.recv().await;
    // Without another event, the Runtime API leaves the request pending.
    let Some((event, responder)) = next else { return std::future::pending().await };
    *api.responder.lock().expect("no test panicked") = Some(responder);
    let id = api.invocations.fetch_add(1, Ordering::Relaxed);
    let headers = [
        ("lambda-runtime-aws-request-id", format!("invocation-{id}")),
        ("lambda-runtime-deadline-ms", "32503680000000".to_owned()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:123456789012:function:hook".to_owned(),
        ),
    ];
    (headers, event.to_string())
}

async fn response(state: State<Arc<Api>>, id: Path<String>, body: Bytes) -> StatusCode {
    settle(state, id, Ok, &body)
}

async fn error(state: State<Arc<Api>>, id: Path<String>, body: Bytes) -> StatusCode {
    settle(state, id, Err, &body)
}

fn settle(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    outcome: fn(Value) -> Result<Value, Value>,
    body: &[u8],
) -> StatusCode {
    let running = api.invocations.load(Ordering::Relaxed) - 1;
    assert_eq!(id, format!("invocation-{running}"));
    let responder = api.responder.lock().expect("no test panicked").take();
    let responder = responder.expect("one response for each event");
    responder.send(outcome(parse(body))).expect("the test awaits the response");
    StatusCode::ACCEPTED
}

/// Parses a response, buffered or streamed. A streamed one begins with a JSON prelude, and eight
/// zero bytes separate it from the body.
fn parse(response: &[u8]) -> Value {
    let Some(end) = response.windows(8).position(|window| window == [0; 8]) else {
        return serde_json::from_slice(response).expect("JSON");
    };
    let mut prelude: Value = serde_json::from_slice(&response[..end]).expect("JSON");
    prelude["streamed"] = str::from_utf8(&response[end + 8..]).expect("text").into();
    prelude
}

const KEYS: [(&str, &str); 2] =
    [("QSTASH_CURRENT_SIGNING_KEY", CURRENT_KEY), ("QSTASH_NEXT_SIGNING_KEY", NEXT_KEY)];

/// Returns a token issued now, since the function uses the system's clock.
fn sign(url: &str, body: &[u8]) -> String {
    current().delivery(url, body, real_now()).token()
}

fn real_now() -> SystemTime {
    SystemTime::now()
}

fn accepted(response: &Value) {
    assert_eq!(response["statusCode"], 200, "{response}");
    assert_eq!(response["isBase64Encoded"], false, "{response}");
    assert_eq!(response["body"], r#"{"message":"ok"}"#, "{response}");
}

fn rejected(response: &Value, status: u16, reason: &str) {
    assert_eq!(response["statusCode"], status, "{response}");
    assert_eq!(response["isBase64Encoded"], false, "{response}");
    let body: Value =
        serde_json::from_str(response["body"].as_str().expect("a text body")).expect("JSON");
    assert!(body["error"].as_str().expect("an error").contains(reason), "{response}");
}

const API: &str = "abcdef1234.execute-api.us-east-1.amazonaws.com";
const FUNCTION: &str = "k7x2.lambda-url.eu-west-1.on.aws";

#[tokio::test]
async fn every_kind_of_event_and_body_is_accepted() {
    let mut function = Function::start(&KEYS).await;
    let binary: &[u8] = &[0, 0xFF, 0xFE, b'\n', 0x80];
    let bodies: [(Option<&[u8]>, bool, &str); 5] = [
        (Some(b"{\"order\": 7}"), false, "kind=\"text\" bytes=12"),
        (Some("grüße".as_bytes()), false, "kind=\"text\" bytes=7"),
        (Some(binary), true, "kind=\"binary\" bytes=5"),
        (Some(b"text, encoded all the same"), true, "kind=\"binary\" bytes=26"),
        (None, false, "kind=\"empty\" bytes=0"),
    ];
    for (body, base64, seen) in bodies {
        for domain in [API, "hooks.example.com"] {
            let token = sign(&format!("https://{domain}/hook"), body.unwrap_or_default());
            let call = Call { signature: Some(&token), body, base64, ..Call::to(domain) };
            for event in [call.http_api(), call.rest_api()] {
                accepted(&function.call(event).await);
            }
        }
        let token = sign(&format!("https://{FUNCTION}/hook"), body.unwrap_or_default());
        let call = Call { signature: Some(&token), body, base64, ..Call::to(FUNCTION) };
        accepted(&function.call(call.function_url()).await);
        function.logged_times(5, seen).await;
    }
    function.logged_times(25, "jti=\"jwt_").await;
}

/// The layer on a nested route, with buffered and streamed responses. The other route stays open.
#[tokio::test]
async fn an_axum_router_verifies_its_route_on_lambda() {
    let url = format!("https://{FUNCTION}/api/qstash/webhook");
    let (valid, elsewhere) =
        (sign(&url, b"Hello"), sign(&format!("https://{FUNCTION}/webhook"), b"Hello"));
    let call = |signature| Call { path: "/api/qstash/webhook", signature, ..Call::to(FUNCTION) };
    for streams in [false, true] {
        let variables = if streams { &[("STREAM_RESPONSES", "1")][..] } else { &[] };
        let mut function =
            Function::start_example("lambda_axum", &[&KEYS[..], variables].concat()).await;
        let field = if streams { "streamed" } else { "body" };
        for (signature, status, expected) in [
            (Some(valid.as_str()), 200, r#"{"message":"ok"}"#),
            (Some(&elsewhere), 400, "published to another URL"),
            (None, 400, "header is missing"),
            (Some(&valid), 200, r#"{"message":"ok"}"#),
        ] {
            let response = function.call(call(signature).function_url()).await;
            assert_eq!(response["statusCode"], status, "{response}");
            assert!(response[field].as_str().expect("a text").contains(expected), "{response}");
        }
        function.logged_times(2, "bytes=5").await;
        let mut open = Call { path: "/health", ..Call::to(FUNCTION) }.function_url();
        open["requestContext"]["http"]["method"] = "GET".into();
        assert_eq!(function.call(open).await[field], "up");
    }
}

#[tokio::test]
async fn a_rejection_does_not_affect_the_next_event() {
    let mut function = Function::start(&KEYS).await;
    let url = format!("https://{API}/hook");
    let valid = sign(&url, b"Hello");
    let forged = unknown_key().delivery(&url, b"Hello", real_now()).token();
    let expired = current().delivery(&url, b"Hello", real_now()).claim("exp", 1).token();
    let elsewhere = sign("https://elsewhere.example/hook", b"Hello");
    let with_next = next().delivery(&url, b"Hello", real_now()).token();
    let call = |signature| Call { signature, ..Call::to(API) };
    let tampered = |base64| Call { body: Some(b"Hallo"), base64, ..call(Some(&valid)) };
    let cases = [
        (call(None), "header is missing"),
        (call(Some(&forged)), "no configured signing key"),
        (call(Some(&expired)), "expired at 1 "),
        (call(Some(&elsewhere)), "published to another URL"),
        (call(Some("")), "header is empty"),
        (tampered(false), "body is not the one that was signed"),
        (tampered(true), "body is not the one that was signed"),
    ];
    for (call, reason) in cases {
        for event in [call.http_api(), call.rest_api()] {
            rejected(&function.call(event).await, 400, reason);
        }
        accepted(
            &function.call(Call { signature: Some(&valid), ..Call::to(API) }.http_api()).await,
        );
    }
    accepted(&function.call(call(Some(&with_next)).rest_api()).await);
    function
        .logged("expected_url=\"https://abcdef1234.execute-api.us-east-1.amazonaws.com/hook\"")
        .await;
    function.logged("sub=\"https://elsewhere.example/hook\"").await;
    function.logged("keys were rolled").await;
    let log = function.log.lock().unwrap().clone();
    for secret in [CURRENT_KEY, NEXT_KEY, &valid, "Hello", "Hallo"] {
        assert!(!log.contains(secret), "the log has {secret}");
    }
}

/// `lambda_http` adds the stage to the URI whether or not the caller sent it.
#[tokio::test]
async fn stages_are_compared_as_the_caller_sent_them() {
    let mut function = Function::start(&KEYS).await;
    let call =
        |domain, stage, path, context_path| Call { stage, path, context_path, ..Call::to(domain) };
    let cases = [
        // HTTP API: `rawPath` has a named stage, except behind a custom domain.
        (
            "https://abcdef1234.execute-api.us-east-1.amazonaws.com/prod/hook",
            call(API, "prod", "/prod/hook", "").http_api(),
        ),
        (
            "https://hooks.example.com/hook",
            call("hooks.example.com", "prod", "/hook", "").http_api(),
        ),
        (
            "https://hooks.example.com/product/hook",
            call("hooks.example.com", "prod", "/product/hook", "").http_api(),
        ),
        // REST API: the context's path has the stage, or behind a custom domain the base path.
        (
            "https://abcdef1234.execute-api.us-east-1.amazonaws.com/prod/hook",
            call(API, "prod", "/hook", "/prod/hook").rest_api(),
        ),
        (
            "https://hooks.example.com/hook",
            call("hooks.example.com", "prod", "/hook", "/hook").rest_api(),
        ),
        (
            "https://hooks.example.com/v1/hook",
            call("hooks.example.com", "prod", "/v1/hook", "/v1/hook").rest_api(),
        ),
    ];
    for (url, event) in cases {
        let signed = |url: &str| {
            let mut event = event.clone();
            let token = sign(url, b"Hello");
            event["headers"]["Upstash-Signature"] = json!(token);
            if event["multiValueHeaders"].is_object() {
                event["multiValueHeaders"]["Upstash-Signature"] = json!([token]);
            }
            event
        };
        accepted(&function.call(signed(url)).await);
        accepted(&function.call(signed(&format!("{url}/"))).await);
        for other in [
            url.replace("/hook", ""),
            url.replace("/hook", "/other"),
            url.replace("https://", "https://x."),
        ] {
            rejected(&function.call(signed(&other)).await, 400, "published to another URL");
        }
    }
}

#[tokio::test]
async fn decoded_and_reordered_queries_and_paths_are_accepted() {
    let mut function = Function::start(&KEYS).await;
    let decoded: &[(&str, &str)] =
        &[("b", "1"), ("a", "x y"), ("c", "50%&more"), ("b", "2"), ("d", ""), ("é", "ü")];
    let url = format!("https://{API}/hook?b=1&a=x%20y&c=50%25%26more&b=2&d=&%C3%A9=%C3%BC");
    let token = sign(&url, b"Hello");
    let call = Call { query: decoded, signature: Some(&token), ..Call::to(API) };
    accepted(&function.call(call.rest_api()).await);
    let swapped: &[(&str, &str)] =
        &[("b", "2"), ("a", "x y"), ("c", "50%&more"), ("b", "1"), ("d", ""), ("é", "ü")];
    let swapped = Call { query: swapped, ..call };
    rejected(&function.call(swapped.rest_api()).await, 400, "published to another URL");

    let as_sent: &[(&str, &str)] = &[("b", "1"), ("a", "x%20y"), ("b", "2")];
    let token = sign(&format!("https://{API}/hook?b=1&a=x%20y&b=2"), b"Hello");
    let call = Call { query: as_sent, signature: Some(&token), ..Call::to(API) };
    accepted(&function.call(call.http_api()).await);

    // An HTTP API decodes `rawPath`, and can be set to send a REST API's events.
    for (sent, path) in [
        ("/a%20hook", "/a hook"),
        ("/user/joe%40example.com", "/user/joe@example.com"),
        ("/100%2525", "/100%25"),
    ] {
        let token = sign(&format!("https://{API}{sent}"), b"Hello");
        let call = Call { path, context_path: path, signature: Some(&token), ..Call::to(API) };
        accepted(&function.call(call.http_api()).await);
        accepted(&function.call(call.rest_api()).await);
        let as_sent = Call { path: sent, context_path: sent, ..call };
        accepted(&function.call(as_sent.rest_api()).await);
    }
    // A function URL doesn't decode the path, so a decoded one is a different path.
    let token = sign(&format!("https://{FUNCTION}/user/joe%40example.com"), b"Hello");
    let call =
        Call { path: "/user/joe@example.com", signature: Some(&token), ..Call::to(FUNCTION) };
    rejected(&function.call(call.function_url()).await, 400, "published to another URL");
    accepted(&function.call(Call { path: "/user/joe%40example.com", ..call }.function_url()).await);
    // With a decoded `?` or `#`, path and query can't be told apart, and an unsigned query would be
    // accepted.
    for (sent, path) in [("/a%23b", "/a#b"), ("/a%3Fb", "/a?b")] {
        let token = sign(&format!("https://{API}{sent}"), b"Hello");
        let query = &[("admin", "1")];
        let call = Call { path, query, signature: Some(&token), ..Call::to(API) };
        rejected(&function.call(call.http_api()).await, 500, "cannot tell its own public URL");
    }
}

#[tokio::test]
async fn an_alb_needs_a_base() {
    let url = "https://hooks.example.com/hook?b=x%20y%26z&a=1&c=2";
    let token = sign(url, b"Hello");
    let query: &[(&str, &str)] = &[("a", "1"), ("b", "x%20y%26z"), ("c", "2")];
    let call = Call { query, signature: Some(&token), ..Call::to("hooks.example.com") };

    let mut function = Function::start(&KEYS).await;
    rejected(&function.call(call.alb()).await, 500, "cannot tell its own public URL");
    function.logged("configure PublicUrl::base or PublicUrl::exact").await;

    let with_url = [&KEYS[..], &[("PUBLIC_URL", "https://hooks.example.com")]].concat();
    let mut function = Function::start(&with_url).await;
    let both_modes = |call: &Call<'_>| [call.alb(), call.alb_multi_value()];
    for event in both_modes(&call) {
        accepted(&function.call(event).await);
    }
    function.logged_times(2, "kind=\"text\" bytes=5").await;
    // The values of a repeated name must keep their order.
    let repeated = sign("https://hooks.example.com/hook?a=1&b=2&a=3", b"Hello");
    for (query, expected) in [
        ([("a", "1"), ("a", "3"), ("b", "2")], true),
        ([("a", "3"), ("a", "1"), ("b", "2")], false),
    ] {
        let call = Call { query: &query, signature: Some(&repeated), ..call };
        let response = function.call(call.alb_multi_value()).await;
        assert_eq!(response["statusCode"] == 200, expected, "{response}");
        // Without multi-value headers the ALB keeps only the last value.
        rejected(&function.call(call.alb()).await, 400, "published to another URL");
    }
    let binary_token = sign("https://hooks.example.com/hook", &[0xFF, 0]);
    let binary = Call {
        signature: Some(&binary_token),
        body: Some(&[0xFF, 0]),
        base64: true,
        ..Call::to("10.0.0.7")
    };
    for event in both_modes(&binary) {
        accepted(&function.call(event).await);
    }
    function.logged_times(2, "kind=\"binary\" bytes=2").await;
    let forged = Call { signature: Some("a.b.c"), ..call };
    for event in both_modes(&forged) {
        rejected(&function.call(event).await, 400, "signature segment");
    }
}

/// An HTTP API leaves the key of an API mapping out of `rawPath`, so it must be in `PUBLIC_URL`.
#[tokio::test]
async fn an_api_mapping_key_belongs_in_the_public_url() {
    let token = sign("https://hooks.example.com/v1/hook", b"Hello");
    let call = Call { stage: "prod", signature: Some(&token), ..Call::to("hooks.example.com") };
    let mut function = Function::start(&KEYS).await;
    rejected(&function.call(call.http_api()).await, 400, "published to another URL");
    let with_url = [&KEYS[..], &[("PUBLIC_URL", "https://hooks.example.com/v1")]].concat();
    let mut function = Function::start(&with_url).await;
    accepted(&function.call(call.http_api()).await);
}

#[tokio::test]
async fn missing_settings_stop_the_function_with_advice() {
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[], "the environment variable QSTASH_CURRENT_SIGNING_KEY is not set"),
        (&KEYS[..1], "the environment variable QSTASH_NEXT_SIGNING_KEY is not set"),
        (
            &[KEYS[0], ("QSTASH_NEXT_SIGNING_KEY", "")],
            "the signing key QSTASH_NEXT_SIGNING_KEY is empty",
        ),
        (
            &[KEYS[0], KEYS[1], ("PUBLIC_URL", "hooks.example.com")],
            "PUBLIC_URL: the URL given to PublicUrl::base",
        ),
    ];
    for (variables, start) in cases {
        let run =
            function("lambda", variables).env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9").output();
        let output =
            tokio::time::timeout(TIMEOUT, run).await.expect("it exits").expect("it starts");
        assert!(!output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(start) && stderr.lines().count() == 1, "{stderr}");
    }
}
