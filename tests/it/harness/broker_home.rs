//! The folder of a broker, and the one who tidies it up: a small shell that holds a pipe from the test process. At its end,
//! however the process ends, the shell kills what still runs and removes the folder.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::free_address;

/// A missing broker fails the tests when this variable is set.
const REQUIRE: &str = "EMBERPOST_REQUIRE_BROKER";

/// Runs the port mapper, and waits for the end of the test process. `$1` is the folder, `$2` the mapper's port. A server that is
/// dead, and that nobody has waited for yet, writes nothing more.
const GUARD: &str = r#"
epmd -address 127.0.0.1 -port "$2" >/dev/null 2>&1 &
mapper=$!
while read -r _; do :; done
for file in "$1"/*/pid; do
  [ -f "$file" ] || continue
  pid=$(cat "$file"); tries=0
  kill -9 "$pid" 2>/dev/null
  while grep -q "^State:.[^ZX]" "/proc/$pid/status" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
done
kill -9 "$mapper"
rm -rf "$1"
"#;

/// The folder and the port mapper that one broker, or the nodes of a cluster, have in common.
pub struct Home {
    pub folder: PathBuf,
    /// Where `rabbitmq-server` and `rabbitmqctl` are.
    pub scripts: PathBuf,
    pub mapper_port: u16,
    guard: Child,
}

impl Home {
    /// None, with a line that says so, when RabbitMQ is not installed and not required.
    pub fn open() -> Option<Arc<Home>> {
        let Some(scripts) = scripts() else {
            assert!(std::env::var_os(REQUIRE).is_none(), "RabbitMQ is not installed, and {REQUIRE} is set");
            eprintln!("skipped: RabbitMQ is not installed (tests/run installs it)");
            return None;
        };
        let folder = TempDir::with_prefix("emberpost-broker-").unwrap().keep();
        let mapper_port = free_address().port();
        // A group of its own: what interrupts the tests must not interrupt the one who tidies up after them.
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(&folder).arg(mapper_port.to_string()).process_group(0);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::fs::write(folder.join(".erlang.cookie"), "EMBERPOSTTESTS").unwrap();
        // Erlang takes no cookie that others may read.
        std::fs::set_permissions(folder.join(".erlang.cookie"), Permissions::from_mode(0o400)).unwrap();
        Some(Arc::new(Home { folder, scripts, mapper_port, guard }))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The scripts below /usr/sbin do not run as root; those of the server itself do.
fn scripts() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib").ok()?;
    let mut found: Vec<_> = versions.flatten().map(|version| version.path().join("sbin")).collect();
    found.retain(|sbin| sbin.join("rabbitmq-server").exists());
    found.sort();
    found.pop()
}
