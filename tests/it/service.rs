//! An example receiver as a process of its own, whose log can be waited for.

use std::{process::Stdio, time::SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
};
use tower_qstash::Signer;

use crate::{process::example, support::futures::with_timeout};

/// Where the receivers believe that they are published.
pub(crate) const PUBLIC_URL: &str = "https://api.example.com";

/// A running example, stopped when dropped.
pub(crate) struct Service {
    process: Child,
    address: String,
    log: watch::Receiver<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Service {
    /// Starts the example of that name with nothing but these variables, and waits until it listens.
    pub(crate) async fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(example(name))
            .env_clear()
            .envs([("BIND", "127.0.0.1:0"), ("PUBLIC_URL", PUBLIC_URL)])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example starts");

        let (sender, log) = watch::channel(String::new());
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|log| *log += &format!("{line}\n"));
            }
        });
        let mut line = String::new();
        let mut printed = BufReader::new(process.stdout.take().expect("piped"));
        with_timeout(printed.read_line(&mut line)).await.expect("a line");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.split(',').next());
        let address =
            address.unwrap_or_else(|| panic!("{line}{}", *log.borrow())).trim_end().to_owned();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { process, address, log, client }
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until its log has `text` so many times.
    pub(crate) async fn logged(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let waited = log.wait_for(|log| log.matches(text).count() >= times);
        let waited = with_timeout(async { waited.await.map(|_| ()) }).await;
        assert!(waited.is_ok(), "it stopped without {text:?}: {}", self.log());
    }

    /// Delivers `body` to `path` as published there, and returns the status and the response's text.
    pub(crate) async fn deliver(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        signer: &Signer,
    ) -> (u16, String) {
        let body = body.into();
        let token = signer.delivery(&format!("{PUBLIC_URL}{path}"), &body, real_now()).token();
        let request = http::Request::post(format!("http://{}{path}", self.address))
            .header("upstash-signature", token)
            .body(Full::new(body))
            .expect("a valid request");
        let response = with_timeout(self.client.request(request)).await.expect("a response");
        let status = response.status().as_u16();
        let body = with_timeout(response.into_body().collect()).await.expect("a whole response");
        (status, String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }
}

pub(crate) fn real_now() -> SystemTime {
    SystemTime::now()
}
