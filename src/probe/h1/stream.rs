//! The two directions of an HTTP/1.1 connection, after the manner of a stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Pipe, head};
use crate::{
    probe::{
        Answer, ProbeError, StreamEnd,
        shared::{Shared, within},
    },
    proto::head::Head,
};

/// Our direction. Dropped before its end the connection is aborted.
#[derive(Debug)]
pub(in crate::probe) struct Sending {
    pipe: Arc<Pipe>,
    /// Finished or reset: dropping does nothing more.
    over: bool,
}

/// The relay's direction. Dropped before its end the connection is aborted, if ours is finished.
#[derive(Debug)]
pub(in crate::probe) struct Receiving {
    pipe: Arc<Pipe>,
    rest: BytesMut,
    /// Bytes of content still to come, where the answer has said how many.
    left: Option<u64>,
    /// How it ended, once it has: asking again gives the same.
    ended: Option<StreamEnd>,
}

impl Sending {
    pub(super) fn new(pipe: Arc<Pipe>) -> Self {
        Self { pipe, over: false }
    }

    pub(in crate::probe) async fn send_head(&mut self, head: &Head) -> Result<(), StreamEnd> {
        let head = head::request(head).map_err(StreamEnd::Unsendable)?;
        self.send(&head).await
    }

    pub(in crate::probe) async fn send(&mut self, bytes: &[u8]) -> Result<(), StreamEnd> {
        self.pipe.write(bytes).await
    }

    /// Sends close_notify and FIN.
    pub(in crate::probe) fn finish(&mut self) -> Result<(), StreamEnd> {
        self.end()?;
        self.pipe.finish();
        Ok(())
    }

    /// Sends RST: there is no code to give.
    pub(in crate::probe) fn reset(&mut self) -> Result<(), StreamEnd> {
        self.end()?;
        self.pipe.abort();
        Ok(())
    }

    /// Waits for the end of the connection, which only the other half sees.
    pub(in crate::probe) async fn stopped(&self) -> StreamEnd {
        let shared = self.pipe.shared();
        let ended = shared.wait_for("the connection's end", None, |state| state.closed.clone());
        match within(shared.options.patience, ended).await {
            Ok(Ok(closed)) => shared.lost(closed),
            Ok(Err(_)) => StreamEnd::EndedHere,
            Err(_) => StreamEnd::TimedOut,
        }
    }

    fn end(&mut self) -> Result<(), StreamEnd> {
        if std::mem::replace(&mut self.over, true) { Err(StreamEnd::EndedHere) } else { Ok(()) }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.over {
            self.pipe.abort();
        }
    }
}

impl Receiving {
    pub(super) fn new(pipe: Arc<Pipe>) -> Self {
        Self { pipe, rest: BytesMut::new(), left: None, ended: None }
    }

    /// The head of the answer; informational ones are passed over, but not 101, after which there is no HTTP any more.
    pub(in crate::probe) async fn answer(&mut self) -> Result<Answer, ProbeError> {
        loop {
            match head::answer(&self.rest) {
                Ok(Some((answer, length))) => {
                    drop(self.rest.split_to(length));
                    if answer.status >= 200 || answer.status == 101 {
                        self.left = head::content_length(&answer);
                        return Ok(answer);
                    }
                    continue;
                }
                Ok(None) if self.rest.len() > self.shared().options.max_head => {
                    return Err(self.violated("an answer's head larger than we take").into());
                }
                Ok(None) => {}
                Err(rule) => return Err(self.violated(rule).into()),
            }
            match self.more().await? {
                Some(bytes) => self.rest.extend_from_slice(&bytes),
                None if self.rest.is_empty() => return Err(ProbeError::Unanswered(StreamEnd::Finished)),
                None => return Err(self.violated("an answer's head that ends early (RFC 9112 §8)").into()),
            }
        }
    }

    /// The next bytes of the tunnel or the content, never empty; `None` after the end. Cancel safe.
    pub(in crate::probe) async fn recv(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        if self.left == Some(0) {
            self.ended.get_or_insert(StreamEnd::Finished);
        }
        let mut bytes = if self.rest.is_empty() {
            match self.more().await? {
                Some(bytes) => bytes,
                None if self.left.is_some_and(|left| left > 0) => return Err(self.violated("content that ends early (RFC 9112 §8)")),
                None => return Ok(None),
            }
        } else {
            self.rest.split().freeze()
        };
        if let Some(left) = &mut self.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        Ok(Some(bytes))
    }

    /// Closes the connection: HTTP/1.1 has no other way to want no more.
    pub(in crate::probe) fn stop(&mut self) -> Result<(), StreamEnd> {
        if self.ended.is_some() {
            return Err(StreamEnd::EndedHere);
        }
        self.ended = Some(StreamEnd::EndedHere);
        self.pipe.abort();
        Ok(())
    }

    /// What came breaks `rule`: the connection is aborted.
    pub(in crate::probe) fn violated(&mut self, rule: impl Into<String>) -> StreamEnd {
        let end = StreamEnd::Violation(self.shared().note_violation(0, rule));
        self.ended = Some(end.clone());
        self.pipe.abort();
        end
    }

    pub(in crate::probe) fn shared(&self) -> &Shared {
        self.pipe.shared()
    }

    /// What the connection brings next; `None` after close_notify.
    async fn more(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        match &self.ended {
            Some(StreamEnd::Finished) => return Ok(None),
            Some(end) => return Err(end.clone()),
            None => {}
        }
        match self.pipe.read().await {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => {
                self.ended = Some(StreamEnd::Finished);
                Ok(None)
            }
            Err(end) => Err(self.ended.insert(end).clone()),
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if self.ended.is_none() && self.pipe.is_finished() {
            self.pipe.abort();
        }
    }
}
