//! Which deliveries of one consumer may be acknowledged: everything up to a tag at once, when all before it are
//! settled.
//!
//! Pure. Tags increase by one with each delivery of a channel (AMQP 0-9-1, basic.deliver).

use std::collections::VecDeque;

/// The unacknowledged deliveries of one channel, oldest first.
#[derive(Debug, Default)]
pub struct Acks {
    open: VecDeque<(u64, bool)>,
}

impl Acks {
    pub fn add(&mut self, tag: u64) {
        self.open.push_back((tag, false));
    }

    /// It is stored: the broker may forget it.
    pub fn settle(&mut self, tag: u64) {
        if let Ok(place) = self.open.binary_search_by_key(&tag, |(tag, _)| *tag)
            && let Some((_, settled)) = self.open.get_mut(place)
        {
            *settled = true;
        }
    }

    /// The tag up to which everything may be acknowledged, returned once per tag.
    pub fn take(&mut self) -> Option<u64> {
        let mut last = None;
        while let Some((tag, true)) = self.open.front() {
            last = Some(*tag);
            self.open.pop_front();
        }
        last
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_acknowledged_before_everything_ahead_of_it_is_settled() {
        let mut acks = Acks::default();
        (1..=5).for_each(|tag| acks.add(tag));
        acks.settle(2);
        acks.settle(3);
        assert_eq!(acks.take(), None);
        acks.settle(1);
        assert_eq!(acks.take(), Some(3));
        assert_eq!((acks.take(), acks.len()), (None, 2));
        acks.settle(5);
        acks.settle(9);
        assert_eq!(acks.take(), None);
        acks.settle(4);
        assert_eq!((acks.take(), acks.len()), (Some(5), 0));
    }
}
