//! Configuration as meant: plain data, every field with its default. `file` holds it as written.
//!
//! ```text
//! default ◀ file (TOML) ◀ environment ◀ flag      each overrides what stands left of it
//!                 └──────────── file::Settings ──────────▶ Config
//! ```

mod entries;
pub mod file;
pub mod keys;
pub mod memory;
mod show;
mod values;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use ipnet::IpNet;

use crate::{apple::Quirks, fault::Fault, proto::template::Template, refusal::Denial};

pub use entries::{revocable, user_name};
pub use values::listen_address;

/// Everything a relay is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen: UDP for HTTP/3, TCP for the others, on the same port. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Which versions of HTTP are served.
    pub http: Versions,
    /// TLS 1.2 is spoken too, over TCP.
    pub tls12: bool,
    /// How `Proxy-Status` names this relay (RFC 9209 §2): a token.
    pub name: String,
    /// Threads, each with its own sockets; at least 1.
    pub workers: usize,
    /// Certificate chain and key, PEM.
    pub certificate: Certificate,
    /// Further ones, each for clients that ask for one of its names.
    pub more_certificates: Vec<Certificate>,
    /// CONNECT-UDP templates served beside the well-known one.
    pub templates: Vec<Template>,
    /// Who may use the relay.
    pub access: Access,
    /// Where they may go.
    pub rules: Rules,
    /// Caps.
    pub limits: Limits,
    /// Waits.
    pub timeouts: Timeouts,
    /// Names.
    pub dns: Dns,
    /// QUIC's knobs.
    pub quic: Quic,
    /// What is done for Apple's clients beyond the RFCs.
    pub apple: Quirks,
    /// What is left out, or done, to find out what a client minds.
    pub bisect: Bisect,
    /// What is written about clients.
    pub log: Log,
    /// How it misbehaves on purpose.
    pub fault: Faults,
    /// Where the running relay can be asked about itself.
    pub admin: Admin,
}

impl Config {
    /// An address others reach while nobody could be refused there: no token and no CA of clients is configured, and access is not declared
    /// open.
    pub fn open_to_all(&self) -> Option<SocketAddr> {
        let guarded = self.access.open || !self.access.tokens.is_empty() || self.access.client_ca.is_some();
        self.listen.iter().copied().find(|addr| !guarded && !addr.ip().to_canonical().is_loopback())
    }

    /// Every certificate, the one for clients without a name first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(&self.more_certificates)
    }
}

/// The versions of HTTP served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// HTTP/1.1 over TLS: for curl and browsers with an https proxy, never for an Apple relay client.
    pub h1: bool,
    /// HTTP/2 over TLS: where a network blocks UDP.
    pub h2: bool,
    /// HTTP/3 over QUIC.
    pub h3: bool,
}

impl Versions {
    /// Whether anything is served over TCP.
    pub const fn over_tcp(self) -> bool {
        self.h1 || self.h2
    }
}

/// Where the certificate lies.
#[derive(Clone, Debug, Default)]
pub struct Certificate {
    /// PEM: the leaf, then intermediates.
    pub chain: PathBuf,
    /// PEM: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Who may use the relay.
#[derive(Clone, Debug)]
pub struct Access {
    /// No credential is asked for. A relay without tokens that is not open starts on loopback only.
    pub open: bool,
    /// Accepted tokens.
    pub tokens: Vec<Token>,
    /// The field that carries the token: `proxy-authorization` (Basic or Bearer), or any other (the bare token). Lower case.
    pub header: String,
    /// PEM: the CA whose certificates clients may show in place of a token.
    pub client_ca: Option<PathBuf>,
    /// Certificates of clients that no longer count: serial numbers and SHA-256 fingerprints, lower case, without colons.
    pub revoked: Vec<String>,
}

/// One accepted token, kept as its hash.
#[derive(Clone)]
pub struct Token {
    /// Who it stands for, in logs and in rules; the user name of Basic.
    pub user: Arc<str>,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
}

impl Token {
    /// The token in clear: only its hash is kept.
    pub fn new(user: &str, token: &str) -> Self {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self { user: user.into(), sha256 }
    }
}

/// Where clients may go.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The first that matches decides; none: allowed.
    pub list: Vec<Rule>,
    /// Addresses that are not globally reachable are let through (the relay's own listeners stay closed).
    pub allow_private: bool,
    /// How a denial looks when its rule does not say.
    pub denial: Denial,
}

/// One rule. Empty lists match everything.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Allow or deny.
    pub allow: bool,
    /// Lower case, without the final dot: `example.com` is exact, `.example.com` is the domain and everything under it.
    pub names: Vec<String>,
    /// Networks; matched against the address after DNS. A rule with networks that allows also opens them against the private-address list.
    pub networks: Vec<IpNet>,
    /// Inclusive port ranges.
    pub ports: Vec<(u16, u16)>,
    /// TCP, UDP or (empty) both.
    pub protocols: Vec<Protocol>,
    /// How the denial looks.
    pub denial: Option<Denial>,
}

/// The transport towards the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Classic CONNECT.
    Tcp,
    /// CONNECT-UDP.
    Udp,
}

/// Caps; each is a count, over it 503 `connection_limit_reached` or a refused connection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Client connections in all.
    pub connections: usize,
    /// Tunnels in all.
    pub tunnels: usize,
    /// Tunnels of one connection.
    pub tunnels_per_connection: usize,
    /// Connections of one IPv4 address or IPv6 /56 that have not authenticated yet.
    pub unauthenticated_per_source: usize,
    /// Packets to a UDP target that has not answered yet (C-73).
    pub unanswered_packets: u32,
}

/// Waits.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From a stream's first byte to its whole head.
    pub head: Duration,
    /// From a connection's first packet to its first authenticated request.
    pub authenticate: Duration,
    /// DNS.
    pub dns: Duration,
    /// All of a TCP connect, Happy Eyeballs included.
    pub connect: Duration,
    /// A connection on which no request is open (HTTP/2), or no packet came (HTTP/3, where a tunnel's longer limit counts).
    pub idle: Duration,
    /// A UDP tunnel in which no packet moved either way (C-70).
    pub udp_idle: Duration,
    /// A TCP tunnel in which no byte moved either way.
    pub tcp_idle: Duration,
    /// A capsule half written to a client that does not read.
    pub capsule_stall: Duration,
    /// From SIGTERM to the end.
    pub drain: Duration,
}

/// Names.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// Resolvers; empty: the system's.
    pub servers: Vec<SocketAddr>,
}

/// QUIC's knobs.
#[derive(Clone, Debug)]
pub struct Quic {
    /// UDP payload of the first packets, 1200..=1452: an inner QUIC handshake needs 1290 or more.
    pub initial_mtu: u16,
    /// PING interval of the relay; zero: never (a phone's radio pays for it).
    pub keep_alive: Duration,
    /// When a client must prove its address.
    pub retry: Retry,
    /// SO_RCVBUF and SO_SNDBUF asked for, bytes.
    pub socket_buffer: usize,
    /// How fast the relay sends to a client; what clients send is theirs to decide.
    pub congestion: Congestion,
}

/// A congestion controller (RFC 9002 §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// RFC 9438, which backs off at every loss.
    #[default]
    Cubic,
    /// What quinn has of BBR, version 1, and calls experimental: losses do not slow it down, and it keeps the queue of a path full.
    Bbr,
}

/// When Retry is sent (RFC 9000 §8.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// Never.
    Never,
    /// When many handshakes are under way.
    #[default]
    Load,
    /// Always.
    Always,
}

/// Switches for bisection at a site with a real device: what a relay may leave out, or do otherwise, without breaking a rule.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Bisect {
    /// GREASE in transport parameters: the QUIC bit's and a reserved one. There is none elsewhere.
    pub grease: bool,
    /// NEW_TOKEN frames; no token is ever accepted, so they save nothing.
    pub new_token: bool,
    /// The transport parameter `max_datagram_frame_size`.
    pub datagrams: bool,
    /// SETTINGS_H3_DATAGRAM (0x33).
    pub h3_datagram: bool,
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL (0x08).
    pub extended_connect: bool,
    /// Larger packets are tried (RFC 8899).
    pub mtu_discovery: bool,
    /// Length of our connection IDs, 4..=20.
    pub cid_length: u8,
}

/// How a relay misbehaves on purpose.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// It may: faults can be switched on, at the start and while it runs.
    pub allow: bool,
    /// Those on from the start.
    pub on: Vec<Fault>,
    /// Decides about those that are random.
    pub seed: u64,
    /// The CA that issues bad certificates, so that they are bad in one way only; none: one that nobody trusts.
    pub authority: Option<Certificate>,
}

/// What is written about clients.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// How much of a target's name.
    pub privacy: Privacy,
    /// A file for the records of connections, a line of JSON each.
    pub records: Option<PathBuf>,
    /// A directory for qlog files, one for every QUIC connection.
    pub qlog: Option<PathBuf>,
    /// The secrets of connections go to the file that `SSLKEYLOGFILE` names: whoever reads it reads all traffic.
    pub secrets: bool,
    /// Connections leave no record, not even in memory. No key says so: it is what the cost of records is measured against.
    pub forget: bool,
}

/// Where the admin socket is. It is a file of this machine: no client of the relay can reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// `admin.sock` in `$RUNTIME_DIRECTORY`, where a service manager gives one; nowhere else.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// There.
    At(PathBuf),
}

/// How much of a target's name is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privacy {
    /// Name, address and port.
    Full,
    /// The last two labels of a name, the /24 or /48 of an address, and the port.
    #[default]
    Domain,
    /// Nothing.
    None,
}

impl Protocol {
    /// For logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("user", &self.user).field("sha256", &"[secret]").finish()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 443)],
            http: Versions::default(),
            tls12: false,
            name: "masque-relay".into(),
            workers: 1,
            certificate: Certificate::default(),
            more_certificates: Vec::new(),
            templates: Vec::new(),
            access: Access::default(),
            rules: Rules::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            dns: Dns::default(),
            quic: Quic::default(),
            apple: Quirks::default(),
            bisect: Bisect::default(),
            log: Log::default(),
            fault: Faults::default(),
            admin: Admin::default(),
        }
    }
}

impl Default for Bisect {
    fn default() -> Self {
        Self {
            grease: true,
            new_token: false,
            datagrams: true,
            h3_datagram: true,
            extended_connect: true,
            mtu_discovery: true,
            // Twenty bytes were reported to trouble a client; eight leave seven that nobody can guess.
            cid_length: 8,
        }
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self { h1: false, h2: true, h3: true }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self { open: false, tokens: Vec::new(), header: "proxy-authorization".into(), client_ca: None, revoked: Vec::new() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            tunnels: 100_000,
            tunnels_per_connection: 1_024,
            // An office behind one NAT is normal; only those that never authenticate are counted.
            unauthenticated_per_source: 256,
            unanswered_packets: 64,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            authenticate: Duration::from_secs(10),
            dns: Duration::from_secs(5),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            udp_idle: Duration::from_secs(120),
            tcp_idle: Duration::from_secs(3600),
            capsule_stall: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Quic {
    fn default() -> Self {
        Self {
            initial_mtu: 1350,
            keep_alive: Duration::ZERO,
            retry: Retry::default(),
            socket_buffer: 4 << 20,
            congestion: Congestion::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(addr: &str) -> Config {
        Config { listen: vec!["127.0.0.1:443".parse().unwrap(), addr.parse().unwrap()], ..Config::default() }
    }

    #[test]
    fn without_a_token_only_loopback_is_closed_enough() {
        for addr in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(listening(addr).open_to_all(), None, "{addr}");
        }
        for addr in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[fe80::1]:1", "[::ffff:192.0.2.1]:1"] {
            assert_eq!(listening(addr).open_to_all(), Some(addr.parse().unwrap()));
            let mut config = listening(addr);
            config.access.open = true;
            assert_eq!(config.open_to_all(), None, "{addr}");
            config.access = Access { client_ca: Some("ca.pem".into()), ..Access::default() };
            assert_eq!(config.open_to_all(), None, "{addr}");
            config.access = Access { tokens: vec![Token::new("alice", "secret")], ..Access::default() };
            assert_eq!(config.open_to_all(), None, "{addr}");
        }
    }

    #[test]
    fn a_token_keeps_its_hash_and_shows_nothing() {
        let token = Token::new("alice", "abc");
        assert_eq!(token.sha256[..4], [0xba, 0x78, 0x16, 0xbf], "FIPS 180-4, SHA-256 of `abc`");
        assert_eq!(format!("{token:?}"), r#"Token { user: "alice", sha256: "[secret]" }"#);
    }
}
