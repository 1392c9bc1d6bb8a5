//! A private PostgreSQL server for the tests of this process, with a database for each store. It ends with the process, however
//! that ends: a small shell holds a pipe from it.
//!
//! The tests of the library include this file, too.

use std::collections::HashSet;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// `postgres`: tests use this server instead of SQLite.
const STORE: &str = "EMBERPOST_TEST_STORE";
const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs the server, and waits for the end of the test process. `$1` is the folder; the rest is the command.
const GUARD: &str = r#"
folder=$1; shift
"$@" >"$folder/log" 2>&1 &
server=$!
while read -r _; do :; done
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf "$folder"
"#;

/// Whether the tests run on PostgreSQL.
pub fn is_chosen() -> bool {
    match std::env::var(STORE) {
        Ok(name) if name == "postgres" => true,
        Ok(name) => panic!("{STORE} is {name:?}, and only \"postgres\" is known"),
        Err(_) => false,
    }
}

/// A running server.
pub struct Server {
    folder: PathBuf,
    port: u16,
    guard: Child,
    databases: Mutex<HashSet<String>>,
}

/// The server that all tests of this process share.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(&[]))
}

impl Server {
    /// Starts a server with further settings, such as `max_connections=5`.
    pub fn start(settings: &[&str]) -> Server {
        let folder = tempfile::TempDir::with_prefix("emberpost-postgres-").unwrap().keep();
        let data = folder.join("data");
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(&folder));
        }
        let mut init = program("initdb");
        init.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--username=postgres", "-D"])
            .arg(&data);
        run(&mut init);
        let mut last_log = String::new();
        for _ in 0..5 {
            // The port is free now; another program may still take it first.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            match Server::run(&folder, port, settings) {
                Ok(server) => return server,
                Err(log) => last_log = log,
            }
        }
        panic!("PostgreSQL did not start:\n{last_log}")
    }

    /// Errs with the server's log.
    fn run(folder: &Path, port: u16, settings: &[&str]) -> Result<Server, String> {
        let postgres = program("postgres");
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(folder).arg(postgres.get_program()).args(postgres.get_args());
        guard.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string()]).arg("-k").arg(folder);
        for setting in
            ["listen_addresses=127.0.0.1", "max_connections=400", "max_wal_size=256MB"].iter().chain(settings)
        {
            guard.args(["-c", setting]);
        }
        // A group of its own: what interrupts the tests must not interrupt the one who tidies up after them.
        guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().unwrap();
        let server = Server { folder: folder.to_owned(), port, guard, databases: Mutex::default() };
        let begun = Instant::now();
        while begun.elapsed() < START_LIMIT {
            if server.psql("postgres", "SELECT 1").is_ok() {
                return Ok(server);
            }
            let log = server.log();
            if log.contains("FATAL:  could not") {
                return Err(log);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(server.log())
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
        let output = psql.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The name of the database of the store at `path`.
fn database(path: &Path) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let name: String = path.to_string_lossy().chars().map(letter).collect();
    format!("t{}", &name[name.len().saturating_sub(60)..])
}

/// The newest server of Debian's packages.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.expect("PostgreSQL is not installed (Debian's package postgresql)");
    let mut found: Vec<_> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").exists());
    found.sort_by_key(|folder| {
        folder.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
    });
    found.pop().expect("a server of PostgreSQL")
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

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
