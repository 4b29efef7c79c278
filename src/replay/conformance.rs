//! What every [`ReplayStore`] has to do, as a test for its author.

use std::{
    future::poll_fn,
    num::NonZeroU128,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::store::{Holder, Lifetime, ReplayKey, ReplayStore, Reserve};
use crate::verify::NumericDate;

/// How long the tokens live that have to expire.
const SHORT: Duration = Duration::from_secs(2);
/// What is slept until they have.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// Checks that a [`ReplayStore`] does what the guard relies on. Run it in a test.
///
/// `now` is the present time, and what sets this run's keys apart from those of other runs in the
/// same database. `sleep` waits, about ten seconds in all, for a store that expires entries by its
/// own clock; one that goes by [`Lifetime::now`] needs no real sleep.
///
/// ```
/// use std::time::SystemTime;
/// use tower_qstash::{MemoryStore, check_replay_store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// check_replay_store(MemoryStore::new(), SystemTime::now(), async |_| {}).await;
/// # }
/// ```
///
/// In the test of a store over a network, `sleep` is `tokio::time::sleep`.
///
/// # Panics
///
/// If the store returns an error, or does anything else than [`ReplayStore`] says.
pub async fn check_replay_store<S: ReplayStore>(
    store: S,
    now: SystemTime,
    sleep: impl AsyncFn(Duration),
) {
    let run = Run { store: Arc::new(store), now };
    run.a_token_is_reserved_once().await;
    run.only_the_holder_releases().await;
    run.a_confirmed_token_is_done().await;
    run.confirming_is_unconditional().await;
    run.keys_are_independent().await;
    run.one_of_many_at_once_reserves().await;
    run.any_lifetime_is_taken().await;
    run.a_release_in_the_background_happens(&sleep).await;
    run.messages_are_remembered().await;
    run.everything_expires(&sleep).await;
}

struct Run<S> {
    store: Arc<S>,
    now: SystemTime,
}

impl<S: ReplayStore> Run<S> {
    /// A key that no other run has.
    fn key(&self, name: &str) -> ReplayKey {
        let time = format!("{:?}", self.now);
        let hash = Sha256::new().chain_update(time).chain_update(name).finalize();
        ReplayKey::from_bytes(std::array::from_fn(|index| hash[index]))
    }

    /// Six minutes.
    fn usual(&self) -> Lifetime {
        self.lasting(Duration::from_secs(360))
    }

    fn lasting(&self, duration: Duration) -> Lifetime {
        Lifetime::new(self.now.into(), (self.now + duration).into())
    }

    async fn reserve(&self, key: ReplayKey, holder: Holder, lifetime: Lifetime) -> Reserve {
        self.store.reserve(key, holder, lifetime).await.expect("reserve should work")
    }

    async fn confirm(&self, key: ReplayKey, lifetime: Lifetime) {
        self.store.confirm(key, lifetime).await.expect("confirm should work");
    }

    async fn release(&self, key: ReplayKey, holder: Holder) {
        self.store.release(key, holder).await.expect("release should work");
    }

    async fn is_remembered(&self, message: ReplayKey, now: SystemTime) -> bool {
        self.store.is_remembered(message, now.into()).await.expect("is_remembered should work")
    }

    async fn a_token_is_reserved_once(&self) {
        let (key, life) = (self.key("once"), self.usual());
        assert_eq!(
            self.reserve(key, A, life).await,
            Reserve::Reserved,
            "the first to reserve gets it"
        );
        assert_eq!(self.reserve(key, A, life).await, Reserve::Reserved, "asking twice is harmless");
        assert_eq!(
            self.reserve(key, B, life).await,
            Reserve::InFlight,
            "another holder has to wait"
        );
        assert_eq!(
            self.reserve(key, C, life).await,
            Reserve::InFlight,
            "every bit of a holder counts"
        );
        assert_eq!(
            self.reserve(key, A, life).await,
            Reserve::Reserved,
            "the holder is still the first"
        );
    }

    async fn only_the_holder_releases(&self) {
        let (key, life) = (self.key("release"), self.usual());
        self.release(key, A).await; // Unknown: nothing happens.
        self.reserve(key, A, life).await;
        self.release(key, B).await;
        assert_eq!(self.reserve(key, B, life).await, Reserve::InFlight, "only the holder releases");
        self.release(key, A).await;
        assert_eq!(self.reserve(key, B, life).await, Reserve::Reserved, "a released token is free");
        self.release(key, A).await;
        assert_eq!(
            self.reserve(key, C, life).await,
            Reserve::InFlight,
            "a former holder is no holder"
        );
    }

    async fn a_confirmed_token_is_done(&self) {
        let (key, life) = (self.key("done"), self.usual());
        self.reserve(key, A, life).await;
        self.confirm(key, life).await;
        for again in 0..2 {
            for holder in [A, B] {
                assert_eq!(
                    self.reserve(key, holder, life).await,
                    Reserve::Done,
                    "confirmed {again}"
                );
                self.release(key, holder).await;
                assert_eq!(self.reserve(key, holder, life).await, Reserve::Done, "done stays done");
            }
            self.confirm(key, life).await;
        }
    }

    async fn confirming_is_unconditional(&self) {
        let (forgotten, taken) = (self.key("forgotten"), self.key("taken"));
        let life = self.usual();
        self.confirm(forgotten, life).await;
        assert_eq!(
            self.reserve(forgotten, A, life).await,
            Reserve::Done,
            "it was forgotten meanwhile"
        );

        // A had it, the store forgot it, B has it, A confirms.
        self.reserve(taken, B, life).await;
        self.confirm(taken, life).await;
        assert_eq!(self.reserve(taken, C, life).await, Reserve::Done, "whoever held it");
        self.release(taken, B).await;
        assert_eq!(self.reserve(taken, C, life).await, Reserve::Done, "B failed, but A did not");
    }

    async fn keys_are_independent(&self) {
        let key = u128::from_be_bytes(self.key("bits").to_bytes());
        let neighbours: Vec<_> =
            (0..128).map(|bit| ReplayKey::from_bytes((key ^ 1 << bit).to_be_bytes())).collect();
        for &neighbour in &neighbours {
            self.confirm(neighbour, self.usual()).await;
        }
        let key = ReplayKey::from_bytes(key.to_be_bytes());
        assert_eq!(self.reserve(key, A, self.usual()).await, Reserve::Reserved, "every bit counts");
        for neighbour in neighbours {
            assert_eq!(
                self.reserve(neighbour, A, self.usual()).await,
                Reserve::Done,
                "none is lost"
            );
        }
    }

    async fn one_of_many_at_once_reserves(&self) {
        for round in 0..20 {
            let key = self.key(&format!("race {round}"));
            let holders = (1..=16).filter_map(NonZeroU128::new).map(Holder::new);
            let arrivals = holders.map(|holder| self.reserve(key, holder, self.usual()));
            let mut outcomes = all(arrivals).await;
            outcomes.sort_by_key(|&outcome| outcome != Reserve::Reserved);
            assert_eq!(outcomes[0], Reserve::Reserved, "somebody gets it");
            let others = outcomes[1..].iter().all(|&outcome| outcome == Reserve::InFlight);
            assert!(others, "of many at once, one reserves: {outcomes:?}");
        }
    }

    async fn any_lifetime_is_taken(&self) {
        let ends = [NumericDate::from_secs(i64::MIN), NumericDate::from_secs(i64::MAX)];
        for (name, life) in [
            ("no end", Lifetime::new(self.now.into(), ends[1])),
            ("all time", Lifetime::new(ends[0], ends[1])),
        ] {
            let key = self.key(name);
            assert_eq!(self.reserve(key, A, life).await, Reserve::Reserved, "{name}");
            assert_eq!(self.reserve(key, B, life).await, Reserve::InFlight, "{name}");
            self.confirm(key, life).await;
            assert_eq!(self.reserve(key, B, life).await, Reserve::Done, "{name}");
        }
        // Over before it begins: of no use, but no error.
        let life = Lifetime::new(ends[1], ends[0]);
        assert_eq!(self.reserve(self.key("over"), A, life).await, Reserve::Reserved, "over");
        self.confirm(self.key("over"), life).await;
    }

    async fn a_release_in_the_background_happens(&self, sleep: &impl AsyncFn(Duration)) {
        let key = self.key("background");
        self.reserve(key, A, self.usual()).await;
        Arc::clone(&self.store).release_in_background(key, A);
        for _ in 0..100 {
            if self.reserve(key, B, self.usual()).await == Reserve::Reserved {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("a release in the background happens before long");
    }

    async fn messages_are_remembered(&self) {
        let [message, other, forever] = ["message", "other", "forever"].map(|name| self.key(name));
        assert!(
            !self.is_remembered(message, self.now).await,
            "an unknown message is not remembered"
        );
        for _ in 0..2 {
            let remembered = self.store.remember(message, self.usual()).await;
            remembered.expect("remember should work");
            assert!(self.is_remembered(message, self.now).await, "a message is remembered");
        }
        assert!(!self.is_remembered(other, self.now).await, "no other message is remembered");
        let life = Lifetime::new(self.now.into(), NumericDate::from_secs(i64::MAX));
        self.store.remember(forever, life).await.expect("remember should work");
        assert!(self.is_remembered(forever, self.now).await, "a message without end is remembered");
    }

    async fn everything_expires(&self, sleep: &impl AsyncFn(Duration)) {
        let names = ["held", "ended", "confirmed late", "kept"];
        let [held, ended, confirmed_late, kept] = names.map(|name| self.key(name));
        let message = self.key("short message");
        let short = self.lasting(SHORT);
        self.reserve(held, A, short).await;
        self.confirm(ended, short).await;
        self.reserve(confirmed_late, A, short).await;
        self.reserve(kept, A, short).await;
        self.confirm(kept, self.usual()).await;
        self.store.remember(message, short).await.expect("remember should work");

        sleep(LONG_ENOUGH).await;
        let later = self.now + LONG_ENOUGH;
        let life = self.usual().at(later.into());
        assert_eq!(self.reserve(held, B, life).await, Reserve::Reserved, "a reservation ends");
        // A still thinks that it holds the token.
        self.release(held, A).await;
        assert_eq!(
            self.reserve(held, C, life).await,
            Reserve::InFlight,
            "A released B's reservation"
        );
        assert_eq!(self.reserve(ended, B, life).await, Reserve::Reserved, "a confirmation ends");
        self.confirm(confirmed_late, life).await;
        assert_eq!(
            self.reserve(confirmed_late, B, life).await,
            Reserve::Done,
            "confirmed when over"
        );
        assert_eq!(
            self.reserve(kept, B, life).await,
            Reserve::Done,
            "confirming sets the end anew"
        );
        assert!(!self.is_remembered(message, later).await, "a remembered message ends");
    }
}

const A: Holder = Holder::new(NonZeroU128::MIN);
const B: Holder = Holder::new(NonZeroU128::MAX);
/// `A`, but for a bit of its first half.
const C: Holder = Holder::new(NonZeroU128::MIN.saturating_add(1 << 100));

/// Polls futures until all are ready, in the order of their readiness.
async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<Pin<Box<_>>> = futures.map(Box::pin).collect();
    let mut outputs = Vec::new();
    poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(output) => {
                outputs.push(output);
                false
            }
            Poll::Pending => true,
        });
        if pending.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs
}

#[cfg(test)]
mod tests;
