//! The load over AMQP: publishes to one queue and consumes from another, with a limited number of messages in
//! between.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicPublishOptions, BasicQosOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, PublisherConfirm};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;
use uuid::Uuid;

use super::{Measured, RoleArgs};
use crate::arrivals::Arrivals;
use crate::latency::Latencies;
use crate::message::{RECEIVER_ADDRESS, SENDER_ADDRESS, Template};
use crate::proc::Usage;

/// The prefetch of a consumer.
pub const PREFETCH_MESSAGES: u16 = 256;
/// The number of sources that the messages are spread over.
const SOURCES: usize = 64;
/// The time limit for the last messages after the measured time; those still missing count as unexpected.
const LAST_MESSAGES: Duration = Duration::from_secs(5);

/// A channel and a consumer of `queue` on it, whose deliveries must be acknowledged.
pub async fn consume(connection: &Connection, queue: &str) -> Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH_MESSAGES, BasicQosOptions::default()).await?;
    let consumer = channel.basic_consume(queue.into(), "".into(), Default::default(), Default::default()).await?;
    Ok((channel, consumer))
}

/// Errs if the broker did not store a message, or had no queue for it.
pub fn confirmed(confirmation: Confirmation) -> Result<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => bail!("the broker returned a message"),
        _ => bail!("the broker did not confirm a message"),
    }
}

struct Tally {
    from: Instant,
    until: Instant,
    window: Semaphore,
    /// The schedule of an open loop.
    arrivals: Option<Rc<Arrivals>>,
    under_way: RefCell<HashMap<String, Instant>>,
    latencies: RefCell<Latencies>,
    measured: RefCell<Measured>,
}

impl Tally {
    fn unexpected(&self, what: &str) {
        let measured = &mut *self.measured.borrow_mut();
        measured.unexpected += 1;
        measured.first_unexpected.get_or_insert_with(|| what.to_owned());
    }

    /// One message at the receiving end. The id of a duplicate was already removed, so it counts as unexpected.
    fn arrived(&self, id: Option<&str>) {
        let now = Instant::now();
        let Some(begun) = id.and_then(|id| self.under_way.borrow_mut().remove(id)) else {
            return self.unexpected("a message came twice, or with an unknown message_id");
        };
        self.window.add_permits(1);
        self.measured.borrow_mut().messages_in_all += 1;
        if now >= self.from && now < self.until {
            self.latencies.borrow_mut().record(now.saturating_duration_since(begun));
        }
    }
}

/// Publishes to `args.queue` and consumes `args.peer` for `time` after the warm-up; prints the measurements.
pub async fn run(broker: String, args: RoleArgs, time: Duration) -> Result<()> {
    let output = Connection::connect(&broker, ConnectionProperties::default()).await.context("no broker")?;
    let input = Connection::connect(&broker, ConnectionProperties::default()).await.context("no broker")?;
    // Kept until the end: a dropped channel is closed, and its last confirms are lost.
    let published = output.create_channel().await?;
    published.confirm_select(Default::default()).await?;
    let (taken, deliveries) = consume(&input, &args.peer).await?;
    let from = Instant::now() + args.warm_up();
    let tally = Rc::new(Tally {
        from,
        until: from + time,
        window: Semaphore::new(args.width),
        arrivals: (args.due_per_second > 0.0).then(|| Rc::new(Arrivals::new(from + time))),
        under_way: RefCell::default(),
        latencies: RefCell::new(Latencies::new()?),
        measured: RefCell::default(),
    });
    let (sent, confirms) = mpsc::channel(args.width);
    let width = args.width as u32;
    let local = LocalSet::new();
    if let Some(arrivals) = tally.arrivals.clone() {
        local.spawn_local(async move { arrivals.run(Instant::now(), args.due_per_second).await });
    }
    local.spawn_local(watch(Rc::clone(&tally), confirms));
    local.spawn_local(counting_failure(Rc::clone(&tally), receive(Rc::clone(&tally), taken, deliveries)));
    local.spawn_local(counting_failure(Rc::clone(&tally), publish(Rc::clone(&tally), args, published.clone(), sent)));
    let used = local
        .run_until(async {
            tokio::time::sleep_until(tally.from.into()).await;
            println!("measuring");
            let before = Usage::of(std::process::id())?;
            tokio::time::sleep_until(tally.until.into()).await;
            anyhow::Ok(Usage::of(std::process::id())?.since(&before))
        })
        .await?;
    // When every message has arrived, all permits are returned.
    let rest = tally.window.acquire_many(width);
    if local.run_until(tokio::time::timeout(LAST_MESSAGES, rest)).await.is_err() {
        let missing = tally.under_way.borrow().len();
        tally.unexpected(&format!("{missing} messages did not arrive within {LAST_MESSAGES:?} after the end"));
    }
    let mut measured = tally.measured.take();
    measured.unsent = tally.arrivals.as_ref().map_or(0, |arrivals| arrivals.unsent());
    let latencies = tally.latencies.borrow();
    measured.latency = latencies.summary();
    measured.messages = latencies.count();
    measured.elapsed_us = time.as_micros() as u64;
    measured.cpu_us = used.cpu_us;
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

async fn counting_failure(tally: Rc<Tally>, part: impl Future<Output = Result<()>>) {
    if let Err(error) = part.await {
        tally.unexpected(&format!("{error:#}"));
    }
}

async fn publish(
    tally: Rc<Tally>,
    args: RoleArgs,
    channel: Channel,
    sent: mpsc::Sender<PublisherConfirm>,
) -> Result<()> {
    let template =
        |number| Template::without_answer(args.size_bytes, &format!("{SENDER_ADDRESS}{number}"), RECEIVER_ADDRESS);
    let templates: Vec<_> = (0..SOURCES).map(template).collect();
    let own = Uuid::new_v4().as_u64_pair().0;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let mut next = 0;
    for template in templates.iter().cycle() {
        let due = match &tally.arrivals {
            Some(arrivals) => arrivals.next().await,
            None => Some(Instant::now()),
        };
        tally.window.acquire().await?.forget();
        let (Some(due), true) = (due, Instant::now() < tally.until) else {
            tally.window.add_permits(1);
            break;
        };
        next += 2;
        let id = Uuid::from_u64_pair(own, next);
        let body = template.fill(Uuid::from_u64_pair(own, next + 1), id);
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/fhir+json".into())
            .with_message_id(id.to_string().into());
        // Over a closed loop the time counts from the publication, without the wait for a free place.
        let begun = if tally.arrivals.is_some() { due } else { Instant::now() };
        tally.under_way.borrow_mut().insert(id.to_string(), begun);
        let confirm = channel.basic_publish("".into(), args.queue.as_str().into(), options, &body, properties).await?;
        sent.send(confirm).await.context("the task that receives confirms has ended")?;
    }
    Ok(())
}

async fn watch(tally: Rc<Tally>, mut confirms: mpsc::Receiver<PublisherConfirm>) {
    while let Some(confirm) = confirms.recv().await {
        if let Err(error) = confirm.await.map_err(anyhow::Error::from).and_then(confirmed) {
            tally.unexpected(&format!("{error:#}"));
        }
    }
}

async fn receive(tally: Rc<Tally>, channel: Channel, mut deliveries: Consumer) -> Result<()> {
    while let Some(first) = deliveries.next().await {
        let mut last = first?;
        tally.arrived(last.properties.message_id().as_ref().map(|id| id.as_str()));
        for _ in 1..PREFETCH_MESSAGES / 4 {
            let Some(Some(more)) = deliveries.next().now_or_never() else { break };
            last = more?;
            tally.arrived(last.properties.message_id().as_ref().map(|id| id.as_str()));
        }
        channel.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}
