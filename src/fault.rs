//! The named ways to misbehave, as plain values: a relay breaks one rule on purpose, so that a client, or `doctor`, can be tried against it.
//!
//! Each is one line of [`Fault::about`]: its name, its argument, the HTTP versions in which it shows, and what the relay then does. Nothing here acts:
//! certificates, listeners, sessions and tunnels ask [`Faults`] at the one place that a fault alters. A healthy relay pays an atomic load for it, and
//! never one for a packet.

mod masks;
mod parse;
mod set;

pub use masks::{MASKS, Mask, masked};
pub use parse::FaultError;
pub use set::Faults;

use std::{fmt, time::Duration};

/// One way to misbehave, with its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`about` says what each does, in the words that a person reads")]
pub enum Fault {
    NoDatagramParameter,
    NoH3Datagram,
    NoExtendedConnect,
    SettingsLate(Duration),
    SettingsNever,
    StopClientControl,
    FinishControl,
    Goaway,
    ConnectReset,
    UdpOnly,
    TcpOnly,
    Status(u16),
    BareStatus(u16),
    AbortAfterResponse,
    TcpBlackhole,
    Stall(u64),
    Close(u32),
    NoCapsuleProtocol,
    CapsuleProtocolParameter,
    DatagramDrop(Chance),
    DatagramDelay(Duration),
    DatagramContext,
    DatagramStream,
    Retry,
    Cid(u8),
    CertSelfSigned,
    CertExpired,
    CertFuture,
    CertName,
    CertNoSan,
    CertNoEku,
    CertLong,
    CertNoChain,
    ClientCert,
}

/// How often something happens, in millionths: 1 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance(u32);

/// What a fault takes behind its `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    /// What help calls it.
    pub name: &'static str,
    /// What it may be, in words.
    pub range: &'static str,
}

/// What a person reads of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// What it is called.
    pub name: &'static str,
    /// What it takes, if it takes something.
    pub argument: Option<Argument>,
    /// The versions of HTTP in which it shows.
    pub http: &'static [&'static str],
    /// What the relay does.
    pub help: &'static str,
    /// Whether it can be switched while the relay runs.
    pub live: bool,
}

/// One fault of each kind, in the order of the help; the arguments are examples.
pub const EVERY: [Fault; 34] = [
    Fault::NoDatagramParameter,
    Fault::NoH3Datagram,
    Fault::NoExtendedConnect,
    Fault::SettingsLate(Duration::from_millis(1500)),
    Fault::SettingsNever,
    Fault::StopClientControl,
    Fault::FinishControl,
    Fault::Goaway,
    Fault::ConnectReset,
    Fault::UdpOnly,
    Fault::TcpOnly,
    Fault::Status(503),
    Fault::BareStatus(502),
    Fault::AbortAfterResponse,
    Fault::TcpBlackhole,
    Fault::Stall(65_536),
    Fault::Close(0x102),
    Fault::NoCapsuleProtocol,
    Fault::CapsuleProtocolParameter,
    Fault::DatagramDrop(Chance(300_000)),
    Fault::DatagramDelay(Duration::from_millis(500)),
    Fault::DatagramContext,
    Fault::DatagramStream,
    Fault::Retry,
    Fault::Cid(19),
    Fault::CertSelfSigned,
    Fault::CertExpired,
    Fault::CertFuture,
    Fault::CertName,
    Fault::CertNoSan,
    Fault::CertNoEku,
    Fault::CertLong,
    Fault::CertNoChain,
    Fault::ClientCert,
];

impl Fault {
    /// What it is called and what it does.
    pub const fn about(&self) -> About {
        match self {
            Self::NoDatagramParameter => About::new("no-datagram-parameter", H3, "sends no transport parameter max_datagram_frame_size"),
            Self::NoH3Datagram => About::new("no-h3-datagram", H3, "leaves SETTINGS_H3_DATAGRAM (0x33) out"),
            Self::NoExtendedConnect => About::new("no-extended-connect", H3_H2, "leaves SETTINGS_ENABLE_CONNECT_PROTOCOL (0x08) out"),
            Self::SettingsLate(_) => {
                About::new("settings-late", H3_H2, "sends SETTINGS so many milliseconds after the handshake").takes(MS)
            }
            Self::SettingsNever => About::new("settings-never", H3_H2, "never sends SETTINGS (HTTP/2: nor anything else)"),
            Self::StopClientControl => About::new("stop-client-control", H3, "sends STOP_SENDING for the client's control stream"),
            Self::FinishControl => About::new("finish-control", H3, "finishes its own control stream behind SETTINGS"),
            Self::Goaway => About::new("goaway", H3_H2, "sends GOAWAY at once and takes no request, and stays"),
            Self::ConnectReset => {
                About::new("connect-reset", EVERY_HTTP, "resets classic CONNECT instead of answering it (HTTP/1.1: hangs up)")
            }
            Self::UdpOnly => About::new("udp-only", H2_H1, "is there over UDP alone: a TCP connection is reset as soon as it is there"),
            Self::TcpOnly => About::new("tcp-only", H3, "is there over TCP alone: UDP packets vanish, as in a network that blocks them"),
            Self::Status(_) => {
                About::new("status", EVERY_HTTP, "answers every request with CODE, and a Proxy-Status that names the fault").takes(STATUS)
            }
            Self::BareStatus(_) => {
                About::new("bare-status", EVERY_HTTP, "answers every request with CODE, without Proxy-Status").takes(STATUS)
            }
            Self::AbortAfterResponse => {
                About::new("abort-after-response", EVERY_HTTP, "resets every stream right behind its answer (HTTP/1.1: hangs up)")
            }
            Self::TcpBlackhole => About::new("tcp-blackhole", EVERY_HTTP, "accepts TCP tunnels and carries nothing, either way"),
            Self::Stall(_) => About::new("stall", EVERY_HTTP, "carries BYTES each way in a TCP tunnel, then nothing more").takes(BYTES),
            Self::Close(_) => About::new("close", H3_H2, "closes the connection with CODE instead of answering a request").takes(CODE),
            Self::NoCapsuleProtocol => {
                About::new("no-capsule-protocol", EVERY_HTTP, "leaves capsule-protocol out of the answer to CONNECT-UDP")
            }
            Self::CapsuleProtocolParameter => {
                About::new("capsule-protocol-parameter", EVERY_HTTP, "answers CONNECT-UDP with `capsule-protocol: ?1;fault`")
            }
            Self::DatagramDrop(_) => {
                About::new("datagram-drop", EVERY_HTTP, "loses the payloads of UDP tunnels, either way, with this probability")
                    .takes(CHANCE)
            }
            Self::DatagramDelay(_) => {
                About::new("datagram-delay", EVERY_HTTP, "holds what comes back in a UDP tunnel for so many milliseconds").takes(MS)
            }
            Self::DatagramContext => {
                About::new("datagram-context", EVERY_HTTP, "sends UDP payloads back under context ID 1, which nobody registered")
            }
            Self::DatagramStream => {
                About::new("datagram-stream", H3, "sends datagrams back under the quarter stream ID of the stream behind")
            }
            Self::Retry => About::new("retry", H3, "answers every first packet with Retry"),
            Self::Cid(_) => About::new("cid", H3, "uses connection IDs of so many bytes").takes(LENGTH).at_start(),
            Self::CertSelfSigned => About::new("cert-self-signed", EVERY_HTTP, "shows a self-signed certificate"),
            Self::CertExpired => About::new("cert-expired", EVERY_HTTP, "shows a certificate that expired yesterday"),
            Self::CertFuture => About::new("cert-future", EVERY_HTTP, "shows a certificate that is valid from tomorrow"),
            Self::CertName => About::new("cert-name", EVERY_HTTP, "shows a certificate for another name"),
            Self::CertNoSan => About::new("cert-no-san", EVERY_HTTP, "shows a certificate with the name in its CN alone"),
            Self::CertNoEku => About::new("cert-no-eku", EVERY_HTTP, "shows a certificate without extended key usage"),
            Self::CertLong => About::new("cert-long", EVERY_HTTP, "shows a certificate that is valid for 1,000 days"),
            Self::CertNoChain => About::new("cert-no-chain", EVERY_HTTP, "shows a certificate without the intermediate that issued it"),
            Self::ClientCert => {
                About::new("client-cert", EVERY_HTTP, "asks for a client certificate, any, and ends the handshake without one")
            }
        }
    }

    /// What it is called.
    pub const fn name(&self) -> &'static str {
        self.about().name
    }

    /// Whether it is of the certificate shown: one at a time can be.
    pub const fn of_certificate(&self) -> bool {
        matches!(
            self,
            Self::CertSelfSigned
                | Self::CertExpired
                | Self::CertFuture
                | Self::CertName
                | Self::CertNoSan
                | Self::CertNoEku
                | Self::CertLong
                | Self::CertNoChain
        )
    }
}

impl About {
    const fn new(name: &'static str, http: &'static [&'static str], help: &'static str) -> Self {
        Self { name, argument: None, http, help, live: true }
    }

    const fn takes(self, argument: Argument) -> Self {
        Self { argument: Some(argument), ..self }
    }

    const fn at_start(self) -> Self {
        Self { live: false, ..self }
    }

    /// As it is written: `stall=BYTES`.
    pub fn form(&self) -> String {
        self.argument.map_or_else(|| self.name.into(), |argument| format!("{}={}", self.name, argument.name))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::SettingsLate(time) | Self::DatagramDelay(time) => write!(f, "={}", time.as_millis()),
            Self::Status(code) | Self::BareStatus(code) => write!(f, "={code}"),
            Self::Stall(bytes) => write!(f, "={bytes}"),
            Self::Close(code) => write!(f, "={code:#x}"),
            Self::DatagramDrop(chance) => write!(f, "={chance}"),
            Self::Cid(length) => write!(f, "={length}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == MILLION {
            return f.write_str("1");
        }
        f.write_str(format!("0.{:06}", self.0).trim_end_matches('0'))
    }
}

/// A line for each: what `--fault help` prints.
pub fn help() -> String {
    let line = |fault: &Fault| {
        let about = fault.about();
        let form = about.form();
        format!("  {form:<27} {}; {}{}\n", about.help, about.http.join(" "), if about.live { "" } else { "; at the start only" })
    };
    EVERY.iter().map(line).collect()
}

/// A context ID of one byte that no client registers: odd ones are the relay's (RFC 9298 §4).
pub const UNREGISTERED: u8 = 1;

const MILLION: u32 = 1_000_000;

const H3: &[&str] = &["h3"];
const H3_H2: &[&str] = &["h3", "h2"];
const H2_H1: &[&str] = &["h2", "h1"];
const EVERY_HTTP: &[&str] = &["h3", "h2", "h1"];

const MS: Argument = Argument { name: "MS", range: "milliseconds, 1 to 60000" };
const STATUS: Argument = Argument { name: "CODE", range: "a status, 300 to 599" };
const BYTES: Argument = Argument { name: "BYTES", range: "a number of bytes, 1 or more" };
const CODE: Argument = Argument { name: "CODE", range: "an error code of 32 bits, like 258 or 0x102" };
const CHANCE: Argument = Argument { name: "P", range: "a probability above 0 and up to 1, like 0.3" };
const LENGTH: Argument = Argument { name: "LENGTH", range: "a number of bytes, 4 to 20" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_reads_back_as_it_is_written() {
        for fault in EVERY {
            assert_eq!(fault.to_string().parse(), Ok(fault), "{fault}");
            let about = fault.about();
            assert!(!about.http.is_empty() && about.help.is_ascii(), "{fault}");
            assert_eq!(about.argument.is_some(), fault.to_string().contains('='), "{fault}");
            assert!(fault.to_string().starts_with(about.name), "{fault}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_design() {
        let names: Vec<_> = EVERY.iter().map(Fault::name).collect();
        assert_eq!(
            names.join(" "),
            "no-datagram-parameter no-h3-datagram no-extended-connect settings-late settings-never stop-client-control finish-control goaway \
             connect-reset udp-only tcp-only status bare-status abort-after-response tcp-blackhole stall close no-capsule-protocol \
             capsule-protocol-parameter datagram-drop datagram-delay datagram-context datagram-stream retry cid cert-self-signed cert-expired \
             cert-future cert-name cert-no-san cert-no-eku cert-long cert-no-chain client-cert"
        );
    }

    #[test]
    fn help_has_a_line_for_each() {
        let help = help();
        assert_eq!(help.lines().count(), EVERY.len());
        assert!(
            help.contains("\n  stall=BYTES                 carries BYTES each way in a TCP tunnel, then nothing more; h3 h2 h1\n"),
            "{help}"
        );
        assert!(help.contains("connection IDs of so many bytes; h3; at the start only"), "{help}");
    }

    #[test]
    fn a_chance_is_shown_as_it_is_written() {
        for (millionths, want) in [(1, "0.000001"), (300_000, "0.3"), (10, "0.00001"), (999_999, "0.999999"), (MILLION, "1")] {
            assert_eq!(Chance(millionths).to_string(), want);
        }
    }
}
