//! The HTTP cases: a bare relay, and the router, with the same senders and receiver.

use anyhow::Result;

use super::cases::Bench;
use super::children::{Folder, RoleProcess};
use super::message::{MAILBOX_ADDRESS, RECEIVER_ADDRESS, SLOW_ADDRESS};
use super::plan::{Load, Scenario, Target};
use super::postgres::{Database, Wal};
use super::report::{Case, Counts, Run, Sample};
use super::router::{Channel, Figures, RouterProcess, Settings};

/// The number of senders that keep the slow receiver busy and its lanes full.
const SLOW_SENDERS: usize = 16;
const SCENARIOS: [Scenario; 7] = [
    Scenario::Relay,
    Scenario::Accept,
    Scenario::Inout,
    Scenario::PostgresAccept,
    Scenario::PostgresInout,
    Scenario::Slow,
    Scenario::Target,
];

impl Bench<'_> {
    /// The HTTP cases with this load, in turns.
    pub(super) fn http_cases(&self, load: Load) -> Result<Vec<Case>> {
        self.in_turns(
            &SCENARIOS,
            load,
            |scenario, load| self.http_run(scenario, load),
            |scenario, load, case| self.count_http(scenario, load, case),
        )
    }

    fn http_run(&self, scenario: Scenario, load: Load) -> Result<Sample> {
        if let (Scenario::Target, Some(target)) = (scenario, &self.plan.target) {
            return self.target_run(target, load);
        }
        let (receiver, receiver_address) = self.receiver("127.0.0.1:0")?;
        if scenario == Scenario::Relay {
            let mut relay = self.role("relay", &strings(&["--peer", &receiver_address]))?;
            let address = relay.address()?;
            return Ok(self.send(load, &address, RECEIVER_ADDRESS, &[relay.pid(), receiver.pid()])?.sample());
        }
        let folder = Folder::new("run")?;
        let channel = Channel::Http(&receiver_address);
        let database = self.database(scenario)?;
        let settings = Settings { store: database.as_ref().map(|database| &*database.url), ..channel.into() };
        let router = RouterProcess::start(&self.server_program, folder.path(), &settings, false)?;
        // These senders end with the run; their replies do not matter.
        let _slow = match scenario {
            Scenario::Slow => Some(self.slow_senders(load, router.address())?),
            _ => None,
        };
        let before = router.figures();
        let wal_before = database.as_ref().map(Database::wal).transpose()?;
        let run = self.send(load, router.address(), destination(scenario), &[router.pid(), receiver.pid()])?;
        let figures = router.figures().since(before);
        let wal = database.as_ref().map(Database::wal).transpose()?;
        let wal = wal.zip(wal_before).map(|(wal, before)| wal.since(before));
        // Attempts at the slow receiver would delay a stop, so that router is killed on drop.
        if scenario != Scenario::Slow {
            router.stop()?;
        }
        let per_message = |count: fn(&Wal) -> f64| wal.and_then(|wal| run.per_message_in_all(count(&wal)));
        let (wal_bytes, images) = (per_message(|wal| wal.bytes), per_message(|wal| wal.full_page_images));
        let wal_fsyncs = per_message(|wal| wal.fsyncs);
        Ok(Sample {
            wal_bytes_per_message: wal_bytes,
            full_page_images_per_message: images,
            wal_fsyncs_per_message: wal_fsyncs,
            ..with_figures(run, figures)
        })
    }

    /// A database for a run with a store in PostgreSQL.
    fn database(&self, scenario: Scenario) -> Result<Option<Database>> {
        let url = self.plan.postgres.as_ref().filter(|_| scenario.needs_postgres());
        url.map(|url| Database::create(url)).transpose()
    }

    fn target_run(&self, target: &Target, load: Load) -> Result<Sample> {
        let _receiver = target.receiver.as_ref().map(|listen| self.receiver(listen)).transpose()?;
        let served_by: Vec<_> = target.pid.into_iter().collect();
        let arguments = ["--peer", &target.address, "--path", &target.path, "--destination", &target.destination];
        let arguments = [strings(&arguments), load.arguments()].concat();
        Ok(self.measured("sender", &arguments, &served_by, || Ok(()))?.0.sample())
    }

    /// The benchmark's receiver, and the `host:port` that it listens on.
    pub(super) fn receiver(&self, listen: &str) -> Result<(RoleProcess, String)> {
        let mut receiver = self.role("receiver", &strings(&["--listen", listen]))?;
        let address = receiver.address()?;
        Ok((receiver, address))
    }

    /// Senders to the slow receiver; they stop when the value is dropped.
    fn slow_senders(&self, load: Load, address: &str) -> Result<RoleProcess> {
        let load = Load { senders: SLOW_SENDERS, seconds: 600, rate: None, ..load };
        let place = strings(&["--peer", address, "--destination", SLOW_ADDRESS]);
        let mut senders = self.role("sender", &[place, load.arguments()].concat())?;
        senders.expect_measuring()?;
        Ok(senders)
    }

    fn count_http(&self, scenario: Scenario, load: Load, case: &mut Case) -> Result<()> {
        if scenario.needs_postgres() {
            return self.count_wal(scenario, load, case);
        }
        let (_receiver, receiver_address) = self.receiver("127.0.0.1:0")?;
        let arguments = |load, address: &str| sender_arguments(load, address, destination(scenario));
        self.count(&Channel::Http(&receiver_address).into(), load, case, ("sender", &arguments))
    }

    /// Counts the bytes of the WAL in a run without images of full pages.
    fn count_wal(&self, scenario: Scenario, load: Load, case: &mut Case) -> Result<()> {
        let Some(switch) = self.database(scenario)? else { return Ok(()) };
        switch.set_full_page_writes(false)?;
        let run = self.http_run(scenario, load);
        switch.set_full_page_writes(true)?;
        let wal_bytes = run?.wal_bytes_per_message;
        case.counts = Some(Counts { wal_bytes, ..Counts::default() });
        Ok(())
    }

    /// Sends messages to `address` and measures what the processes in `served_by`, the server first, use meanwhile.
    pub(super) fn send(&self, load: Load, address: &str, destination: &str, served_by: &[u32]) -> Result<Run> {
        Ok(self.measured("sender", &sender_arguments(load, address, destination), served_by, || Ok(()))?.0)
    }
}

pub(super) fn with_figures(run: Run, figures: Figures) -> Sample {
    let per_message = |count: Option<f64>| count.and_then(|count| run.per_message_in_all(count));
    Sample { commits_per_message: per_message(figures.commits), ..run.sample() }
}

pub(super) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn sender_arguments(load: Load, address: &str, destination: &str) -> Vec<String> {
    [strings(&["--peer", address, "--destination", destination]), load.arguments()].concat()
}

fn destination(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Accept | Scenario::PostgresAccept => MAILBOX_ADDRESS,
        _ => RECEIVER_ADDRESS,
    }
}
