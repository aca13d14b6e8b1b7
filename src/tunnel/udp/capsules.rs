//! Capsules on their way back, to a client that takes no QUIC datagrams (C-65). The same for every HTTP version: the stream is whatever a `write`
//! passed in takes.
//!
//! ```text
//! packets ──▶ whole: a short queue, the oldest is lost first ──▶ begun: the rest of the one that is half written ──▶ write
//! ```
//!
//! Promises:
//!
//! 1. *Never a capsule cut short*: what is begun is finished, or the stream is reset.
//! 2. *Nothing counts before the client has taken it*: a capsule is carried when its last byte is written, so that one who does not read is idle.
//! 3. *Bounded*: [`QUEUED`] bytes of whole capsules, and one that is begun for at most the stall limit.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::{Sleep, sleep};

use super::Flow;
use crate::{
    config::memory,
    ended::Ended,
    fault::{Fault, UNREGISTERED},
    metrics::{Loss, Way},
    proto::capsule::write_udp_header,
};

/// Bytes of whole capsules that wait, and that one write is made of: some fifty full packets, as on the way back by datagrams. More would only be
/// delay.
const QUEUED: usize = memory::CAPSULES as usize;

/// What goes in front of each capsule: the framing of the HTTP version for so many bytes.
pub type Framing = fn(usize, &mut Vec<u8>);

/// The buffer they wait in ([`memory::TUNNEL`] counts it): larger, so that the dropped ones at its front are not moved over at every packet.
const BUFFER: usize = QUEUED * 3 / 2;

/// The capsules of one tunnel that are not written yet.
#[derive(Debug)]
pub struct CapsuleQueue {
    framing: Framing,
    stall: Duration,
    begun: Option<Begun>,
    whole: BytesMut,
    /// The capsules in `whole`.
    units: VecDeque<Unit>,
}

/// Small, since an empty packet has one too.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// Bytes with framing.
    length: u32,
    /// Bytes of the UDP payload.
    payload: u16,
}

/// A capsule that is half written.
#[derive(Debug)]
struct Begun {
    rest: Bytes,
    payload: u64,
    /// Runs out when the client has not taken the rest for too long; made when it did not at once.
    patience: Option<Pin<Box<Sleep>>>,
}

impl CapsuleQueue {
    /// `stall` is how long a capsule may stay half written.
    pub fn new(framing: Framing, stall: Duration) -> Self {
        Self { framing, stall, begun: None, whole: BytesMut::new(), units: VecDeque::new() }
    }

    /// Whether the stream stands inside a capsule: it must not be finished now.
    pub fn is_inside(&self) -> bool {
        self.begun.is_some()
    }

    /// Writes what `write` takes at once of these UDP payloads; the rest waits for [`poll_flush`](Self::poll_flush), which also tells of errors, or is
    /// dropped. Never waits.
    pub fn send<'a>(
        &mut self,
        payloads: impl Iterator<Item = &'a [u8]>,
        flow: &Flow,
        mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<Result<usize, Ended>>,
    ) {
        // While something waits, the task is woken as soon as there is room: no need to ask at each batch.
        let mut open = self.begun.is_none() && self.units.is_empty();
        let (mut framing, mut header) = (Vec::new(), Vec::new());
        let elsewhere = flow.faults().on(Fault::DatagramContext);
        for payload in payloads {
            header.clear();
            write_udp_header(payload.len(), &mut header);
            if elsewhere && let Some(context) = header.last_mut() {
                *context = UNREGISTERED;
            }
            framing.clear();
            (self.framing)(header.len() + payload.len(), &mut framing);
            let length = framing.len() + header.len() + payload.len();
            if open && self.whole.len() + length > QUEUED {
                open = self.flush_now(flow, &mut write);
            }
            self.make_room(length, flow);
            self.reserve(length);
            for part in [&framing, &header, payload] {
                self.whole.extend_from_slice(part);
            }
            self.units.push_back(Unit { length: length as u32, payload: payload.len() as u16 });
        }
        if open {
            self.flush_now(flow, &mut write);
        }
    }

    /// Writes on, until nothing waits. `write` takes a byte at least, or is pending. Fails when the stream does, or when a capsule has been half written for too long.
    pub fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        flow: &Flow,
        mut write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<Result<usize, Ended>>,
    ) -> Poll<Result<(), Ended>> {
        let (mut packets, mut bytes) = (0, 0);
        let result = loop {
            let front = self.begun.as_ref().map_or(&self.whole[..], |begun| &begun.rest);
            if front.is_empty() {
                // An idle tunnel holds no buffer.
                (self.whole, self.units) = (BytesMut::new(), VecDeque::new());
                break Poll::Ready(Ok(()));
            }
            match write(cx, front) {
                Poll::Ready(Ok(written)) => self.written(written, |payload| {
                    packets += 1;
                    bytes += payload;
                }),
                Poll::Ready(Err(ended)) => break Poll::Ready(Err(ended)),
                Poll::Pending => break self.poll_patience(cx).map(Err),
            }
        };
        flow.carried(Way::Back, packets, bytes);
        result
    }

    /// The tunnel is over: what still waits is lost.
    pub fn abandon(&mut self, flow: &Flow) {
        let begun = u64::from(self.begun.take().is_some());
        flow.dropped(Way::Back, Loss::Unread, begun + self.units.len() as u64);
        self.units.clear();
        self.whole.clear();
    }

    /// Writes on as far as it goes; whether that is all.
    fn flush_now(&mut self, flow: &Flow, write: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<Result<usize, Ended>>) -> bool {
        matches!(self.poll_flush(&mut Context::from_waker(Waker::noop()), flow, write), Poll::Ready(Ok(())))
    }

    /// Takes `written` bytes off the front, and tells of each capsule that is complete.
    fn written(&mut self, mut written: usize, mut complete: impl FnMut(u64)) {
        if let Some(begun) = &mut self.begun {
            // A write is of what is begun or of what is whole, never of both.
            begun.rest.advance(written);
            if begun.rest.is_empty() {
                complete(begun.payload);
                self.begun = None;
            }
            return;
        }
        while written > 0
            && let Some(Unit { length, payload }) = self.units.pop_front()
        {
            let (length, payload) = (length as usize, payload.into());
            let bytes = self.whole.split_to(length);
            if length > written {
                // Copied: a slice would keep the whole buffer beside the next one.
                self.begun = Some(Begun { rest: Bytes::copy_from_slice(&bytes[written..]), payload, patience: None });
                return;
            }
            written -= length;
            complete(payload);
        }
    }

    /// Room in the buffer for `length` more bytes. It grows twofold as a `Vec` does, but to a bound.
    fn reserve(&mut self, length: usize) {
        let wanted = self.whole.len() + length;
        if self.whole.capacity() < wanted {
            let mut grown = BytesMut::with_capacity((2 * wanted).min(BUFFER).max(wanted));
            grown.extend_from_slice(&self.whole);
            self.whole = grown;
        }
    }

    /// Drops the oldest until `length` more bytes fit.
    fn make_room(&mut self, length: usize, flow: &Flow) {
        while self.whole.len() + length > QUEUED
            && let Some(oldest) = self.units.pop_front()
        {
            self.whole.advance(oldest.length as usize);
            flow.dropped(Way::Back, Loss::Unread, 1);
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        // Between two capsules a client may stop for as long as it likes: nothing is cut short.
        let Some(begun) = &mut self.begun else { return Poll::Pending };
        let stall = self.stall;
        ready!(begun.patience.get_or_insert_with(|| Box::pin(sleep(stall))).as_mut().poll(cx));
        Poll::Ready(Ended::Stalled)
    }
}

#[cfg(test)]
mod tests;
