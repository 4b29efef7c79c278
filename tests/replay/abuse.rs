//! The crowd of `tests/abuse.rs` before two receivers that share one Redis.

use std::sync::{Arc, atomic::Ordering};

use tower_qstash::{RedisStore, ReplayGuard};

use crate::{
    crowd::{Crowd, Forged, Handled, start},
    server::{PATIENCE, Server},
    support::layer,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_deliveries_are_handled_once_by_two_receivers_under_load() {
    let Some(server) = Server::start() else { return };
    let handled = Handled::default();
    let receiver = async || {
        // Its time limit does not come into it, however busy the machine is.
        let store = RedisStore::new(&server.url()).unwrap().time_limit(PATIENCE);
        start(handled.router().layer(layer().replay_guard(ReplayGuard::new(store)))).await
    };
    let (receiver, other) = (receiver().await, receiver().await);

    let crowd = Crowd {
        valid: 400,
        forged: 400,
        swapped: 10,
        malformed: 100,
        stalling_clients: 8,
        repeat_to: Some(other),
    };
    let responses = crowd.run(receiver, Arc::new(Forged::new())).await;
    assert_eq!(responses.handled.load(Ordering::Relaxed), crowd.deliveries());
    assert_eq!(responses.refused.load(Ordering::Relaxed), crowd.deliveries());
    handled.assert_each_once(crowd.deliveries());
    crowd.repeat_all(receiver).await;
    handled.assert_each_once(crowd.deliveries());
}
