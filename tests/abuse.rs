//! A receiver on real sockets, under load from valid, forged, malformed, slow and silent clients.
//!
//! A test target of its own, because it counts the heap of the whole process.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use peak_alloc::PeakAlloc;
use tokio::sync::Mutex;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_qstash::{PublicUrl, QStashVerifyLayer, ReplayGuard};

#[path = "support/crowd.rs"]
mod crowd;
#[expect(dead_code, reason = "shared with the other test targets")]
mod support;

use crowd::{
    Crowd, FORGING_CLIENTS, Forged, Handled, KIB, MALFORMED_CLIENTS, MIB, REJECTED_BODY, Responses,
    SILENT_CLIENTS, SILENT_WITH_VALID_TOKEN, SLOW_CLIENTS, SWAPPING_CLIENTS, VALID_BODY,
    VALID_CLIENTS, start,
};
use support::{URL, layer_for};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The heap is that of the whole process, so the tests don't run at the same time.
static HEAP_IN_USE: Mutex<()> = Mutex::const_new(());

/// The heap that the load may take, with both ends of its sockets.
///
/// A forged request takes about twice the drain limit of 64 KiB, because hyper reads ahead, instead
/// of the 1 MiB that it sends: buffered, those alone would take 48 MiB. A body is only buffered for
/// a valid token, up to the limit of 3 MiB, which few clients reach at the same time.
const BOUND: usize = (FORGING_CLIENTS + MALFORMED_CLIENTS) * 128 * KIB
    + SWAPPING_CLIENTS * 3 * MIB
    + (VALID_CLIENTS + SLOW_CLIENTS) * 4 * (REJECTED_BODY + VALID_BODY)
    + SILENT_CLIENTS * 64 * KIB;

const CROWD: Crowd = Crowd {
    valid: 2_000,
    forged: 2_000,
    swapped: 60,
    malformed: 400,
    stalling_clients: 0,
    repeat_to: None,
};

const SMALL_CROWD: Crowd = Crowd { valid: 400, forged: 400, swapped: 10, malformed: 100, ..CROWD };

fn layer() -> QStashVerifyLayer {
    layer_for(PublicUrl::exact(URL).expect("a valid URL"))
}

/// Runs a crowd within the bound of the heap.
async fn withstand(crowd: Crowd, receiver: SocketAddr, handled: &Handled) -> Arc<Responses> {
    let forged = Arc::new(Forged::new());
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let responses = crowd.run(receiver, forged).await;
    let peak = HEAP.peak_usage() - before;

    handled.assert_each_once(crowd.deliveries());
    assert_eq!(responses.handled.load(Ordering::Relaxed), crowd.deliveries());
    assert!(responses.to_forged.load(Ordering::Relaxed) > crowd.forged / 4, "{responses:?}");
    assert!(responses.to_swapped.load(Ordering::Relaxed) > 0, "{responses:?}");
    assert!(peak < BOUND, "{peak} bytes, more than {BOUND}");
    responses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_valid_deliveries_get_through_under_load() {
    let _alone = HEAP_IN_USE.lock().await;
    let handled = Handled::default();
    let receiver = start(handled.router().layer(layer())).await;
    withstand(CROWD, receiver, &handled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valid_deliveries_pass_an_outer_limit_despite_stalled_forgers() {
    const STALLING_CLIENTS: usize = 24;
    // Silent clients with a valid token hold their place, which only a timeout outside would end.
    const LIMIT: usize = SILENT_WITH_VALID_TOKEN + 12;
    let _alone = HEAP_IN_USE.lock().await;
    let handled = Handled::default();
    // Long enough to discard the bodies of forgers that send all of it, whose connections go on.
    let verify = layer().drain_timeout(Duration::from_millis(400));
    let limit = GlobalConcurrencyLimitLayer::new(LIMIT);
    let receiver = start(handled.router().layer(verify).layer(limit)).await;

    let crowd = Crowd { valid: 80, stalling_clients: STALLING_CLIENTS, ..SMALL_CROWD };
    let responses = withstand(crowd, receiver, &handled).await;
    let stalled = responses.to_stalled.load(Ordering::Relaxed);
    assert!(stalled > 2 * STALLING_CLIENTS, "they stalled again and again: {responses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_deliveries_are_handled_once_with_a_guard_in_memory() {
    let _alone = HEAP_IN_USE.lock().await;
    let handled = Handled::default();
    let guarded = layer().replay_guard(ReplayGuard::in_memory());
    let receiver = start(handled.router().layer(guarded)).await;

    let crowd = Crowd { repeat_to: Some(receiver), ..SMALL_CROWD };
    let responses = withstand(crowd, receiver, &handled).await;
    assert_eq!(responses.refused.load(Ordering::Relaxed), crowd.deliveries());
    crowd.repeat_all(receiver).await;
    handled.assert_each_once(crowd.deliveries());
}
