//! The rule of lane links, over the deliveries that wait, in the order of their lanes.
//!
//! A delivery names the newest older delivery of its lane that waited when it came (`prev_seq`). Whatever waits before it now waited
//! then, too, so that its link is at least that one.

use super::row::WaitingDelivery;
use crate::routing::lane::UNORDERED;

/// Finds broken links in deliveries that are given in order of participant, lane, and `seq`.
#[derive(Default)]
pub(super) struct Lanes {
    before: Option<WaitingDelivery>,
}

impl Lanes {
    /// What is wrong with the link of the next delivery, if anything.
    pub fn next(&mut self, delivery: WaitingDelivery) -> Option<String> {
        let before = self.before.replace(delivery.clone());
        let same_lane = |before: &WaitingDelivery| {
            before.participant == delivery.participant && before.lane == delivery.lane && delivery.lane != UNORDERED
        };
        let before = before.filter(same_lane).map(|before| before.seq);
        let WaitingDelivery { seq, prev_seq, .. } = delivery;
        match (prev_seq, before) {
            (Some(prev), _) if delivery.lane == UNORDERED => {
                Some(format!("it has the link {prev}, in a lane without order"))
            }
            (Some(prev), _) if prev >= seq => Some(format!("its link {prev} is not before its own place {seq}")),
            (None, Some(before)) => Some(format!("it has no link, and {before} waits before it")),
            (Some(prev), Some(before)) if prev < before => {
                Some(format!("its link {prev} leaves out {before}, which waits before it"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(links: &[(i64, i64, Option<i64>)]) -> Vec<i64> {
        let mut lanes = Lanes::default();
        let delivery = |&(lane, seq, prev_seq)| WaitingDelivery { key: seq, participant: 1, lane, seq, prev_seq };
        links.iter().map(delivery).filter_map(|delivery| lanes.next(delivery.clone()).map(|_| delivery.seq)).collect()
    }

    #[test]
    fn a_link_may_name_what_no_longer_waits_and_never_leave_out_what_waits() {
        assert_eq!(wrong(&[(7, 10, None), (7, 20, Some(10)), (7, 30, Some(25)), (8, 5, None)]), Vec::<i64>::new());
        assert_eq!(wrong(&[(7, 10, Some(3)), (7, 20, None)]), [20]);
        assert_eq!(wrong(&[(7, 10, None), (7, 20, Some(10)), (7, 30, Some(10))]), [30]);
        assert_eq!(wrong(&[(7, 10, Some(10)), (UNORDERED, 20, None), (UNORDERED, 30, Some(20))]), [10, 30]);
    }
}
