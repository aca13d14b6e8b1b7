//! A fault as written: `NAME` or `NAME=ARGUMENT`.

use std::{str::FromStr, time::Duration};

use super::{Argument, Chance, EVERY, Fault, MILLION};

/// Why a text names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No fault is called so.
    #[error("there is no fault `{}`{}; `masque-relay fault help` lists them", name.escape_debug(), nearest.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// As written.
        name: String,
        /// The one that it looks most like.
        nearest: Option<&'static str>,
    },
    /// It takes an argument, and there is none.
    #[error("`{name}` needs an argument: `{name}={}`, {}", argument.name, argument.range)]
    Missing {
        /// The fault.
        name: &'static str,
        /// What it takes.
        argument: Argument,
    },
    /// It takes none, and there is one.
    #[error("`{name}` takes no argument")]
    Needless {
        /// The fault.
        name: &'static str,
    },
    /// The argument is none that it takes.
    #[error("`{name}={}` cannot be: it takes {}", value.escape_debug(), argument.range)]
    Argument {
        /// The fault.
        name: &'static str,
        /// As written.
        value: String,
        /// What it takes.
        argument: Argument,
    },
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let Some(fault) = EVERY.into_iter().find(|fault| fault.name() == name) else {
            return Err(FaultError::Unknown { name: name.into(), nearest: nearest(name) });
        };
        let name = fault.name();
        match (fault.about().argument, value) {
            (None, None) => Ok(fault),
            (None, Some(_)) => Err(FaultError::Needless { name }),
            (Some(argument), None) => Err(FaultError::Missing { name, argument }),
            (Some(argument), Some(value)) => fault.with(value).ok_or_else(|| FaultError::Argument { name, value: value.into(), argument }),
        }
    }
}

impl Fault {
    /// The same fault with another argument.
    fn with(self, value: &str) -> Option<Self> {
        Some(match self {
            Self::SettingsLate(_) => Self::SettingsLate(time(value)?),
            Self::DatagramDelay(_) => Self::DatagramDelay(time(value)?),
            Self::Status(_) => Self::Status(status(value)?),
            Self::BareStatus(_) => Self::BareStatus(status(value)?),
            Self::Stall(_) => Self::Stall(value.parse().ok().filter(|bytes| *bytes > 0)?),
            Self::Close(_) => Self::Close(match value.strip_prefix("0x") {
                Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok()?,
                Some(_) => return None,
                None => value.parse().ok()?,
            }),
            Self::DatagramDrop(_) => Self::DatagramDrop(value.parse().ok()?),
            // Byte 1 names the worker; with less than two behind it the IDs would soon be used up.
            Self::Cid(_) => Self::Cid(value.parse().ok().filter(|length| (4..=20).contains(length))?),
            _ => return None,
        })
    }
}

/// A probability above 0 and up to 1: `0.3`.
impl FromStr for Chance {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let probability: f64 = text.parse().map_err(|_| ())?;
        if !(probability > 0.0 && probability <= 1.0) {
            return Err(());
        }
        #[expect(clippy::cast_sign_loss, reason = "it is above 0")]
        let millionths = (probability * f64::from(MILLION)).round() as u32;
        Ok(Self(millionths.max(1)))
    }
}

fn time(value: &str) -> Option<Duration> {
    value.parse().ok().filter(|ms| (1..=60_000).contains(ms)).map(Duration::from_millis)
}

fn status(value: &str) -> Option<u16> {
    value.parse().ok().filter(|status| (300..=599).contains(status))
}

fn nearest(name: &str) -> Option<&'static str> {
    let near = EVERY.iter().map(|fault| (strsim::jaro_winkler(name, fault.name()), fault.name()));
    near.filter(|(close, _)| *close > 0.8).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_says_what_could() {
        for (text, want) in [
            ("goawy", "there is no fault `goawy`: did you mean `goaway`?; `masque-relay fault help` lists them"),
            ("", "there is no fault ``; `masque-relay fault help` lists them"),
            ("stall", "`stall` needs an argument: `stall=BYTES`, a number of bytes, 1 or more"),
            ("stall=0", "`stall=0` cannot be: it takes a number of bytes, 1 or more"),
            ("goaway=1", "`goaway` takes no argument"),
            ("status=200", "`status=200` cannot be: it takes a status, 300 to 599"),
            ("status=\n", "`status=\\n` cannot be: it takes a status, 300 to 599"),
            ("settings-late=1s", "`settings-late=1s` cannot be: it takes milliseconds, 1 to 60000"),
            ("datagram-drop=30", "`datagram-drop=30` cannot be: it takes a probability above 0 and up to 1, like 0.3"),
            ("datagram-drop=nan", "`datagram-drop=nan` cannot be: it takes a probability above 0 and up to 1, like 0.3"),
            ("close=0x", "`close=0x` cannot be: it takes an error code of 32 bits, like 258 or 0x102"),
            ("cid=21", "`cid=21` cannot be: it takes a number of bytes, 4 to 20"),
        ] {
            assert_eq!(text.parse::<Fault>().unwrap_err().to_string(), want, "{text}");
        }
    }

    #[test]
    fn arguments_are_taken_to_the_ends_of_their_range() {
        for (text, want) in [
            ("settings-late=60000", Fault::SettingsLate(Duration::from_secs(60))),
            ("status=599", Fault::Status(599)),
            ("close=0xffffffff", Fault::Close(u32::MAX)),
            ("close=258", Fault::Close(0x102)),
            ("stall=18446744073709551615", Fault::Stall(u64::MAX)),
            ("datagram-drop=1", Fault::DatagramDrop(Chance(MILLION))),
            ("datagram-drop=1e-9", Fault::DatagramDrop(Chance(1))),
            ("cid=4", Fault::Cid(4)),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }
}
