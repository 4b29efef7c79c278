//! What went wrong in prototypes, and may not.

use std::{
    net::TcpListener,
    num::NonZeroU128,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tower_qstash::{
    Holder, Lifetime, NumericDate, RedisStore, ReplayGuard, ReplayKey, ReplayStore,
    Reserve::{self, Done, InFlight, Reserved},
    check_replay_store,
};

use crate::{
    proxy::Proxy,
    server::{PATIENCE, Server, eventually, free_port},
    support::log::Log,
};

const A: Holder = Holder::new(NonZeroU128::MIN);
const B: Holder = Holder::new(NonZeroU128::MAX);
const C: Holder = Holder::new(NonZeroU128::MIN.saturating_add(1));

/// A store whose time limit does not come into it, however busy the machine is.
fn patient(server: &Server) -> RedisStore {
    RedisStore::new(&server.url()).unwrap().time_limit(PATIENCE)
}

fn key(number: u32) -> ReplayKey {
    ReplayKey::from_bytes(u128::from(number).to_be_bytes())
}

#[expect(clippy::disallowed_methods, reason = "the server has a clock, too")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn lifetime() -> Lifetime {
    Lifetime::new(now().into(), (now() + Duration::from_secs(360)).into())
}

async fn reserve(store: &RedisStore, number: u32, holder: Holder) -> Reserve {
    store.reserve(key(number), holder, lifetime()).await.unwrap()
}

async fn conforms(server: &Server) {
    check_replay_store(patient(server), now(), tokio::time::sleep).await;
}

#[tokio::test]
async fn redis_conforms() {
    let Some(server) = Server::start() else { return };
    conforms(&server).await;
}

#[tokio::test]
async fn valkey_conforms() {
    let Some(server) = Server::start_with("valkey-server", &[]) else { return };
    conforms(&server).await;
}

#[tokio::test]
async fn newer_tokens_are_taken_while_older_ones_are_refused() {
    let Some(server) = Server::start() else { return };
    let store = patient(&server).refuse_older_tokens();
    let issued = now() + Duration::from_secs(10);
    let life = lifetime().with_issued_at(issued.into());
    assert_eq!(store.reserve(key(1), A, life).await.unwrap(), Reserved);
    assert_eq!(store.reserve(key(1), B, life).await.unwrap(), InFlight);
    store.confirm(key(1), life).await.unwrap();
    assert_eq!(store.reserve(key(1), B, life).await.unwrap(), Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_machines_at_once_one_reserves() {
    let Some(server) = Server::start() else { return };
    let machines = [patient(&server), patient(&server)].map(Arc::new);
    let mut tasks = Vec::new();
    for number in 0..1_000 {
        for (machine, holder) in machines.iter().zip([A, B]) {
            let machine = Arc::clone(machine);
            tasks.push(tokio::spawn(async move { reserve(&machine, number, holder).await }));
        }
    }
    let mut counts = [0, 0];
    for task in tasks {
        match task.await.unwrap() {
            Reserved => counts[0] += 1,
            InFlight => counts[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counts, [1_000, 1_000]);
}

#[tokio::test]
async fn a_restarted_server_with_a_log_knows_its_tokens() {
    let log = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut server) = Server::start_with("redis-server", &log) else { return };
    let store = patient(&server);
    for number in 0..100 {
        assert_eq!(reserve(&store, number, A).await, Reserved);
        if number % 2 == 0 {
            store.confirm(key(number), lifetime()).await.unwrap();
        }
    }
    let before = server.pid();
    server.kill();
    store.reserve(key(100), A, lifetime()).await.expect_err("the server is down");
    store.confirm(key(100), lifetime()).await.expect_err("the server is down");
    server.restart();
    assert_ne!(server.pid(), before);
    for number in 0..100 {
        let expected = if number % 2 == 0 { Done } else { InFlight };
        assert_eq!(reserve(&store, number, B).await, expected);
    }
    assert_eq!(reserve(&store, 100, B).await, Reserved);
}

/// While the server is stopped nobody gets in, and what was sent to it is executed later. The
/// releases that follow must be executed later still.
#[tokio::test]
async fn after_a_stop_of_600_ms_everybody_gets_in() {
    let Some(server) = Server::start() else { return };
    let store = Arc::new(RedisStore::new(&server.url()).unwrap());
    patient(&server).confirm(key(1_000), lifetime()).await.unwrap();
    // Connected, so that what follows is sent.
    while store.reserve(key(1_001), A, lifetime()).await.is_err() {}
    let sets = server.calls("set");

    server.signal("-STOP");
    let stopped = Instant::now();
    let mut refused = 0;
    while stopped.elapsed() < Duration::from_millis(600) {
        for result in
            futures(20, |number| store.reserve(key(refused + number), A, lifetime())).await
        {
            result.expect_err("it is stopped");
        }
        // As the guard does.
        for number in refused..refused + 20 {
            Arc::clone(&store).release_in_background(key(number), A);
        }
        refused += 20;
    }
    server.signal("-CONT");

    // Nobody but the stopped server's connection has sent any, or this test would show nothing.
    eventually("what was sent is executed", || server.calls("set") > sets);
    let patient = patient(&server);
    for number in 0..refused {
        let start = Instant::now();
        while reserve(&patient, number, B).await != Reserved {
            assert!(start.elapsed() < PATIENCE, "token {number} was never released");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Polls all of them at once.
async fn futures<T>(count: u32, make: impl Fn(u32) -> T) -> Vec<<T as Future>::Output>
where
    T: Future,
{
    let mut pending: Vec<_> = (0..count).map(|number| Box::pin(make(number))).collect();
    let mut outputs = Vec::new();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                outputs.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    outputs
}

#[tokio::test]
async fn a_closed_connection_refuses_nobody() {
    let Some(server) = Server::start() else { return };
    let store = patient(&server);
    for number in 0..50 {
        assert_eq!(reserve(&store, number, A).await, Reserved);
        let killed = server.command("CLIENT KILL TYPE normal");
        assert_eq!(killed, ":1", "the store's connection was open");
    }
    for number in 0..50 {
        store.confirm(key(number), lifetime()).await.unwrap();
        server.command("CLIENT KILL TYPE normal");
        assert_eq!(reserve(&store, number, B).await, Done);
        server.command("CLIENT KILL TYPE normal");
    }
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_found_when_it_is_up() {
    let port = free_port();
    let store = RedisStore::new(&format!("redis://127.0.0.1:{port}")).unwrap().time_limit(PATIENCE);
    for _ in 0..2 {
        let error = store.reserve(key(1), A, lifetime()).await.unwrap_err();
        assert!(error.to_string().starts_with("could not connect to Redis: "), "{error}");
    }
    let Some(_server) = Server::start_at(port) else { return };
    assert_eq!(reserve(&store, 1, A).await, Reserved);
}

/// It accepts connections, and says nothing.
#[tokio::test]
async fn a_silent_server_takes_no_longer_than_the_limit() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let limit = Duration::from_millis(250);
    let store = RedisStore::new(&url).unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        let error = store.reserve(key(1), A, lifetime()).await.unwrap_err();
        assert_eq!(error.to_string(), "Redis did not respond within 250ms");
        assert!(start.elapsed() >= limit, "the limit is what ended it");
        // Less than the five seconds that an attempt to connect may take.
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
}

/// A server that is stopped for longer than any patience looks like a dead connection. A new one is
/// made, and works as soon as the server does.
#[tokio::test]
async fn a_dead_connection_is_replaced() {
    let Some(server) = Server::start() else { return };
    let store = RedisStore::new(&server.url()).unwrap();
    // Each time it is found out anew.
    for round in 0..2 {
        while store.reserve(key(1), A, lifetime()).await.is_err() {}
        let before = server.connections();
        server.signal("-STOP");
        let start = Instant::now();
        // Longer than four limits of silence.
        while start.elapsed() < Duration::from_secs(3) {
            store.reserve(key(2), A, lifetime()).await.unwrap_err();
        }
        server.signal("-CONT");
        while store.reserve(key(3), A, lifetime()).await.is_err() {
            assert!(start.elapsed() < PATIENCE);
        }
        // The one that asks is counted, too.
        assert!(server.connections() > before + 1, "it connected anew in round {round}");
    }
}

/// A command that the server refuses says nothing about the connection.
#[tokio::test]
async fn an_error_of_the_server_keeps_the_connection() {
    let Some(server) = Server::start() else { return };
    let store = patient(&server);
    assert_eq!(reserve(&store, 1, A).await, Reserved);
    server.command(&format!("LPUSH qstash:token:{} x", key(2).to_hex()));
    let before = server.connections();
    for _ in 0..3 {
        let error = store.reserve(key(2), A, lifetime()).await.unwrap_err();
        assert!(error.to_string().contains("WRONGTYPE"), "{error}");
    }
    assert_eq!(reserve(&store, 3, A).await, Reserved);
    assert_eq!(server.connections(), before + 1, "only the one that asks");
}

#[tokio::test]
async fn a_release_that_fails_in_the_background_is_logged() {
    let log = Log::capture();
    let url = format!("redis://127.0.0.1:{}", free_port());
    let store = RedisStore::new(&url).unwrap().time_limit(Duration::from_millis(1));
    Arc::new(store).release_in_background(key(1), A);
    let start = Instant::now();
    while log.lines().is_empty() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let [line] = &log.lines()[..] else { panic!("{}", log.text()) };
    let expected = "ERROR tower_qstash: a token could not be released in the background, and stays in \
                    flight until it expires error=";
    assert!(line.starts_with(expected), "{line}");
}

#[tokio::test]
async fn a_flush_between_reserve_and_confirm_loses_nothing() {
    let Some(server) = Server::start() else { return };
    let store = patient(&server);
    assert_eq!(reserve(&store, 1, A).await, Reserved);
    server.command("FLUSHALL");
    store.confirm(key(1), lifetime()).await.unwrap();
    assert_eq!(reserve(&store, 1, B).await, Done);
}

#[tokio::test]
async fn after_a_flush_only_the_new_holder_releases() {
    let Some(server) = Server::start() else { return };
    let store = patient(&server);
    assert_eq!(reserve(&store, 1, A).await, Reserved);
    server.command("FLUSHALL");
    assert_eq!(reserve(&store, 1, B).await, Reserved);
    store.release(key(1), A).await.unwrap();
    assert_eq!(reserve(&store, 1, C).await, InFlight);
}

#[tokio::test]
async fn failures_take_no_places() {
    let Some(server) = Server::start() else { return };
    let store = patient(&server);
    for number in 0..100 {
        store.confirm(key(number), lifetime()).await.unwrap();
    }
    for round in 0..25 {
        let failed = futures(100, async |number| {
            let number = 100 + round * 100 + number;
            assert_eq!(reserve(&store, number, A).await, Reserved);
            store.release(key(number), A).await.unwrap();
        });
        assert_eq!(failed.await.len(), 100);
    }
    assert_eq!(server.command("DBSIZE"), ":100");
    for number in 0..100 {
        assert_eq!(reserve(&store, number, B).await, Done);
    }
}

/// The driver of a connection is a task of the runtime in which it was made.
#[test]
fn a_dropped_runtime_takes_nothing_with_it() {
    let Some(server) = Server::start() else { return };
    let store = patient(&server);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for number in 0..10 {
        runtime().block_on(async {
            assert_eq!(reserve(&store, number, A).await, Reserved);
            store.confirm(key(number), lifetime()).await.unwrap();
        });
    }
    for number in 0..10 {
        assert_eq!(runtime().block_on(reserve(&store, number, B)), Done);
    }
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let store = RedisStore::new("redis://127.0.0.1:1").unwrap();
    let mut reserve = std::pin::pin!(store.reserve(key(1), A, lifetime()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(result) = reserve.as_mut().poll(&mut context) else { panic!() };
    result.unwrap_err();
    Arc::new(store.clone()).release_in_background(key(1), A);
}

#[tokio::test]
async fn a_server_that_forgot_refuses_the_tokens_from_before() {
    let Some(server) = Server::start() else { return };
    let store = patient(&server).refuse_older_tokens();
    let start = Duration::from_secs(1_700_000_000);
    let at = |seconds| NumericDate::from(UNIX_EPOCH + start + Duration::from_secs(seconds));
    let arrival = |now, issued| Lifetime::new(at(now), at(now + 360)).with_issued_at(at(issued));
    // The first delivery of all is refused: what was before is not known.
    assert_eq!(store.reserve(key(1), A, arrival(10, 9)).await.unwrap(), Reserve::Unknowable);
    assert_eq!(server.command("DBSIZE"), ":1", "the birth alone: the token was not kept");
    // And so are those that were issued in its second.
    assert_eq!(store.reserve(key(2), A, arrival(11, 10)).await.unwrap(), Reserve::Unknowable);
    assert_eq!(store.reserve(key(3), A, arrival(12, 12)).await.unwrap(), Reserved);
    store.confirm(key(3), arrival(12, 12)).await.unwrap();
    assert_eq!(store.reserve(key(3), B, arrival(13, 12)).await.unwrap(), Done);

    server.command("FLUSHALL");
    assert_eq!(store.reserve(key(3), B, arrival(20, 12)).await.unwrap(), Reserve::Unknowable);
    assert_eq!(store.reserve(key(4), B, arrival(23, 22)).await.unwrap(), Reserved);
    // Without the rule it would be handled again.
    assert_eq!(patient(&server).reserve(key(3), B, arrival(24, 12)).await.unwrap(), Reserved);
    let without_iat = Lifetime::new(at(24), at(360));
    assert_eq!(store.reserve(key(5), B, without_iat).await.unwrap(), Reserve::Unknowable);
}

#[tokio::test]
async fn each_step_takes_one_round_trip() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.port);
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    for rule in [false, true] {
        let store =
            RedisStore::new(&url).unwrap().time_limit(PATIENCE).key_prefix(format!("{rule}"));
        let store = if rule { store.refuse_older_tokens() } else { store };
        let life = lifetime().with_issued_at((now() + Duration::from_secs(60)).into());
        store.release(key(0), A).await.unwrap(); // It connects.
        let mut before = proxy.round_trips();
        let mut round_trips = || {
            let trips = proxy.round_trips() - before;
            before += trips;
            trips
        };
        assert_eq!(store.reserve(key(1), A, life).await.unwrap(), Reserved);
        assert_eq!(round_trips(), 1, "reserve");
        assert_eq!(store.reserve(key(1), B, life).await.unwrap(), InFlight);
        assert_eq!(round_trips(), 1, "reserve");
        store.confirm(key(1), life).await.unwrap();
        assert_eq!(round_trips(), 1, "confirm");
        store.release(key(1), A).await.unwrap();
        assert_eq!(round_trips(), 1, "release");
        store.remember(key(1), life).await.unwrap();
        assert_eq!(round_trips(), 1, "remember");
        assert!(store.is_remembered(key(1), now().into()).await.unwrap());
        assert_eq!(round_trips(), 1, "is_remembered");
    }
}

#[tokio::test]
async fn prefixes_keep_stores_apart_and_every_key_expires() {
    let Some(server) = Server::start() else { return };
    let (one, other) = (patient(&server).key_prefix("one:"), patient(&server).key_prefix("other:"));
    one.confirm(key(1), lifetime()).await.unwrap();
    one.remember(key(2), lifetime()).await.unwrap();
    assert_eq!(reserve(&one, 3, A).await, Reserved);
    assert_eq!(reserve(&other, 1, A).await, Reserved);
    assert!(!one.is_remembered(key(1), now().into()).await.unwrap(), "a token is no message");
    for name in [
        format!("one:token:{}", key(1).to_hex()),
        format!("one:message:{}", key(2).to_hex()),
        format!("one:token:{}", key(3).to_hex()),
        format!("other:token:{}", key(1).to_hex()),
    ] {
        let left: u32 = server.command(&format!("TTL {name}"))[1..].parse().unwrap();
        assert!((1..=362).contains(&left), "{name}: {left} s");
    }
}

#[tokio::test]
async fn a_server_that_refuses_says_why() {
    let Some(server) = Server::start_with("redis-server", &["--requirepass", "secret"]) else {
        return;
    };
    let store = RedisStore::new(&format!("redis://:wrong@127.0.0.1:{}", server.port)).unwrap();
    let error = store.time_limit(PATIENCE).reserve(key(1), A, lifetime()).await.unwrap_err();
    assert!(!error.to_string().contains("wrong"), "{error}");
    let store = RedisStore::new(&format!("redis://:secret@127.0.0.1:{}", server.port)).unwrap();
    let store = store.time_limit(PATIENCE);
    assert_eq!(reserve(&store, 1, A).await, Reserved);
    assert!(!format!("{store:?} {:?}", ReplayGuard::new(store.clone())).contains("secret"));
}

#[test]
fn an_invalid_url_is_found_at_the_start_and_not_shown() {
    for url in ["", "localhost", "http://:secret@localhost", "redis://:secret@localhost/x"] {
        let error = RedisStore::new(url).unwrap_err();
        assert!(ReplayGuard::redis(url).is_err());
        assert!(error.to_string().starts_with("the Redis URL is invalid: "), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
    assert!(ReplayGuard::redis("rediss://localhost").is_ok(), "with the feature redis-tls");
}
