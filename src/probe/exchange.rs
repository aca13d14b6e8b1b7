//! One request and its answer, in the hands of a test.

use std::sync::Arc;

use super::{ProbeError, RecvHalf, Refused, SendHalf, StreamEnd, TcpTunnel, UdpTunnel, datagrams::Flow, shared::Shared, stream::as_error};
use crate::proto::{codes::h3, head::Head};

/// The head of an answer that is not informational.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `:status`
    pub status: u16,
    /// All of it, as received.
    pub head: Head,
}

/// A request stream and its datagrams, with nothing decided yet.
#[derive(Debug)]
pub struct RawExchange {
    /// Our side.
    pub send: SendHalf,
    /// The relay's side.
    pub recv: RecvHalf,
    flow: Flow,
    shared: Arc<Shared>,
}

impl Answer {
    /// Field `name` as text, if it is there (lossy where it is not UTF-8).
    pub fn field(&self, name: &str) -> Option<String> {
        self.head.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Whether it opens a tunnel.
    pub fn success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl RawExchange {
    pub(super) fn new(shared: Arc<Shared>, send: quinn::SendStream, recv: quinn::RecvStream) -> Self {
        let send = SendHalf::new(send, shared.clone());
        Self { recv: RecvHalf::new(recv, shared.clone()), flow: Flow::new(shared.clone(), send.id() / 4), send, shared }
    }

    /// The stream's identifier.
    pub fn id(&self) -> u64 {
        self.send.id()
    }

    /// What its datagrams start with: a quarter of the stream's identifier.
    pub fn quarter_id(&self) -> u64 {
        self.flow.quarter_id()
    }

    /// Sends one HEADERS frame.
    pub async fn send_head(&mut self, head: &Head) -> Result<(), StreamEnd> {
        self.send.send_head(head).await
    }

    /// Waits for the head of the answer, whatever its status.
    pub async fn answer(&mut self) -> Result<Answer, ProbeError> {
        self.recv.answer().await
    }

    /// Waits for a 2xx and goes on as a TCP tunnel.
    pub async fn tcp(mut self) -> Result<TcpTunnel, ProbeError> {
        let answer = self.accepted().await?;
        Ok(TcpTunnel { answer, send: self.send, recv: self.recv })
    }

    /// Waits for a 2xx and goes on as a UDP tunnel.
    pub async fn udp(mut self) -> Result<UdpTunnel, ProbeError> {
        let answer = self.accepted().await?;
        // RFC 9297 §3.2: with any of these the answer is malformed.
        if let Some(name) = CONTENT_FIELDS.iter().find(|name| answer.head.get(name).is_some()) {
            let rule = format!("{name} in a 2xx answer to CONNECT-UDP (RFC 9297 §3.2)");
            return Err(as_error(self.recv.violated(h3::MESSAGE_ERROR, rule)));
        }
        Ok(UdpTunnel::new(self.shared, self.send, self.recv, self.flow, answer))
    }

    async fn accepted(&mut self) -> Result<Answer, ProbeError> {
        let answer = self.answer().await?;
        if answer.success() {
            return Ok(answer);
        }
        let proxy_status = answer.field("proxy-status");
        Err(ProbeError::Refused(Box::new(Refused { status: answer.status, proxy_status, head: answer.head })))
    }
}

/// Fields that speak of a content, where there is none.
const CONTENT_FIELDS: [&str; 3] = ["content-length", "content-type", "transfer-encoding"];
