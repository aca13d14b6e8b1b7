//! The compatibility shim: what the relay does for Apple's clients beyond the RFCs. Each quirk has a name, a switch (`[apple]`), a counter, and one
//! pure function that recognises it; all else of their needs is plain HTTP and stands where it belongs.
//!
//! Some are reports that nobody has confirmed. The counters tell the first operator with a real device whether they are true, and a quirk that is
//! switched off tells whether it matters.

use crate::{
    proto::{head::Head, settings::Settings, template::WELL_KNOWN},
    refusal::Refusal,
};

/// One thing done for Apple's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// The well-known path is served beside whatever templates are configured: a client may ignore its own template's path.
    WellKnown,
    /// The method of draft-03 gets 501 and a reason; otherwise it is one unknown method more, 405.
    Draft03,
    /// `*` for host and port gets 501 and a reason; otherwise it is malformed, 400.
    Bind,
    /// CONNECT-UDP with the path of CONNECT-IP gets 501 and a reason; otherwise no template makes the path, 404.
    ConnectIp,
    /// Fields that only such clients send are looked for, and counted. They are ignored either way.
    OwnFields,
    /// A client's SETTINGS are looked through for the datagrams of old drafts, which are not spoken here.
    OldDatagrams,
    /// A hint stands in the log beside a refusal that Apple's configuration explains.
    Hints,
}

/// Which of them are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks(u8);

/// Every one, in the order of the configuration.
pub const EVERY: [Quirk; 7] =
    [Quirk::WellKnown, Quirk::Draft03, Quirk::Bind, Quirk::ConnectIp, Quirk::OwnFields, Quirk::OldDatagrams, Quirk::Hints];

impl Quirk {
    /// For counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WellKnown => "well_known",
            Self::Draft03 => "draft_03",
            Self::Bind => "bind",
            Self::ConnectIp => "connect_ip",
            Self::OwnFields => "own_fields",
            Self::OldDatagrams => "old_datagrams",
            Self::Hints => "hints",
        }
    }

    /// Whether a request shows it.
    fn is_in(self, head: &Head) -> bool {
        let path = field(head, ":path");
        match self {
            Self::WellKnown => is_udp(head) && path.starts_with(UDP_PATH),
            Self::Draft03 => is_draft_03(field(head, ":method")),
            Self::Bind => is_udp(head) && path.starts_with(UDP_PATH) && is_bind(path),
            Self::ConnectIp => is_udp(head) && is_ip_path(path),
            Self::OwnFields => head.fields.iter().any(|(name, _)| is_own_field(name)),
            Self::OldDatagrams | Self::Hints => false,
        }
    }
}

impl Quirks {
    /// All, or none.
    pub const fn all(on: bool) -> Self {
        Self(if on { u8::MAX } else { 0 })
    }

    /// Whether this one is on.
    pub const fn has(self, quirk: Quirk) -> bool {
        self.0 & (1 << quirk as u8) != 0
    }

    /// Switches one.
    pub const fn set(&mut self, quirk: Quirk, on: bool) {
        let bit = 1 << quirk as u8;
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }

    /// Those that are on and show in this request.
    pub fn seen(self, head: &Head) -> impl Iterator<Item = Quirk> {
        EVERY.into_iter().filter(move |quirk| self.has(*quirk) && quirk.is_in(head))
    }

    /// What a refusal most likely means where the client is Apple's: what to change, and where.
    pub fn hint(self, refusal: &Refusal, head: &Head) -> Option<&'static str> {
        if !self.has(Quirk::Hints) {
            return None;
        }
        let plain = field(head, ":scheme").eq_ignore_ascii_case("http");
        match refusal {
            Refusal::Unauthenticated { presented: false } => {
                Some("no secret: the profile's AdditionalHTTPHeaderFields must carry it, for an Apple client waits for no 407")
            }
            Refusal::Unauthenticated { presented: true } => Some(
                "a wrong secret, or a certificate that no longer counts: compare the profile's AdditionalHTTPHeaderFields with `access.tokens`; `cert token` makes a new pair",
            ),
            Refusal::UnsupportedProtocol(_) if is_draft_03(field(head, ":method")) => {
                Some("an old client: it speaks draft-03 of CONNECT-UDP, this relay RFC 9298")
            }
            Refusal::UnknownPath => {
                Some("another template: name the one in the profile's HTTP3RelayURL under `templates`, or give the URL no path")
            }
            Refusal::UnsupportedMethod(_) if plain => {
                Some("an http:// page by a client that takes this relay for a plain HTTP proxy: only tunnels are served")
            }
            Refusal::Malformed(_) if plain || field(head, ":authority").contains("://") => {
                Some("http:// where none belongs: the relay's URL starts with https://, and a target is HOST:PORT")
            }
            _ => None,
        }
    }
}

impl Default for Quirks {
    fn default() -> Self {
        Self::all(true)
    }
}

/// The method of draft-ietf-masque-connect-udp-03.
pub fn is_draft_03(method: &str) -> bool {
    method == "CONNECT-UDP"
}

/// Whether a path asks for CONNECT-IP (RFC 9484 §4).
pub fn is_ip_path(path: &str) -> bool {
    path.starts_with("/.well-known/masque/ip/")
}

/// Whether SETTINGS announce the datagrams of old drafts: SETTINGS_H3_DATAGRAM of draft-ietf-masque-h3-datagram-00 and -04.
pub fn has_old_datagrams(settings: &Settings) -> bool {
    [0x276, 0x00ff_d277].into_iter().any(|id| settings.get(id) == Some(1))
}

fn is_udp(head: &Head) -> bool {
    field(head, ":protocol") == "connect-udp"
}

fn is_bind(path: &str) -> bool {
    ["*/*/", "%2A/%2A/", "%2a/%2a/"].contains(&&path[UDP_PATH.len()..])
}

fn is_own_field(name: &[u8]) -> bool {
    name == b"proxy-quic-forwarding" || name.starts_with(b"sec-ch-")
}

fn field<'a>(head: &'a Head, name: &str) -> &'a str {
    head.get(name).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// What every path of the well-known template starts with.
const UDP_PATH: &str = "/.well-known/masque/udp/";

const _: () = assert!(WELL_KNOWN.len() > UDP_PATH.len());

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            head.push(*name, *value);
        }
        head
    }

    fn udp(path: &'static str) -> Head {
        head(&[(":method", "CONNECT"), (":protocol", "connect-udp"), (":path", path)])
    }

    #[test]
    fn each_quirk_knows_its_request_and_no_other() {
        for (head, want) in [
            (udp("/.well-known/masque/udp/example.com/443/"), &[Quirk::WellKnown][..]),
            (udp("/.well-known/masque/udp/*/*/"), &[Quirk::WellKnown, Quirk::Bind]),
            (udp("/.well-known/masque/udp/%2A/%2A/"), &[Quirk::WellKnown, Quirk::Bind]),
            (udp("/.well-known/masque/ip/*/*/"), &[Quirk::ConnectIp]),
            (udp("/masque/example.com/443"), &[]),
            (head(&[(":method", "CONNECT-UDP"), (":path", "/")]), &[Quirk::Draft03]),
            (head(&[(":method", "CONNECT"), ("proxy-quic-forwarding", "?1")]), &[Quirk::OwnFields]),
            (head(&[(":method", "CONNECT"), ("sec-ch-ua", "x")]), &[Quirk::OwnFields]),
            (head(&[(":method", "CONNECT"), (":path", "/.well-known/masque/udp/*/*/")]), &[]),
            (Head::default(), &[]),
        ] {
            assert_eq!(Quirks::default().seen(&head).collect::<Vec<_>>(), want, "{head:?}");
            assert_eq!(Quirks::all(false).seen(&head).count(), 0);
        }
    }

    #[test]
    fn each_is_switched_alone() {
        for quirk in EVERY {
            let mut quirks = Quirks::default();
            quirks.set(quirk, false);
            assert_eq!(EVERY.map(|other| quirks.has(other)), EVERY.map(|other| other != quirk));
            quirks.set(quirk, true);
            assert_eq!(quirks, Quirks::default());
        }
    }

    #[test]
    fn old_datagrams_are_told_from_new_ones() {
        let settings = |pairs: &[(u64, u64)]| Settings(pairs.to_vec());
        assert!(has_old_datagrams(&settings(&[(0x33, 1), (0x276, 1)])));
        assert!(has_old_datagrams(&settings(&[(0x00ff_d277, 1)])));
        assert!(!has_old_datagrams(&settings(&[(0x33, 1), (0x276, 0)])));
    }

    #[test]
    fn a_refusal_that_the_profile_explains_has_a_hint() {
        let plain = head(&[(":method", "GET"), (":scheme", "http"), (":authority", "example.com")]);
        let url = head(&[(":method", "CONNECT"), (":authority", "http://example.com")]);
        for (refusal, head, want) in [
            (Refusal::Unauthenticated { presented: false }, Head::default(), "no secret"),
            (Refusal::Unauthenticated { presented: true }, Head::default(), "a wrong secret"),
            (Refusal::UnsupportedProtocol("x".into()), head(&[(":method", "CONNECT-UDP")]), "an old client"),
            (Refusal::UnsupportedProtocol("x".into()), udp("/"), ""),
            (Refusal::UnknownPath, udp("/"), "another template"),
            (Refusal::UnsupportedMethod("GET".into()), plain.clone(), "an http:// page"),
            (Refusal::UnsupportedMethod("GET".into()), head(&[(":method", "GET"), (":scheme", "https")]), ""),
            (Refusal::Malformed("x"), url, "http:// where none belongs"),
            (Refusal::Malformed("x"), udp("/"), ""),
            (Refusal::ProhibitedAddress, plain, ""),
        ] {
            let hint = Quirks::default().hint(&refusal, &head).unwrap_or_default();
            assert!(hint.starts_with(want) && hint.is_empty() == want.is_empty(), "{refusal:?}: {hint}");
            assert_eq!(Quirks::all(false).hint(&refusal, &head), None);
        }
    }
}
