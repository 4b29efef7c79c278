//! A real server for one test, on a free port of the loopback interface.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Long enough for a machine with a hundred things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    executable: PathBuf,
    arguments: Vec<String>,
    process: Child,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
}

/// Where the server is, if it is installed. In CI it has to be.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/valkey").join(name);
    let found = [PathBuf::from(name), own].into_iter().find(|executable| {
        let version = Command::new(executable).arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    #[expect(clippy::disallowed_methods, reason = "CI's, and no part of the crate")]
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is missing: run scripts/servers");
        eprintln!("!! SKIPPED: {name} is missing; scripts/servers installs it");
    }
    found
}

impl Server {
    /// `redis-server` in memory, or `None` where it is missing.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("redis-server", &[])
    }

    pub(crate) fn start_with(name: &str, arguments: &[&str]) -> Option<Self> {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Some(Self::run(find(name)?, free_port(), new_folder(), arguments))
    }

    /// On this port, where something listened before.
    pub(crate) fn start_at(port: u16) -> Option<Self> {
        Some(Self::run(find("redis-server")?, port, new_folder(), Vec::new()))
    }

    fn run(executable: PathBuf, port: u16, folder: PathBuf, arguments: Vec<String>) -> Self {
        let process = spawn(&executable, port, &folder, &arguments);
        let server = Self { executable, arguments, process, port, folder };
        server.wait();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// On the same port and in the same folder, after [`kill`](Self::kill).
    pub(crate) fn restart(&mut self) {
        // Not a new `Server`: the folder would go with the old one.
        self.process = spawn(&self.executable, self.port, &self.folder, &self.arguments);
        self.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Sends a command over a connection of its own, and returns the first line of the reply.
    pub(crate) fn command(&self, command: &str) -> String {
        self.try_command(command).unwrap()
    }

    /// Returns how often this command was executed.
    pub(crate) fn calls(&self, command: &str) -> u32 {
        self.figure("commandstats", &format!("cmdstat_{command}:calls="))
    }

    /// Returns how many connections there ever were, with the one that asks.
    pub(crate) fn connections(&self) -> u32 {
        self.figure("stats", "total_connections_received:")
    }

    /// Returns the number that follows this, or zero.
    fn figure(&self, section: &str, start: &str) -> u32 {
        let mut connection = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).unwrap());
        connection.get_mut().write_all(format!("INFO {section}\r\n").as_bytes()).unwrap();
        let mut length = String::new();
        connection.read_line(&mut length).unwrap();
        let mut text = vec![0; length.trim_start_matches('$').trim().parse().unwrap()];
        connection.read_exact(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let figure = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("0");
        figure.split(',').next().unwrap().parse().unwrap()
    }

    fn try_command(&self, command: &str) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn wait(&self) {
        eventually("the server responds", || {
            self.try_command("PING")
                .is_ok_and(|reply| reply == "+PONG" || reply.starts_with("-NOAUTH"))
        });
    }
}

fn spawn(executable: &Path, port: u16, folder: &Path, arguments: &[String]) -> Child {
    Command::new(executable)
        .args(["--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
        .args(["--port", &port.to_string(), "--dir"])
        .arg(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed already, perhaps.
        drop(self.process.kill());
        drop(self.process.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("server-{}-{number}", std::process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}
