//! How exchange, admin and jobs speak to the running courier: never waiting for it, never losing anything.
//!
//! Commands go through one bounded queue. What does not fit is remembered per participant, and the courier then reads
//! the store. Pausing and reloading are kept as the latest wish, so they always fit.

use super::ParticipantStatus;
use crate::delivery::PendingDelivery;
use crate::routing::Participant;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

const COMMANDS_LIMIT: usize = 1024;
/// Deliveries to be forgotten that did not fit. Beyond it the oldest rule holds: a needless attempt changes nothing.
const FORGET_LIMIT_DELIVERIES: usize = 10_000;

/// Deliveries ordered to be tried now that the courier has not come to.
const TRY_NOW_LIMIT_DELIVERIES: usize = 10_000;

pub(super) enum Command {
    Offer(Vec<PendingDelivery>),
    Forget(Box<PendingDelivery>),
    Status(oneshot::Sender<Vec<ParticipantStatus>>),
    Active(oneshot::Sender<Vec<Uuid>>),
}

/// What did not fit in the queue, or always fits here.
#[derive(Default)]
pub(super) struct Aside {
    /// Participants whose offers were left to the store.
    pub look: HashSet<Arc<str>>,
    pub forget: Vec<PendingDelivery>,
    pub pause: HashMap<String, bool>,
    pub probe: HashSet<String>,
    pub try_now: Vec<PendingDelivery>,
    pub reload: Option<Vec<Arc<Participant>>>,
}

#[derive(Default)]
struct Shared {
    aside: Mutex<Aside>,
    filled: AtomicBool,
    notify: Notify,
}

/// How exchange, admin and jobs speak to the running courier. Clones share it.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// The courier's end of a `Handle`.
pub struct Inbox {
    commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
}

impl Handle {
    /// A handle, and what `Courier::start` needs of it. What is offered before the start is not lost.
    pub fn new() -> (Handle, Inbox) {
        let (sender, receiver) = mpsc::channel(COMMANDS_LIMIT);
        let shared = Arc::new(Shared::default());
        (Handle { commands: sender, shared: shared.clone() }, Inbox { commands: receiver, shared })
    }

    /// Offers work that was just committed. Never waits: past the bound the courier reads it from the store.
    pub fn offer(&self, work: Vec<PendingDelivery>) {
        if work.is_empty() {
            return;
        }
        if let Err(error) = self.commands.try_send(Command::Offer(work))
            && let Command::Offer(work) = error.into_inner()
        {
            self.set_aside(|aside| aside.look.extend(work.into_iter().map(|work| work.participant)));
        }
    }

    /// A delivery ended or changed outside the courier (answered, discarded): forget it where it waits.
    pub fn forget(&self, work: PendingDelivery) {
        let work = Box::new(PendingDelivery { body: None, ..work });
        if let Err(error) = self.commands.try_send(Command::Forget(work))
            && let Command::Forget(work) = error.into_inner()
        {
            self.set_aside(|aside| {
                if aside.forget.len() < FORGET_LIMIT_DELIVERIES {
                    aside.forget.push(*work);
                }
            });
        }
    }

    /// Stops or starts the attempts of one participant. What is kept of it is the caller's.
    pub fn pause(&self, participant: &str, paused: bool) {
        self.set_aside(|aside| {
            aside.pause.insert(participant.to_owned(), paused);
        });
    }

    /// Something may have changed for the better at this participant: what waits for it is tried now, one probe first where
    /// the breaker is open.
    pub fn retry_now(&self, participant: &str) {
        self.set_aside(|aside| {
            aside.probe.insert(participant.to_owned());
        });
    }

    /// Tries a waiting delivery now, which the store says is due. Past the bound it waits for its turn all the same.
    pub fn retry_delivery_now(&self, work: PendingDelivery) {
        self.set_aside(|aside| {
            if aside.try_now.len() < TRY_NOW_LIMIT_DELIVERIES {
                aside.try_now.push(PendingDelivery { body: None, ..work });
            }
        });
    }

    /// Participants changed (SIGHUP): read settings again.
    pub fn reload(&self, participants: Vec<Arc<Participant>>) {
        self.set_aside(|aside| aside.reload = Some(participants));
    }

    /// What the courier knows of each participant, by id; empty once it has stopped.
    pub async fn status(&self) -> Vec<ParticipantStatus> {
        self.ask(Command::Status).await
    }

    /// Delivery ids with an attempt under way.
    pub async fn active(&self) -> Vec<Uuid> {
        self.ask(Command::Active).await
    }

    async fn ask<T: Default>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(command(sender)).await.is_err() {
            return T::default();
        }
        receiver.await.unwrap_or_default()
    }

    fn set_aside(&self, change: impl FnOnce(&mut Aside)) {
        // A poisoned lock still holds whole values: each change is one insertion.
        change(&mut self.shared.aside.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.filled.store(true, Ordering::Release);
        self.shared.notify.notify_one();
    }
}

impl Inbox {
    /// Waits until there is a command or something set aside. False once every handle is gone.
    pub(super) async fn wait(&mut self, commands: &mut Vec<Command>, limit: usize) -> bool {
        tokio::select! {
            count = self.commands.recv_many(commands, limit) => count > 0,
            () = self.shared.notify.notified() => true,
        }
    }

    /// What was set aside before the commands that were just received, if anything.
    pub(super) fn take_aside(&self) -> Option<Aside> {
        if !self.shared.filled.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut *self.shared.aside.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
