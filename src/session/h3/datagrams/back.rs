//! The way back: from a batch of a target's packets into quinn's datagram buffer, or into the flow's short queue when that is full (C-59, C-60).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use quinn::SendDatagramError;

use super::{Datagrams, lock};
use crate::{
    fault::{Fault, Faults, UNREGISTERED},
    metrics::{Loss, Way},
    proto::datagram::{MAX_HEADER, write_header},
    sys::Received,
    tunnel::udp::Flow,
};

/// Packets queued for one flow: one full burst of a target. More would only add delay.
const QUEUED: usize = 64;
/// Packets queued for all flows of a connection.
const QUEUED_IN_ALL: usize = 512;

/// Packets waiting for room in quinn's buffer.
#[derive(Default)]
pub(super) struct BackQueue {
    flows: HashMap<u64, Queue>,
    /// Whose turn it is: every flow with packets, once.
    turns: VecDeque<u64>,
    queued: usize,
    /// A packet was taken and waits for room: nothing may overtake it.
    waiting: bool,
}

struct Queue {
    flow: Arc<Flow>,
    packets: VecDeque<Bytes>,
}

impl BackQueue {
    fn is_idle(&self) -> bool {
        self.queued == 0 && !self.waiting
    }

    /// Puts a packet behind the others of its flow; the oldest one is lost when there are too many.
    fn push(&mut self, id: u64, flow: &Arc<Flow>, packet: Bytes) {
        let queue = self.flows.entry(id).or_insert_with(|| Queue { flow: Arc::clone(flow), packets: VecDeque::new() });
        if queue.packets.is_empty() {
            if self.queued >= QUEUED_IN_ALL {
                flow.dropped(Way::Back, Loss::NoRoom, 1);
                return;
            }
            self.turns.push_back(id);
        } else if queue.packets.len() >= QUEUED || self.queued >= QUEUED_IN_ALL {
            queue.packets.pop_front();
            self.queued -= 1;
            flow.dropped(Way::Back, Loss::NoRoom, 1);
        }
        queue.packets.push_back(packet);
        self.queued += 1;
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
        let mut room = if back.is_idle() { self.link.datagram_send_buffer_space() } else { 0 };
        let mut buffer = BytesMut::with_capacity(packets.iter().map(|payload| MAX_HEADER + payload.len()).sum());
        let mut header = Vec::with_capacity(MAX_HEADER);
        write_header(addressed(id, flow.faults()), &mut header);
        if flow.faults().on(Fault::DatagramContext)
            && let Some(context) = header.last_mut()
        {
            *context = UNREGISTERED;
        }
        let (mut carried, mut bytes) = (0, 0);
        for payload in flow.kept(packets) {
            buffer.extend_from_slice(&header);
            buffer.extend_from_slice(payload);
            let packet = buffer.split().freeze();
            if packet.len() > room {
                room = 0; // what comes behind must not overtake
                back.push(id, flow, packet);
                continue;
            }
            room -= packet.len();
            match self.link.send_datagram(packet) {
                Ok(()) => {
                    carried += 1;
                    bytes += payload.len() as u64;
                }
                Err(error) => flow.dropped(Way::Back, loss(&error), 1),
            }
        }
        flow.carried(Way::Back, carried, bytes);
        if back.queued > 0 {
            self.stirred.notify_one();
        }
    }

    /// Moves queued packets into quinn's buffer as it gets room, one flow after the other, until the connection is over.
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
