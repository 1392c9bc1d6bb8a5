//! The AMQP cases: a bare relay and the router between the same two queues of a running broker.

use super::children::{Channel, Folder, RouterProcess};
use super::measure::{Bench, COMMITS_METRIC, Load, Run, Scenario, expect_measuring};
use super::report::{Case, FsyncsBy, Sample};
use super::roles::Measured;
use anyhow::{Context, Result};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use tokio::runtime::Handle;

/// Messages between publishing and consumption: a nearly empty pipeline, and a full one.
const IN_FLIGHT: [usize; 2] = [64, 256];
/// Duration of the pass that only counts fsyncs, in seconds.
const COUNTING_SECONDS: u64 = 3;

/// The queues of one run, declared as the router declares its own, and deleted on drop.
struct Queues {
    connection: Connection,
    inbound: String,
    outbound: String,
    answers: String,
}

impl Queues {
    fn declare(broker: &str) -> Result<Queues> {
        let own = uuid::Uuid::new_v4();
        let name = |part: &str| format!("emberpost-bench-{own}-{part}");
        Handle::current().block_on(async {
            let connecting = Connection::connect(broker, ConnectionProperties::default()).await;
            let connection = connecting.context("cannot connect to the broker")?;
            let queues = Queues { connection, inbound: name("in"), outbound: name("out"), answers: name("answers") };
            let channel = queues.connection.create_channel().await?;
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            for (queue, arguments) in queues.all() {
                channel.queue_declare(queue.as_str().into(), options, arguments).await?;
            }
            Ok(queues)
        })
    }

    /// Every queue with its arguments, including dead-letter queues.
    fn all(&self) -> Vec<(String, FieldTable)> {
        let pair = |queue: &String| {
            let dead = format!("{queue}.dead");
            let arguments = |more: &[(&str, &str)]| {
                let mut arguments = FieldTable::default();
                for (key, value) in [("x-queue-type", "quorum")].iter().chain(more) {
                    arguments.insert((*key).into(), AMQPValue::LongString((*value).into()));
                }
                arguments
            };
            let letters = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", &*dead)];
            [(dead.clone(), arguments(&[])), (queue.clone(), arguments(&letters))]
        };
        [&self.inbound, &self.outbound, &self.answers].into_iter().flat_map(pair).collect()
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        Handle::current().block_on(async {
            for (queue, _) in self.all() {
                // Queues that cannot be deleted remain; their name shows where they come from.
                if let Ok(channel) = self.connection.create_channel().await {
                    let _ = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
                }
            }
        });
    }
}

impl Bench<'_> {
    /// The relay and the router, in alternating runs, for each number of messages in flight.
    pub(super) fn amqp_cases(&self, broker: &str, size_bytes: usize) -> Result<Vec<Case>> {
        let mut all = Vec::new();
        for senders in IN_FLIGHT {
            let load = Load { senders, size_bytes, seconds: self.plan.seconds };
            let mut cases: Vec<(Scenario, Case)> = [Scenario::AmqpRelay, Scenario::AmqpInout]
                .into_iter()
                .filter(|scenario| self.chosen(*scenario))
                .map(|scenario| (scenario, Case::new(scenario.name(), senders, size_bytes)))
                .collect();
            for run in 1..=self.plan.runs {
                for (scenario, case) in &mut cases {
                    case.samples.push(self.amqp_run(*scenario, broker, load)?);
                    self.progress(case, run);
                }
            }
            if self.fsyncs_by == FsyncsBy::Strace {
                for (_, case) in cases.iter_mut().filter(|(scenario, _)| *scenario == Scenario::AmqpInout) {
                    let per_commit = self.count_amqp_router(broker, load)?;
                    case.fsyncs_per_message =
                        per_commit.zip(case.commits_per_message()).map(|(fsyncs, commits)| fsyncs * commits);
                }
            }
            all.extend(cases.into_iter().map(|(_, case)| case));
        }
        Ok(all)
    }

    fn amqp_run(&self, scenario: Scenario, broker: &str, load: Load) -> Result<Sample> {
        let queues = Queues::declare(broker)?;
        if scenario == Scenario::AmqpRelay {
            let ends = ["--broker", broker, "--queue", &queues.inbound, "--peer", &queues.outbound];
            let mut relay = self.role("amqp-relay", &ends)?;
            relay.address()?;
            return Ok(self.load(&queues, broker, load, &[relay.pid()])?.sample());
        }
        let folder = Folder::new("run")?;
        let router = RouterProcess::start(&self.server_program, folder.path(), queues.channel(broker), false)?;
        let commits_before = router.metric(COMMITS_METRIC);
        let run = self.load(&queues, broker, load, &[router.pid()])?;
        let commits = commits_before.zip(router.metric(COMMITS_METRIC)).map(|(before, after)| after - before);
        router.stop()?;
        Ok(Sample { commits_per_message: commits.and_then(|commits| run.per_message_in_all(commits)), ..run.sample() })
    }

    fn count_amqp_router(&self, broker: &str, load: Load) -> Result<Option<f64>> {
        let queues = Queues::declare(broker)?;
        let folder = Folder::new("run")?;
        let router = RouterProcess::start(&self.server_program, folder.path(), queues.channel(broker), true)?;
        let load = Load { seconds: COUNTING_SECONDS, ..load };
        self.load(&queues, broker, load, &[router.pid()])?;
        let commits = router.metric(COMMITS_METRIC).filter(|commits| *commits > 0.0);
        Ok(router.stop()?.zip(commits).map(|(fsyncs, commits)| fsyncs as f64 / commits))
    }

    fn load(&self, queues: &Queues, broker: &str, load: Load, served_by: &[u32]) -> Result<Run> {
        let [width, size, seconds] =
            [load.senders, load.size_bytes, load.seconds as usize].map(|number| number.to_string());
        let ends = ["--broker", broker, "--queue", &queues.inbound, "--peer", &queues.outbound];
        let amount = ["--width", &width, "--size-bytes", &size, "--seconds", &seconds];
        let mut process = self.role("amqp-load", &[&ends[..], &amount[..]].concat())?;
        expect_measuring(&process.line()?)?;
        let before = super::children::usages(served_by)?;
        let measured: Measured = serde_json::from_str(&process.line()?)?;
        let after = super::children::usages(served_by)?;
        process.ended()?;
        let used = after.into_iter().zip(before).map(|(after, before)| after.since(before)).collect();
        Ok(Run { measured, used })
    }
}

impl Queues {
    fn channel<'q>(&'q self, broker: &'q str) -> Channel<'q> {
        Channel::Amqp { broker, inbound: &self.inbound, outbound: &self.outbound, answers: &self.answers }
    }
}
