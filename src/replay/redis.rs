//! The store in a Redis or Valkey server.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, RetryMethod,
    ServerErrorKind, aio::MultiplexedConnection, cmd, pipe,
};
use tokio::{runtime::Handle, time};

use super::{
    store::{BoxError, Holder, Lifetime, ReplayKey, ReplayStore, Reserve},
    trace,
};
use crate::verify::NumericDate;

/// What the key of a confirmed token or a remembered message holds. No holder's number looks like it.
const DONE: &str = "done";
/// How long an attempt to connect goes on after those who wait for it have given up: longer than a
/// cold start with TLS takes, so that the next delivery finds a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The waits before a release in the background is tried again, in time limits.
const PAUSES: [u32; 6] = [1, 2, 4, 8, 16, 32];
/// How many time limits without a reply make a connection useless.
const SILENCE: u32 = 4;

/// `DEL`, if the holder is right: one atomic step on every version of every server.
const RELEASE: &str =
    "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

/// A [`ReplayStore`] in a Redis or Valkey server, shared by all that use it: several processes, or
/// the instances of an AWS Lambda function.
///
/// It needs no set-up on the server, connects when the first delivery arrives, and needs a tokio
/// runtime with I/O and time. Each step of a delivery takes one round trip. A server that doesn't
/// respond within the [time limit](Self::time_limit) counts as down; then the guard makes QStash try
/// again later. Redis Cluster is supported where one endpoint takes all keys.
///
/// # What the server has to promise
///
/// - It must not evict keys at will: set `maxmemory-policy` to `noeviction`, or to `volatile-ttl`,
///   which takes what is nearest its end. A token takes about 150 bytes for six minutes.
/// - A server that forgets, because it is restarted without persistence, flushed, or replaced by a
///   replica that is behind, lets tokens be replayed that were used before, until five minutes later,
///   when they have expired. With `appendfsync everysec` that is one second's worth of tokens. See
///   [`refuse_older_tokens`](Self::refuse_older_tokens).
/// - `EVAL` must be allowed, besides `SET`, `GET` and `EXISTS`.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_qstash::{RedisStore, ReplayGuard};
///
/// let store = RedisStore::new("redis://localhost")?
///     .time_limit(Duration::from_millis(500))
///     .key_prefix("orders:")
///     .refuse_older_tokens();
/// let guard = ReplayGuard::new(store);
/// # drop(guard);
/// # Ok::<(), tower_qstash::InvalidRedisUrl>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    prefix: String,
    limit: Duration,
    refuse_older: bool,
    link: Arc<Link>,
}

impl RedisStore {
    /// Creates a store from a URL: `redis://[[user]:password@]host[:port][/database]`, `rediss://…`
    /// for TLS (feature `redis-tls`), or `unix:///path`. It does not connect.
    ///
    /// # Errors
    ///
    /// Another scheme, `rediss://` without the feature, a database that is not a number.
    pub fn new(url: &str) -> Result<Self, InvalidRedisUrl> {
        let client = Client::open(url).map_err(InvalidRedisUrl::new)?;
        Ok(Self {
            prefix: "qstash:".into(),
            limit: Duration::from_millis(250),
            refuse_older: false,
            link: Arc::new(Link::new(client)),
        })
    }

    /// Sets what every key in the database starts with. Defaults to `qstash:`.
    pub fn key_prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Sets how long one step may take, with connecting and trying again. Defaults to 250 ms.
    pub fn time_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Refuses tokens that may have been issued before the server's content was: if the server has
    /// lost its tokens, it can't know whether one of them was used.
    ///
    /// A key without expiry, the prefix and `birth`, holds the time. If it is missing, it is set to the
    /// time of the delivery that finds it missing; so this one, and those issued up to the clock
    /// tolerance later, get a 503 response and are delivered again by QStash. Off by default.
    ///
    /// It doesn't notice tokens lost one by one, by eviction or by a replica that was a second behind.
    pub fn refuse_older_tokens(self) -> Self {
        Self { refuse_older: true, ..self }
    }

    fn token(&self, key: ReplayKey) -> String {
        format!("{}token:{}", self.prefix, key.to_hex())
    }

    fn message(&self, key: ReplayKey) -> String {
        format!("{}message:{}", self.prefix, key.to_hex())
    }

    /// Sends this and reads the replies, within the limit. Asked again once if the connection turns
    /// out to be closed, as idle connections are all day.
    async fn ask<T: FromRedisValue + Send + 'static>(
        &self,
        pipeline: Pipeline,
    ) -> Result<T, BoxError> {
        // Without a runtime `time` and `redis` would panic.
        Handle::try_current()?;
        match time::timeout(self.limit, self.link.ask(&pipeline)).await {
            Ok(replies) => replies,
            Err(_) => {
                self.link.check(self.limit.saturating_mul(SILENCE));
                Err(format!("Redis did not respond within {:?}", self.limit).into())
            }
        }
    }

    async fn set_done(&self, key: String, lifetime: Lifetime) -> Result<(), BoxError> {
        self.ask(pipe().add_command(set(&key, DONE, lifetime)).ignore().clone()).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("key_prefix", &self.prefix)
            .field("time_limit", &self.limit)
            .field("refuse_older_tokens", &self.refuse_older)
            .finish_non_exhaustive()
    }
}

/// `SET` with an expiry relative to the server's clock, whatever that says.
fn set(key: &str, value: &str, lifetime: Lifetime) -> Cmd {
    let mut set = cmd("SET");
    set.arg(key)
        .arg(value)
        .arg("PX")
        .arg(u64::try_from(lifetime.remaining().as_millis()).unwrap_or(u64::MAX));
    set
}

impl ReplayStore for RedisStore {
    async fn reserve(
        &self,
        key: ReplayKey,
        holder: Holder,
        lifetime: Lifetime,
    ) -> Result<Reserve, BoxError> {
        let (key, holder) = (self.token(key), holder.to_hex());
        let birth = format!("{}birth", self.prefix);
        let mut pipeline = pipe();
        if self.refuse_older {
            let now = lifetime.now().as_secs();
            pipeline.cmd("SET").arg(&birth).arg(now).arg("NX").ignore().cmd("GET").arg(&birth);
        } else {
            // In its place, so that the replies have the same shape.
            pipeline.cmd("ECHO").arg("");
        }
        // `SET … NX GET` would be one command, for servers since 7.0.
        let mut reserve = set(&key, &holder, lifetime);
        reserve.arg("NX");
        pipeline.add_command(reserve).ignore().cmd("GET").arg(&key);

        let (birth, current): (String, Option<String>) = self.ask(pipeline).await?;
        if self.refuse_older {
            let birth: i64 =
                birth.parse().map_err(|_| "Redis holds a birth that is not a number")?;
            if !lifetime.issued_after(NumericDate::from_secs(birth)) {
                if current.as_ref() == Some(&holder) {
                    // Kept, it would only make later arrivals wait for nothing.
                    self.ask::<()>(release(&key, &holder)).await?;
                }
                return Ok(Reserve::Unknowable);
            }
        }
        match current {
            Some(current) if current == holder => Ok(Reserve::Reserved),
            Some(current) if current == DONE => Ok(Reserve::Done),
            Some(_) => Ok(Reserve::InFlight),
            // Released, flushed or evicted between the two commands.
            None => Err("Redis lost a token while it was reserved".into()),
        }
    }

    async fn confirm(&self, key: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
        self.set_done(self.token(key), lifetime).await
    }

    async fn release(&self, key: ReplayKey, holder: Holder) -> Result<(), BoxError> {
        self.ask(release(&self.token(key), &holder.to_hex())).await
    }

    async fn remember(&self, message: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
        self.set_done(self.message(message), lifetime).await
    }

    async fn is_remembered(&self, message: ReplayKey, _: NumericDate) -> Result<bool, BoxError> {
        let mut pipeline = pipe();
        pipeline.cmd("EXISTS").arg(self.message(message));
        let (remembered,) = self.ask(pipeline).await?;
        Ok(remembered)
    }

    /// Spawns the release, and tries again for a while.
    fn release_in_background(self: Arc<Self>, key: ReplayKey, holder: Holder) {
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            for pause in PAUSES {
                if self.release(key, holder).await.is_ok() {
                    return;
                }
                time::sleep(self.limit.saturating_mul(pause)).await;
            }
            if let Err(error) = self.release(key, holder).await {
                trace::release_failed(&error);
            }
        });
    }
}

fn release(key: &str, holder: &str) -> Pipeline {
    let mut pipeline = pipe();
    pipeline.cmd("EVAL").arg(RELEASE).arg(1).arg(key).arg(holder).ignore();
    pipeline
}

/// The connection, shared by all deliveries: a command does not wait for the reply to another.
struct Link {
    client: Client,
    /// Never locked across an await.
    current: std::sync::Mutex<Option<Connection>>,
    /// Held while connecting, so that one connection is made for all who wait.
    connecting: tokio::sync::Mutex<LastAttempt>,
    attempts: AtomicU64,
    /// Whether somebody is in [`check`](Self::check) already.
    checking: AtomicBool,
}

#[derive(Clone)]
struct Connection {
    /// Which attempt made it.
    number: u64,
    redis: MultiplexedConnection,
}

#[derive(Default)]
struct LastAttempt {
    failure: Option<String>,
}

impl Link {
    fn new(client: Client) -> Self {
        Self {
            client,
            current: std::sync::Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            checking: AtomicBool::new(false),
        }
    }

    async fn ask<T: FromRedisValue + Send>(
        self: &Arc<Self>,
        pipeline: &Pipeline,
    ) -> Result<T, BoxError> {
        let mut connection = self.connection().await?;
        let replies = pipeline.query_async(&mut connection.redis).await;
        match replies {
            Err(error) if is_lost(&error) => {
                self.discard(connection.number);
                let mut connection = self.connection().await?;
                let replies = pipeline.query_async(&mut connection.redis).await;
                if replies.as_ref().is_err_and(is_lost) {
                    self.discard(connection.number);
                }
                Ok(replies?)
            }
            replies => Ok(replies?),
        }
    }

    /// Returns the present connection, or makes one. The attempt goes on if the caller gives up.
    async fn connection(self: &Arc<Self>) -> Result<Connection, BoxError> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let (link, seen) = (Arc::clone(self), self.attempts.load(Ordering::Acquire));
        tokio::spawn(async move { link.connect(seen).await }).await?
    }

    async fn connect(&self, seen: u64) -> Result<Connection, BoxError> {
        let mut last = self.connecting.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        // All who waited for an attempt share its failure; or each would wait for its own.
        if self.attempts.load(Ordering::Acquire) != seen
            && let Some(failure) = &last.failure
        {
            return Err(failure.clone().into());
        }
        let number = self.attempts.fetch_add(1, Ordering::AcqRel);
        #[cfg(feature = "redis-tls")]
        choose_cryptography();
        // The limits are ours: the crate's own would not count everything.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let attempt = self.client.get_multiplexed_async_connection_with_config(&config);
        let error = match time::timeout(CONNECT, attempt).await {
            Ok(Ok(redis)) => {
                let connection = Connection { number, redis };
                *self.lock() = Some(connection.clone());
                last.failure = None;
                return Ok(connection);
            }
            Ok(Err(error)) => format!("could not connect to Redis: {error}"),
            Err(_) => format!("could not connect to Redis within {CONNECT:?}"),
        };
        last.failure = Some(error.clone());
        Err(error.into())
    }

    /// Finds out whether a connection that gave no reply in time is of any use. It is kept as long as
    /// it may be, since a command that waits in it will be executed, and the release that follows must
    /// be executed after it.
    fn check(self: &Arc<Self>, silence: Duration) {
        let Some(mut connection) = self.current() else { return };
        if self.checking.swap(true, Ordering::AcqRel) {
            return;
        }
        let checking = Checking(Arc::clone(self));
        tokio::spawn(async move {
            let ping = cmd("PING");
            let pong = ping.query_async::<()>(&mut connection.redis);
            if !matches!(time::timeout(silence, pong).await, Ok(Ok(()))) {
                checking.0.discard(connection.number);
            }
        });
    }

    fn current(&self) -> Option<Connection> {
        self.lock().clone()
    }

    /// Forgets a connection, unless another one has taken its place.
    fn discard(&self, number: u64) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|connection| connection.number == number) {
            *current = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when its task does, also if the runtime is dropped.
struct Checking(Arc<Link>);

impl Drop for Checking {
    fn drop(&mut self) {
        self.0.checking.store(false, Ordering::Release);
    }
}

/// Whether another connection may help: this one is closed, or leads to a server that became a
/// replica.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || matches!(error.retry_method(), RetryMethod::Reconnect)
        || error.kind() == ServerErrorKind::ReadOnly.into()
}

/// Without a default of the process, rustls panics where the program's other crates have turned on
/// several implementations.
#[cfg(feature = "redis-tls")]
fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that another thread was faster.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// The error returned for a URL that names no Redis server. It doesn't show the URL, which may hold
/// a password.
///
/// ```
/// use tower_qstash::ReplayGuard;
///
/// let error = ReplayGuard::redis("http://localhost").unwrap_err();
/// assert!(error.to_string().starts_with("the Redis URL is invalid"));
/// ```
#[derive(Debug)]
pub struct InvalidRedisUrl {
    message: String,
}

impl InvalidRedisUrl {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "so that it serves as an argument of `map_err`"
    )]
    fn new(error: RedisError) -> Self {
        Self { message: error.to_string() }
    }
}

impl fmt::Display for InvalidRedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the Redis URL is invalid: {}; it looks like redis://:password@host:6379/0",
            self.message
        )
    }
}

impl Error for InvalidRedisUrl {}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::ErrorKind;

    use super::*;

    #[test]
    fn errors_of_the_connection_are_lost_connections() {
        let io = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        let other = |kind: ErrorKind| RedisError::from((kind, "a reply"));
        for (error, expected) in [
            (io(io::ErrorKind::BrokenPipe), true),
            (io(io::ErrorKind::PermissionDenied), true),
            (other(ErrorKind::Parse), true),
            (other(ServerErrorKind::ReadOnly.into()), true),
            (other(ServerErrorKind::BusyLoading.into()), false),
            (other(ServerErrorKind::ResponseError.into()), false),
            (other(ErrorKind::UnexpectedReturnType), false),
        ] {
            assert_eq!(is_lost(&error), expected, "{error:?}");
        }
    }

    /// Nothing else in this process does, so that it would be missing where rustls can't choose.
    #[cfg(feature = "redis-tls")]
    #[test]
    fn the_cryptography_is_chosen_once() {
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
        choose_cryptography();
        choose_cryptography();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }

    #[test]
    fn debug_shows_the_settings() {
        let store = RedisStore::new("redis://:secret@localhost").expect("a valid URL");
        let store = store.time_limit(Duration::from_secs(1)).key_prefix("orders:");
        let expected = "RedisStore { key_prefix: \"orders:\", time_limit: 1s, \
                        refuse_older_tokens: false, .. }";
        assert_eq!(format!("{store:?}"), expected);
        let expected = expected.replace("older_tokens: false", "older_tokens: true");
        assert_eq!(format!("{:?}", store.refuse_older_tokens()), expected);
    }
}
