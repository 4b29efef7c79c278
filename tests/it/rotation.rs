//! Receivers whose keys are replaced while they run, from files and from QStash's API.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tower_qstash::Signer;

use crate::{service::Service, support::futures::with_timeout};

const TOKEN: &str = "secret-token-of-the-api";
const REPLACED: &str = "the signing keys were replaced";

/// The keys of an account, oldest first. A roll moves on by one.
const KEYS: [&str; 5] = ["sig_key_a", "sig_key_b", "sig_key_c", "sig_key_d", "sig_key_e"];

fn signer(key: usize) -> Signer {
    Signer::new(KEYS[key]).expect("a valid key")
}

async fn status(service: &Service, key: usize) -> u16 {
    service.deliver("/webhook", "job", &signer(key)).await.0
}

/// Delivers without a pause, signed with the account's current key, until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    /// One count for each task.
    delivered: Arc<[AtomicUsize; 4]>,
    tasks: Vec<tokio::task::JoinHandle<Vec<u16>>>,
}

impl Load {
    fn start(service: &Arc<Service>, current: &Arc<AtomicUsize>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let delivered: Arc<[AtomicUsize; 4]> = Arc::default();
        let deliver = |task: usize| {
            let (service, current) = (Arc::clone(service), Arc::clone(current));
            let (stop, delivered) = (Arc::clone(&stop), Arc::clone(&delivered));
            tokio::spawn(async move {
                let mut lost = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match status(&service, current.load(Ordering::Relaxed)).await {
                        200 => drop(delivered[task].fetch_add(1, Ordering::Relaxed)),
                        other => lost.push(other),
                    }
                }
                lost
            })
        };
        let tasks = (0..delivered.len()).map(deliver).collect();
        Self { stop, delivered, tasks }
    }

    fn delivered(&self) -> Vec<usize> {
        self.delivered.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every task has made some deliveries, so that no earlier one is under way.
    async fn some_more(&self) {
        let before = self.delivered();
        with_timeout(async {
            while self.delivered().iter().zip(&before).any(|(now, before)| *now < before + 10) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// Returns how many were delivered, and the statuses of the others.
    async fn stop(self) -> (usize, Vec<u16>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut lost = Vec::new();
        for task in self.tasks {
            lost.extend(with_timeout(task).await.expect("no panic"));
        }
        (self.delivered.iter().map(|count| count.load(Ordering::Relaxed)).sum(), lost)
    }
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn with(name: &str, current: &str, next: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a directory");
        let directory = Self(path);
        directory.write(current, next);
        directory
    }

    fn write(&self, current: &str, next: &str) {
        fs::write(self.0.join("current"), current).expect("a file");
        fs::write(self.0.join("next"), next).expect("a file");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
async fn hang_up(service: &Service) {
    let command = format!("kill -HUP {}", service.process_id());
    let status = tokio::process::Command::new("sh").args(["-c", &command]).status();
    assert!(with_timeout(status).await.expect("sh starts").success());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_files_take_effect_on_sighup_under_load() {
    let directory = Directory::with("rotate_files_good", KEYS[0], &format!("{}\n", KEYS[1]));
    let service = Arc::new(Service::start("rotate_files", &[("KEYS_DIR", directory.path())]).await);
    assert_eq!([status(&service, 0).await, status(&service, 2).await], [200, 400]);

    // After a roll QStash signs with the receiver's next key.
    let load = Load::start(&service, &Arc::new(AtomicUsize::new(1)));
    for round in 1..=3 {
        load.some_more().await;
        directory.write(KEYS[1], KEYS[1 + round]);
        hang_up(&service).await;
        service.logged(REPLACED, round).await;
        assert_eq!(status(&service, 1 + round).await, 200, "the new next key, round {round}");
        load.some_more().await;
    }
    let (delivered, lost) = load.stop().await;
    assert!(lost.is_empty() && delivered >= 240, "{delivered} delivered, {lost:?}");
    assert_eq!([status(&service, 0).await, status(&service, 2).await], [400, 400], "the old keys");
}

#[cfg(unix)]
#[tokio::test]
async fn invalid_files_change_nothing_and_are_logged() {
    let directory = Directory::with("rotate_files_bad", KEYS[0], KEYS[1]);
    let service = Service::start("rotate_files", &[("KEYS_DIR", directory.path())]).await;
    let kept = "the old signing keys stay in place";
    for (round, (current, next, reason)) in [
        ("", KEYS[2], "the signing key current is empty"),
        (KEYS[1], "\"sig_key_c\"", "the signing key next has quotation marks around it"),
        (KEYS[1], " sig_key_c", "the signing key next contains white space"),
        (KEYS[2], KEYS[2], "the signing key next is the same as the current one"),
    ]
    .into_iter()
    .enumerate()
    {
        directory.write(current, next);
        hang_up(&service).await;
        service.logged(kept, round + 1).await;
        assert!(
            service.log().lines().last().is_some_and(|line| line.contains(reason)),
            "{}",
            service.log()
        );
        assert_eq!([status(&service, 0).await, status(&service, 1).await], [200, 200]);
        assert_eq!(status(&service, 2).await, 400);
    }
    fs::remove_file(directory.0.join("next")).expect("it was there");
    hang_up(&service).await;
    service.logged(kept, 5).await;
    assert!(service.log().contains("next: No such file"), "{}", service.log());
    assert_eq!(status(&service, 1).await, 200);

    // It still listens to the signal.
    directory.write(KEYS[1], KEYS[2]);
    hang_up(&service).await;
    service.logged(REPLACED, 1).await;
    assert_eq!([status(&service, 0).await, status(&service, 2).await], [400, 200]);
    assert!(!service.log().contains("sig_key"), "a key in the log: {}", service.log());
}

/// QStash's `GET /v2/keys` on the loopback interface.
#[derive(Clone, Default)]
struct Api {
    /// The index of the current key.
    current: Arc<AtomicUsize>,
    /// The responses to send before it works.
    failures: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
    calls: Arc<AtomicUsize>,
}

impl Api {
    async fn start(&self) -> String {
        let app = Router::new().route("/v2/keys", get(Self::keys)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/")
    }

    async fn keys(State(api): State<Self>, headers: HeaderMap) -> Response {
        api.calls.fetch_add(1, Ordering::Relaxed);
        if headers.get("authorization").is_none_or(|value| value != &format!("Bearer {TOKEN}")) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        if let Some((status, body)) = api.failures.lock().expect("no panic").pop_front() {
            return (StatusCode::from_u16(status).expect("a status"), body).into_response();
        }
        let current = api.current.load(Ordering::Relaxed);
        Json(json!({ "current": KEYS[current], "next": KEYS[current + 1] })).into_response()
    }

    fn roll(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_keys_follow_two_rolls_under_load() {
    let api = Api::default();
    let url = api.start().await;
    let variables = [("QSTASH_URL", &*url), ("QSTASH_TOKEN", TOKEN)];
    let service = Arc::new(Service::start("rotate_api", &variables).await);

    let load = Load::start(&service, &api.current);
    for roll in 1..=2 {
        load.some_more().await;
        api.roll();
        service.logged(REPLACED, roll).await;
        // No delivery signed before this roll is under way at the next one.
        load.some_more().await;
    }
    let (delivered, lost) = load.stop().await;
    assert!(
        lost.is_empty() && delivered >= 160,
        "{delivered} delivered, {lost:?}\n{}",
        service.log()
    );
    assert_eq!(status(&service, 0).await, 400, "two rolls ago");
    assert_eq!([status(&service, 2).await, status(&service, 3).await], [200, 200]);
    assert_eq!(status(&service, 1).await, 200, "valid for its last five minutes");
    assert!(!service.log().contains(TOKEN) && !service.log().contains("sig_key"));
}

#[tokio::test]
async fn retired_key_is_dropped_in_the_end() {
    let api = Api::default();
    let url = api.start().await;
    let variables = [("QSTASH_URL", &*url), ("QSTASH_TOKEN", TOKEN), ("KEEP_SECONDS", "0")];
    let service = Service::start("rotate_api", &variables).await;
    api.roll();
    assert_eq!(status(&service, 1).await, 200);
    service.logged("the previous signing keys were retired", 1).await;
    assert_eq!([status(&service, 0).await, status(&service, 1).await], [400, 200]);
}

/// Each failure is logged, and the next attempt follows a longer pause.
#[tokio::test]
async fn failing_api_leaves_the_old_keys_in_place() {
    let api = Api::default();
    *api.failures.lock().expect("no panic") =
        VecDeque::from([(401, "{}"), (200, r#"{"current": "sig_key_b"}"#), (200, "<html>")]);
    let url = api.start().await;
    let variables = [
        ("QSTASH_URL", &*url),
        ("QSTASH_TOKEN", TOKEN),
        ("QSTASH_CURRENT_SIGNING_KEY", KEYS[0]),
        ("QSTASH_NEXT_SIGNING_KEY", KEYS[1]),
    ];
    let service = Service::start("rotate_api", &variables).await;
    api.roll();
    service.logged("the old ones stay in place", 2).await;
    let log = service.log();
    for part in [
        "it responded with 401 Unauthorized",
        "using those in the environment",
        "the signing key next is empty",
        "it sent no JSON",
        "pause=1s",
        "pause=2s",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    // The environment's keys, until the API has others.
    service.logged(REPLACED, 1).await;
    assert_eq!([status(&service, 1).await, status(&service, 2).await], [200, 200]);
    assert!(!service.log().contains(TOKEN) && !service.log().contains("sig_key"));
}

#[tokio::test]
async fn unreachable_api_leaves_the_old_keys_in_place() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let url = format!("http://{}", free.expect("a free port"));
    let variables = [
        ("QSTASH_URL", &*url),
        ("QSTASH_TOKEN", TOKEN),
        ("QSTASH_CURRENT_SIGNING_KEY", KEYS[0]),
        ("QSTASH_NEXT_SIGNING_KEY", KEYS[1]),
    ];
    let service = Service::start("rotate_api", &variables).await;
    service.logged("the old ones stay in place", 2).await;
    assert_eq!([status(&service, 0).await, status(&service, 1).await], [200, 200]);
    assert_eq!(status(&service, 2).await, 400);
}
