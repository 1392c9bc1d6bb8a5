//! Turns: the messages of one queue are checked concurrently, but stored and passed to the courier in order of arrival.
//!
//! Each message holds one turn of a chain. A turn that is dropped before it has entered breaks the chain: a message must not
//! be stored when an earlier message of its queue could not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// One message's turn. If it is dropped before `entered`, no later message of its queue can enter.
#[derive(Debug, Default)]
pub struct Turn {
    enter: Link,
    leave: Link,
    chain: Chain,
}

/// The state that all turns of one queue share: broken once a message that had entered could not be stored.
#[derive(Clone, Debug, Default)]
pub struct Chain(Option<Arc<AtomicBool>>);

impl Chain {
    pub fn break_off(&self) {
        if let Some(broken) = &self.0 {
            broken.store(true, Ordering::Release);
        }
    }

    /// A number that all messages of the queue share while it lives; None outside of any order.
    pub fn key(&self) -> Option<usize> {
        self.0.as_ref().map(|chain| Arc::as_ptr(chain).addr() / align_of::<usize>())
    }

    pub fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|broken| broken.load(Ordering::Acquire))
    }
}

/// The error of a turn whose predecessor was dropped before it entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

#[derive(Debug, Default)]
struct Link {
    before: Option<oneshot::Receiver<()>>,
    after: Option<oneshot::Sender<()>>,
}

/// Issues the turns of one queue, in order.
#[derive(Debug)]
pub struct Turns {
    chain: Chain,
    entered: Option<oneshot::Receiver<()>>,
    left: Option<oneshot::Receiver<()>>,
}

impl Default for Turns {
    fn default() -> Self {
        Turns { chain: Chain(Some(Arc::default())), entered: None, left: None }
    }
}

impl Turns {
    pub fn take(&mut self) -> Turn {
        let chain = self.chain.clone();
        Turn { enter: Link::behind(&mut self.entered), leave: Link::behind(&mut self.left), chain }
    }
}

impl Link {
    fn behind(last: &mut Option<oneshot::Receiver<()>>) -> Link {
        let (after, next) = oneshot::channel();
        Link { before: last.replace(next), after: Some(after) }
    }

    fn pass(&mut self) {
        if let Some(after) = self.after.take() {
            // An error only means that there is no next turn, or that it was dropped.
            let _ = after.send(());
        }
    }
}

impl Turn {
    /// A turn outside of any order, for messages that do not come from a queue.
    pub fn free() -> Turn {
        Turn::default()
    }

    pub fn chain(&self) -> Chain {
        self.chain.clone()
    }

    /// Waits until every earlier message has entered.
    pub async fn enter(&mut self) -> Result<(), Broken> {
        match self.enter.before.take() {
            Some(before) => before.await.map_err(|_| Broken),
            None => Ok(()),
        }
    }

    /// Lets the next message enter; called once this message's place in the order of storing is fixed.
    pub fn entered(&mut self) {
        self.enter.pass();
    }

    /// Waits until every earlier message has left or was dropped.
    pub async fn leave(&mut self) {
        if let Some(before) = self.leave.before.take() {
            // A predecessor that was dropped has no deliveries to pass on, so its error does not matter.
            drop(before.await);
        }
    }

    /// Lets the next message leave; called once this message's deliveries are with the courier.
    pub fn left(&mut self) {
        self.leave.pass();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_enter_and_leave_in_order_whichever_asks_first() {
        let mut turns = Turns::default();
        let all: Vec<Turn> = (0..5).map(|_| turns.take()).collect();
        let (log, mut seen) = tokio::sync::mpsc::unbounded_channel();
        for (number, mut turn) in all.into_iter().enumerate().rev() {
            let log = log.clone();
            tokio::spawn(async move {
                turn.enter().await.unwrap();
                log.send(("in", number)).unwrap();
                turn.entered();
                turn.leave().await;
                log.send(("out", number)).unwrap();
                turn.left();
            });
        }
        drop(log);
        let (mut entered, mut left) = (Vec::new(), Vec::new());
        while let Some((what, number)) = seen.recv().await {
            if what == "in" { entered.push(number) } else { left.push(number) }
        }
        assert_eq!((entered, left), (vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4]));
    }

    #[tokio::test]
    async fn no_turn_enters_after_one_that_did_not() {
        let mut turns = Turns::default();
        let (first, mut second, mut third) = (turns.take(), turns.take(), turns.take());
        drop(first);
        assert_eq!(second.enter().await, Err(Broken));
        drop(second);
        assert_eq!(third.enter().await, Err(Broken));
    }

    #[tokio::test]
    async fn a_turn_dropped_after_it_entered_does_not_delay_the_next() {
        let mut turns = Turns::default();
        let (mut first, mut second) = (turns.take(), turns.take());
        first.enter().await.unwrap();
        first.entered();
        drop(first);
        second.enter().await.unwrap();
        second.leave().await;
    }
}
