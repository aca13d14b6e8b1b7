//! The two halves of a request stream, whatever the HTTP version.
//!
//! What each word is on the wire:
//!
//! | | HTTP/3 | HTTP/2 | HTTP/1.1 |
//! | --- | --- | --- | --- |
//! | `send` | DATA | DATA | bytes |
//! | `finish` | FIN | END_STREAM | close_notify, FIN of TCP |
//! | `reset` | RESET_STREAM | RST_STREAM, for both directions | RST of TCP |
//! | `stop` | STOP_SENDING | RST_STREAM, for both directions | RST of TCP |

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{
    Answer, Http, ProbeError, StreamEnd, h1, h2, h3,
    shared::{Shared, within},
};
use crate::{ended::Reset, proto::head::Head};

/// Our side of a request stream. Dropped before its end it is reset as [`Reset::Cancelled`].
#[derive(Debug)]
pub struct SendHalf(pub(super) Sending);

/// The relay's side of a request stream. Dropped before its end it is stopped as [`Reset::Cancelled`]; over HTTP/2 and HTTP/1.1, which cannot say
/// that, once our side is over too.
#[derive(Debug)]
pub struct RecvHalf(pub(super) Receiving);

#[derive(Debug)]
pub(super) enum Sending {
    H1(h1::Sending),
    H2(h2::Sending),
    H3(h3::Sending),
}

#[derive(Debug)]
pub(super) enum Receiving {
    H1(h1::Receiving),
    H2(h2::Receiving),
    H3(h3::Receiving),
}

impl SendHalf {
    /// The stream's identifier. 0 over HTTP/1.1, and over HTTP/2 until the head is sent.
    pub fn id(&self) -> u64 {
        match &self.0 {
            Sending::H1(_) => 0,
            Sending::H2(side) => side.id(),
            Sending::H3(side) => side.id(),
        }
    }

    /// Which HTTP it belongs to.
    pub fn http(&self) -> Http {
        match &self.0 {
            Sending::H1(_) => Http::H1,
            Sending::H2(_) => Http::H2,
            Sending::H3(_) => Http::H3,
        }
    }

    /// Sends a head. Verbatim over HTTP/3, as often as one likes. HTTP/2 and HTTP/1.1 send one, and what they have no way to say is
    /// [`StreamEnd::Unsendable`].
    pub async fn send_head(&mut self, head: &Head) -> Result<(), StreamEnd> {
        match &mut self.0 {
            Sending::H1(side) => side.send_head(head).await,
            Sending::H2(side) => side.send_head(head),
            Sending::H3(side) => side.send_head(head).await,
        }
    }

    /// Sends `payload`, over HTTP/3 in one DATA frame; nothing for an empty one. Waits for flow control, without a limit. Not cancel safe: a
    /// part may have been sent.
    pub async fn send(&mut self, payload: Bytes) -> Result<(), StreamEnd> {
        match &mut self.0 {
            Sending::H1(side) => side.send(&payload).await,
            Sending::H2(side) => side.send(payload).await,
            Sending::H3(side) => side.send(payload).await,
        }
    }

    /// Sends bytes as they are: over HTTP/3 frames of any kind, or none; over HTTP/1.1 a head of any kind. HTTP/2 has no such place: there it is
    /// [`Self::send`]. Otherwise like [`Self::send`].
    pub async fn send_raw(&mut self, bytes: Bytes) -> Result<(), StreamEnd> {
        match &mut self.0 {
            Sending::H1(side) => side.send(&bytes).await,
            Sending::H2(side) => side.send(bytes).await,
            Sending::H3(side) => side.send_raw(bytes).await,
        }
    }

    /// Ends our side cleanly.
    pub fn finish(&mut self) -> Result<(), StreamEnd> {
        match &mut self.0 {
            Sending::H1(side) => side.finish(),
            Sending::H2(side) => side.finish(),
            Sending::H3(side) => side.finish(),
        }
    }

    /// Cuts our side off, with a code of the HTTP version in use.
    pub fn reset(&mut self, code: u64) -> Result<(), StreamEnd> {
        match &mut self.0 {
            Sending::H1(side) => side.reset(),
            Sending::H2(side) => side.reset(code),
            Sending::H3(side) => side.reset(code),
        }
    }

    /// The same for a reason that every version has its own code for.
    pub fn reset_as(&mut self, reset: Reset) -> Result<(), StreamEnd> {
        self.reset(self.http().code(reset))
    }

    /// Waits until the relay stops reading ([`StreamEnd::Stopped`]; over HTTP/2 it has reset the stream), or, over HTTP/3, has acknowledged all of
    /// a finished stream ([`StreamEnd::EndedHere`]). Over HTTP/1.1 only the end of the connection is seen, and only by who reads. Cancel safe.
    pub async fn stopped(&self) -> StreamEnd {
        match &self.0 {
            Sending::H1(side) => side.stopped().await,
            Sending::H2(side) => side.stopped().await,
            Sending::H3(side) => side.stopped().await,
        }
    }
}

impl RecvHalf {
    /// The next bytes, never empty; `None` after a clean end. Cancel safe.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        within(self.patience(), self.recv_patiently()).await.unwrap_or(Err(StreamEnd::TimedOut))
    }

    /// All there is until the clean end, for as long as something keeps coming; at most `limit` bytes, above it the stream is stopped here.
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Bytes, StreamEnd> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.recv().await? {
            if whole.len() + bytes.len() > limit {
                self.stop_as(Reset::Cancelled)?;
                return Err(StreamEnd::EndedHere);
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    /// Throws bytes away until the relay ends its side, and says how.
    pub async fn ended(&mut self) -> StreamEnd {
        loop {
            match self.recv().await {
                Ok(Some(_)) => {}
                Ok(None) => return StreamEnd::Finished,
                Err(end) => return end,
            }
        }
    }

    /// Wants no more, with a code of the HTTP version in use.
    pub fn stop(&mut self, code: u64) -> Result<(), StreamEnd> {
        match &mut self.0 {
            Receiving::H1(side) => side.stop(),
            Receiving::H2(side) => side.stop(code),
            Receiving::H3(side) => side.stop(code),
        }
    }

    /// The same for a reason that every version has its own code for.
    pub fn stop_as(&mut self, reset: Reset) -> Result<(), StreamEnd> {
        self.stop(self.http().code(reset))
    }

    /// Which HTTP it belongs to.
    pub fn http(&self) -> Http {
        self.shared().options.http
    }

    /// Reads the head of the answer; informational ones (1xx, but for 101 over HTTP/1.1) are passed over.
    pub(super) async fn answer(&mut self) -> Result<Answer, ProbeError> {
        let options = &self.shared().options;
        let limit = options.answer.unwrap_or(options.timeout);
        let answer = async {
            match &mut self.0 {
                Receiving::H1(side) => side.answer().await,
                Receiving::H2(side) => side.answer().await,
                Receiving::H3(side) => side.answer().await,
            }
        };
        match within(Some(limit), answer).await {
            Ok(answer) => answer,
            Err(after) => Err(ProbeError::TimedOut { what: "an answer", after }),
        }
    }

    /// [`Self::recv`] without a limit.
    pub(super) async fn recv_patiently(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        match &mut self.0 {
            Receiving::H1(side) => side.recv().await,
            Receiving::H2(side) => side.recv().await,
            Receiving::H3(side) => side.recv().await,
        }
    }

    /// What came breaks `rule`: the connection closes for it, over HTTP/2 the stream alone.
    pub(super) fn violated(&mut self, reset: Reset, rule: impl Into<String>) -> StreamEnd {
        match &mut self.0 {
            Receiving::H1(side) => side.violated(rule),
            Receiving::H2(side) => side.violated(reset, rule),
            Receiving::H3(side) => side.violated(reset.h3(), rule),
        }
    }

    /// The longest wait for what may come.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.shared().options.patience
    }

    fn shared(&self) -> &Shared {
        match &self.0 {
            Receiving::H1(side) => side.shared(),
            Receiving::H2(side) => side.shared(),
            Receiving::H3(side) => side.shared(),
        }
    }
}
