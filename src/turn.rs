//! Turns: messages of one queue are judged side by side, and kept and handed on in the order in which they came.
//!
//! A chain of turns is as long as its messages. One that ends without having entered breaks the chain behind it: what
//! follows a message that could not be kept must not be kept before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// One message's turn. Dropped before `entered`, it lets none of its followers enter.
#[derive(Debug, Default)]
pub struct Turn {
    enter: Link,
    leave: Link,
    chain: Chain,
}

/// What the messages of one queue have in common: broken, once one that had entered could not be kept.
#[derive(Clone, Debug, Default)]
pub struct Chain(Option<Arc<AtomicBool>>);

impl Chain {
    pub fn break_off(&self) {
        if let Some(broken) = &self.0 {
            broken.store(true, Ordering::Release);
        }
    }

    pub fn is_broken(&self) -> bool {
        self.0.as_ref().is_some_and(|broken| broken.load(Ordering::Acquire))
    }
}

/// An earlier message of the same queue did not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

#[derive(Debug, Default)]
struct Link {
    before: Option<oneshot::Receiver<()>>,
    after: Option<oneshot::Sender<()>>,
}

/// Hands out turns, one after the other.
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
            // Nobody may come behind, or it is gone.
            let _ = after.send(());
        }
    }
}

impl Turn {
    /// No order to keep with anybody.
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

    /// This message is at its place: the next may enter.
    pub fn entered(&mut self) {
        self.enter.pass();
    }

    /// Waits until every earlier message has left, or was dropped.
    pub async fn leave(&mut self) {
        if let Some(before) = self.leave.before.take() {
            // An earlier one that was dropped has nothing more to hand on.
            drop(before.await);
        }
    }

    /// This message was handed on: the next may leave.
    pub fn left(&mut self) {
        self.leave.pass();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_enter_and_leave_in_order_whatever_order_they_ask_in() {
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
    async fn nobody_enters_behind_one_that_did_not() {
        let mut turns = Turns::default();
        let (first, mut second, mut third) = (turns.take(), turns.take(), turns.take());
        drop(first);
        assert_eq!(second.enter().await, Err(Broken));
        drop(second);
        assert_eq!(third.enter().await, Err(Broken));
    }

    #[tokio::test]
    async fn one_that_is_dropped_after_it_entered_holds_nobody_up() {
        let mut turns = Turns::default();
        let (mut first, mut second) = (turns.take(), turns.take());
        first.enter().await.unwrap();
        first.entered();
        drop(first);
        second.enter().await.unwrap();
        second.leave().await;
    }
}
