//! A private PostgreSQL server for the tests of this process, with a database for each store. It ends with the process, however
//! that ends: a small shell holds a pipe from it.
//!
//! The tests of the library include this file, too.

use std::collections::HashSet;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// `postgres`: tests use this server instead of SQLite.
const STORE: &str = "EMBERPOST_TEST_STORE";
const START_LIMIT: Duration = Duration::from_secs(60);

/// Waits for the end of the test process, and ends the server that runs then. `$1` is the folder.
const GUARD: &str = r#"
while read -r _; do :; done
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
tries=0
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
rm -rf "$1"
"#;

/// Whether the tests run on PostgreSQL.
pub fn is_chosen() -> bool {
    match std::env::var(STORE) {
        Ok(name) if name == "postgres" => true,
        Ok(name) => panic!("{STORE} is {name:?}, and only \"postgres\" is known"),
        Err(_) => false,
    }
}

/// A server. It runs until a test stops it, or drops it.
pub struct Server {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    child: Mutex<Option<Child>>,
    guard: Child,
    databases: Mutex<HashSet<String>>,
}

/// Whether the tests can start a server: Debian's package postgresql is installed.
pub fn is_installed() -> bool {
    !found_programs().is_empty()
}

/// The server that all tests of this process share.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(&[]))
}

impl Server {
    /// Starts a server with further settings, such as `max_connections=5`.
    pub fn start(settings: &[&str]) -> Server {
        Server::start_in(new_folder(), settings, None)
    }

    /// Starts a server whose write-ahead log, in segments of 1 MB, is on another disk than its tables, which are in `tables`.
    pub fn start_on_two_disks(tables: &Path, log: &Path, settings: &[&str]) -> Server {
        let folder = new_folder();
        for (name, disk) in [("data", tables), ("wal", log)] {
            let place = disk.join(name);
            std::fs::create_dir_all(&place).unwrap();
            own(disk);
            own(&place);
            std::os::unix::fs::symlink(place, folder.join(name)).unwrap();
        }
        Server::start_in(folder, settings, Some("wal"))
    }

    /// `log`: the folder for the write-ahead log, if it has one of its own.
    fn start_in(folder: PathBuf, settings: &[&str], log: Option<&str>) -> Server {
        let mut init = program("initdb");
        init.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--username=postgres", "-D"])
            .arg(folder.join("data"));
        if let Some(log) = log {
            init.arg("--wal-segsize=1").arg("--waldir").arg(folder.join(log));
        }
        run(&mut init);
        // A group of its own: what interrupts the tests must not interrupt the one who tidies up after them.
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(&folder).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Server {
            folder,
            port: 0,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            child: Mutex::default(),
            guard: guard.spawn().unwrap(),
            databases: Mutex::default(),
        };
        for _ in 0..5 {
            // The port is free now; another program may still take it first.
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if server.run() {
                return server;
            }
        }
        panic!("PostgreSQL did not start:\n{}", server.log())
    }

    /// Starts a server that speaks TLS with this certificate, and not only.
    pub fn start_with_tls(cert: &Path, key: &Path) -> Server {
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(key));
            run(Command::new("chmod").arg("a+x").arg(key.parent().unwrap()));
            run(Command::new("chmod").arg("a+r").arg(cert));
        }
        let settings = [format!("ssl_cert_file={}", cert.display()), format!("ssl_key_file={}", key.display())];
        Server::start(&["ssl=on", &settings[0], &settings[1]])
    }

    /// A session that does nothing, until it is killed.
    pub fn hold_connection(&self) -> Child {
        let mut psql = Command::new(programs().join("psql"));
        psql.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]);
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts the server that was stopped.
    pub fn start_again(&self) {
        let begun = Instant::now();
        // What a killed server has left of its processes may still end.
        while !self.run() {
            assert!(begun.elapsed() < START_LIMIT, "PostgreSQL did not start again:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// False if it ended instead of becoming ready.
    fn run(&self) -> bool {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut postgres = program("postgres");
        postgres
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-p", &self.port.to_string()])
            .arg("-k")
            .arg(&self.folder);
        let fixed = ["listen_addresses=127.0.0.1", "max_connections=400", "max_wal_size=256MB"];
        for setting in fixed.into_iter().chain(self.settings.iter().map(String::as_str)) {
            postgres.args(["-c", setting]);
        }
        postgres.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = postgres.spawn().unwrap();
        let begun = Instant::now();
        while begun.elapsed() < START_LIMIT && child.try_wait().unwrap().is_none() {
            if self.psql("postgres", "SELECT 1").is_ok() {
                *self.child.lock().unwrap() = Some(child);
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    /// Starts the server if it has ended by itself.
    pub fn start_if_ended(&self) {
        let mut child = self.child.lock().unwrap();
        let has_ended = child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        drop(child);
        if has_ended {
            self.start_again();
        }
    }

    /// Sends the server a signal by name, and waits for its end: `INT` ends all sessions in order, `KILL` is a power cut.
    pub fn stop(&self, signal: &str) {
        let mut child = self.child.lock().unwrap().take().expect("the server is not running");
        send(signal, &[child.id()]);
        child.wait().unwrap();
    }

    /// Sends a signal to all of its processes: with `STOP` it answers nobody, until `CONT`.
    pub fn signal_all(&self, signal: &str) {
        let server = self.pid();
        let children = Command::new("pgrep").args(["-P", &server.to_string()]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        let all: Vec<u32> = children.lines().map(|pid| pid.parse().unwrap()).chain([server]).collect();
        send(signal, &all);
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of the server's first process.
    pub fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// The URL of the database for the store at `path`, which is created if it is not there. A path has the same database each time.
    pub fn url_of(&self, path: &Path) -> String {
        let name = database(path);
        if self.databases.lock().unwrap().insert(name.clone()) {
            self.psql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        }
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs SQL in the database of the store at `path`, and returns what it prints.
    pub fn run_at(&self, path: &Path, sql: &str) -> String {
        self.psql(&database(path), sql).unwrap()
    }

    /// Runs SQL in a database, and returns what it prints. Errs with its error.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(programs().join("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-U", "postgres", "-v", "ON_ERROR_STOP=1"]);
        psql.args(["-p", &self.port.to_string(), "-d", database, "-c", sql]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let mut output = psql.output().unwrap();
        // Sessions that were killed may still end.
        for _ in 0..100 {
            if !text(&output.stderr).contains("too many clients") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            output = psql.output().unwrap();
        }
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            send("QUIT", &[child.id()]);
            let _ = child.wait();
        }
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn send(signal: &str, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    // A process that has just ended needs no signal.
    let _ = Command::new("kill").arg(format!("-{signal}")).args(pids).stderr(Stdio::null()).status();
}

/// The name of the database of the store at `path`.
fn database(path: &Path) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let name: String = path.to_string_lossy().chars().map(letter).collect();
    format!("t{}", &name[name.len().saturating_sub(60)..])
}

fn found_programs() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut found: Vec<_> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").exists());
    let version = |folder: &PathBuf| folder.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    found.sort_by_key(version);
    found
}

/// The newest server of Debian's packages.
fn programs() -> PathBuf {
    found_programs().pop().expect("PostgreSQL is not installed (Debian's package postgresql)")
}

/// A program of the server, which refuses to run as root.
fn program(name: &str) -> Command {
    let path = programs().join(name);
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(path);
    command
}

fn new_folder() -> PathBuf {
    let folder = tempfile::TempDir::with_prefix("emberpost-postgres-").unwrap().keep();
    own(&folder);
    folder
}

/// Gives a folder to the user that the server runs as.
fn own(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg("postgres:").arg(folder));
    }
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
