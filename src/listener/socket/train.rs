//! Packets to one client that leave in one send. quinn gives at most ten at a time, and every send is a way through the kernel's whole stack; several
//! tens that come one behind the other need only one.

use std::io;

use quinn::udp::Transmit;

/// Packets that come at once where more are likely to follow: quinn's most.
const TEN: usize = 10;
/// Packets in one send, at most: what every kernel with UDP_SEGMENT takes.
const MOST_PACKETS: usize = 64;
/// Bytes in one send, at most: the payload of the largest IPv4 packet.
const MOST_BYTES: usize = 65_507;

/// What waits for more to the same client. Holds 64 KiB once it was used: there is one for each worker and address.
#[derive(Debug, Default)]
pub(super) struct Train {
    /// Packets of one length, the last one may be shorter; none if nothing waits.
    bytes: Vec<u8>,
    /// That length.
    segment: usize,
    /// Where they go, and how.
    head: Option<Transmit<'static>>,
    /// Nothing was added since somebody looked.
    still: bool,
}

impl Train {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes what can leave together with what waits or, if nothing does, what is likely to be followed by more. Gives whether it took it.
    pub(super) fn takes(&mut self, transmit: &Transmit<'_>) -> bool {
        let taken = if self.is_empty() { self.begins_with(transmit) } else { self.goes_on_with(transmit) };
        if taken {
            self.bytes.extend_from_slice(transmit.contents);
            self.still = false;
        }
        taken
    }

    fn begins_with(&mut self, transmit: &Transmit<'_>) -> bool {
        let Some(segment) = transmit.segment_size.filter(|segment| segment * TEN == transmit.contents.len()) else { return false };
        self.segment = segment;
        self.head = Some(Transmit { contents: &[], ..transmit.clone() });
        true
    }

    fn goes_on_with(&self, transmit: &Transmit<'_>) -> bool {
        let same_way = self
            .head
            .as_ref()
            .is_some_and(|head| (head.destination, head.ecn, head.src_ip) == (transmit.destination, transmit.ecn, transmit.src_ip));
        let same_length = transmit.segment_size.map_or(transmit.contents.len() <= self.segment, |segment| segment == self.segment);
        same_way && same_length && !self.has_end() && self.has_room(transmit.contents.len())
    }

    /// Whether the last packet is a shorter one.
    fn has_end(&self) -> bool {
        !self.bytes.len().is_multiple_of(self.segment.max(1))
    }

    fn has_room(&self, more: usize) -> bool {
        self.bytes.len() + more <= MOST_BYTES.min(MOST_PACKETS * self.segment)
    }

    /// Whether there is nothing to wait for: the last packet is a shorter one, or ten more have no room.
    pub(super) fn is_whole(&self) -> bool {
        self.has_end() || !self.has_room(TEN * self.segment)
    }

    /// Whether nothing was added since this was asked before.
    pub(super) fn stands_still(&mut self) -> bool {
        std::mem::replace(&mut self.still, true)
    }

    /// Sends what waits, if anything does; where that fails it still waits.
    pub(super) fn leave(&mut self, send: impl FnOnce(&Transmit<'_>) -> io::Result<()>) -> io::Result<()> {
        let Some(head) = self.head.as_ref().filter(|_| !self.bytes.is_empty()) else { return Ok(()) };
        send(&Transmit { contents: &self.bytes, segment_size: Some(self.segment), ..head.clone() })?;
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` packets of `length` bytes to a client by its port.
    fn transmit(memory: &[u8], length: usize, count: usize, port: u16) -> Transmit<'_> {
        let segment_size = (count > 1).then_some(length);
        Transmit { destination: ([127, 0, 0, 1], port).into(), ecn: None, contents: &memory[..length * count], segment_size, src_ip: None }
    }

    /// Bytes that leave, and how long each packet is.
    fn left(train: &mut Train) -> Option<(usize, Option<usize>)> {
        let mut left = None;
        train
            .leave(|all| {
                left = Some((all.contents.len(), all.segment_size));
                Ok(())
            })
            .unwrap();
        left
    }

    #[test]
    fn tens_join_and_a_shorter_one_ends_them() {
        let memory = vec![0; 20_000];
        let mut train = Train::default();
        assert!(train.takes(&transmit(&memory, 1200, 10, 1)) && train.takes(&transmit(&memory, 1200, 3, 1)));
        assert!(train.takes(&transmit(&memory, 1200, 1, 1)) && !train.is_whole());
        assert!(train.takes(&transmit(&memory, 700, 1, 1)) && train.is_whole());
        assert!(!train.takes(&transmit(&memory, 700, 1, 1)), "nothing joins behind the end");
        assert_eq!(left(&mut train), Some((14 * 1200 + 700, Some(1200))));
        assert!(train.is_empty() && left(&mut train).is_none());
    }

    #[test]
    fn few_packets_do_not_wait_and_others_do_not_join() {
        let memory = vec![0; 20_000];
        let mut train = Train::default();
        for (length, count) in [(1200, 1), (1200, 9), (12_000, 1)] {
            assert!(!train.takes(&transmit(&memory, length, count, 1)), "{count} of {length}");
        }
        assert!(train.takes(&transmit(&memory, 1200, 10, 1)));
        for other in [transmit(&memory, 1200, 10, 2), transmit(&memory, 1201, 2, 1), transmit(&memory, 1201, 1, 1)] {
            assert!(!train.takes(&other), "{other:?}");
        }
        let marked = Transmit { ecn: Some(quinn::udp::EcnCodepoint::Ect0), ..transmit(&memory, 1200, 10, 1) };
        assert!(!train.takes(&marked), "each has its own mark");
    }

    #[test]
    fn no_train_is_longer_than_a_send() {
        for length in [100, 1200, 1452, 6000] {
            let memory = vec![0; 10 * length];
            let mut train = Train::default();
            let mut tens = 0;
            while train.takes(&transmit(&memory, length, 10, 1)) {
                tens += 1;
            }
            assert!(train.is_whole() && 10 * length * tens <= MOST_BYTES && 10 * tens <= MOST_PACKETS, "{tens} tens of {length}");
        }
    }

    #[test]
    fn what_finds_no_room_still_waits() {
        let memory = vec![0; 12_000];
        let mut train = Train::default();
        assert!(train.takes(&transmit(&memory, 1200, 10, 1)));
        let full = train.leave(|_| Err(io::ErrorKind::WouldBlock.into()));
        assert!(full.is_err() && left(&mut train) == Some((12_000, Some(1200))));
    }

    #[test]
    fn it_stands_still_once_somebody_has_looked() {
        let memory = vec![0; 12_000];
        let mut train = Train::default();
        assert!(train.takes(&transmit(&memory, 1200, 10, 1)));
        assert_eq!([train.stands_still(), train.stands_still()], [false, true]);
        assert!(train.takes(&transmit(&memory, 1200, 1, 1)) && !train.stands_still());
    }
}
