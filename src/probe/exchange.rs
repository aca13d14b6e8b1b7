//! One request and its answer, in the hands of a test.

use std::sync::Arc;

use super::{
    Http, ProbeError, RecvHalf, Refused, SendHalf, StreamEnd, TcpTunnel, UdpTunnel, h1,
    h3::{Flow, Quic},
};
use crate::{ended::Reset, proto::head::Head};

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
    /// HTTP/3's.
    flow: Option<Flow>,
}

impl Answer {
    /// Field `name` as text, if it is there (lossy where it is not UTF-8).
    pub fn field(&self, name: &str) -> Option<String> {
        self.head.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Whether it opens a tunnel; over HTTP/1.1 a UDP tunnel is opened by 101 alone.
    pub fn success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl RawExchange {
    pub(super) fn new(send: SendHalf, recv: RecvHalf, quic: Option<Arc<Quic>>) -> Self {
        let flow = quic.map(|quic| Flow::new(quic, send.id() / 4));
        Self { send, recv, flow }
    }

    /// See [`SendHalf::id`].
    pub fn id(&self) -> u64 {
        self.send.id()
    }

    /// What its datagrams start with: a quarter of the stream's identifier. Panics where there are no datagrams: they are HTTP/3's.
    #[track_caller]
    pub fn quarter_id(&self) -> u64 {
        self.flow.as_ref().expect("only HTTP/3 has datagrams").quarter_id()
    }

    /// See [`SendHalf::send_head`].
    pub async fn send_head(&mut self, head: &Head) -> Result<(), StreamEnd> {
        self.send.send_head(head).await
    }

    /// Waits for the head of the answer, whatever its status.
    pub async fn answer(&mut self) -> Result<Answer, ProbeError> {
        self.recv.answer().await
    }

    /// Waits for a 2xx and goes on as a TCP tunnel.
    pub async fn tcp(mut self) -> Result<TcpTunnel, ProbeError> {
        let answer = self.accepted(Answer::success).await?;
        Ok(TcpTunnel { answer, send: self.send, recv: self.recv })
    }

    /// Goes on as a UDP tunnel behind this answer, whatever it says.
    pub fn into_udp(self, answer: Answer) -> UdpTunnel {
        UdpTunnel::new(self.send, self.recv, self.flow, answer)
    }

    /// Waits for a 2xx, over HTTP/1.1 for 101, and goes on as a UDP tunnel.
    pub async fn udp(mut self) -> Result<UdpTunnel, ProbeError> {
        let answer = if self.recv.http() == Http::H1 {
            let answer = self.accepted(|answer| answer.status == SWITCHING).await?;
            h1::check_upgrade(&answer).map_err(|rule| ProbeError::from(self.recv.violated(Reset::Message, rule)))?;
            answer
        } else {
            self.accepted(Answer::success).await?
        };
        // RFC 9297 §3.2: with any of these the answer is malformed.
        if let Some(name) = CONTENT_FIELDS.iter().find(|name| answer.head.get(name).is_some()) {
            let rule = format!("{name} in a {} answer to CONNECT-UDP (RFC 9297 §3.2)", answer.status);
            return Err(self.recv.violated(Reset::Message, rule).into());
        }
        Ok(UdpTunnel::new(self.send, self.recv, self.flow, answer))
    }

    async fn accepted(&mut self, opens: impl Fn(&Answer) -> bool) -> Result<Answer, ProbeError> {
        let answer = self.answer().await?;
        if opens(&answer) {
            return Ok(answer);
        }
        if answer.success() || answer.status == SWITCHING {
            let rule = format!("status {} does not open the tunnel asked for (RFC 9298 §3.3, RFC 9110 §9.3.6)", answer.status);
            return Err(self.recv.violated(Reset::Message, rule).into());
        }
        let proxy_status = answer.field("proxy-status");
        Err(ProbeError::Refused(Box::new(Refused { status: answer.status, proxy_status, head: answer.head })))
    }
}

/// 101: HTTP/1.1 ends here.
const SWITCHING: u16 = 101;

/// Fields that speak of a content, where there is none.
const CONTENT_FIELDS: [&str; 3] = ["content-length", "content-type", "transfer-encoding"];
