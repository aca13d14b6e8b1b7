//! Tunnels: bytes both ways, or payloads both ways.

use bytes::Bytes;

use super::{Answer, ProbeError, RecvHalf, SendHalf, StreamEnd, h3::Flow, shared::within};
use crate::{
    ended::Reset,
    proto::{
        capsule::{self, Capsule, Capsules},
        datagram::{self, Datagram},
        write_varint,
    },
};

/// A TCP tunnel: a classic CONNECT that was answered with 2xx.
#[derive(Debug)]
pub struct TcpTunnel {
    /// How it was answered.
    pub answer: Answer,
    /// Towards the target.
    pub send: SendHalf,
    /// From the target.
    pub recv: RecvHalf,
}

impl TcpTunnel {
    /// Sends bytes towards the target; waits for flow control. Not cancel safe.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), StreamEnd> {
        self.send.send(bytes).await
    }

    /// The next bytes from the target; `None` after FIN. Cancel safe.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        self.recv.recv().await
    }

    /// See [`RecvHalf::read_to_end`].
    pub async fn read_to_end(&mut self, limit: usize) -> Result<Bytes, StreamEnd> {
        self.recv.read_to_end(limit).await
    }

    /// Throws bytes away until the relay ends its side, and says how.
    pub async fn ended(&mut self) -> StreamEnd {
        self.recv.ended().await
    }

    /// The two directions apart, for two tasks.
    pub fn split(self) -> (SendHalf, RecvHalf) {
        (self.send, self.recv)
    }
}

/// How a person who holds a whole tunnel ends it.
macro_rules! ends {
    ($tunnel:ty) => {
        impl $tunnel {
            /// See [`SendHalf::finish`]: a TCP target sees the end of what we send, a UDP tunnel is over (RFC 9298 §3.1).
            pub fn finish(&mut self) -> Result<(), StreamEnd> {
                self.send.finish()
            }

            /// See [`SendHalf::reset`].
            pub fn reset(&mut self, code: u64) -> Result<(), StreamEnd> {
                self.send.reset(code)
            }

            /// See [`SendHalf::reset_as`].
            pub fn reset_as(&mut self, reset: Reset) -> Result<(), StreamEnd> {
                self.send.reset_as(reset)
            }

            /// See [`RecvHalf::stop`].
            pub fn stop(&mut self, code: u64) -> Result<(), StreamEnd> {
                self.recv.stop(code)
            }

            /// See [`RecvHalf::stop_as`].
            pub fn stop_as(&mut self, reset: Reset) -> Result<(), StreamEnd> {
                self.recv.stop_as(reset)
            }
        }
    };
}

ends!(TcpTunnel);
ends!(UdpTunnel);

/// A UDP tunnel: a CONNECT-UDP that was answered with 2xx, over HTTP/1.1 with 101.
#[derive(Debug)]
pub struct UdpTunnel {
    /// How it was answered.
    pub answer: Answer,
    /// Our side of the request stream.
    pub send: SendHalf,
    recv: RecvHalf,
    /// HTTP/3's.
    flow: Option<Flow>,
    capsules: Capsules,
    rest: Bytes,
    ended: Option<StreamEnd>,
    strange: u64,
}

/// A UDP payload from the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// As the target sent it.
    pub payload: Bytes,
    /// How it came.
    pub means: Means,
}

/// How a payload travels between client and relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// In a QUIC DATAGRAM frame.
    Datagram,
    /// In a DATAGRAM capsule on the request stream.
    Capsule,
}

impl UdpTunnel {
    pub(super) fn new(send: SendHalf, recv: RecvHalf, flow: Option<Flow>, answer: Answer) -> Self {
        Self { answer, send, recv, flow, capsules: Capsules::default(), rest: Bytes::new(), ended: None, strange: 0 }
    }

    /// What its datagrams start with. Panics where there are no datagrams: they are HTTP/3's.
    #[track_caller]
    pub fn quarter_id(&self) -> u64 {
        self.flow.as_ref().expect("only HTTP/3 has datagrams").quarter_id()
    }

    /// Whether DATAGRAM frames may be used: this is HTTP/3, and both sides announced them.
    pub fn carries_datagrams(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.quic().carries_datagrams())
    }

    /// Sends a payload in a DATAGRAM frame, which only HTTP/3 has, whether or not it was announced. Never waits: what does not fit into
    /// [`Options::datagram_send`](super::Options::datagram_send) drives the oldest out.
    pub fn send(&self, payload: &[u8]) -> Result<(), ProbeError> {
        let flow = self.flow()?;
        let mut bytes = Vec::with_capacity(datagram::MAX_HEADER + payload.len());
        datagram::write_header(flow.quarter_id(), &mut bytes);
        bytes.extend_from_slice(payload);
        flow.quic().send_datagram(bytes.into())
    }

    /// Sends a payload in a DATAGRAM capsule; waits for flow control. Not cancel safe.
    pub async fn send_capsule(&mut self, payload: &[u8]) -> Result<(), StreamEnd> {
        let mut bytes = Vec::with_capacity(16 + payload.len());
        capsule::write_udp_header(payload.len(), &mut bytes);
        bytes.extend_from_slice(payload);
        self.send.send(bytes.into()).await
    }

    /// Sends a payload the best way there is: in a DATAGRAM frame where both sides announced them, otherwise in a capsule. One that is too large
    /// for a frame is [`ProbeError::TooLarge`] (RFC 9298 §6.1). Not cancel safe.
    pub async fn send_either(&mut self, payload: &[u8]) -> Result<(), ProbeError> {
        if self.carries_datagrams() {
            return self.send(payload);
        }
        self.send_capsule(payload).await.map_err(ProbeError::Unanswered)
    }

    /// Sends a datagram with exactly these bytes behind our quarter stream ID.
    pub fn send_datagram_raw(&self, after_quarter_id: &[u8]) -> Result<(), ProbeError> {
        let flow = self.flow()?;
        let mut bytes = Vec::with_capacity(8 + after_quarter_id.len());
        write_varint(flow.quarter_id(), &mut bytes);
        bytes.extend_from_slice(after_quarter_id);
        flow.quic().send_datagram(bytes.into())
    }

    /// The next payload from the target, whichever way it came. Cancel safe.
    ///
    /// A datagram of another context, or any capsule but DATAGRAM, is passed over (RFC 9297 §3.2, RFC 9298 §4).
    pub async fn recv(&mut self) -> Result<Packet, StreamEnd> {
        let patience = self.recv.patience();
        within(patience, self.recv_patiently()).await.unwrap_or(Err(StreamEnd::TimedOut))
    }

    /// How many datagrams and DATAGRAM capsules of another context were passed over so far.
    pub fn strange(&self) -> u64 {
        self.strange
    }

    /// Throws payloads away until the relay ends the request stream, and says how.
    pub async fn ended(&mut self) -> StreamEnd {
        loop {
            if let Err(end) = self.recv().await {
                return end;
            }
        }
    }

    fn flow(&self) -> Result<&Flow, ProbeError> {
        self.flow.as_ref().ok_or(ProbeError::Missing { http: self.recv.http(), what: "DATAGRAM frames" })
    }

    async fn recv_patiently(&mut self) -> Result<Packet, StreamEnd> {
        loop {
            if let Some(payload) = self.next_in_capsules()? {
                return Ok(Packet { payload, means: Means::Capsule });
            }
            if let Some(end) = &self.ended {
                return Err(end.clone());
            }
            // Datagrams first: those that came before the end of the stream are still given out.
            tokio::select! {
                biased;
                datagram = next_datagram(&mut self.flow) => match Datagram::parse(datagram) {
                    Datagram::Udp(payload) => return Ok(Packet { payload, means: Means::Datagram }),
                    Datagram::UnknownContext(_) => self.strange += 1,
                    Datagram::Truncated => return Err(self.recv.violated(Reset::Datagram, "a datagram without context ID (RFC 9298 §5)")),
                    Datagram::TooLong => return Err(self.recv.violated(Reset::Datagram, "a UDP payload above 65527 bytes (RFC 9298 §5)")),
                },
                bytes = self.recv.recv_patiently() => match bytes {
                    Ok(Some(bytes)) => self.rest = bytes,
                    Ok(None) => self.ended = Some(self.finished()),
                    Err(end) => self.ended = Some(end),
                },
            }
        }
    }

    fn next_in_capsules(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        loop {
            match self.capsules.next(&mut self.rest) {
                Ok(Some(Capsule::Datagram(value))) => match Datagram::parse(value) {
                    Datagram::Udp(payload) => return Ok(Some(payload)),
                    Datagram::UnknownContext(_) => self.strange += 1,
                    Datagram::Truncated | Datagram::TooLong => {
                        return Err(self.recv.violated(Reset::Datagram, "a DATAGRAM capsule without a UDP payload (RFC 9298 §5)"));
                    }
                },
                Ok(Some(Capsule::Skipped { .. })) => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.recv.violated(Reset::Datagram, format!("{error} (RFC 9297 §3.3)"))),
            }
        }
    }

    fn finished(&mut self) -> StreamEnd {
        match self.capsules.end() {
            Ok(()) => StreamEnd::Finished,
            Err(error) => self.recv.violated(Reset::Message, format!("{error} (RFC 9297 §3.3)")),
        }
    }
}

/// Cancel safe. Waits for ever where there are none.
async fn next_datagram(flow: &mut Option<Flow>) -> Bytes {
    match flow {
        Some(flow) => flow.recv().await,
        None => std::future::pending().await,
    }
}
