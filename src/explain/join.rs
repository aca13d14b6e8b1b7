//! Which record of the relay belongs to which attempt in the client's log: by address, by byte counts, and by time, once the skew of the two clocks is
//! known from those.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use serde::Serialize;

use super::framing::Moment;
use crate::diagnosis::{Certainty, Record, Sight, micros, millis, milliseconds, record::DAY};

/// An attempt's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Match {
    /// Its place among the records.
    pub record: usize,
    /// That it is the right one.
    pub certainty: Certainty,
    /// By what they were joined.
    pub by: Vec<&'static str>,
}

/// How the client's clock stands to the relay's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skew {
    /// The relay's clock less the client's, microseconds.
    pub micros: i64,
    /// From how many connections: the middle of theirs.
    pub connections: usize,
    /// The log lacks a date or a zone: the skew is known only up to a multiple of this, microseconds.
    pub modulo: Option<i64>,
}

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = milliseconds(millis(self.micros.saturating_abs() / 100 * 100));
        match self.micros {
            0.. => write!(f, "the client's clock is {size} behind the relay's")?,
            _ => write!(f, "the client's clock is {size} ahead of the relay's")?,
        }
        let connections = match self.connections {
            1 => "one connection".to_owned(),
            more => format!("the middle of {more} connections"),
        };
        write!(f, ", give or take a round trip; estimated from {connections} joined by address or byte counts")?;
        match self.modulo {
            Some(DAY) => f.write_str("; the log has no date: whole days are not counted"),
            Some(_) => f.write_str("; the log has no time zone: quarters of an hour are not counted"),
            None => Ok(()),
        }
    }
}

/// For every attempt its record, if there is one; and the skew, if anything but time joined them.
pub fn join(sights: &[&Sight], records: &[Record], clock: Option<Moment>) -> (Vec<Option<Match>>, Option<Skew>) {
    let mut matches = vec![None; sights.len()];
    let Some(clock) = clock else { return (matches, None) };
    // First by what does not depend on the clocks.
    let mut offsets = Vec::new();
    for (found, sight) in matches.iter_mut().zip(sights) {
        let signs: Vec<_> = records.iter().map(|record| Signs::of(sight, record)).collect();
        let best = (0..records.len()).rev().max_by_key(|at| signs[*at].weight());
        let Some(at) = best.filter(|at| signs[*at].endpoint || signs[*at].bytes) else { continue };
        let rivals = signs.iter().filter(|other| other.weight() == signs[at].weight()).count();
        offsets.extend(offset(sight, &records[at], clock));
        *found = Some(signs[at].matched(at, rivals == 1));
    }
    offsets.sort_unstable();
    let skew = offsets.get(offsets.len() / 2).map(|micros| Skew { micros: *micros, connections: offsets.len(), modulo: modulus(clock) });
    let expected = skew.as_ref().map_or(0, |skew| skew.micros);
    for (found, sight) in matches.iter_mut().zip(sights) {
        let near = |at: usize| offset(sight, &records[at], clock).filter(|offset| (offset - expected).abs() <= NEAR);
        match found {
            // The clocks speak against it: it is no more than possible.
            Some(found) if near(found.record).is_none() => {
                if offset(sight, &records[found.record], clock).is_some() {
                    found.certainty = Certainty::Possible;
                }
            }
            Some(found) => found.by.push("time"),
            None => {
                let same_host = |record: &Record| local(sight).is_none_or(|local| local.ip() == record.client.ip());
                let closest = (0..records.len())
                    .filter(|at| same_host(&records[*at]))
                    .filter_map(|at| Some((records[at].turned_away.is_some(), (near(at)? - expected).abs(), at)))
                    .min();
                *found = closest.map(|(_, _, record)| Match { record, certainty: Certainty::Possible, by: vec!["time"] });
            }
        }
    }
    (matches, skew)
}

/// Another connection of this client had a request answered 2xx while this one lived, or within moments of it.
pub fn other_succeeded(records: &[Record], at: usize) -> bool {
    let span = |record: &Record| {
        let end = record.start.0 + record.duration_ms.map_or(0, micros);
        (record.start.0 - MOMENTS, end + MOMENTS)
    };
    let (start, end) = span(&records[at]);
    records.iter().enumerate().any(|(other, record)| {
        let (other_start, other_end) = span(record);
        let same = other != at && record.client.ip() == records[at].client.ip();
        same && other_start <= end && start <= other_end && record.requests.iter().any(crate::diagnosis::record::Request::succeeded)
    })
}

/// What two views of one connection have in common.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one sign, there or not")]
struct Signs {
    endpoint: bool,
    host: bool,
    bytes: bool,
    duration: bool,
    /// Retry and Version Negotiation have records of their own, with the address of the connection behind them.
    let_in: bool,
}

impl Signs {
    fn of(sight: &Sight, record: &Record) -> Self {
        let local = local(sight);
        let (bytes, duration) = (sight.bytes, sight.duration_ms.zip(record.duration_ms));
        Self {
            endpoint: local == Some(record.client),
            host: local.is_some_and(|local| local.ip() == record.client.ip()),
            // What came in at one went out at the other, less what was lost.
            bytes: bytes.is_some_and(|(came, went)| alike(came, record.bytes_out) && alike(went, record.bytes_in)),
            duration: duration.is_some_and(|(one, other)| (one - other).abs() <= 20.0 + one * 0.1),
            let_in: record.turned_away.is_none(),
        }
    }

    fn weight(self) -> u32 {
        let signs = [self.endpoint, self.bytes, self.host, self.duration, self.let_in];
        signs.into_iter().fold(0, |weight, holds| weight * 2 + u32::from(holds))
    }

    fn matched(self, record: usize, alone: bool) -> Match {
        let certainty = match (self.endpoint, self.bytes) {
            _ if !alone => Certainty::Possible,
            (true, true) => Certainty::Certain,
            (true, false) => Certainty::Likely,
            _ if self.host || self.duration => Certainty::Likely,
            _ => Certainty::Possible,
        };
        let by = [
            (self.endpoint, "address and port"),
            (self.host && !self.endpoint, "address"),
            (self.bytes, "byte counts"),
            (self.duration, "duration"),
        ];
        Match { record, certainty, by: by.into_iter().filter(|(holds, _)| *holds).map(|(_, by)| by).collect() }
    }
}

/// Within a small packet and a fiftieth; less than a handshake has tells nothing.
fn alike(one: u64, other: u64) -> bool {
    one.abs_diff(other) <= 64 + one.max(other) / 50 && one.min(other) >= HANDSHAKE
}

/// The relay's clock less the client's, as far as the log's clock allows.
fn offset(sight: &Sight, record: &Record, clock: Moment) -> Option<i64> {
    let local = sight.start().or(sight.joined).or(sight.ended)?;
    let raw = record.start.0 - (local - i64::from(clock.zone.unwrap_or_default()) * 60_000_000);
    Some(match modulus(clock) {
        Some(modulus) => (raw + modulus / 2).rem_euclid(modulus) - modulus / 2,
        None => raw,
    })
}

/// Zones differ by quarters of an hour.
fn modulus(clock: Moment) -> Option<i64> {
    match (clock.zone, clock.dated) {
        (None, _) => Some(QUARTER),
        (Some(_), false) => Some(DAY),
        (Some(_), true) => None,
    }
}

/// The client's own address. Apple writes the port of an IPv6 address behind a dot.
fn local(sight: &Sight) -> Option<SocketAddr> {
    let text = sight.local.as_ref()?;
    text.parse().ok().or_else(|| {
        let (host, port) = text.rsplit_once('.')?;
        let host: Ipv6Addr = host.split('%').next()?.parse().ok()?;
        Some(SocketAddrV6::new(host, port.parse().ok()?, 0, 0).into())
    })
}

const HANDSHAKE: u64 = 500;

const QUARTER: i64 = 900_000_000;

/// How far a connection may be from where the skew says: clocks drift little, and a log's times are fine.
const NEAR: i64 = 1_000_000;

/// Legs that race one another start within this.
const MOMENTS: i64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const ZONED: Moment = Moment { micros: 0, dated: true, zone: Some(-420) };

    fn record(second: &str, client: &str, bytes_in: u64, bytes_out: u64) -> Record {
        let json = format!(
            r#"{{"start":"2026-03-01T{second}Z","client":"{client}","duration_ms":121,"bytes_in":{bytes_in},"bytes_out":{bytes_out},"requests":[{{"method":"CONNECT","status":200}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    /// At 09:43:04.344 local time, which is 16:43:04.344 UTC.
    fn sight(local: Option<&str>, bytes: Option<(u64, u64)>) -> Sight {
        let ended = 20_513 * DAY + 34_984_465_000;
        Sight { local: local.map(str::to_owned), bytes, ended: Some(ended), duration_ms: Some(121.0), ..Sight::default() }
    }

    fn joined(sight: &Sight, records: &[Record], clock: Moment) -> (Option<(usize, Certainty, String)>, Option<String>) {
        let (mut matches, skew) = join(&[sight], records, Some(clock));
        (matches.remove(0).map(|found| (found.record, found.certainty, found.by.join(", "))), skew.map(|skew| skew.to_string()))
    }

    #[test]
    fn a_record_is_found_by_address_then_bytes_then_time() {
        use Certainty::{Certain, Likely, Possible};
        let records = [
            record("16:43:04.350", "192.0.2.9:1000", 1, 1),
            record("16:43:06.144", "192.0.2.9:53898", 4330, 2880),
            record("16:43:04.350", "198.51.100.7:9", 999, 999),
        ];
        for (local, bytes, want) in [
            (Some("192.0.2.9:53898"), Some((2880, 4322)), Some((1, Certain, "address and port, byte counts, duration, time"))),
            (Some("192.0.2.9:53898"), None, Some((1, Likely, "address and port, duration, time"))),
            // Behind a NAT the address is another.
            (Some("10.0.0.5:53898"), Some((2880, 4322)), Some((1, Likely, "byte counts, duration, time"))),
            (None, None, Some((0, Possible, "time"))),
            (Some("198.51.100.7:1"), None, Some((2, Possible, "time"))),
            (Some("203.0.113.1:1"), Some((7, 7)), None),
        ] {
            let (found, _) = joined(&sight(local, bytes), &records, ZONED);
            assert_eq!(found, want.map(|(at, sure, by)| (at, sure, by.to_owned())), "{local:?} {bytes:?}");
        }
        assert_eq!(join(&[&sight(None, None)], &records, None), (vec![None], None));
    }

    #[test]
    fn of_records_that_look_alike_none_is_sure() {
        let twice = [record("16:43:04.350", "198.51.100.1:7", 4322, 2880), record("16:43:04.360", "198.51.100.1:8", 4322, 2880)];
        let (found, _) = joined(&sight(Some("10.0.0.5:1"), Some((2880, 4322))), &twice, ZONED);
        assert_eq!(found.map(|(_, sure, _)| sure), Some(Certainty::Possible));
    }

    #[test]
    fn the_connection_is_meant_and_not_what_came_before_it_from_the_same_address() {
        let mut records = [record("16:43:04.340", "192.0.2.9:53898", 0, 0), record("16:43:04.350", "192.0.2.9:53898", 0, 0)];
        records[0].turned_away = Some("version negotiation".into());
        let of = |records: &[Record]| joined(&sight(Some("192.0.2.9:53898"), None), records, ZONED).0.map(|(at, sure, _)| (at, sure));
        assert_eq!(of(&records), Some((1, Certainty::Likely)));
        assert_eq!(of(&records[..1]), Some((0, Certainty::Likely)), "if there was no more");
        // Nor where only the time speaks, and speaks for the other.
        records[0].start = records[1].start;
        assert_eq!(joined(&sight(None, None), &records, ZONED).0.map(|(at, ..)| at), Some(1));
    }

    #[test]
    fn the_skew_says_what_it_does_not_know() {
        let records = [record("16:43:06.144", "192.0.2.9:53898", 4322, 2880)];
        let sight = sight(Some("192.0.2.9:53898"), Some((2880, 4322)));
        let of_day = Sight { ended: sight.ended.map(|ended| ended % DAY), ..sight.clone() };
        for (sight, clock, words) in [
            (
                &sight,
                ZONED,
                "the client's clock is 1.8 s behind the relay's, give or take a round trip; estimated from one connection joined by address or byte counts",
            ),
            (&of_day, Moment { dated: false, ..ZONED }, "; the log has no date: whole days are not counted"),
            (&of_day, Moment { dated: false, zone: None, micros: 0 }, "; the log has no time zone: quarters of an hour are not counted"),
        ] {
            let skew = joined(sight, &records, clock).1.unwrap();
            assert!(skew.contains("1.8 s behind") && skew.ends_with(words), "{skew}");
        }
        let late = [record("16:43:01.344", "192.0.2.9:53898", 4322, 2880)];
        assert!(joined(&sight, &late, ZONED).1.unwrap().starts_with("the client's clock is 3.0 s ahead of"));
    }

    #[test]
    fn clocks_that_disagree_weaken_a_match() {
        let sights = [sight(Some("192.0.2.9:1"), None), sight(Some("192.0.2.9:2"), None), sight(Some("192.0.2.9:3"), None)];
        let records = [
            record("16:43:05.344", "192.0.2.9:1", 0, 0),
            record("16:43:05.350", "192.0.2.9:2", 0, 0),
            record("19:00:00", "192.0.2.9:3", 0, 0),
        ];
        let (matches, skew) = join(&sights.iter().collect::<Vec<_>>(), &records, Some(ZONED));
        let sure: Vec<_> = matches.into_iter().map(|found| found.unwrap().certainty).collect();
        assert_eq!(sure, [Certainty::Likely, Certainty::Likely, Certainty::Possible]);
        assert_eq!(skew.unwrap().connections, 3);
    }

    #[test]
    fn an_address_of_ipv6_has_its_port_behind_a_dot() {
        for (text, want) in [("2001:db8::1.443", "[2001:db8::1]:443"), ("fe80::1%en0.5", "[fe80::1]:5"), ("192.0.2.1:5", "192.0.2.1:5")] {
            assert_eq!(local(&sight(Some(text), None)), Some(want.parse().unwrap()));
        }
        assert_eq!(local(&sight(Some("IPv4#1234abcd:5"), None)), None);
    }

    #[test]
    fn another_connection_of_the_same_client_counts_while_this_one_lives() {
        let records = [
            record("16:43:04", "192.0.2.9:1", 0, 0),
            record("16:43:08", "192.0.2.9:2", 0, 0),
            record("16:53:04", "192.0.2.9:3", 0, 0),
            record("16:53:04", "192.0.2.8:3", 0, 0),
        ];
        assert_eq!([0, 1, 2, 3].map(|at| other_succeeded(&records, at)), [true, true, false, false]);
    }
}
