//! A UDP tunnel to an echo: payloads that know their tunnel and their number.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};

use super::Asking;
use crate::{
    doctor::Target,
    probe::{Answer, Http, Means, ProbeError, StreamEnd, UdpTunnel},
    proto::read_varint,
};

/// What came of it.
#[derive(Debug)]
pub(in crate::doctor) struct UdpTalk {
    /// The head of the answer.
    pub(in crate::doctor) answer: Result<Answer, ProbeError>,
    /// How long the answer took.
    pub(in crate::doctor) took: Duration,
    pub(in crate::doctor) sent: usize,
    /// Payloads that came back to their tunnel.
    pub(in crate::doctor) back: usize,
    /// How they came last.
    pub(in crate::doctor) means: Option<Means>,
    /// Payloads of this connection that came under a context which nobody registered.
    pub(in crate::doctor) strange: usize,
    /// Payloads that came to another stream than theirs.
    pub(in crate::doctor) astray: usize,
    /// What came that is no echo.
    pub(in crate::doctor) other: usize,
    /// The shortest way there and back, with nothing else under way.
    pub(in crate::doctor) fastest: Option<Duration>,
    /// Whether a payload sent in a capsule came back; none where that is how all of them go.
    pub(in crate::doctor) capsule: Option<bool>,
    /// How the relay ended the stream, if it did.
    pub(in crate::doctor) end: Option<StreamEnd>,
}

impl UdpTalk {
    /// Counts datagrams that no tunnel wanted: quarter stream ID and what followed it.
    pub(in crate::doctor) fn note_strays(&mut self, strays: &[(u64, Bytes)]) {
        for (quarter, datagram) in strays {
            let Some((own, _)) = place(datagram) else { continue };
            self.astray += usize::from(own != *quarter);
            self.strange += usize::from(read_varint(datagram).is_some_and(|(context, _)| context != 0));
        }
    }
}

impl Asking<'_> {
    /// Opens a tunnel and sends `many` payloads.
    pub(super) async fn udp(&self, target: &Target, many: usize) -> UdpTalk {
        let (limits, started) = (&self.plan.limits, Instant::now());
        let mut talk = UdpTalk {
            answer: Err(ProbeError::TimedOut { what: "an answer", after: limits.answer }),
            took: limits.answer,
            sent: 0,
            back: 0,
            means: None,
            strange: 0,
            astray: 0,
            other: 0,
            fastest: None,
            capsule: None,
            end: None,
        };
        let asked = timeout(limits.answer, async {
            let mut exchange = self.client.request(&self.options.udp_head(&target.host, target.port)).await?;
            let answer = exchange.answer().await?;
            Ok::<_, ProbeError>((exchange, answer))
        });
        match asked.await {
            Ok(Ok((exchange, answer))) if answer.success() => {
                talk.took = started.elapsed();
                talk.answer = Ok(answer.clone());
                let mut tunnel = exchange.into_udp(answer);
                talk.carry(&mut tunnel, many, limits.quiet).await;
            }
            Ok(Ok((_, answer))) => talk.answer = Ok(answer),
            Ok(Err(error)) => talk.answer = Err(error),
            Err(_) => {}
        }
        talk
    }
}

impl UdpTalk {
    async fn carry(&mut self, tunnel: &mut UdpTunnel, many: usize, quiet: Duration) {
        let id = tunnel.send.id();
        let tag = if tunnel.send.http() == Http::H3 { id / 4 } else { id };
        let by_capsule = tunnel.carries_datagrams() && many == MANY;
        let all = many + if by_capsule { CAPSULES } else { 0 };
        let mut pending: Vec<Option<Instant>> = vec![None; all];
        let mut last = Instant::now();
        while self.sent < all {
            // A relay may send little to a target that has not answered yet (RFC 9298 section 7).
            let (burst, patience) = if self.sent == 0 { (KNOCK, quiet) } else { (BURST, BETWEEN) };
            for (number, place) in pending.iter_mut().enumerate().take(all.min(self.sent + burst)).skip(self.sent) {
                let bytes = payload(tag, number);
                let sent = if number < many { tunnel.send_either(&bytes).await.is_ok() } else { tunnel.send_capsule(&bytes).await.is_ok() };
                *place = Some(Instant::now());
                self.sent = number + 1;
                if !sent {
                    break;
                }
            }
            last = Instant::now();
            // What is not back at once may still come.
            self.collect(tunnel, tag, &mut pending, last + patience, &mut last).await;
            if self.end.is_some() {
                break;
            }
        }
        while self.end.is_none() && pending.iter().any(Option::is_some) {
            let before = last;
            self.collect(tunnel, tag, &mut pending, last + quiet, &mut last).await;
            if last == before {
                break;
            }
        }
        self.ask_again(tunnel, tag, quiet).await;
        if by_capsule {
            // They are judged by themselves.
            let back = pending[many..self.sent.max(many)].iter().filter(|sent| sent.is_none()).count();
            self.capsule = Some(back > 0);
            self.sent = self.sent.min(many);
            self.back -= back.min(self.back);
        }
    }

    /// Where even the fastest payload was slow: one at a time, so that a busy moment is not taken for a slow relay.
    async fn ask_again(&mut self, tunnel: &mut UdpTunnel, tag: u64, quiet: Duration) {
        let mut answered = 0;
        for _ in 0..AGAIN_AT_MOST {
            let slow = self.fastest.is_none_or(|fastest| fastest >= SLOW) && self.back + self.strange > 0;
            if !slow || answered == AGAIN || self.end.is_some() || tunnel.send_either(&payload(tag, 0)).await.is_err() {
                break;
            }
            let mut last = Instant::now();
            // It was counted once.
            let (back, strange) = (self.back, self.strange);
            self.collect(tunnel, tag, &mut [Some(last)], last + quiet, &mut last).await;
            answered += self.back - back + self.strange - strange;
            (self.back, self.strange) = (back, strange);
        }
    }

    /// Takes what comes until `until`, or all is back.
    async fn collect(&mut self, tunnel: &mut UdpTunnel, tag: u64, pending: &mut [Option<Instant>], until: Instant, last: &mut Instant) {
        while pending.iter().any(Option::is_some) {
            let arrived = timeout_at(until, tunnel.recv()).await;
            for (at, datagram) in tunnel.take_strange() {
                *last = at;
                match place(&datagram) {
                    Some((own, _)) if own != tag => (self.strange, self.astray) = (self.strange + 1, self.astray + 1),
                    Some((_, number)) => self.strange += usize::from(self.took_back(number, at, pending)),
                    None => self.other += 1,
                }
            }
            match arrived {
                Ok(Ok(packet)) => {
                    *last = Instant::now();
                    self.means = Some(packet.means);
                    match place(&packet.payload) {
                        Some((own, _)) if own != tag => self.astray += 1,
                        Some((_, number)) => self.back += usize::from(self.took_back(number, *last, pending)),
                        None => self.other += 1,
                    }
                }
                Ok(Err(StreamEnd::TimedOut)) | Err(_) => return,
                Ok(Err(end)) => {
                    self.end = Some(end);
                    return;
                }
            }
        }
    }

    /// Whether that payload was still waited for.
    fn took_back(&mut self, number: usize, at: Instant, pending: &mut [Option<Instant>]) -> bool {
        let Some(sent) = pending.get_mut(number).and_then(Option::take) else { return false };
        // Only those with nothing before them tell how long the way is.
        if number < KNOCK {
            let took = at.saturating_duration_since(sent);
            self.fastest = Some(self.fastest.map_or(took, |fastest| fastest.min(took)));
        }
        true
    }
}

/// `masque-relay doctor`, the tunnel and the number.
fn payload(tag: u64, number: usize) -> Vec<u8> {
    [MARK, &tag.to_be_bytes(), &(number as u32).to_be_bytes()].concat()
}

/// The tunnel and the number in a payload of ours, wherever it begins.
fn place(bytes: &[u8]) -> Option<(u64, usize)> {
    let at = bytes.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let tag = u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
    let number = u32::from_be_bytes(bytes.get(at + 8..at + 12)?.try_into().ok()?);
    Some((tag, number as usize))
}

/// Payloads of the tunnel that is measured.
pub(super) const MANY: usize = 48;

/// Payloads of the tunnel beside it.
pub(super) const FEW: usize = 4;

/// Payloads of the measured tunnel that go in capsules, though datagrams would do.
const CAPSULES: usize = 12;

/// Payloads sent before the first answer.
const KNOCK: usize = 2;

/// Payloads sent at once: no relay's queue is too short for them.
const BURST: usize = 8;

/// Between bursts, if not all is back earlier.
const BETWEEN: Duration = Duration::from_millis(20);

const MARK: &[u8] = b"masque-relay doctor";

/// Worth another look.
const SLOW: Duration = Duration::from_millis(100);

/// Payloads of that other look that come back.
const AGAIN: usize = 4;

/// And that are sent: where half of them are lost, one in four thousand such looks sees none.
const AGAIN_AT_MOST: usize = 12;
