//! Rules on where a client may go, compiled from the configuration, and the addresses no relay should reach by itself.
//!
//! Rules stand in an order, and **the first that matches decides**. A rule matches when every list it has matches; names are known before
//! DNS, networks only after it. So a target is judged twice, by the same order:
//!
//! * *As named* ([`Rules::judge_target`]): rules are read up to the first whose names, ports and protocols match. One without networks
//!   decides. One with networks might decide after DNS, so nothing is said yet, whatever stands below it.
//! * *By address* ([`Rules::judge_address`]): rules are read again, now with the address; the first that matches decides.
//!
//! What an allowing rule opens depends on what it names: with networks it opens them, private or not; without, the special-purpose blocks
//! (`special.rs`) stay closed, and so does TCP port 25 unless the rule's own ports hold it. The relay's own listeners are opened by nothing.
//! Names never match a literal, whatever it would resolve back to.
//!
//! An IPv6 address that embeds an IPv4 one is judged as both, and let through only if both are; an IPv4-mapped one is IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::{IpNet, Ipv4Net};

use super::special;
use crate::{
    config::{Protocol, Rule},
    refusal::{Denial, Refusal},
    request::{Host, Target},
};

/// Compiled rules. They judge twice: the target as named, before DNS, and every address, after it.
#[derive(Debug)]
pub struct Rules {
    list: Vec<Rule>,
    allow_private: bool,
    denial: Denial,
    own: Vec<SocketAddr>,
}

impl Rules {
    /// Compiles; `own` are the relay's own listening addresses.
    pub fn new(rules: &crate::config::Rules, own: Vec<SocketAddr>) -> Self {
        let mut list = rules.list.clone();
        for network in list.iter_mut().flat_map(|rule| &mut rule.networks) {
            *network = canonical_network(*network);
        }
        let own = own.into_iter().map(|own| SocketAddr::new(own.ip().to_canonical(), own.port())).collect();
        Self { list, allow_private: rules.allow_private, denial: rules.denial, own }
    }

    /// Before DNS: what can be said by name, port and protocol alone.
    pub fn judge_target(&self, protocol: Protocol, target: &Target) -> Result<(), Refusal> {
        let first = self.list.iter().find(|rule| matches_target(rule, protocol, target));
        match first {
            Some(rule) if !rule.networks.is_empty() => Ok(()),
            Some(rule) => self.decide(rule, protocol, target),
            None => self.refuse_mail(protocol, target),
        }
    }

    /// After DNS: one address the target resolved to (or is). The first matching rule decides; then the special-purpose blocks.
    pub fn judge_address(&self, protocol: Protocol, target: &Target, address: SocketAddr) -> Result<(), Refusal> {
        let outer = address.ip().to_canonical();
        let inner = match outer {
            IpAddr::V6(outer) => special::embedded(outer).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        for reading in [Some(outer), inner].into_iter().flatten() {
            if self.is_own(reading, address.port()) {
                return Err(Refusal::ProhibitedAddress);
            }
            self.judge_reading(protocol, target, reading)?;
        }
        Ok(())
    }

    fn judge_reading(&self, protocol: Protocol, target: &Target, address: IpAddr) -> Result<(), Refusal> {
        let matches = |rule: &&Rule| matches_target(rule, protocol, target) && matches_address(rule, address);
        match self.list.iter().find(matches) {
            Some(rule) => {
                self.decide(rule, protocol, target)?;
                if !rule.networks.is_empty() {
                    return Ok(());
                }
            }
            None => self.refuse_mail(protocol, target)?,
        }
        if self.allow_private || special::is_global(address) { Ok(()) } else { Err(Refusal::ProhibitedAddress) }
    }

    fn decide(&self, rule: &Rule, protocol: Protocol, target: &Target) -> Result<(), Refusal> {
        if !rule.allow {
            return Err(Refusal::Denied { style: rule.denial.unwrap_or(self.denial) });
        }
        if rule.ports.is_empty() { self.refuse_mail(protocol, target) } else { Ok(()) }
    }

    /// Where no rule names the port, that of mail is closed.
    fn refuse_mail(&self, protocol: Protocol, target: &Target) -> Result<(), Refusal> {
        if protocol == Protocol::Tcp && target.port.get() == SMTP {
            return Err(Refusal::Denied { style: self.denial });
        }
        Ok(())
    }

    /// Whether the relay itself listens there. A wildcard listener listens on every address of this machine.
    fn is_own(&self, address: IpAddr, port: u16) -> bool {
        self.own.iter().filter(|own| own.port() == port).any(|own| match own.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.is_ipv4() && is_local(address),
            // Dual-stack.
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => is_local(address),
            // Dialling the unspecified address reaches this machine, by loopback or by another of its addresses.
            own => own == address || address.is_unspecified(),
        })
    }
}

fn matches_target(rule: &Rule, protocol: Protocol, target: &Target) -> bool {
    let port = target.port.get();
    let name = match &target.host {
        Host::Name(name) => rule.names.is_empty() || rule.names.iter().any(|pattern| matches_name(pattern, name)),
        Host::Address(_) => rule.names.is_empty(),
    };
    name && (rule.ports.is_empty() || rule.ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
        && (rule.protocols.is_empty() || rule.protocols.contains(&protocol))
}

fn matches_address(rule: &Rule, address: IpAddr) -> bool {
    rule.networks.is_empty() || rule.networks.iter().any(|network| network.contains(&address))
}

/// `example.com` is itself; `.example.com` is that and everything under it.
fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('.') {
        None => name == pattern,
        Some(domain) => name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

/// A network written in IPv4-mapped form is the IPv4 network.
fn canonical_network(network: IpNet) -> IpNet {
    match (network.network().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(prefix)) if matches!(network, IpNet::V6(_)) => Ipv4Net::new(address, prefix).map_or(network, IpNet::V4),
        _ => network,
    }
}

/// Whether this machine has `address`: then a socket binds to it. Asked only for targets on a wildcard listener's own port.
fn is_local(address: IpAddr) -> bool {
    let binds = |address: IpAddr| UdpSocket::bind((address, 0));
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    let Ok(socket) = binds(address) else { return false };
    // Where the system lets sockets bind to any address (ip_nonlocal_bind), only a route back to the same address tells.
    let foreign: IpAddr = if address.is_ipv4() { FOREIGN_V4.into() } else { FOREIGN_V6.into() };
    drop(socket);
    binds(foreign).is_err() || source_towards(address) == Some(address)
}

/// The address this machine would send from.
fn source_towards(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    socket.local_addr().ok().map(|source| source.ip())
}

/// Open relays of mail are the oldest abuse there is.
const SMTP: u16 = 25;

/// Of the documentation blocks: no machine has them.
const FOREIGN_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
const FOREIGN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xfe);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proto::{head::Head, template::Template},
        request::{Ask, Request},
    };

    fn target(text: &str) -> Target {
        let mut head = Head::default();
        head.push(":method", "CONNECT");
        head.push(":authority", text.to_owned());
        match Request::parse(&head, &[], crate::apple::Quirks::default()).unwrap().ask {
            Ask::Tunnel(_, target) => target,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn allow(names: &[&str], networks: &[&str], ports: &[(u16, u16)]) -> Rule {
        Rule {
            allow: true,
            names: names.iter().map(ToString::to_string).collect(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            ports: ports.to_vec(),
            ..Rule::default()
        }
    }

    fn deny(names: &[&str], networks: &[&str], ports: &[(u16, u16)]) -> Rule {
        Rule { allow: false, ..allow(names, networks, ports) }
    }

    fn rules(list: Vec<Rule>) -> Rules {
        Rules::new(&crate::config::Rules { list, ..Default::default() }, Vec::new())
    }

    /// The outcome of both judgements: `early` before DNS, else `late`.
    fn judge(rules: &Rules, protocol: Protocol, name: &str, address: &str) -> &'static str {
        let target = target(name);
        let address = SocketAddr::new(address.parse().unwrap(), target.port.get());
        match (rules.judge_target(protocol, &target), rules.judge_address(protocol, &target, address)) {
            (Err(Refusal::Denied { .. }), late) => {
                assert!(matches!(late, Err(Refusal::Denied { .. } | Refusal::ProhibitedAddress)), "denied early, let through late");
                "early"
            }
            (Ok(()), Err(Refusal::Denied { .. })) => "late",
            (Ok(()), Err(Refusal::ProhibitedAddress)) => "prohibited",
            (Ok(()), Ok(())) => "open",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let tcp_only = Rule { protocols: vec![Protocol::Tcp], ..deny(&[], &[], &[(22, 23)]) };
        let rules = rules(vec![
            tcp_only,
            allow(&["good.bad.test"], &[], &[]),
            deny(&[".bad.test"], &[], &[]),
            deny(&["exact.test"], &[], &[]),
            deny(&["never.test"], &[], &[(443, 443)]),
        ]);
        for (name, tcp, udp) in [
            ("plain.test:22", "early", "open"),
            ("plain.test:21", "open", "open"),
            ("plain.test:23", "early", "open"),
            ("plain.test:24", "open", "open"),
            ("good.bad.test:443", "open", "open"),
            ("bad.test:443", "early", "early"),
            ("x.bad.test:443", "early", "early"),
            ("x.good.bad.test:443", "early", "early"),
            ("notbad.test:443", "open", "open"),
            ("exact.test:443", "early", "early"),
            ("x.exact.test:443", "open", "open"),
            ("never.test:443", "early", "early"),
            ("never.test:444", "open", "open"),
        ] {
            assert_eq!(judge(&rules, Protocol::Tcp, name, "8.8.8.8"), tcp, "tcp {name}");
            assert_eq!(judge(&rules, Protocol::Udp, name, "8.8.8.8"), udp, "udp {name}");
        }
    }

    #[test]
    fn a_rule_with_networks_holds_its_place_until_the_address_is_known() {
        let rules = rules(vec![
            deny(&["a.test"], &[], &[]),
            allow(&["b.test"], &["10.0.0.0/8"], &[]),
            deny(&["b.test"], &[], &[]),
            deny(&[], &["9.0.0.0/8", "2001:500::/32"], &[]),
            deny(&["c.test"], &[], &[(80, 80)]),
        ]);
        for (name, address, want) in [
            ("a.test:443", "10.1.1.1", "early"),
            ("b.test:443", "10.1.1.1", "open"),
            ("b.test:443", "8.8.8.8", "late"),
            ("b.test:443", "192.168.0.1", "late"),
            ("c.test:443", "9.9.9.9", "late"),
            ("c.test:443", "2001:500::1", "late"),
            ("c.test:443", "8.8.8.8", "open"),
            // The network rule stands above: only the address tells which of the two denies.
            ("c.test:80", "8.8.8.8", "late"),
            ("10.1.1.1:443", "10.1.1.1", "prohibited"),
            ("9.9.9.9:443", "9.9.9.9", "late"),
        ] {
            assert_eq!(judge(&rules, Protocol::Udp, name, address), want, "{name} {address}");
        }
    }

    #[test]
    fn names_never_match_a_literal() {
        let rules = rules(vec![deny(&["8.8.8.8"], &[], &[]), allow(&[".test"], &["127.0.0.0/8"], &[])]);
        assert_eq!(judge(&rules, Protocol::Tcp, "8.8.8.8:443", "8.8.8.8"), "open");
        assert_eq!(judge(&rules, Protocol::Tcp, "127.0.0.1:443", "127.0.0.1"), "prohibited");
        assert_eq!(judge(&rules, Protocol::Tcp, "x.test:443", "127.0.0.1"), "open");
    }

    #[test]
    fn only_networks_and_allow_private_open_special_blocks() {
        let by_name = rules(vec![allow(&["inside.test"], &[], &[])]);
        assert_eq!(judge(&by_name, Protocol::Tcp, "inside.test:443", "192.168.1.1"), "prohibited");
        let by_network = rules(vec![allow(&["inside.test"], &["192.168.1.0/24", "::1/128"], &[])]);
        assert_eq!(judge(&by_network, Protocol::Tcp, "inside.test:443", "192.168.1.1"), "open");
        assert_eq!(judge(&by_network, Protocol::Tcp, "inside.test:443", "::1"), "open");
        assert_eq!(judge(&by_network, Protocol::Tcp, "inside.test:443", "192.168.2.1"), "prohibited");
        assert_eq!(judge(&by_network, Protocol::Tcp, "other.test:443", "192.168.1.1"), "prohibited");

        let private = Rules::new(
            &crate::config::Rules { allow_private: true, list: vec![deny(&[], &["10.0.0.0/8"], &[])], ..Default::default() },
            Vec::new(),
        );
        assert_eq!(judge(&private, Protocol::Tcp, "x.test:443", "127.0.0.1"), "open");
        assert_eq!(judge(&private, Protocol::Tcp, "x.test:443", "10.0.0.1"), "late");
    }

    #[test]
    fn a_form_that_embeds_ipv4_is_judged_by_that_address_too() {
        // Opened from outside, closed from inside.
        let open = || allow(&[], &["64:ff9b::/96", "2002::/16", "2001::/32", "::/96"], &[]);
        for (form, of_10_1_2_3, of_8_8_8_8) in [
            ("nat64", "64:ff9b::a01:203", "64:ff9b::808:808"),
            ("6to4", "2002:a01:203::1", "2002:808:808::1"),
            ("teredo", "2001:0:1:2:3:4:f5fe:fdfc", "2001:0:1:2:3:4:f7f7:f7f7"),
            ("compatible", "::10.1.2.3", "::8.8.8.8"),
        ] {
            let opened = rules(vec![open()]);
            assert_eq!(judge(&opened, Protocol::Udp, "x.test:443", of_8_8_8_8), "open", "{form}");
            assert_eq!(judge(&opened, Protocol::Udp, "x.test:443", of_10_1_2_3), "prohibited", "{form}");
            let denied = rules(vec![deny(&[], &["8.8.0.0/16"], &[]), open()]);
            assert_eq!(judge(&denied, Protocol::Udp, "x.test:443", of_8_8_8_8), "late", "{form}");
            let both = rules(vec![open(), allow(&[], &["10.0.0.0/8"], &[])]);
            assert_eq!(judge(&both, Protocol::Udp, "x.test:443", of_10_1_2_3), "open", "{form}");
        }
        let plain = rules(Vec::new());
        assert_eq!(judge(&plain, Protocol::Udp, "x.test:443", "64:ff9b::8.8.8.8"), "open");
        assert_eq!(judge(&plain, Protocol::Udp, "x.test:443", "::ffff:8.8.8.8"), "open", "it is 8.8.8.8");
        for mapped in ["8.8.8.0/24", "::ffff:8.8.8.0/120"] {
            assert_eq!(judge(&rules(vec![deny(&[], &[mapped], &[])]), Protocol::Udp, "x.test:443", "::ffff:8.8.8.8"), "late");
            assert_eq!(judge(&rules(vec![deny(&[], &[mapped], &[])]), Protocol::Udp, "x.test:443", "8.8.8.8"), "late");
        }
    }

    #[test]
    fn tcp_port_25_is_closed_unless_a_rule_names_it() {
        let judge_mail = |list: Vec<Rule>| judge(&rules(list), Protocol::Tcp, "mail.test:25", "8.8.8.8");
        assert_eq!(judge_mail(vec![]), "early");
        assert_eq!(judge_mail(vec![allow(&["mail.test"], &[], &[])]), "early");
        assert_eq!(judge_mail(vec![allow(&["mail.test"], &["8.8.8.8/32"], &[])]), "late");
        assert_eq!(judge_mail(vec![allow(&["mail.test"], &[], &[(20, 30)])]), "open");
        assert_eq!(judge_mail(vec![allow(&[], &["8.8.8.8/32"], &[(25, 25)])]), "open");
        assert_eq!(judge_mail(vec![allow(&[], &["8.8.4.4/32"], &[(25, 25)])]), "late");
        assert_eq!(judge(&rules(vec![]), Protocol::Udp, "mail.test:25", "8.8.8.8"), "open");
    }

    #[test]
    fn a_denial_looks_as_its_rule_says_or_else_as_all_do() {
        let styled = Rule { denial: Some(Denial::Filtered), ..deny(&["a.test"], &[], &[]) };
        let config = crate::config::Rules { list: vec![styled, deny(&["b.test"], &[], &[])], denial: Denial::Direct, ..Default::default() };
        let rules = Rules::new(&config, Vec::new());
        for (name, want) in [("a.test:443", Denial::Filtered), ("b.test:443", Denial::Direct), ("c.test:25", Denial::Direct)] {
            let refused = rules.judge_target(Protocol::Tcp, &target(name));
            assert!(matches!(refused, Err(Refusal::Denied { style }) if style == want), "{name}: {refused:?}");
        }
    }

    #[test]
    fn the_relays_own_listeners_are_opened_by_nothing() {
        let everything =
            crate::config::Rules { list: vec![allow(&[], &["0.0.0.0/0", "::/0"], &[])], allow_private: true, ..Default::default() };
        let own = |listen: &str| Rules::new(&everything, vec![listen.parse().unwrap()]);
        for (listen, name, address, want) in [
            ("127.0.0.1:4433", "x.test:4433", "127.0.0.1", "prohibited"),
            ("127.0.0.1:4433", "x.test:4434", "127.0.0.1", "open"),
            ("127.0.0.1:4433", "x.test:4433", "127.0.0.2", "open"),
            ("127.0.0.1:4433", "x.test:4433", "::ffff:127.0.0.1", "prohibited"),
            ("127.0.0.1:4433", "x.test:4433", "64:ff9b::127.0.0.1", "prohibited"),
            ("127.0.0.1:4433", "x.test:4433", "0.0.0.0", "prohibited"),
            ("0.0.0.0:443", "x.test:443", "127.0.0.1", "prohibited"),
            ("0.0.0.0:443", "x.test:443", "127.9.9.9", "prohibited"),
            ("0.0.0.0:443", "x.test:443", "0.0.0.0", "prohibited"),
            ("0.0.0.0:443", "x.test:443", "203.0.113.9", "open"),
            ("0.0.0.0:443", "x.test:443", "::1", "open"),
            ("[::]:443", "x.test:443", "::1", "prohibited"),
            ("[::]:443", "x.test:443", "127.0.0.1", "prohibited"),
            ("[::]:443", "x.test:443", "2001:db8::9", "open"),
            ("[::]:443", "x.test:80", "::1", "open"),
        ] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                assert_eq!(judge(&own(listen), protocol, name, address), want, "{listen} {name} {address}");
            }
        }
    }

    /// Each is malformed, or prohibited once it is an address.
    #[test]
    fn no_spelling_reaches_a_forbidden_target() {
        let mut spellings: Vec<String> = FORBIDDEN.iter().map(ToString::to_string).collect();
        // Every IPv4 one again, in every form that embeds it.
        let embeddable: Vec<Ipv4Addr> = FORBIDDEN.iter().filter_map(|text| text.parse().ok()).collect();
        for inner in embeddable {
            let [a, b, c, d] = inner.octets();
            let hex = format!("{:x}:{:x}", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let inverted = format!("{:x}:{:x}", !u16::from_be_bytes([a, b]), !u16::from_be_bytes([c, d]));
            spellings.extend([
                format!("::ffff:{inner}"),
                format!("::ffff:{hex}"),
                format!("0:0:0:0:0:FFFF:{inner}"),
                format!("::{inner}"),
                format!("64:ff9b::{inner}"),
                format!("64:ff9b::{hex}"),
                format!("64:ff9b:1::{inner}"),
                format!("2002:{hex}::1"),
                format!("2001:0:102:304:0:ffff:{inverted}"),
                format!("{inner}."),
                format!("{}", inner.to_bits()),
                format!("0x{:x}", inner.to_bits()),
                format!("0{:o}", inner.to_bits()),
                format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
                format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
                format!("{a}.{b}.{}", u16::from_be_bytes([c, d])),
                format!("{a}.{}", inner.to_bits() & 0xff_ffff),
            ]);
        }
        assert!(spellings.len() >= 200, "{}", spellings.len());

        let rules = rules(Vec::new());
        for spelling in spellings {
            let bracketed = if spelling.contains(':') { format!("[{spelling}]") } else { spelling.clone() };
            assert_unreached(&rules, &spelling, &[(":method", "CONNECT"), (":authority", &format!("{bracketed}:443"))]);
            for host in [&spelling, &bracketed] {
                let path = Template::well_known().expand(host, 443);
                let extended = [
                    (":method", "CONNECT"),
                    (":protocol", "connect-udp"),
                    (":scheme", "https"),
                    (":authority", "relay.test"),
                    (":path", &*path),
                ];
                assert_unreached(&rules, &spelling, &extended);
            }
        }
    }

    fn assert_unreached(rules: &Rules, spelling: &str, fields: &[(&'static str, &str)]) {
        let mut head = Head::default();
        for (name, value) in fields {
            head.push(*name, value.to_string());
        }
        let request = match Request::parse(&head, &[Template::well_known()], crate::apple::Quirks::default()) {
            Err(Refusal::Malformed(_)) => return,
            other => other.unwrap(),
        };
        let Ask::Tunnel(protocol, target) = request.ask else { panic!("{spelling}: {:?}", request.ask) };
        let Host::Address(address) = target.host else { panic!("{spelling} would be asked of DNS: {target:?}") };
        let judged = rules.judge_address(protocol, &target, SocketAddr::new(address, target.port.get()));
        assert!(matches!(judged, Err(Refusal::ProhibitedAddress)), "{spelling}: {judged:?}");
    }

    const FORBIDDEN: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.254",
        "127.0.0.1",
        "127.0.0.2",
        "127.255.255.254",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.254",
        "192.0.0.1",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.254",
        "198.18.0.1",
        "198.19.255.254",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "224.0.0.251",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "0:0:0:0:0:0:0:1",
        "0000:0000:0000:0000:0000:0000:0000:0001",
        "::0.0.0.1",
        "::ffff:7f00:1",
        "fe80::1",
        "FE80::1",
        "fe80::1%eth0",
        "fe80::1%25eth0",
        "febf:ffff::1",
        "fec0::1",
        "feff::1",
        "fc00::1",
        "fd00::1",
        "fdff:ffff::1",
        "ff01::1",
        "ff02::1",
        "ff02::fb",
        "ff05::2",
        "ff0e::1",
        "2001:db8::1",
        "2001:db8:ffff::1",
        "3fff::1",
        "100::1",
        "100:0:0:1::1",
        "64:ff9b:1::1",
        "64:ff9b:1:ffff::1",
        "2001::1",
        "2001:1::4",
        "2001:2::1",
        "2001:10::1",
        "2002::1",
        "5f00::1",
        "4000::1",
        "8000::1",
        "127.1",
        "127.0.1",
        "127.000.000.001",
        "127.0.0.1.",
        "127.0.0.1%00",
        "127.0.0.1%2e",
        "127.0.0.1:80",
        "127。0。0。1",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "0x7f.1",
        "0177.1",
        "017700000001",
        "2130706433",
        "4294967295",
        "4294967296",
        "+127.0.0.1",
        " 127.0.0.1",
        "127.0.0.1 ",
        "127.0.0.1\t",
        "127.0.0.1/",
        "a@127.0.0.1",
        "::1%lo",
        "::1%1",
        "0x0",
        "0",
        "00",
        "1.0x1",
        "x.1",
        "x.0x7f",
    ];
}
