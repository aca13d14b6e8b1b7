//! The one request of an HTTP/1.1 connection, from its head to the end.

use std::{
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    io::{ReadHalf, WriteHalf},
    time::{sleep, timeout},
};

use super::halves::{H1Read, H1Write};
use crate::{
    ended::{Ended, Reset},
    listener::tcp::{Outbox, Stream},
    proto::head::Head,
    session::{
        ABORTING, DISCARDED, DISCARDING, Exchange,
        capsules::{CapsuleLane, bare},
    },
    tunnel::{ClientWrite, udp::Flow},
};

/// A request and its connection.
pub(super) struct H1Exchange {
    head: Head,
    read: H1Read,
    write: H1Write,
    capsule_stall: Duration,
}

impl H1Exchange {
    pub(super) fn new(
        head: Head,
        (read, left): (ReadHalf<Stream>, Bytes),
        write: WriteHalf<Stream>,
        outbox: Outbox,
        capsule_stall: Duration,
    ) -> Self {
        let read = H1Read::new(read, left, outbox.clone());
        Self { head, read, write: H1Write::new(write, outbox), capsule_stall }
    }

    /// For a request that could not be read.
    pub(super) fn refusing(read: ReadHalf<Stream>, write: WriteHalf<Stream>, outbox: Outbox) -> Self {
        Self::new(Head::default(), (read, Bytes::new()), write, outbox, Duration::ZERO)
    }
}

impl Exchange for H1Exchange {
    type Read = H1Read;
    type Write = H1Write;
    type Lane = CapsuleLane<H1Read, H1Write>;

    fn take_head(&mut self) -> Head {
        std::mem::take(&mut self.head)
    }

    fn number(&self) -> u64 {
        0
    }

    async fn abandoned(&mut self) -> Ended {
        self.read.abandoned(DISCARDED).await
    }

    async fn accept_tcp(mut self, answer: Head) -> Result<(H1Read, H1Write, impl Future<Output = Ended> + Send), Ended> {
        self.write.write_all(&written(&answer, status(&answer), &[])).await?;
        Ok((self.read, self.write, pending()))
    }

    async fn accept_udp(mut self, answer: Head, flow: &Arc<Flow>) -> Result<CapsuleLane<H1Read, H1Write>, Ended> {
        self.write.write_all(&written(&answer, StatusCode::SWITCHING_PROTOCOLS, &UPGRADE)).await?;
        Ok(CapsuleLane::new(self.read, self.write, bare, Arc::clone(flow), self.capsule_stall))
    }

    async fn refuse(mut self, answer: Head) {
        let said = async {
            self.write.write_all(&written(&answer, status(&answer), &[("Connection", "close")])).await?;
            self.write.finish().await
        };
        // The bound is for a client that does not read its answer.
        if matches!(timeout(DISCARDING, said).await, Ok(Ok(()))) {
            // What it has sent on the strength of a yes is thrown away, never parsed; a close before that would be a RST to the answer.
            timeout(DISCARDING, self.read.discard(DISCARDED)).await.unwrap_or_default();
        }
    }

    async fn abort(mut self, answer: Option<Head>, _: Reset) {
        let Some(answer) = answer else { return };
        let udp = answer.status() == Ok(200) && answer.get("capsule-protocol").is_some();
        let status = if udp { StatusCode::SWITCHING_PROTOCOLS } else { status(&answer) };
        let more: &[_] = if udp { &UPGRADE } else { &[] };
        let said = timeout(DISCARDING, self.write.write_all(&written(&answer, status, more))).await;
        if matches!(said, Ok(Ok(()))) {
            sleep(ABORTING).await;
        }
    }
}

const UPGRADE: [(&str, &str); 2] = [("Connection", "Upgrade"), ("Upgrade", "connect-udp")];

/// An answer's status.
fn status(answer: &Head) -> StatusCode {
    let status = answer.status().ok().and_then(|status| StatusCode::from_u16(status).ok());
    status.expect("the relay's own answers have a status")
}

/// An answer of ours in HTTP/1.1's form (RFC 9112 §4): `status`, our fields, `more`.
fn written(answer: &Head, status: StatusCode, more: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default()).into_bytes();
    let ours = answer.fields.iter().filter(|(name, _)| !name.starts_with(b":")).map(|(name, value)| (&name[..], &value[..]));
    for (name, value) in more.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).chain(ours) {
        for part in [name, b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c16_an_upgrade_is_answered_with_101_and_its_fields() {
        let answer = crate::refusal::accepted("relay", "192.0.2.1:53".parse().unwrap(), true);
        let text = written(&answer, StatusCode::SWITCHING_PROTOCOLS, &[("Connection", "Upgrade"), ("Upgrade", "connect-udp")]);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\
             proxy-status: relay;next-hop=\"192.0.2.1:53\"\r\ncapsule-protocol: ?1\r\n\r\n"
        );
    }
}
