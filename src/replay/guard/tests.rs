//! The guard with the store in memory, but for its last module.

use std::task::Waker;

use super::*;

#[cfg(feature = "replay-store")]
mod foreign;

const EXP: i64 = 1_700_000_300;

fn date(seconds: i64) -> NumericDate {
    NumericDate::from_secs(seconds)
}

/// A delivery as QStash makes it, at the moment when its token is issued.
fn delivery() -> Delivery<'static> {
    Delivery {
        mac: [7; 16],
        now: date(EXP - 300),
        expires_at: date(EXP),
        issued_at: Some(date(EXP - 300)),
        tolerance: Duration::ZERO,
        message_id: None,
        key_label: "current",
        subject: "https://api.example.com/hook",
        body_hash: &[9; 32],
    }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("not ready at once"),
    }
}

fn reserved(guard: &ReplayGuard, delivery: Delivery<'_>) -> Reservation {
    match ready(guard.reserve(&delivery)) {
        Verdict::Reserved(reservation) => reservation,
        verdict => panic!("not reserved: {verdict:?}"),
    }
}

fn handle(guard: &ReplayGuard, delivery: Delivery<'_>) {
    ready(reserved(guard, delivery).confirm(delivery.now)).unwrap();
}

/// Ends in a word, and leaves the guard as it was.
fn word(guard: &ReplayGuard, delivery: Delivery<'_>) -> &'static str {
    match ready(guard.reserve(&delivery)) {
        Verdict::Reserved(reservation) => {
            ready(reservation.release()).unwrap();
            "new"
        }
        Verdict::Unguarded(..) => "unguarded",
        Verdict::InFlight { .. } => "in flight",
        Verdict::Done(Known::Token) => "token",
        Verdict::Done(Known::Message) => "message",
        Verdict::Unavailable(_) => "unavailable",
    }
}

#[test]
fn a_token_is_in_flight_then_done() {
    let guard = ReplayGuard::in_memory();
    let first = reserved(&guard, delivery());
    assert_eq!(word(&guard.clone(), delivery()), "in flight");
    ready(first.confirm(date(EXP))).unwrap();
    assert_eq!(word(&guard, delivery()), "token");
    assert_eq!(word(&guard, Delivery { mac: [8; 16], ..delivery() }), "new");
    assert_eq!(word(&ReplayGuard::in_memory(), delivery()), "new");
}

#[test]
fn a_failed_token_can_be_used_again() {
    let guard = ReplayGuard::in_memory();
    ready(reserved(&guard, delivery()).release()).unwrap();
    reserved(&guard, delivery()).release_in_background();
    assert_eq!(word(&guard, delivery()), "new");
}

#[test]
fn a_dropped_reservation_stays_in_flight() {
    let guard = ReplayGuard::in_memory();
    drop(reserved(&guard, delivery()));
    assert_eq!(word(&guard, delivery()), "in flight");
}

#[test]
fn a_lifetime_ends_after_three_tolerances_and_a_minute() {
    let guard = ReplayGuard::in_memory();
    let delivery = Delivery { tolerance: Duration::from_secs(10), ..delivery() };
    // However late the handler is done.
    ready(reserved(&guard, delivery).confirm(date(EXP + 50))).unwrap();
    assert_eq!(word(&guard, Delivery { now: date(EXP + 89), ..delivery }), "token");
    assert_eq!(word(&guard, Delivery { now: date(EXP + 90), ..delivery }), "new");
}

#[test]
fn a_second_arrival_waits_until_its_token_has_expired() {
    let guard = ReplayGuard::in_memory();
    drop(reserved(&guard, delivery()));
    let retry_after = |delivery| match ready(guard.reserve(&delivery)) {
        Verdict::InFlight { retry_after } => retry_after,
        verdict => panic!("{verdict:?}"),
    };
    assert_eq!(retry_after(delivery()), 300);
    let half_a_second_later = delivery().now.saturating_add(Duration::from_millis(500));
    assert_eq!(retry_after(Delivery { now: half_a_second_later, ..delivery() }), 300);
    let tolerance = Duration::from_secs(7);
    assert_eq!(retry_after(Delivery { tolerance, ..delivery() }), 307);
    assert_eq!(retry_after(Delivery { now: date(EXP), ..delivery() }), 1);
}

#[test]
fn namespaces_tell_guards_apart() {
    let store = Arc::new(MemoryStore::new());
    let day = Duration::from_secs(86_400);
    let guard = |name| {
        ReplayGuard::in_memory_with(Arc::clone(&store)).remember_messages(day).namespace(name)
    };
    let delivery = Delivery { message_id: Some(b"msg_1"), ..delivery() };
    handle(&guard("a"), delivery);
    assert_eq!(word(&guard("a"), Delivery { message_id: None, ..delivery }), "token");
    assert_eq!(word(&guard("a"), Delivery { mac: [8; 16], ..delivery }), "message");
    assert_eq!(word(&guard("b"), delivery), "new");
    assert_eq!(word(&guard(""), delivery), "new");
    handle(&guard(""), delivery);
    assert_eq!(word(&ReplayGuard::in_memory_with(store), delivery), "token");
}

/// A namespace is mixed into the keys without making any two of them equal.
#[test]
fn every_bit_of_a_token_counts_in_a_namespace() {
    let guard = ReplayGuard::in_memory().namespace("orders");
    handle(&guard, delivery());
    for bit in 0..128 {
        let mac = (u128::from_be_bytes(delivery().mac) ^ 1 << bit).to_be_bytes();
        assert_eq!(word(&guard, Delivery { mac, ..delivery() }), "new", "bit {bit}");
    }
}

#[test]
fn a_handled_message_is_known_by_what_is_signed_as_well() {
    let guard = ReplayGuard::in_memory().remember_messages(Duration::from_secs(86_400));
    let first = Delivery { message_id: Some(b"msg_1"), ..delivery() };
    let again = Delivery { mac: [8; 16], ..first };
    ready(reserved(&guard, first).release()).unwrap();
    assert_eq!(word(&guard, again), "new", "a message that failed is not remembered");

    handle(&guard, first);
    assert_eq!(word(&guard, again), "message");
    for (what, other) in [
        ("id", Delivery { message_id: Some(b"msg_2"), ..again }),
        ("destination", Delivery { subject: "https://api.example.com/other", ..again }),
        ("body", Delivery { body_hash: &[0; 32], ..again }),
        ("no id", Delivery { message_id: None, ..again }),
        (
            "a boundary",
            Delivery {
                message_id: Some(b"msg_1h"),
                subject: "ttps://api.example.com/hook",
                ..again
            },
        ),
    ] {
        assert_eq!(word(&guard, other), "new", "{what}");
    }
    let a_day_later = |seconds| date(EXP - 300 + 86_400 + seconds);
    assert_eq!(word(&guard, Delivery { now: a_day_later(-1), ..again }), "message");
    assert_eq!(word(&guard, Delivery { now: a_day_later(0), ..again }), "new");
}

#[test]
fn messages_are_not_remembered_unless_asked() {
    let guard = ReplayGuard::in_memory();
    let first = Delivery { message_id: Some(b"msg_1"), ..delivery() };
    handle(&guard, first);
    assert_eq!(word(&guard, Delivery { mac: [8; 16], ..first }), "new");
}

#[test]
fn any_expiry_and_tolerance_is_taken() {
    for exp in [i64::MIN, -1, 0, EXP, i64::MAX] {
        for now in [i64::MIN, 0, EXP, i64::MAX] {
            for tolerance in [Duration::ZERO, Duration::MAX] {
                let guard = ReplayGuard::in_memory().remember_messages(Duration::MAX);
                let delivery = Delivery {
                    now: date(now),
                    expires_at: date(exp),
                    issued_at: Some(date(i64::MIN)),
                    tolerance,
                    message_id: Some(b""),
                    ..delivery()
                };
                handle(&guard, delivery);
                // A token that the layer accepts is known until long after.
                let accepted = date(now).saturating_sub(tolerance) < date(exp);
                if accepted && now < i64::MAX {
                    let known = word(&guard, Delivery { message_id: None, ..delivery });
                    assert_eq!(known, "token", "exp {exp}, now {now}, {tolerance:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_shows_a_key() {
    let guard = ReplayGuard::in_memory();
    let reservation = reserved(&guard, delivery());
    assert_eq!(
        format!("{guard:?}"),
        "ReplayGuard { store: memory, open_when_down: false, remember_messages: None, .. }"
    );
    let shown = format!("{reservation:?}");
    assert!(shown.starts_with("Reservation { lifetime: ") && !shown.contains("707"), "{shown}");
}

/// The layer's response future holds them.
#[test]
fn auto_traits() {
    fn all<T: Send + Sync + Unpin>() {}
    all::<ReplayGuard>();
    all::<Reservation>();
    all::<Reserving>();
    all::<Settling>();
    all::<Verdict>();
}
