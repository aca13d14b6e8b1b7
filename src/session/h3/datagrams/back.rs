//! The way back: from a batch of a target's packets into quinn's datagram buffer, or into the flow's short queue when that is full (C-59, C-60).
//!
//! What waits in front of a packet, and so its delay, is bounded: the 64 KiB of quinn's buffer, and 64 packets of its own flow, each with a turn
//! of every other flow that has packets. A single flow of 1,200-byte packets waits behind 139 KiB at most, 114 ms at 10 Mbit/s; a modest one beside
//! a flood behind quinn's 64 KiB, 52 ms. A stream waits behind quinn's buffer once, and then gets half of what is sent
//! ([`super::budget`]).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use quinn::SendDatagramError;
use tokio::time::sleep;

use super::{Datagrams, budget::Budget, lock};
use crate::{
    config::memory,
    fault::{Fault, Faults, UNREGISTERED},
    metrics::{Loss, Way},
    proto::datagram::{MAX_HEADER, write_header},
    sys::Received,
    tunnel::udp::Flow,
};

/// Packets queued for one flow: one full burst of a target. More would only add delay.
const QUEUED: usize = 64;
/// Packets queued for all flows of a connection.
const QUEUED_IN_ALL: usize = memory::PACKETS_BACK as usize;
/// What quinn counts for a datagram in its buffer, beside its bytes.
const COUNTED: usize = size_of::<Bytes>();

/// Packets waiting for room in quinn's buffer.
#[derive(Default)]
pub(super) struct BackQueue {
    flows: HashMap<u64, Queue>,
    /// Whose turn it is: every flow with packets, once.
    turns: VecDeque<u64>,
    queued: usize,
    /// A packet was taken and waits for room: nothing may overtake it.
    waiting: bool,
    budget: Budget,
}

struct Queue {
    flow: Arc<Flow>,
    packets: VecDeque<Bytes>,
}

impl BackQueue {
    fn is_idle(&self) -> bool {
        self.queued == 0 && !self.waiting
    }

    /// Puts a packet behind the others of its flow. When there are too many, its oldest one is lost; when there are too many of all flows, the oldest
    /// of the flow that has the most: never that of a modest one.
    fn push(&mut self, id: u64, flow: &Arc<Flow>, packet: Bytes) {
        if self.flows.get(&id).is_some_and(|queue| queue.packets.len() >= QUEUED) {
            self.lose_oldest(id);
        } else if self.queued >= QUEUED_IN_ALL
            && let Some((longest, _)) = self.flows.iter().max_by_key(|(other, queue)| (queue.packets.len(), **other == id))
        {
            self.lose_oldest(*longest);
        }
        let queue = self.flows.entry(id).or_insert_with(|| Queue { flow: Arc::clone(flow), packets: VecDeque::new() });
        if queue.packets.is_empty() {
            self.turns.push_back(id);
        }
        queue.packets.push_back(packet);
        self.queued += 1;
    }

    fn lose_oldest(&mut self, id: u64) {
        let Some(queue) = self.flows.get_mut(&id) else { return };
        if queue.packets.pop_front().is_some() {
            self.queued -= 1;
            queue.flow.dropped(Way::Back, Loss::NoRoom, 1);
        }
        if queue.packets.is_empty() {
            self.flows.remove(&id);
            self.turns.retain(|other| *other != id);
        }
    }

    fn pop(&mut self) -> Option<(Arc<Flow>, Bytes)> {
        let id = self.turns.pop_front()?;
        let queue = self.flows.get_mut(&id)?;
        let packet = queue.packets.pop_front()?;
        let flow = Arc::clone(&queue.flow);
        self.queued -= 1;
        if queue.packets.is_empty() {
            self.flows.remove(&id);
        } else {
            self.turns.push_back(id);
        }
        Some((flow, packet))
    }
}

impl Datagrams {
    /// Hands a batch of a target's packets to the client. Never waits; each is carried, queued, or dropped and counted.
    pub(in crate::session::h3) fn send_back(&self, id: u64, packets: &Received<'_>, flow: &Arc<Flow>) {
        let mut back = lock(&self.back);
        let mut room = if back.is_idle() { self.link.datagram_send_buffer_space().min(back.budget.room(&self.link, false)) } else { 0 };
        // A buffer lives as long as the last of its packets: it holds only what goes on at once, however much came.
        let whole = packets.iter().filter(|payload| fits(payload)).map(|payload| MAX_HEADER + payload.len()).sum();
        let mut buffer = BytesMut::with_capacity(room.min(whole));
        let mut header = Vec::with_capacity(MAX_HEADER);
        write_header(addressed(id, flow.faults()), &mut header);
        if flow.faults().on(Fault::DatagramContext)
            && let Some(context) = header.last_mut()
        {
            *context = UNREGISTERED;
        }
        let (mut carried, mut bytes, mut spent, mut too_big) = (0, 0, 0, 0);
        for payload in flow.kept(packets) {
            if !fits(payload) {
                too_big += 1;
                continue;
            }
            let length = header.len() + payload.len() + COUNTED;
            if length > room {
                room = 0; // what comes behind must not overtake
                back.push(id, flow, [&header, payload].concat().into());
                continue;
            }
            buffer.extend_from_slice(&header);
            buffer.extend_from_slice(payload);
            let packet = buffer.split().freeze();
            room -= length;
            spent += packet.len();
            match self.link.send_datagram(packet) {
                Ok(()) => {
                    carried += 1;
                    bytes += payload.len() as u64;
                }
                Err(error) => flow.dropped(Way::Back, loss(&error), 1),
            }
        }
        flow.carried(Way::Back, carried, bytes);
        flow.dropped(Way::Back, Loss::TooBig, too_big);
        back.budget.spend(spent);
        if back.queued > 0 {
            self.stirred.notify_one();
        }
    }

    /// Moves queued packets into quinn's buffer as it gets room and the streams leave some, one flow after the other, until the connection is over.
    pub(in crate::session::h3) async fn drain_back(self: Arc<Self>) {
        loop {
            let taken = {
                let mut back = lock(&self.back);
                let taken = back.pop();
                back.waiting = taken.is_some();
                taken
            };
            let Some((flow, packet)) = taken else {
                tokio::select! {
                    () = self.stirred.notified() => continue,
                    _ = self.link.closed() => return,
                }
            };
            let payload = (packet.len() - header_len(&packet)) as u64;
            self.turn(packet.len()).await;
            match self.link.send_datagram_wait(packet).await {
                Ok(()) => flow.carried(Way::Back, 1, payload),
                Err(error) => {
                    flow.dropped(Way::Back, loss(&error), 1);
                    if matches!(error, SendDatagramError::ConnectionLost(_)) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until a packet of `length` may go in front of what waits on streams.
    async fn turn(&self, length: usize) {
        while let Some(pause) = self.pause(length) {
            Box::pin(sleep(pause)).await;
        }
    }

    fn pause(&self, length: usize) -> Option<Duration> {
        lock(&self.back).budget.pause(&self.link, length)
    }

    /// The tunnel is over: nothing more of it goes to the client (C-57).
    pub(super) fn forget(&self, id: u64) {
        let mut back = lock(&self.back);
        if let Some(queue) = back.flows.remove(&id) {
            back.queued -= queue.packets.len();
            back.turns.retain(|other| *other != id);
            queue.flow.dropped(Way::Back, Loss::NoTunnel, queue.packets.len() as u64);
        }
    }
}

/// Whether some path could carry this payload; on this one quinn decides.
fn fits(payload: &[u8]) -> bool {
    payload.len() <= memory::PACKET as usize
}

/// The quarter stream ID that is written for a request: its own, in a healthy relay.
fn addressed(id: u64, faults: &Faults) -> u64 {
    if faults.on(Fault::DatagramStream) { id + 1 } else { id }
}

/// Quarter stream ID and context ID in front of a payload.
fn header_len(packet: &[u8]) -> usize {
    packet.first().map_or(0, |first| (1 << (first >> 6)) + 1)
}

fn loss(error: &SendDatagramError) -> Loss {
    match error {
        // RFC 9298 §6.1: dropped, not put in a capsule, which would hide the path's MTU from the client.
        SendDatagramError::TooLarge => Loss::TooBig,
        SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled | SendDatagramError::ConnectionLost(_) => Loss::NoTunnel,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::metrics::Metrics;

    fn flow() -> Arc<Flow> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Arc::new(Flow::new(socket, 1, Arc::new(Metrics::default()), Arc::default()).unwrap())
    }

    fn taken(back: &mut BackQueue) -> Vec<u8> {
        std::iter::from_fn(|| back.pop()).map(|(_, packet)| packet[0]).collect()
    }

    #[tokio::test]
    async fn flows_take_turns_and_the_oldest_of_each_is_lost_first() {
        let (mut back, [busy, modest]) = (BackQueue::default(), [flow(), flow()]);
        for number in 0..=QUEUED as u8 {
            back.push(1, &busy, Bytes::copy_from_slice(&[number]));
        }
        back.push(2, &modest, Bytes::from_static(&[200]));
        let taken = taken(&mut back);
        assert_eq!((&taken[..3], taken.len()), (&[1, 200, 2][..], QUEUED + 1));
        assert_eq!((busy.totals().dropped, modest.totals().dropped), (1, 0));
        assert!(back.flows.is_empty() && back.turns.is_empty() && back.queued == 0);
    }

    #[tokio::test]
    async fn many_busy_flows_leave_a_modest_one_its_place() {
        let mut back = BackQueue::default();
        let flows: Vec<_> = (0..QUEUED_IN_ALL as u64 + 2).map(|id| (id, flow())).collect();
        // Far more than fits, by flows that never reach their own bound.
        for (id, flow) in flows[..16].iter().cycle().take(2 * QUEUED_IN_ALL) {
            back.push(*id, flow, Bytes::from_static(&[1]));
        }
        for _ in 0..3 {
            back.push(flows[16].0, &flows[16].1, Bytes::from_static(&[200]));
        }
        assert_eq!(flows[16].1.totals().dropped, 0);
        assert_eq!(taken(&mut back).into_iter().filter(|packet| *packet == 200).count(), 3);

        // And where nobody has more than one, the bound still holds.
        for (id, flow) in &flows {
            back.push(*id, flow, Bytes::from_static(&[1]));
        }
        assert_eq!((back.queued, back.flows.len(), back.turns.len()), (QUEUED_IN_ALL, QUEUED_IN_ALL, QUEUED_IN_ALL));
    }
}
