//! The crowd of `tests/abuse.rs` before two receivers that share one Redis, and a server that sends
//! anything.

use std::{
    io::{Read, Write},
    net::TcpListener,
    num::NonZeroU128,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use tower_qstash::{Holder, Lifetime, RedisStore, ReplayGuard, ReplayKey, ReplayStore, Reserve};

use crate::{
    crowd::{Crowd, Forged, Handled, start},
    server::{PATIENCE, Server},
    support::{layer, now},
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

#[tokio::test]
async fn arbitrary_replies_are_never_taken_for_a_reservation() {
    const REPLIES: [&[u8]; 14] = [
        b"",
        b"\0\xff\r\n",
        b"+OK\r\n",
        b"$-1\r\n",
        b"$4\r\ndone\r\n",
        b"$0\r\n\r\n",
        b":9223372036854775808\r\n",
        b"-ERR no\r\n",
        b"-READONLY no\r\n",
        b"*-1\r\n",
        b"*4294967296\r\n",
        b"$4294967296\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        b">2\r\n+invalidate\r\n*-1\r\n",
    ];
    for reply in REPLIES {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", server.local_addr().unwrap());
        thread::spawn(move || {
            for client in server.incoming() {
                let (mut client, mut command) = (client.unwrap(), [0; 4096]);
                while client.read(&mut command).is_ok_and(|length| length > 0) {
                    if reply.is_empty() || client.write_all(&reply.repeat(8)).is_err() {
                        break;
                    }
                }
            }
        });
        let limit = Duration::from_millis(200);
        for store in [
            RedisStore::new(&url).unwrap().time_limit(limit),
            RedisStore::new(&url).unwrap().time_limit(limit).refuse_older_tokens(),
        ] {
            let lifetime = Lifetime::new(now().into(), (now() + Duration::from_secs(360)).into());
            let key = ReplayKey::from_bytes([7; 16]);
            let holder = Holder::new(NonZeroU128::MIN);
            let outcome = store.reserve(key, holder, lifetime).await;
            let text = String::from_utf8_lossy(reply);
            assert!(!matches!(outcome, Ok(Reserve::Reserved)), "{text:?}");
        }
    }
}
