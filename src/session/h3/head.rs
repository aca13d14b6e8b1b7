//! Reading the head at the start of a request stream, with its bounds: size and time.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::halves::{RecvHalf, SendHalf};
use crate::{
    config::memory,
    ended::{Ended, Reset},
    proto::{
        codes::h3,
        frame::{HeadReader, Section},
        head::Head,
        qpack::{self, QpackError},
    },
    refusal::Refusal,
    session::link::Link,
};

/// The largest field section, encoded or by the count of RFC 9114 §4.2.2.
pub(super) const MAX_HEAD: usize = memory::HEAD as usize;

/// What came at the start of a request stream.
pub(super) enum Read {
    /// A head, and what followed it in its packet.
    Whole { head: Head, left: Bytes },
    /// It can be answered, but not with yes.
    Refused(Refusal),
    /// Nothing that could be answered; the halves are ended.
    Nothing,
}

/// Reads one head. Every failure costs the stream alone, but for broken framing and QPACK, which the RFCs make errors of the connection.
pub(super) async fn read(send: &mut SendHalf, recv: &mut RecvHalf, link: &Link, limit: Duration) -> Read {
    match timeout(limit, section(recv)).await {
        Ok(Ok(Some((Section::Whole(section), left)))) => match qpack::decode(&section, MAX_HEAD) {
            Ok(head) => Read::Whole { head, left },
            Err(QpackError::TooLarge(limit)) => Read::Refused(Refusal::HeadTooLarge { limit }),
            Err(error @ QpackError::Decompression(_)) => {
                link.close(h3::QPACK_DECOMPRESSION_FAILED, error.to_string());
                Read::Nothing
            }
        },
        Ok(Ok(Some((Section::TooLarge, _)))) => Read::Refused(Refusal::HeadTooLarge { limit: MAX_HEAD }),
        // RFC 9114 §4.1: a stream that ends before its request is whole.
        Ok(Ok(None)) => {
            send.reset(Reset::Incomplete);
            Read::Nothing
        }
        Ok(Err(_)) => Read::Nothing,
        Err(_) => {
            send.reset(Reset::Rejected);
            recv.stop(Reset::Rejected);
            Read::Nothing
        }
    }
}

async fn section(recv: &mut RecvHalf) -> Result<Option<(Section, Bytes)>, Ended> {
    let mut reader = HeadReader::new(MAX_HEAD);
    while let Some(mut chunk) = recv.read().await? {
        match reader.feed(&mut chunk) {
            Ok(Some(section)) => return Ok(Some((section, chunk))),
            Ok(None) => {}
            Err(error) => return Err(recv.misframed(&error)),
        }
    }
    reader.end().map(|()| None).map_err(|error| recv.misframed(&error))
}
