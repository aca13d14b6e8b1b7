//! Times as a record has them: UTC, to the microsecond.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A time of the relay's clock: microseconds since 1970, in JSON as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc(pub i64);

impl Utc {
    /// From RFC 3339; a fraction finer than a microsecond is cut.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_at_checked(10)?;
        let day = day(date)?;
        let (clock, zone) = if let Some(clock) = rest.strip_suffix(['Z', 'z']) {
            (clock, 0)
        } else {
            let (clock, zone) = rest.split_at_checked(rest.len().checked_sub(6)?)?;
            (clock, zone_minutes(&zone.replacen(':', "", 1))?)
        };
        let micros = clock_micros(clock.strip_prefix(['T', 't', ' '])?)?;
        Some(Self(day * DAY + micros - i64::from(zone) * 60_000_000))
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, micros) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = civil(day);
        write!(f, "{year:04}-{month:02}-{day:02}T{}Z", clock(micros))
    }
}

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Utc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a time like 2026-03-01T16:43:04.346Z"))
    }
}

/// A day in microseconds.
pub const DAY: i64 = 86_400_000_000;

/// `09:43:04.459517`, of microseconds since midnight.
pub fn clock(micros: i64) -> String {
    let (seconds, micros) = (micros.rem_euclid(DAY) / 1_000_000, micros.rem_euclid(1_000_000));
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Microseconds since midnight, of `09:43:04` with or without a fraction.
pub fn clock_micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let mut parts = whole.split(':').map(|part| (part.len() == 2).then(|| digits(part)).flatten());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let fraction = fraction.get(..fraction.len().min(6))?;
    let micros = digits(fraction)? * 10_i64.pow(6 - fraction.len() as u32);
    Some((hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
}

/// Minutes east of Greenwich, of `+0800`.
pub fn zone_minutes(text: &str) -> Option<i16> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let number = digits(text.get(1..).filter(|digits| digits.len() == 4)?)? as i16;
    (number % 100 < 60 && number <= 1400).then_some(sign * (number / 100 * 60 + number % 100))
}

/// Days since 1970, of `2026-03-01`.
pub fn day(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (digits(parts.next()?)?, digits(parts.next()?)?, digits(parts.next()?)?);
    if parts.next().is_some() || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their leap day last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Some(year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468)
}

/// Year, month and day, of days since 1970.
fn civil(day: i64) -> (i64, i64, i64) {
    let since = day + 719_468;
    let (era, of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (year * 365 + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + carry, month, day)
}

fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.5Z", 951_825_600_500_000),
            ("2026-03-01T16:43:04.346Z", 1_772_383_384_346_000),
            ("2026-03-01T09:43:04.346-07:00", 1_772_383_384_346_000),
            ("2026-03-02 00:43:04.346000999+08:00", 1_772_383_384_346_000),
        ] {
            assert_eq!(Utc::parse(text), Some(Utc(micros)), "{text}");
        }
        for text in [
            "",
            "2026-03-01",
            "2026-03-01T16:43:04",
            "2026-13-01T16:43:04Z",
            "2026-03-01T24:43:04Z",
            "2026-03-01T16:43Z",
            "ä026-03-01T16:43Z",
            "2026-03-01T1ä:43:04Z",
        ] {
            assert_eq!(Utc::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_reads_as_it_was_written(micros in 0..253_402_300_800_000_000_i64) {
            prop_assert_eq!(Utc::parse(&Utc(micros).to_string()), Some(Utc(micros)));
        }

        #[test]
        fn no_text_is_too_strange_for_a_time(text in ".{0,40}") {
            let _: Option<Utc> = Utc::parse(&text);
        }
    }
}
