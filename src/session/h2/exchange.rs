//! One request on HTTP/2, from its head to the end of its stream.

use std::{
    future::{Future, pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, ext::Protocol, server::SendResponse};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use tokio::time::timeout;

use super::halves::{H2Read, H2Write, Pen, ended};
use crate::{
    ended::Ended,
    proto::head::Head,
    record::Log,
    session::{
        DISCARDED, DISCARDING, Exchange,
        capsules::{CapsuleLane, bare},
        window::Share,
    },
    tunnel::udp::Flow,
};

/// A request and its stream.
pub(super) struct H2Exchange {
    head: Head,
    respond: SendResponse<Bytes>,
    body: RecvStream,
    log: Arc<Log>,
    /// Counts those that were cancelled.
    cancelled: Arc<AtomicU32>,
    share: Share,
    capsule_stall: Duration,
}

impl H2Exchange {
    pub(super) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        log: Arc<Log>,
        cancelled: Arc<AtomicU32>,
        share: Share,
        capsule_stall: Duration,
    ) -> Self {
        let (parts, body) = request.into_parts();
        log.opened(respond.stream_id().as_u32().into());
        Self { head: head(&parts), respond, body, log, cancelled, share, capsule_stall }
    }

    fn accept(mut self, answer: &Head) -> Result<(H2Read, H2Write), Ended> {
        let send = self.respond.send_response(response(answer), false).map_err(|error| ended(&error))?;
        let pen = Pen::new(self.log, self.respond.stream_id().as_u32().into());
        Ok((H2Read::new(self.body, self.respond, self.share, pen.clone()), H2Write::new(send, pen)))
    }
}

impl Exchange for H2Exchange {
    type Read = H2Read;
    type Write = H2Write;
    type Lane = CapsuleLane<H2Read, H2Write>;

    fn take_head(&mut self) -> Head {
        std::mem::take(&mut self.head)
    }

    fn number(&self) -> u64 {
        self.respond.stream_id().as_u32().into()
    }

    async fn abandoned(&mut self) -> Ended {
        let reset = poll_fn(|cx| self.respond.poll_reset(cx)).await;
        self.cancelled.fetch_add(1, Relaxed);
        match reset {
            Ok(reason) => Ended::ClientReset(u32::from(reason).into()),
            Err(error) => ended(&error),
        }
    }

    async fn accept_tcp(self, answer: Head) -> Result<(H2Read, H2Write, impl Future<Output = Ended> + Send), Ended> {
        let (read, write) = self.accept(&answer)?;
        Ok((read, write, pending()))
    }

    async fn accept_udp(self, answer: Head, flow: &Arc<Flow>) -> Result<CapsuleLane<H2Read, H2Write>, Ended> {
        let stall = self.capsule_stall;
        let (read, write) = self.accept(&answer)?;
        Ok(CapsuleLane::new(read, write, bare, Arc::clone(flow), stall))
    }

    async fn refuse(mut self, answer: Head) {
        if self.respond.send_response(response(&answer), true).is_err() {
            return;
        }
        // Either the client ends, or enough was read. What is dropped then is reset with NO_ERROR by h2 (RFC 9113 §8.1).
        timeout(DISCARDING, discard(&mut self.body)).await.unwrap_or_default();
    }
}

async fn discard(body: &mut RecvStream) {
    let mut discarded = 0;
    while discarded < DISCARDED {
        let Some(Ok(chunk)) = poll_fn(|cx| body.poll_data(cx)).await else { return };
        discarded += chunk.len();
        if body.flow_control().release_capacity(chunk.len()).is_err() {
            return;
        }
    }
}

/// A request's head as every version has it. h2 has checked the form of the pseudo-header fields, and put those of one name together.
fn head(parts: &Parts) -> Head {
    let mut head = Head::default();
    head.push(":method", text(parts.method.as_str()));
    if let Some(protocol) = parts.extensions.get::<Protocol>() {
        head.push(":protocol", text(protocol.as_str()));
    }
    let uri = &parts.uri;
    if let Some(scheme) = uri.scheme_str() {
        head.push(":scheme", text(scheme));
    }
    if let Some(authority) = uri.authority() {
        head.push(":authority", text(authority.as_str()));
    }
    // A classic CONNECT has none, and h2 makes sure of that.
    if let Some(path) = uri.path_and_query() {
        head.push(":path", text(path.as_str()));
    }
    for (name, value) in &parts.headers {
        head.push(text(name.as_str()), Bytes::copy_from_slice(value.as_bytes()));
    }
    head
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// An answer of ours as h2 wants it.
fn response(head: &Head) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() =
        head.status().ok().and_then(|status| StatusCode::from_u16(status).ok()).expect("the relay's own answers have a status");
    for (name, value) in head.fields.iter().filter(|(name, _)| !name.starts_with(b":")) {
        let name = HeaderName::from_bytes(name).expect("the relay's own fields have names");
        let value = HeaderValue::from_maybe_shared(value.clone()).expect("the relay's own fields have values that can be sent");
        response.headers_mut().append(name, value);
    }
    response
}
