//! Reads along with the h2 crate: SETTINGS and GOAWAY, whose contents it keeps for itself (RFC 9113 §6.5, §6.8).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    probe::{Closed, Layer, shared::Shared},
    proto::settings::Settings,
};

/// A connection, and what its incoming bytes say.
#[derive(Debug)]
pub(super) struct Tap<S> {
    stream: S,
    frames: Frames,
    shared: Arc<Shared>,
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S, shared: Arc<Shared>) -> Self {
        Self { stream, frames: Frames::default(), shared }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tap = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut tap.stream).poll_read(cx, buffer))?;
        let mut new = &buffer.filled()[before..];
        while let Some(seen) = tap.frames.next(&mut new) {
            note(&tap.shared, seen);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A frame worth noting.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Settings(Vec<(u64, u64)>),
    Goaway {
        /// The last stream that was, or may have been, processed.
        last: u64,
        code: u64,
        debug: String,
    },
}

/// Cuts the incoming bytes into frames. What breaks the framing ends the connection in the h2 crate, so here it only must not panic.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Bytes of the current frame's payload still to come.
    left: usize,
    payload: Vec<u8>,
}

impl Frames {
    fn next(&mut self, input: &mut &[u8]) -> Option<Seen> {
        while !input.is_empty() {
            if self.header.len() < HEADER {
                self.header.extend_from_slice(take(input, HEADER - self.header.len()));
                if self.header.len() < HEADER {
                    return None;
                }
                self.left = usize::from(self.header[0]) << 16 | usize::from(self.header[1]) << 8 | usize::from(self.header[2]);
            }
            let payload = take(input, self.left);
            self.left -= payload.len();
            if matches!(self.header[3], SETTINGS | GOAWAY) && self.payload.len() + payload.len() <= MOST {
                self.payload.extend_from_slice(payload);
            }
            if self.left == 0
                && let Some(seen) = self.end()
            {
                return Some(seen);
            }
        }
        None
    }

    fn end(&mut self) -> Option<Seen> {
        let (header, payload) = (std::mem::take(&mut self.header), std::mem::take(&mut self.payload));
        match header[3] {
            SETTINGS if header[4] & ACK == 0 => {
                let pairs = payload.chunks_exact(6).map(|pair| (number(&pair[..2]), number(&pair[2..])));
                Some(Seen::Settings(pairs.collect()))
            }
            // The first bit is reserved.
            GOAWAY if payload.len() >= 8 => Some(Seen::Goaway {
                last: number(&payload[..4]) & 0x7fff_ffff,
                code: number(&payload[4..8]),
                debug: String::from_utf8_lossy(&payload[8..]).into_owned(),
            }),
            _ => None,
        }
    }
}

fn note(shared: &Shared, seen: Seen) {
    shared.state.send_modify(|state| match seen {
        Seen::Settings(pairs) => {
            let settings = state.settings.get_or_insert_with(|| Settings(Vec::new()));
            // A later value replaces an earlier one (RFC 9113 §6.5.3).
            for (id, value) in pairs {
                settings.0.retain(|(other, _)| *other != id);
                settings.0.push((id, value));
            }
            state.settings_at.get_or_insert_with(Instant::now);
        }
        Seen::Goaway { last, code, debug } => {
            state.goaways.push(last);
            state.farewell = Some(Closed { by_peer: true, layer: Layer::Application, code, reason: debug });
        }
    });
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(most.min(input.len()));
    *input = rest;
    taken
}

/// Big-endian, as many bytes as there are.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Length, type, flags, stream (RFC 9113 §4.1).
const HEADER: usize = 9;

const SETTINGS: u8 = 0x4;
const GOAWAY: u8 = 0x7;
const ACK: u8 = 0x1;

/// The largest frame we permit (RFC 9113 §6.5.2).
const MOST: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn every_split_of_the_bytes_reads_the_same() {
        let bytes = [
            frame(SETTINGS, 0, &[0, 8, 0, 0, 0, 1, 0, 3, 0, 0, 1, 0]),
            frame(SETTINGS, ACK, b""),
            frame(0, 0, &[SETTINGS; 300]),
            frame(SETTINGS, 0, b""),
            frame(GOAWAY, 0, &[0x80, 0, 0, 5, 0, 0, 0, 7, b'x']),
            frame(GOAWAY, 0, &[0, 0]),
        ]
        .concat();
        let want = [Seen::Settings(vec![(8, 1), (3, 256)]), Seen::Settings(vec![]), Seen::Goaway { last: 5, code: 7, debug: "x".into() }];
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for mut chunk in bytes.chunks(size) {
                seen.extend(std::iter::from_fn(|| frames.next(&mut chunk)));
            }
            assert_eq!(seen, want, "chunks of {size}");
        }
    }
}
