//! Each check finds the store that breaks its rule.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Mutex, task::Context};

use super::*;
use crate::replay::BoxError;

/// What a store may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    EveryoneReserves,
    HolderIsCutToHalf,
    EveryoneReleases,
    DoneIsReleased,
    OnlyTheKnownIsConfirmed,
    BitOfKeyIsLost(u32),
    ReserveIsNotAtomic,
    LongLifeIsLost,
    NothingInTheBackground,
    MessagesAreForgotten,
    EveryMessageIsRemembered,
    NothingExpires,
    ConfirmingKeepsTheEnd,
}

/// A store in a map, with one fault.
struct Faulty {
    fault: Fault,
    entries: Mutex<HashMap<ReplayKey, Entry>>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// `None` if it is done.
    holder: Option<Holder>,
    until: NumericDate,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { fault, entries: Mutex::default() }
    }

    fn key(&self, key: ReplayKey) -> ReplayKey {
        match self.fault {
            Fault::BitOfKeyIsLost(bit) => {
                let key = u128::from_be_bytes(key.to_bytes()) & !(1 << bit);
                ReplayKey::from_bytes(key.to_be_bytes())
            }
            _ => key,
        }
    }

    fn holder(&self, holder: Holder) -> Holder {
        match self.fault {
            Fault::HolderIsCutToHalf => {
                let half = holder.get().get() & u128::from(u64::MAX);
                Holder::new(NonZeroU128::new(half).expect("no half of them is zero"))
            }
            _ => holder,
        }
    }

    fn get(&self, key: ReplayKey, now: NumericDate) -> Option<Entry> {
        let entry = self.entries.lock().unwrap().get(&key).copied();
        entry.filter(|entry| entry.until > now || self.fault == Fault::NothingExpires)
    }

    fn set(&self, key: ReplayKey, holder: Option<Holder>, lifetime: Lifetime) {
        let until = lifetime.until();
        let is_long = until > lifetime.now().saturating_add(Duration::from_secs(1 << 40));
        if !(is_long && self.fault == Fault::LongLifeIsLost) {
            self.entries.lock().unwrap().insert(key, Entry { holder, until });
        }
    }
}

impl ReplayStore for Faulty {
    async fn reserve(
        &self,
        key: ReplayKey,
        holder: Holder,
        lifetime: Lifetime,
    ) -> Result<Reserve, BoxError> {
        let (key, holder) = (self.key(key), self.holder(holder));
        let entry = self.get(key, lifetime.now());
        if self.fault == Fault::ReserveIsNotAtomic {
            let mut is_second = false;
            poll_fn(|_| match std::mem::replace(&mut is_second, true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        }
        Ok(match entry {
            None => {
                self.set(key, Some(holder), lifetime);
                Reserve::Reserved
            }
            Some(Entry { holder: None, .. }) => Reserve::Done,
            Some(Entry { holder: Some(other), .. }) => {
                match other == holder || self.fault == Fault::EveryoneReserves {
                    true => Reserve::Reserved,
                    false => Reserve::InFlight,
                }
            }
        })
    }

    async fn confirm(&self, key: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
        let key = self.key(key);
        let known = self.entries.lock().unwrap().get(&key).copied();
        match (self.fault, known) {
            (Fault::OnlyTheKnownIsConfirmed, None) => {}
            (Fault::ConfirmingKeepsTheEnd, Some(Entry { until, .. })) => {
                self.set(key, None, Lifetime::new(lifetime.now(), until));
            }
            _ => self.set(key, None, lifetime),
        }
        Ok(())
    }

    async fn release(&self, key: ReplayKey, holder: Holder) -> Result<(), BoxError> {
        let (key, holder) = (self.key(key), self.holder(holder));
        let mut entries = self.entries.lock().unwrap();
        let is_free = entries.get(&key).is_some_and(|entry| match entry.holder {
            Some(other) => other == holder || self.fault == Fault::EveryoneReleases,
            None => self.fault == Fault::DoneIsReleased,
        });
        if is_free {
            entries.remove(&key);
        }
        Ok(())
    }

    async fn remember(&self, message: ReplayKey, lifetime: Lifetime) -> Result<(), BoxError> {
        if self.fault != Fault::MessagesAreForgotten {
            self.set(self.key(message), None, lifetime);
        }
        Ok(())
    }

    async fn is_remembered(&self, message: ReplayKey, now: NumericDate) -> Result<bool, BoxError> {
        let is_known = self.get(self.key(message), now).is_some();
        Ok(is_known || self.fault == Fault::EveryMessageIsRemembered)
    }

    fn release_in_background(self: Arc<Self>, key: ReplayKey, holder: Holder) {
        if self.fault != Fault::NothingInTheBackground {
            let release = self.release(key, holder);
            let mut context = Context::from_waker(std::task::Waker::noop());
            assert!(std::pin::pin!(release).poll(&mut context).is_ready());
        }
    }
}

/// Runs the checks, and returns the message of the one that failed.
fn failure(fault: Fault) -> Option<String> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let checks = || {
        let mut checks = std::pin::pin!(check_replay_store(Faulty::new(fault), now, async |_| {}));
        let mut context = Context::from_waker(std::task::Waker::noop());
        while checks.as_mut().poll(&mut context).is_pending() {}
    };
    let panic = std::panic::catch_unwind(AssertUnwindSafe(checks)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
}

#[test]
fn each_check_finds_its_fault() {
    assert_eq!(failure(Fault::None), None);
    for (fault, message) in [
        (Fault::EveryoneReserves, "another holder has to wait"),
        (Fault::HolderIsCutToHalf, "every bit of a holder counts"),
        (Fault::EveryoneReleases, "only the holder releases"),
        (Fault::DoneIsReleased, "done stays done"),
        (Fault::OnlyTheKnownIsConfirmed, "it was forgotten meanwhile"),
        (Fault::BitOfKeyIsLost(0), "every bit counts"),
        (Fault::BitOfKeyIsLost(127), "every bit counts"),
        (Fault::ReserveIsNotAtomic, "of many at once, one reserves"),
        (Fault::LongLifeIsLost, "no end"),
        (Fault::NothingInTheBackground, "a release in the background happens before long"),
        (Fault::MessagesAreForgotten, "a message is remembered"),
        (Fault::EveryMessageIsRemembered, "an unknown message is not remembered"),
        (Fault::NothingExpires, "a reservation ends"),
        (Fault::ConfirmingKeepsTheEnd, "confirmed when over"),
    ] {
        let failure = failure(fault).unwrap_or_else(|| panic!("{fault:?} was not found"));
        assert!(failure.contains(message), "{fault:?}: {failure}");
    }
}
