//! The states of a guarded delivery, Reading, Reserving, Calling and Settling: pending at every point,
//! dropped at every point, against a model.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};
use tower_qstash::{ReplayGuard, ReplayResponse, Reserve};

use crate::{
    scripted_store::{Journal, Script, ScriptedStore, pending_times},
    support::{
        bodies::{Boxed, Frames, Step},
        current,
        deliveries::delivery,
        layer,
    },
};

/// How the inner service ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Inner {
    Responds(u16),
    Fails,
    PanicsInCall,
    PanicsInPoll,
}

#[derive(Clone, Debug)]
struct Case {
    /// How often the body, the store and the inner service are pending.
    body_pending: usize,
    store_pending: usize,
    inner_pending: usize,
    /// `None`: the store fails to reserve.
    reserve: Option<Reserve>,
    settling_fails: bool,
    /// With `remember_messages`: what the store says, or `None` if it fails.
    message: Option<Option<bool>>,
    open_when_down: bool,
    inner: Inner,
    /// After so many polls the future is dropped.
    polls: usize,
}

#[derive(Debug, PartialEq)]
enum End {
    Dropped,
    Panicked,
    Failed,
    Responded(u16, Option<ReplayResponse>),
}

impl Case {
    fn script(&self) -> Script {
        let mut failing = Vec::new();
        if self.reserve.is_none() {
            failing.push("reserve");
        }
        if self.settling_fails {
            failing.extend(["confirm", "release"]);
        }
        if self.message == Some(None) {
            failing.push("is_remembered");
        }
        Script {
            reserve: self.reserve,
            is_remembered: self.message.flatten(),
            failing,
            pending: self.store_pending,
        }
    }

    /// The model: what happens, with `None` where the future is pending, and the end.
    fn expected(&self) -> (Vec<Option<&'static str>>, End) {
        use ReplayResponse::{AlreadyProcessed, InFlight, StoreUnavailable};
        let mut events = vec![None; self.body_pending];
        let ask = |events: &mut Vec<_>, operations: &[&'static str]| {
            events.extend(operations.iter().copied().map(Some));
            events.extend(vec![None; self.store_pending]);
        };
        let unavailable = || End::Responded(503, Some(StoreUnavailable));

        // Reserving.
        let mut is_guarded = true;
        if let Some(reply) = self.message {
            ask(&mut events, &["is_remembered"]);
            match reply {
                Some(true) => return (events, End::Responded(200, Some(AlreadyProcessed))),
                Some(false) => {}
                None if self.open_when_down => is_guarded = false,
                None => return (events, unavailable()),
            }
        }
        if is_guarded {
            ask(&mut events, &["reserve"]);
            match self.reserve {
                Some(Reserve::Reserved) => {}
                Some(Reserve::InFlight) => {
                    return (events, End::Responded(409, Some(InFlight)));
                }
                Some(Reserve::Done) => {
                    return (events, End::Responded(200, Some(AlreadyProcessed)));
                }
                Some(Reserve::Unknowable) => return (events, unavailable()),
                None if self.open_when_down => {}
                None => {
                    events.push(Some("release in background"));
                    return (events, unavailable());
                }
            }
        }

        // Calling.
        events.push(Some("call"));
        if self.inner == Inner::PanicsInCall {
            events.push(Some("release in background"));
            return (events, End::Panicked);
        }
        events.extend(vec![None; self.inner_pending]);
        let end = match self.inner {
            Inner::Responds(status) => End::Responded(status, None),
            Inner::Fails => End::Failed,
            Inner::PanicsInCall | Inner::PanicsInPoll => {
                events.push(Some("release in background"));
                return (events, End::Panicked);
            }
        };

        // Settling.
        if matches!(self.inner, Inner::Responds(200..300)) {
            let message = self.message.is_some();
            ask(&mut events, if message { &["confirm", "remember"] } else { &["confirm"] });
        } else {
            ask(&mut events, &["release"]);
            if self.settling_fails {
                events.push(Some("release in background"));
            }
        }
        (events, end)
    }
}

fn case() -> impl Strategy<Value = Case> {
    let reserve = prop_oneof![
        6 => Just(Some(Reserve::Reserved)),
        1 => Just(Some(Reserve::InFlight)),
        1 => Just(Some(Reserve::Done)),
        1 => Just(Some(Reserve::Unknowable)),
        2 => Just(None),
    ];
    let message = prop_oneof![
        4 => Just(None),
        3 => Just(Some(Some(false))),
        1 => Just(Some(Some(true))),
        1 => Just(Some(None)),
    ];
    let inner = prop_oneof![
        4 => prop_oneof![Just(200), Just(204), Just(299)].prop_map(Inner::Responds),
        4 => prop_oneof![Just(302), Just(404), Just(489), Just(500)].prop_map(Inner::Responds),
        1 => Just(Inner::Fails),
        1 => Just(Inner::PanicsInCall),
        2 => Just(Inner::PanicsInPoll),
    ];
    let pending = (0..3_usize, 0..3_usize, 0..3_usize);
    (pending, reserve, any::<bool>(), message, any::<bool>(), inner, 0..14_usize).prop_map(
        |(pending, reserve, settling_fails, message, open_when_down, inner, polls)| Case {
            body_pending: pending.0,
            store_pending: pending.1,
            inner_pending: pending.2,
            reserve,
            settling_fails,
            message,
            open_when_down,
            inner,
            polls,
        },
    )
}

/// The payload of the panics here, by which they are told from a failed assertion's.
struct Scripted;

/// Counts wake-ups.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn inner(
    case: &Case,
    journal: Journal,
) -> impl Service<
    Request<Boxed>,
    Response = Response<String>,
    Error = &'static str,
    Future = Pin<Box<dyn Future<Output = Result<Response<String>, &'static str>>>>,
> + Clone {
    let (inner, pending) = (case.inner, case.inner_pending);
    service_fn(move |_: Request<Boxed>| {
        journal.note("call");
        if inner == Inner::PanicsInCall {
            // Without the hook's message, since there are thousands.
            resume_unwind(Box::new(Scripted));
        }
        let future = async move {
            pending_times(pending).await;
            match inner {
                Inner::Responds(status) => {
                    let mut response = Response::new("inner".to_owned());
                    *response.status_mut() = StatusCode::from_u16(status).expect("a valid status");
                    Ok(response)
                }
                Inner::Fails => Err("inner"),
                Inner::PanicsInCall | Inner::PanicsInPoll => resume_unwind(Box::new(Scripted)),
            }
        };
        Box::pin(future) as _
    })
}

/// Runs a case, and returns what happened.
fn run(case: &Case) -> (Vec<&'static str>, End) {
    let store = ScriptedStore::default();
    *store.script() = case.script();
    let mut guard = ReplayGuard::new(store.clone());
    if case.open_when_down {
        guard = guard.open_when_down();
    }
    if case.message.is_some() {
        guard = guard.remember_messages(std::time::Duration::from_secs(86_400));
    }
    let steps = std::iter::repeat_with(|| Step::Yield)
        .take(case.body_pending)
        .chain([Step::data(Bytes::from_static(b"Hello"))]);
    let (body, _) = Frames::new(steps.collect::<Vec<_>>()).boxed_with_polls();
    let mut request = delivery(&current(), "Hello", body);
    request.headers_mut().insert("upstash-message-id", HeaderValue::from_static("msg_1"));

    let mut service = layer().replay_guard(guard).layer(inner(case, store.journal.clone()));
    let mut future = Box::pin(service.call(request));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut end = End::Dropped;
    for _ in 0..case.polls {
        let before = wakes.0.load(Ordering::Relaxed);
        let mut context = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => {
                assert!(wakes.0.load(Ordering::Relaxed) > before, "the waker was not passed on");
                continue;
            }
            Ok(Poll::Ready(Ok(response))) => {
                let replayed = response.extensions().get().copied();
                end = End::Responded(response.status().as_u16(), replayed);
            }
            Ok(Poll::Ready(Err(error))) => {
                assert_eq!(error, "inner");
                end = End::Failed;
            }
            Err(panic) if panic.is::<Scripted>() => end = End::Panicked,
            Err(panic) => resume_unwind(panic),
        }
        break;
    }
    drop(future);
    (store.journal.take(), end)
}

/// What the model expects of a future that is polled so often.
fn expected(case: &Case) -> (Vec<&'static str>, End) {
    let (events, end) = case.expected();
    let mut polls = case.polls;
    let mut happened = Vec::new();
    if polls == 0 {
        return (happened, End::Dropped);
    }
    for event in events {
        match event {
            Some(event) => happened.push(event),
            None => {
                polls -= 1;
                if polls == 0 {
                    return (happened, End::Dropped);
                }
            }
        }
    }
    (happened, end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn guarded_delivery_does_what_the_model_does(case in case()) {
        prop_assert_eq!(run(&case), expected(&case));
    }
}

/// Every place where one delivery can be dropped, one after another.
#[test]
fn dropped_future_changes_nothing_afterwards() {
    let case = Case {
        body_pending: 2,
        store_pending: 2,
        inner_pending: 2,
        reserve: Some(Reserve::Reserved),
        settling_fails: false,
        message: Some(Some(false)),
        open_when_down: false,
        inner: Inner::Responds(200),
        polls: 0,
    };
    let all = ["is_remembered", "reserve", "call", "confirm", "remember"];
    for (polls, begun) in
        [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (8, 3), (9, 5), (10, 5)]
    {
        let (events, end) = run(&Case { polls, ..case.clone() });
        assert_eq!((&events[..], end), (&all[..begun], End::Dropped), "{polls} polls");
    }
    let (events, end) = run(&Case { polls: 11, ..case });
    assert_eq!((&events[..], end), (&all[..], End::Responded(200, None)));
}
