//! The AMQP cases: a bare relay and the router between the same two queues of a running broker.

use super::cases::Bench;
use super::children::Folder;
use super::http::{strings, with_figures};
use super::plan::{Load, Scenario};
use super::report::{Case, Run, Sample};
use super::router::{Channel, RouterProcess};
use anyhow::{Context, Result};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use tokio::runtime::{Builder, Runtime};

/// Messages between publishing and consumption: a nearly empty pipeline, and a full one.
const IN_FLIGHT: [usize; 2] = [64, 256];

/// The queues of one run, declared as the router declares its own, and deleted on drop.
struct Queues {
    /// Runs the connection: everything else here is plain blocking code.
    runtime: Runtime,
    connection: Connection,
    inbound: String,
    outbound: String,
    answers: String,
}

impl Queues {
    fn declare(broker: &str) -> Result<Queues> {
        let own = uuid::Uuid::new_v4();
        let name = |part: &str| format!("emberpost-bench-{own}-{part}");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let connecting = runtime.block_on(Connection::connect(broker, ConnectionProperties::default()));
        let connection = connecting.context("cannot connect to the broker")?;
        let (inbound, outbound, answers) = (name("in"), name("out"), name("answers"));
        let queues = Queues { runtime, connection, inbound, outbound, answers };
        queues.runtime.block_on(async {
            let channel = queues.connection.create_channel().await?;
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            for (queue, arguments) in queues.all() {
                channel.queue_declare(queue.as_str().into(), options, arguments).await?;
            }
            anyhow::Ok(())
        })?;
        Ok(queues)
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
        self.runtime.block_on(async {
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
    /// The relay and the router, in turns, for each number of messages in flight.
    pub(super) fn amqp_cases(&self, broker: &str, size_bytes: usize, rate: Option<f64>) -> Result<Vec<Case>> {
        let mut all = Vec::new();
        for senders in IN_FLIGHT {
            let load = Load { senders, size_bytes, seconds: self.plan.seconds, warm_ms: self.plan.warm_ms, rate };
            all.extend(self.in_turns(
                &[Scenario::AmqpRelay, Scenario::AmqpInout],
                load,
                |scenario, load| self.amqp_run(scenario, broker, load),
                |_, load, case| self.count_amqp(broker, load, case),
            )?);
        }
        Ok(all)
    }

    fn amqp_run(&self, scenario: Scenario, broker: &str, load: Load) -> Result<Sample> {
        let queues = Queues::declare(broker)?;
        if scenario == Scenario::AmqpRelay {
            let mut relay = self.role("amqp-relay", &queues.ends(broker))?;
            relay.address()?;
            return Ok(self.load(&queues, broker, load, &[relay.pid()])?.sample());
        }
        let folder = Folder::new("run")?;
        let settings = queues.channel(broker).into();
        let router = RouterProcess::start(&self.server_program, folder.path(), &settings, false)?;
        let before = router.figures();
        let run = self.load(&queues, broker, load, &[router.pid()])?;
        let figures = router.figures().since(before);
        router.stop()?;
        Ok(with_figures(run, figures))
    }

    fn count_amqp(&self, broker: &str, load: Load, case: &mut Case) -> Result<()> {
        let queues = Queues::declare(broker)?;
        let arguments = |load: Load, _: &str| [queues.ends(broker), load.arguments()].concat();
        self.count(&queues.channel(broker).into(), load, case, ("amqp-load", &arguments))
    }

    fn load(&self, queues: &Queues, broker: &str, load: Load, served_by: &[u32]) -> Result<Run> {
        let arguments = [queues.ends(broker), load.arguments()].concat();
        Ok(self.measured("amqp-load", &arguments, served_by, || Ok(()))?.0)
    }
}

impl Queues {
    fn channel<'q>(&'q self, broker: &'q str) -> Channel<'q> {
        Channel::Amqp { broker, inbound: &self.inbound, outbound: &self.outbound, answers: &self.answers }
    }

    /// The arguments that name the ends for a role.
    fn ends(&self, broker: &str) -> Vec<String> {
        strings(&["--broker", broker, "--queue", &self.inbound, "--peer", &self.outbound])
    }
}
