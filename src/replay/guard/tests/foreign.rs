//! The guard with a store of the operator's own, which may fail.

use std::{
    collections::{HashSet, VecDeque},
    sync::Mutex,
};

use super::*;

/// Says what it is told to, and notes what it was asked.
#[derive(Default)]
struct Scripted {
    reserves: Mutex<VecDeque<Result<Reserve, BoxError>>>,
    remembers: bool,
    down: bool,
    calls: Mutex<Vec<&'static str>>,
    holders: Mutex<Vec<Holder>>,
    remember_asked: Mutex<bool>,
}

impl Scripted {
    fn saying(reserve: Result<Reserve, &str>) -> Arc<Self> {
        let reserves = VecDeque::from([reserve.map_err(Into::into)]);
        Arc::new(Self { reserves: Mutex::new(reserves), ..Self::default() })
    }

    fn note(&self, call: &'static str) -> Result<(), BoxError> {
        self.calls.lock().unwrap().push(call);
        if self.down { Err("down".into()) } else { Ok(()) }
    }

    fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}

struct Shared(Arc<Scripted>);

impl ReplayStore for Shared {
    async fn reserve(
        &self,
        _: ReplayKey,
        holder: Holder,
        _: Lifetime,
    ) -> Result<Reserve, BoxError> {
        self.0.note("reserve")?;
        self.0.holders.lock().unwrap().push(holder);
        self.0.reserves.lock().unwrap().pop_front().unwrap_or(Ok(Reserve::Reserved))
    }

    async fn confirm(&self, _: ReplayKey, _: Lifetime) -> Result<(), BoxError> {
        self.0.note("confirm")?;
        Ok(())
    }

    async fn release(&self, _: ReplayKey, holder: Holder) -> Result<(), BoxError> {
        self.0.note("release")?;
        assert_eq!(self.0.holders.lock().unwrap().last(), Some(&holder));
        Ok(())
    }

    async fn remember(&self, _: ReplayKey, _: Lifetime) -> Result<(), BoxError> {
        self.0.note("remember")
    }

    async fn is_remembered(&self, _: ReplayKey, _: NumericDate) -> Result<bool, BoxError> {
        self.0.note("is_remembered")?;
        Ok(self.0.remembers)
    }
}

fn guard(store: &Arc<Scripted>) -> ReplayGuard {
    ReplayGuard::new(Shared(Arc::clone(store)))
}

fn verdict(guard: &ReplayGuard) -> Verdict {
    ready(guard.reserve(&Delivery { message_id: Some(b"msg_1"), ..delivery() }))
}

#[test]
fn a_store_that_fails_makes_the_delivery_come_again() {
    let store = Scripted::saying(Err("lost"));
    let Verdict::Unavailable(error) = verdict(&guard(&store)) else { panic!() };
    assert_eq!(error.to_string(), "lost");
    assert_eq!(store.calls(), ["reserve", "release"], "it may have been reserved all the same");
}

#[test]
fn an_open_guard_lets_it_through_and_keeps_what_was_reserved() {
    let store = Scripted::saying(Err("lost"));
    let guard = guard(&store).open_when_down();
    let Verdict::Unguarded(reservation, error) = verdict(&guard) else { panic!() };
    assert_eq!(error.to_string(), "lost");
    ready(reservation.confirm(delivery().now)).unwrap();
    assert_eq!(store.calls(), ["reserve", "confirm"]);
}

#[test]
fn a_store_that_cannot_know_is_not_down() {
    for open in [false, true] {
        let store = Scripted::saying(Ok(Reserve::Unknowable));
        let guard = guard(&store);
        let guard = if open { guard.open_when_down() } else { guard };
        assert!(matches!(verdict(&guard), Verdict::Unavailable(_)));
        assert_eq!(store.calls(), ["reserve"]);
    }
}

#[test]
fn what_the_store_says_is_the_verdict() {
    let say = |reserve| verdict(&guard(&Scripted::saying(Ok(reserve))));
    assert!(matches!(say(Reserve::Reserved), Verdict::Reserved(_)));
    assert!(matches!(say(Reserve::InFlight), Verdict::InFlight { retry_after: 300 }));
    assert!(matches!(say(Reserve::Done), Verdict::Done(Known::Token)));
}

#[test]
fn messages_are_asked_for_first_and_remembered_last() {
    let store = Arc::new(Scripted { remembers: true, ..Scripted::default() });
    let day = Duration::from_secs(86_400);
    let remembering = guard(&store).remember_messages(day);
    assert!(matches!(verdict(&remembering), Verdict::Done(Known::Message)));
    assert_eq!(store.calls(), ["is_remembered"], "no reservation is left behind");

    let store = Arc::<Scripted>::default();
    let remembering = guard(&store).remember_messages(day);
    let Verdict::Reserved(reservation) = verdict(&remembering) else { panic!() };
    ready(reservation.confirm(delivery().now)).unwrap();
    assert_eq!(store.calls(), ["is_remembered", "reserve", "confirm", "remember"]);
}

#[test]
fn a_store_that_cannot_say_whether_a_message_is_known_is_down() {
    let day = Duration::from_secs(86_400);
    let store = Arc::new(Scripted { down: true, ..Scripted::default() });
    let remembering = guard(&store).remember_messages(day);
    assert!(matches!(verdict(&remembering), Verdict::Unavailable(_)));
    let Verdict::Unguarded(reservation, _) = verdict(&remembering.open_when_down()) else {
        panic!()
    };
    let error = ready(reservation.confirm(delivery().now)).unwrap_err();
    assert_eq!(error.to_string(), "down");
    let calls = ["is_remembered", "is_remembered", "confirm", "remember"];
    assert_eq!(store.calls(), calls, "one that fails does not hinder the other");
}

#[test]
fn a_release_that_fails_is_tried_again_in_the_background() {
    let store = Arc::<Scripted>::default();
    let reservation = reserved(&guard(&store), delivery());
    drop(store.calls());
    let down = Arc::new(Scripted { down: true, ..Scripted::default() });
    let Reservation { token, holder, lifetime, message, .. } = reservation;
    let store = Store::Foreign(Arc::new(Shared(Arc::clone(&down))));
    let reservation = Reservation { store, token, holder, lifetime, message };
    ready(reservation.release()).unwrap_err();
    assert_eq!(down.calls(), ["release", "release"]);
}

#[test]
fn a_panic_releases_without_waiting() {
    let store = Arc::<Scripted>::default();
    reserved(&guard(&store), delivery()).release_in_background();
    assert_eq!(store.calls(), ["reserve", "release"]);
}

#[test]
fn debug_shows_the_type_of_the_store() {
    let shown = format!("{:?}", guard(&Arc::default()));
    let expected = "ReplayGuard { store: tower_qstash::replay::guard::tests::foreign::Shared, ";
    assert!(shown.starts_with(expected), "{shown}");
}

#[test]
fn every_arrival_is_another_holder() {
    let store = Arc::<Scripted>::default();
    let guard = guard(&store);
    for _ in 0..1_000 {
        drop(reserved(&guard, delivery()));
    }
    let holders: HashSet<_> = store.holders.lock().unwrap().drain(..).collect();
    assert_eq!(holders.len(), 1_000);
}

/// Each waits for the other, so they have to be polled together.
#[test]
fn confirming_and_remembering_take_one_round_trip() {
    struct Together(Arc<Scripted>);
    impl ReplayStore for Together {
        async fn reserve(&self, _: ReplayKey, _: Holder, _: Lifetime) -> Result<Reserve, BoxError> {
            Ok(Reserve::Reserved)
        }
        async fn confirm(&self, _: ReplayKey, _: Lifetime) -> Result<(), BoxError> {
            std::future::poll_fn(|context| {
                if *self.0.remember_asked.lock().unwrap() {
                    return Poll::Ready(Ok(()));
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await
        }
        async fn release(&self, _: ReplayKey, _: Holder) -> Result<(), BoxError> {
            Ok(())
        }
        async fn remember(&self, _: ReplayKey, _: Lifetime) -> Result<(), BoxError> {
            *self.0.remember_asked.lock().unwrap() = true;
            Ok(())
        }
        async fn is_remembered(&self, _: ReplayKey, _: NumericDate) -> Result<bool, BoxError> {
            Ok(false)
        }
    }
    let day = Duration::from_secs(86_400);
    let guard = ReplayGuard::new(Together(Arc::default())).remember_messages(day);
    let delivery = Delivery { message_id: Some(b"msg_1"), ..delivery() };
    let mut settling = reserved(&guard, delivery).confirm(delivery.now);
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(Pin::new(&mut settling).poll(&mut context).is_pending());
    ready(settling).unwrap();
}
