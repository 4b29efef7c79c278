//! A TCP proxy that counts what passes through it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

pub(crate) struct Proxy {
    pub(crate) port: u16,
    turns: Arc<AtomicU32>,
}

impl Proxy {
    /// Forwards to this port until the test ends.
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let turns = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&turns);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, count) = (client.unwrap(), Arc::clone(&count));
                thread::spawn(move || forward(client, to, &count));
            }
        });
        Self { port, turns }
    }

    /// How often the server had its turn: it got something, and replied.
    pub(crate) fn round_trips(&self) -> u32 {
        self.turns.load(Ordering::SeqCst)
    }
}

/// Half-duplex: all that the client sends is passed on before the server is listened to. So what
/// needs two round trips takes two turns.
fn forward(mut client: TcpStream, to: u16, turns: &AtomicU32) {
    let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
    let mut buffer = [0; 65536];
    loop {
        match client.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => server.write_all(&buffer[..length]).unwrap(),
        }
        // Whatever else it has to say for now.
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        while let Ok(length) = client.read(&mut buffer)
            && length > 0
        {
            server.write_all(&buffer[..length]).unwrap();
        }
        client.set_read_timeout(None).unwrap();

        turns.fetch_add(1, Ordering::SeqCst);
        server.set_read_timeout(None).unwrap();
        loop {
            match server.read(&mut buffer) {
                Ok(length) if length > 0 => client.write_all(&buffer[..length]).unwrap(),
                _ => break,
            }
            server.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        }
    }
}
