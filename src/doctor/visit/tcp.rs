//! A TCP tunnel to an echo: a few bytes, many bytes, and the end of one side.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::Asking;
use crate::{
    doctor::Target,
    probe::{Answer, ProbeError, RecvHalf, SendHalf, StreamEnd},
};

/// What came of it.
#[derive(Debug)]
pub(in crate::doctor) struct TcpTalk {
    /// The head of the answer.
    pub(in crate::doctor) answer: Result<Answer, ProbeError>,
    /// How long it took.
    pub(in crate::doctor) took: Duration,
    /// A few bytes.
    pub(in crate::doctor) greeting: Echoed,
    /// Many, where the target is an echo.
    pub(in crate::doctor) bulk: Option<Echoed>,
    /// How the relay's side ended once ours had, where the target is an echo.
    pub(in crate::doctor) ended: Option<StreamEnd>,
}

/// What was sent, and what of it came back.
#[derive(Clone, Debug, Default)]
pub(in crate::doctor) struct Echoed {
    pub(in crate::doctor) sent: usize,
    pub(in crate::doctor) back: usize,
    /// What came is what was sent.
    pub(in crate::doctor) same: bool,
    pub(in crate::doctor) took: Duration,
    /// How a side ended before all was back.
    pub(in crate::doctor) end: Option<StreamEnd>,
}

impl Echoed {
    /// All of it came back.
    pub(in crate::doctor) fn whole(&self) -> bool {
        self.same && self.back == self.sent
    }
}

impl Asking<'_> {
    pub(super) async fn tcp(&self, target: &Target) -> TcpTalk {
        let limits = &self.plan.limits;
        let started = Instant::now();
        let mut talk = TcpTalk {
            answer: Err(ProbeError::TimedOut { what: "an answer", after: limits.answer }),
            took: limits.answer,
            greeting: Echoed::default(),
            bulk: None,
            ended: None,
        };
        let asked = timeout(limits.answer, async {
            let mut exchange = self.client.request(&self.options.tcp_head(&target.text)).await?;
            let answer = exchange.answer().await?;
            Ok::<_, ProbeError>((exchange, answer))
        });
        let (exchange, answer) = match asked.await {
            Ok(Ok(asked)) => asked,
            Ok(Err(error)) => {
                talk.answer = Err(error);
                return talk;
            }
            Err(_) => return talk,
        };
        talk.took = started.elapsed();
        let opened = answer.success();
        talk.answer = Ok(answer);
        if !opened {
            return talk;
        }
        let (mut send, mut recv) = (exchange.send, exchange.recv);
        talk.greeting = echo(&mut send, &mut recv, GREETING, limits.stall).await;
        if !talk.greeting.whole() {
            return talk;
        }
        let bulk = echo(&mut send, &mut recv, limits.bulk, limits.stall).await;
        let whole = bulk.whole();
        talk.bulk = Some(bulk);
        if whole {
            let ended = async {
                send.finish()?;
                Ok::<_, StreamEnd>(recv.ended().await)
            };
            talk.ended = Some(timeout(limits.stall, ended).await.unwrap_or(Ok(StreamEnd::TimedOut)).unwrap_or_else(|end| end));
        }
        talk
    }
}

/// Sends `size` bytes and reads as many, until nothing came for `stall`.
async fn echo(send: &mut SendHalf, recv: &mut RecvHalf, size: usize, stall: Duration) -> Echoed {
    let started = Instant::now();
    let mut echoed = Echoed { sent: size, same: true, ..Echoed::default() };
    let mut stopped = None;
    {
        let mut up = pin!(async {
            for at in (0..size).step_by(CHUNK) {
                send.send(pattern(at, CHUNK.min(size - at))).await?;
            }
            Ok::<_, StreamEnd>(())
        });
        let mut sending = true;
        let mut last = Instant::now();
        while echoed.back < size {
            let arrived = tokio::select! {
                sent = &mut up, if sending => {
                    sending = false;
                    stopped = sent.err();
                    continue;
                }
                arrived = tokio::time::timeout_at(last + stall, recv.recv()) => arrived,
            };
            match arrived {
                Ok(Ok(Some(bytes))) => {
                    let fits = bytes.len() <= size - echoed.back;
                    echoed.same &= fits && bytes == pattern(echoed.back, bytes.len());
                    echoed.back += bytes.len();
                    last = Instant::now();
                    if !fits {
                        break;
                    }
                }
                Ok(Ok(None)) => {
                    echoed.end = Some(StreamEnd::Finished);
                    break;
                }
                Ok(Err(end)) => {
                    echoed.end = Some(end);
                    break;
                }
                Err(_) => break,
            }
        }
    }
    echoed.end = echoed.end.or(stopped);
    echoed.took = started.elapsed();
    echoed
}

/// Bytes that are what they are by their place, with an end of line in case somebody reads lines.
fn pattern(at: usize, size: usize) -> Bytes {
    (at..at + size)
        .map(|place| if place % GREETING >= GREETING - 2 { b"\r\n"[place % 2] } else { b'a' + (place / GREETING % 26) as u8 })
        .collect()
}

/// Bytes of the first exchange, even.
const GREETING: usize = 64;

/// Bytes sent at once.
const CHUNK: usize = 32 << 10;
