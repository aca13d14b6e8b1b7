//! The two halves of an HTTP/2 stream. Dropped before their end, h2 resets the stream with CANCEL, so that a broken off task never looks like an
//! end.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, server::SendResponse};

use crate::{
    diagnosis::{By, record::Act},
    ended::{Ended, Reset},
    listener::tcp::broke,
    proto::codes::h2_name,
    record::{Log, What},
    session::{capsules::PollWrite, window::Share},
    tunnel::{ClientRead, ClientWrite, HEADROOM},
};

/// Bytes handed over at once.
const AT_ONCE: usize = 256 * 1024;

/// The client's half.
pub(crate) struct H2Read {
    body: RecvStream,
    /// Only to reset the stream when the other half has finished.
    respond: SendResponse<Bytes>,
    share: Share,
    pen: Pen,
}

/// The relay's half.
pub(crate) struct H2Write {
    stream: SendStream<Bytes>,
    pen: Pen,
}

/// Notes the clean ends of a stream; the others follow from why its tunnel ended.
#[derive(Clone, Debug)]
pub(super) struct Pen {
    log: Arc<Log>,
    stream: u64,
}

impl Pen {
    pub(super) fn new(log: Arc<Log>, stream: u64) -> Self {
        Self { log, stream }
    }

    fn finished(&self, by: By) {
        self.log.note(self.stream, What::End { by, act: Act::Finished, code: None });
    }
}

impl H2Read {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>, share: Share, pen: Pen) -> Self {
        Self { body, respond, share, pen }
    }

    /// RFC 9113 §8.5: behind DATA there may be nothing but END_STREAM.
    async fn end(&mut self) -> Result<bool, Ended> {
        match poll_fn(|cx| self.body.poll_trailers(cx)).await {
            Ok(None) => {
                self.pen.finished(By::Client);
                Ok(false)
            }
            Ok(Some(_)) => Err(Ended::Malformed("trailers in a tunnel")),
            Err(error) => Err(ended(&error)),
        }
    }
}

impl ClientRead for H2Read {
    async fn read(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool, Ended> {
        let mut taken = 0;
        // Everything there is, then what comes next: a write of one frame of 16 KiB each would cost four times as much.
        let more = poll_fn(|cx| {
            while taken < AT_ONCE {
                match self.body.poll_data(cx) {
                    Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => {}
                    Poll::Ready(Some(Ok(chunk))) => {
                        taken += chunk.len();
                        into.push_back(chunk);
                    }
                    Poll::Ready(Some(Err(error))) if taken == 0 => return Poll::Ready(Err(ended(&error))),
                    Poll::Ready(None) if taken == 0 => return Poll::Ready(Ok(false)),
                    Poll::Pending if taken == 0 => return Poll::Pending,
                    // An error and the end are told again.
                    Poll::Ready(Some(Err(_)) | None) | Poll::Pending => break,
                }
            }
            Poll::Ready(Ok(true))
        })
        .await?;
        if more { Ok(true) } else { self.end().await }
    }

    fn consumed(&mut self, bytes: usize) {
        // The stream may be gone by now: then there is nobody to give credit to.
        self.body.flow_control().release_capacity(bytes).unwrap_or_default();
    }

    fn stalled(&mut self, stalled: bool) {
        self.share.stalled(stalled);
    }

    /// HTTP/2 cannot stop one direction: the stream is reset, unless all is said and only the rest of the request is unread.
    fn stop(&mut self, reset: Reset) {
        if reset != Reset::Nothing {
            self.respond.send_reset(reset.h2());
        }
    }
}

impl H2Write {
    pub(super) fn new(stream: SendStream<Bytes>, pen: Pen) -> Self {
        Self { stream, pen }
    }

    /// How many of `wanted` bytes may be sent now.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Ended>> {
        self.stream.reserve_capacity(wanted);
        loop {
            match self.stream.capacity() {
                0 => {}
                room => return Poll::Ready(Ok(room.min(wanted))),
            }
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(ended(&error))),
                None => return Poll::Ready(Err(Ended::ClientLost("the stream is over".into()))),
            }
        }
    }
}

impl ClientWrite for H2Write {
    async fn write(&mut self, buffer: BytesMut) -> Result<(), Ended> {
        let mut payload = buffer.freeze().split_off(HEADROOM);
        while !payload.is_empty() {
            let room = poll_fn(|cx| self.poll_room(cx, payload.len())).await?;
            self.stream.send_data(payload.split_to(room), false).map_err(|error| ended(&error))?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Ended> {
        self.pen.finished(By::Relay);
        self.stream.send_data(Bytes::new(), true).map_err(|error| ended(&error))
    }

    fn reset(&mut self, reset: Reset) {
        self.stream.send_reset(reset.h2());
    }

    async fn stopped(&mut self) -> Ended {
        match poll_fn(|cx| self.stream.poll_reset(cx)).await {
            Ok(reason) => Ended::ClientReset(u32::from(reason).into()),
            Err(error) => ended(&error),
        }
    }

    async fn gone(&mut self) -> Ended {
        self.stopped().await
    }
}

impl PollWrite for H2Write {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Ended>> {
        let room = ready!(self.poll_room(cx, bytes.len()))?;
        self.stream.send_data(Bytes::copy_from_slice(&bytes[..room]), false).map_err(|error| ended(&error))?;
        Poll::Ready(Ok(room))
    }
}

/// Why a stream can no longer be used.
pub(super) fn ended(error: &h2::Error) -> Ended {
    let Some(reason) = error.reason() else {
        return Ended::ClientLost(error.get_io().map_or_else(|| error.to_string(), broke));
    };
    let code = u64::from(u32::from(reason));
    match (error.is_reset(), error.is_remote()) {
        (true, true) => Ended::ClientReset(code),
        (true, false) => Ended::Misframed { code, why: "the HTTP/2 stream cannot go on".into() },
        (false, _) => Ended::ClientLost(h2_name(code).map_or_else(|| format!("{code:#x}"), Into::into)),
    }
}
