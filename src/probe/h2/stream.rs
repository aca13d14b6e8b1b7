//! The two halves of an HTTP/2 request stream.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use tokio::sync::oneshot;

use super::{ended, head};
use crate::{
    ended::Reset,
    probe::{
        Answer, Http, ProbeError, StreamEnd,
        shared::{Shared, within},
    },
    proto::head::Head,
};

/// Our side of a stream. Dropped before its end the stream is reset with CANCEL.
#[derive(Debug)]
pub(in crate::probe) struct Sending {
    stream: Handle,
    shared: Arc<Shared>,
    /// Where the head goes, and who waits for the answer to it; until the head is sent.
    asking: Option<(SendRequest<Bytes>, oneshot::Sender<ResponseFuture>)>,
    /// Finished or reset: dropping does nothing more.
    over: bool,
}

/// The relay's side of a stream. Dropped it says nothing, but if our side is over, the h2 crate resets the stream with CANCEL.
#[derive(Debug)]
pub(in crate::probe) struct Receiving {
    phase: Phase,
    stream: Handle,
    shared: Arc<Shared>,
    /// How it ended, once it has: asking again gives the same.
    ended: Option<StreamEnd>,
}

#[derive(Debug)]
enum Phase {
    /// No head was sent yet.
    Unasked(oneshot::Receiver<ResponseFuture>),
    /// No answer came yet.
    Asked(ResponseFuture),
    Answered(RecvStream),
}

/// Both halves can reset the stream; there is none until the head is sent.
#[derive(Clone, Debug, Default)]
struct Handle(Arc<Mutex<Option<SendStream<Bytes>>>>);

pub(super) fn halves(requests: SendRequest<Bytes>, shared: Arc<Shared>) -> (Sending, Receiving) {
    let stream = Handle::default();
    let (asked, unasked) = oneshot::channel();
    let sending = Sending { stream: stream.clone(), shared: shared.clone(), asking: Some((requests, asked)), over: false };
    (sending, Receiving { phase: Phase::Unasked(unasked), stream, shared, ended: None })
}

impl Sending {
    pub(in crate::probe) fn id(&self) -> u64 {
        self.stream.lock().as_ref().map_or(0, |stream| stream.stream_id().as_u32().into())
    }

    pub(in crate::probe) fn send_head(&mut self, head: &Head) -> Result<(), StreamEnd> {
        let request = head::request(head).map_err(StreamEnd::Unsendable)?;
        let (requests, _) = self.asking.as_mut().ok_or(StreamEnd::Unsendable("HTTP/2: a second head"))?;
        let (answer, stream) = requests.send_request(request, false).map_err(|error| match error.reason() {
            None if !error.is_io() => StreamEnd::Unsendable("HTTP/2: a head that the h2 crate does not send"),
            _ => ended(&self.shared, &error),
        })?;
        *self.stream.lock() = Some(stream);
        if let Some((_, asked)) = self.asking.take() {
            // Whoever dropped the other half wants no answer.
            asked.send(answer).ok();
        }
        Ok(())
    }

    /// Waits for flow control, in pieces as it grants them. Not cancel safe.
    pub(in crate::probe) async fn send(&mut self, mut payload: Bytes) -> Result<(), StreamEnd> {
        while !payload.is_empty() {
            poll_fn(|cx| self.stream.poll_send(cx, &mut payload, &self.shared)).await?;
        }
        Ok(())
    }

    /// Sends END_STREAM.
    pub(in crate::probe) fn finish(&mut self) -> Result<(), StreamEnd> {
        self.over = true;
        let mut stream = self.stream.lock();
        let stream = stream.as_mut().ok_or(StreamEnd::EndedHere)?;
        stream.send_data(Bytes::new(), true).map_err(|_| StreamEnd::EndedHere)
    }

    /// Sends RST_STREAM.
    pub(in crate::probe) fn reset(&mut self, code: u64) -> Result<(), StreamEnd> {
        if std::mem::replace(&mut self.over, true) {
            // RST_STREAM is allowed after END_STREAM, but a half that is over has no more to say on any version.
            return Err(StreamEnd::EndedHere);
        }
        self.stream.reset(code);
        Ok(())
    }

    pub(in crate::probe) async fn stopped(&self) -> StreamEnd {
        let stopped = poll_fn(|cx| match self.stream.lock().as_mut() {
            Some(stream) => stream.poll_reset(cx),
            None => Poll::Pending,
        });
        match within(self.shared.options.patience, stopped).await {
            Ok(Ok(reason)) => StreamEnd::Stopped(u32::from(reason).into()),
            Ok(Err(error)) => stopped_by(&self.shared, &error),
            Err(_) => StreamEnd::TimedOut,
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.over {
            self.stream.reset(Http::H2.code(Reset::Cancelled));
        }
    }
}

impl Receiving {
    /// The head of the answer; the h2 crate passes informational ones over.
    pub(in crate::probe) async fn answer(&mut self) -> Result<Answer, ProbeError> {
        loop {
            if let Some(end) = &self.ended {
                return Err(end.clone().into());
            }
            match &mut self.phase {
                Phase::Unasked(asked) => {
                    let Ok(answer) = asked.await else {
                        self.ended = Some(StreamEnd::EndedHere);
                        continue;
                    };
                    self.phase = Phase::Asked(answer);
                }
                Phase::Asked(answer) => {
                    let response = answer.await.map_err(|error| ProbeError::from(self.end(&error)))?;
                    let head = head::answer(&response);
                    self.phase = Phase::Answered(response.into_body());
                    let status = head.status().map_err(|malformed| {
                        let rule = format!("a malformed answer: {malformed} (RFC 9113 §8.1.1)");
                        ProbeError::from(self.violated(Reset::Message, rule))
                    })?;
                    return Ok(Answer { status, head });
                }
                Phase::Answered(_) => return Err(ProbeError::Unanswered(StreamEnd::EndedHere)),
            }
        }
    }

    /// The next bytes of DATA, never empty; `None` after END_STREAM. Cancel safe.
    pub(in crate::probe) async fn recv(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        match &self.ended {
            Some(StreamEnd::Finished) => return Ok(None),
            Some(end) => return Err(end.clone()),
            None => {}
        }
        loop {
            let Phase::Answered(stream) = &mut self.phase else {
                if let Err(error) = self.answer().await {
                    return Err(self.ended.clone().unwrap_or_else(|| unanswered(error)));
                }
                continue;
            };
            match stream.data().await {
                Some(Ok(bytes)) => {
                    if self.shared.options.window_updates {
                        // An error says that the stream is over, which the next read tells.
                        stream.flow_control().release_capacity(bytes.len()).ok();
                    }
                    if !bytes.is_empty() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => return Err(self.end(&error)),
                None => return self.finished().await,
            }
        }
    }

    /// Sends RST_STREAM: HTTP/2 has no way to stop one direction.
    pub(in crate::probe) fn stop(&mut self, code: u64) -> Result<(), StreamEnd> {
        if self.ended.is_some() {
            return Err(StreamEnd::EndedHere);
        }
        self.ended = Some(StreamEnd::EndedHere);
        self.stream.reset(code);
        Ok(())
    }

    /// What came breaks `rule`: the stream is reset, the connection goes on (RFC 9113 §5.4.2).
    pub(in crate::probe) fn violated(&mut self, reset: Reset, rule: impl Into<String>) -> StreamEnd {
        let code = Http::H2.code(reset);
        let end = StreamEnd::Violation(self.shared.note_violation(code, rule));
        self.ended = Some(end.clone());
        self.stream.reset(code);
        end
    }

    pub(in crate::probe) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// DATA is over: with END_STREAM, or with a HEADERS frame that has no place in a tunnel.
    async fn finished(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        let Phase::Answered(stream) = &mut self.phase else { return Ok(None) };
        match stream.trailers().await {
            Ok(None) => {
                self.ended = Some(StreamEnd::Finished);
                Ok(None)
            }
            Ok(Some(_)) => Err(self.violated(Reset::Message, "HEADERS in a tunnel (RFC 9113 §8.5)")),
            Err(error) => Err(self.end(&error)),
        }
    }

    fn end(&mut self, error: &h2::Error) -> StreamEnd {
        let end = ended(&self.shared, error);
        self.ended = Some(end.clone());
        end
    }
}

impl Handle {
    fn lock(&self) -> MutexGuard<'_, Option<SendStream<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self, code: u64) {
        if let Some(stream) = self.lock().as_mut() {
            stream.send_reset(Reason::from(u32::try_from(code).unwrap_or(u32::MAX)));
        }
    }

    /// Sends as much of `payload` as the windows take now.
    fn poll_send(&self, cx: &mut Context<'_>, payload: &mut Bytes, shared: &Shared) -> Poll<Result<(), StreamEnd>> {
        let mut stream = self.lock();
        let Some(stream) = stream.as_mut() else { return Poll::Ready(Err(StreamEnd::EndedHere)) };
        stream.reserve_capacity(payload.len());
        // The h2 crate tells of new capacity only; what is there already must be asked for.
        while stream.capacity() == 0 {
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(stopped_by(shared, &error))),
                Poll::Ready(None) => {
                    return Poll::Ready(Err(match stream.poll_reset(cx) {
                        Poll::Ready(Ok(reason)) => StreamEnd::Stopped(u32::from(reason).into()),
                        Poll::Ready(Err(error)) => stopped_by(shared, &error),
                        Poll::Pending => StreamEnd::EndedHere,
                    }));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let piece = payload.split_to(payload.len().min(stream.capacity()));
        Poll::Ready(stream.send_data(piece, false).map_err(|error| stopped_by(shared, &error)))
    }
}

/// For our side, RST_STREAM is a request to stop.
fn stopped_by(shared: &Shared, error: &h2::Error) -> StreamEnd {
    match ended(shared, error) {
        StreamEnd::Reset(code) => StreamEnd::Stopped(code),
        end => end,
    }
}

/// A failed answer as the end of a stream.
fn unanswered(error: ProbeError) -> StreamEnd {
    match error {
        ProbeError::Unanswered(end) => end,
        ProbeError::Violation(violation) => StreamEnd::Violation(violation),
        ProbeError::Closed(closed) => StreamEnd::Lost(closed),
        _ => StreamEnd::EndedHere,
    }
}
