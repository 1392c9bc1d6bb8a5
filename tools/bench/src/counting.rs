//! The passes that only count: a case is repeated briefly, with a router of its own for each pass.

use anyhow::Result;

use super::cases::Bench;
use super::children::Folder;
use super::plan::Load;
use super::report::{Case, Counts};
use super::router::{RouterProcess, Settings};
use super::trace::Calls;

/// Duration of a pass, in seconds.
const SECONDS: u64 = 2;

/// The arguments of the role that makes a load for a router's `host:port`.
type Arguments<'a> = &'a dyn Fn(Load, &str) -> Vec<String>;

impl Bench<'_> {
    /// Counts what the router writes, then all of its system calls, then its allocations if a build counts them.
    pub(super) fn count(
        &self,
        settings: &Settings<'_>,
        load: Load,
        case: &mut Case,
        (role, arguments): (&str, Arguments<'_>),
    ) -> Result<()> {
        let load = Load { seconds: SECONDS, rate: None, ..load };
        let mut counts = Counts::default();
        let folder = Folder::new("run")?;
        let router = RouterProcess::start(&self.server_program, folder.path(), settings, true)?;
        let (run, ()) = self.measured(role, &arguments(load, router.address()), &[router.pid()], || Ok(()))?;
        let commits = router.figures().commits;
        counts.add_writes(router.stop()?, &run, commits, case);

        let folder = Folder::new("run")?;
        let router = RouterProcess::start(&self.server_program, folder.path(), settings, false)?;
        let attach = || Calls::attach(router.pid(), self.folder.path().join("calls.txt"));
        let (run, calls) = self.measured(role, &arguments(load, router.address()), &[router.pid()], attach)?;
        counts.add_calls(calls.detach()?, &run);
        router.stop()?;

        if let Some(program) = &self.counting_program {
            let folder = Folder::new("run")?;
            let router = RouterProcess::start(program, folder.path(), settings, false)?;
            let before = router.figures();
            let (run, ()) = self.measured(role, &arguments(load, router.address()), &[router.pid()], || Ok(()))?;
            counts.allocations = router.figures().since(before).allocations.and_then(|all| run.per_message_in_all(all));
            router.stop()?;
        }
        case.counts = Some(counts);
        Ok(())
    }
}
