//! Redis over TLS, as Upstash's is.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use tower_qstash::{RedisStore, check_replay_store};

use crate::server::{PATIENCE, Server, find, free_port, new_folder};

/// An authority of our own, and a certificate for `localhost`.
fn certificates(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test"];
    openssl(&[&authority[..], &new_key].concat());
    let request = ["req", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"];
    openssl(&[&request[..], &new_key].concat());
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key"];
    let names = ["-CAcreateserial", "-extfile", "names", "-out", "server.crt"];
    openssl(&[&sign[..], &names].concat());
}

fn url_file() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls-url")
}

/// The authority has to be in the environment when the process starts, so the test is a process of its
/// own: this one, started again.
#[test]
fn redis_conforms_over_tls() {
    if find("redis-server").is_none() {
        return;
    }
    let folder = new_folder();
    certificates(&folder);
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (port, key, crt, ca) =
        (free_port(), file("server.key"), file("server.crt"), file("ca.crt"));
    let tls_port = port.to_string();
    let server = Server::start_with(
        "redis-server",
        &[
            "--tls-port",
            &tls_port,
            "--tls-key-file",
            &key,
            "--tls-cert-file",
            &crt,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ],
    );
    let _server = server.unwrap();
    fs::write(url_file(), format!("rediss://localhost:{port}")).unwrap();

    let test = std::env::current_exe().unwrap();
    let child = |authority: &str| {
        let mut child = Command::new(&test);
        child.args(["tls::in_a_process_of_its_own", "--exact", "--include-ignored"]);
        child.env("SSL_CERT_FILE", authority).output().unwrap()
    };
    let output = child(&ca);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");

    // The certificate is checked: with another authority there is no connection.
    let other = new_folder();
    certificates(&other);
    let output = child(other.join("ca.crt").to_str().unwrap());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && text.contains("could not connect to Redis"), "{text}");
    fs::remove_dir_all(folder).unwrap();
    fs::remove_dir_all(other).unwrap();
}

#[tokio::test]
#[ignore = "run by the test above, with an environment"]
async fn in_a_process_of_its_own() {
    let store = RedisStore::new(&fs::read_to_string(url_file()).unwrap()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the server has a clock, too")]
    let now = SystemTime::now();
    check_replay_store(store.time_limit(PATIENCE), now, tokio::time::sleep).await;
}
