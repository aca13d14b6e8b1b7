//! Every key of the configuration file: what it does, how it is read, how it is shown. One row each, and no other list.

use std::{num::NonZero, thread, time::Duration};

use super::{
    Admin, Config,
    entries::{certificate, revocable, rule, token},
    show::{certificates, durations, path, quoted, quoted_list, rules, tokens, word},
    values::{
        CONGESTIONS, DENIALS, PRIVACIES, RETRIES, Read, Value, boolean, choice, duration, field_name, list, listen_address, number, parsed,
        path as file, relay_name, resolver, text,
    },
};
use crate::{apple::Quirk, proto::template::Template};

/// One key.
pub struct Key {
    /// Where it stands: `limits.tunnels` is `tunnels` under `[limits]`.
    pub path: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    pub(super) read: fn(&Value<'_>, &mut Config) -> Read<()>,
    /// Its value as TOML. A secret is not shown.
    pub show: fn(&Config) -> String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.path).finish()
    }
}

impl Key {
    /// The key called `path`.
    pub fn find(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// `limits` of `limits.tunnels`; empty at the top.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// `tunnels` of `limits.tunnels`.
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

/// Processors this process may use: what `workers = "auto"` means.
pub fn allowed_cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MOST_WORKERS)
}

/// A count of workers, or `auto`.
pub fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        _ if text == "auto" => Ok(allowed_cpus()),
        Ok(count) if (1..=MOST_WORKERS).contains(&count) => Ok(count),
        _ => Err(format!("must be 1 to {MOST_WORKERS} or `auto`, not `{}`", text.escape_debug())),
    }
}

/// The worker's number is one byte of every connection ID.
const MOST_WORKERS: usize = 256;

/// Descriptors and memory end long before this; it only keeps sums from overflowing.
const MOST: u64 = 1_000_000;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const HOUR: u64 = 3600;

/// A short list keeps `check --show` readable and the search for a template quick.
const MOST_ADDRESSES: usize = 64;

/// A key that is `true` or `false`.
macro_rules! switch {
    ($path:literal, $about:literal, $($field:ident).+) => {
        Key {
            path: $path,
            about: $about,
            read: |value, config| boolean(value).map(|on| config.$($field).+ = on),
            show: |config| config.$($field).+.to_string(),
        }
    };
}

/// The same for a quirk of the shim.
macro_rules! quirk {
    ($path:literal, $about:literal, $quirk:ident) => {
        Key {
            path: $path,
            about: $about,
            read: |value, config| boolean(value).map(|on| config.apple.set(Quirk::$quirk, on)),
            show: |config| config.apple.has(Quirk::$quirk).to_string(),
        }
    };
}

/// A key that names a file, or is `"off"`.
macro_rules! file_or_off {
    ($path:literal, $about:literal, $($field:ident).+) => {
        Key {
            path: $path,
            about: $about,
            read: |value, config| {
                config.$($field).+ = if text(value)? == "off" { None } else { Some(parsed(value, file)?) };
                Ok(())
            },
            show: |config| config.$($field).+.as_deref().map_or_else(|| quoted("off"), path),
        }
    };
}

/// All keys, in the order `check --show` prints them: the top, then section by section.
pub static KEYS: &[Key] = &[
    Key {
        path: "listen",
        about: "addresses with ports to listen on; `[::]` takes IPv4 too, port 0 takes a free port",
        read: |value, config| {
            config.listen = list(value, MOST_ADDRESSES, |one| parsed(one, listen_address))?;
            Ok(())
        },
        show: |config| quoted_list(&config.listen),
    },
    switch!("http3", "HTTP/3 is served, over UDP", http.h3),
    switch!("http2", "HTTP/2 is served, over TCP", http.h2),
    switch!("http1", "HTTP/1.1 is served too, over TCP: for curl and browsers, no Apple client needs it", http.h1),
    switch!("tls12", "TLS 1.2 is spoken too, over TCP", tls12),
    Key {
        path: "name",
        about: "how `Proxy-Status` names this relay",
        read: |value, config| parsed(value, relay_name).map(|name| config.name = name),
        show: |config| quoted(&config.name),
    },
    Key {
        path: "workers",
        about: "threads, each with its own sockets; `\"auto\"`: one for every processor the process may use",
        read: |value, config| {
            config.workers = match value.get_ref().as_str() {
                Some(_) => parsed(value, workers)?,
                None => number(value, 1..=MOST_WORKERS as u64)? as usize,
            };
            Ok(())
        },
        show: |config| config.workers.to_string(),
    },
    Key {
        path: "templates",
        about: "URI templates of CONNECT-UDP served beside `/.well-known/masque/udp/{target_host}/{target_port}/`",
        read: |value, config| {
            config.templates = list(value, 16, |one| parsed(one, |text| Template::parse(text).map_err(|error| error.to_string())))?;
            Ok(())
        },
        show: |config| quoted_list(&config.templates),
    },
    Key {
        path: "admin",
        about: "the socket of `masque-relay sessions`, a file; `\"auto\"`: `admin.sock` in `$RUNTIME_DIRECTORY` if that is set; `\"off\"`: none",
        read: |value, config| {
            config.admin = match text(value)? {
                "auto" => Admin::Auto,
                "off" => Admin::Off,
                _ => Admin::At(parsed(value, file)?),
            };
            Ok(())
        },
        show: |config| match &config.admin {
            Admin::Auto => quoted("auto"),
            Admin::Off => quoted("off"),
            Admin::At(socket) => path(socket),
        },
    },
    Key {
        path: "certificate.chain",
        about: "PEM file: the certificate, then the intermediates; relative to this file",
        read: |value, config| parsed(value, file).map(|chain| config.certificate.chain = chain),
        show: |config| path(&config.certificate.chain),
    },
    Key {
        path: "certificate.key",
        about: "PEM file: its private key, unencrypted; relative to this file",
        read: |value, config| parsed(value, file).map(|key| config.certificate.key = key),
        show: |config| path(&config.certificate.key),
    },
    Key {
        path: "certificate.more",
        about: "further certificates, `{ chain = \"…\", key = \"…\" }`, shown to clients that ask for one of their names; others get the first",
        read: |value, config| list(value, 256, certificate).map(|more| config.more_certificates = more),
        show: |config| certificates(&config.more_certificates),
    },
    switch!("access.open", "nobody is asked for a credential", access.open),
    Key {
        path: "access.header",
        about: "the field that carries the token: `proxy-authorization` takes Basic and Bearer, any other the bare token",
        read: |value, config| parsed(value, field_name).map(|header| config.access.header = header),
        show: |config| quoted(&config.access.header),
    },
    Key {
        path: "access.tokens",
        about: "accepted tokens, `{ user = \"alice\", sha256 = \"…\" }`; `masque-relay cert token` makes one",
        read: |value, config| list(value, 10_000, token).map(|tokens| config.access.tokens = tokens),
        show: |config| tokens(&config.access.tokens),
    },
    file_or_off!(
        "access.client_ca",
        "PEM file: the CA whose certificates count as credentials; relative to this file; `\"off\"`: none is asked for",
        access.client_ca
    ),
    Key {
        path: "access.revoked",
        about: "certificates of clients that no longer count: serial numbers or SHA-256 fingerprints, hexadecimal",
        read: |value, config| list(value, 10_000, |one| parsed(one, revocable)).map(|revoked| config.access.revoked = revoked),
        show: |config| quoted_list(&config.access.revoked),
    },
    switch!("rules.allow_private", "lets clients reach addresses that are not globally reachable", rules.allow_private),
    Key {
        path: "rules.denial",
        about: "how a denial looks: `block`, `direct`, `filtered` or `forbidden`",
        read: |value, config| choice(value, &DENIALS).map(|denial| config.rules.denial = denial),
        show: |config| word(&DENIALS, config.rules.denial),
    },
    Key {
        path: "rules.list",
        about: "the first rule that matches decides, none allows: `{ allow = [..] }` or `{ deny = [..] }`, with `ports`, `protocols`, `denial`",
        read: |value, config| list(value, 4096, rule).map(|rules| config.rules.list = rules.concat()),
        show: |config| rules(&config.rules.list),
    },
    Key {
        path: "limits.connections",
        about: "client connections in all",
        read: |value, config| number(value, 1..=MOST).map(|count| config.limits.connections = count as usize),
        show: |config| config.limits.connections.to_string(),
    },
    Key {
        path: "limits.tunnels",
        about: "tunnels in all; each needs a descriptor",
        read: |value, config| number(value, 1..=MOST).map(|count| config.limits.tunnels = count as usize),
        show: |config| config.limits.tunnels.to_string(),
    },
    Key {
        path: "limits.tunnels_per_connection",
        about: "tunnels of one connection",
        read: |value, config| number(value, 1..=MOST).map(|count| config.limits.tunnels_per_connection = count as usize),
        show: |config| config.limits.tunnels_per_connection.to_string(),
    },
    Key {
        path: "limits.unauthenticated_per_source",
        about: "connections of one IPv4 address or IPv6 /56 that have not authenticated yet",
        read: |value, config| number(value, 1..=MOST).map(|count| config.limits.unauthenticated_per_source = count as usize),
        show: |config| config.limits.unauthenticated_per_source.to_string(),
    },
    Key {
        path: "limits.unanswered_packets",
        about: "packets to a UDP target that has not answered yet",
        read: |value, config| number(value, 1..=MOST).map(|count| config.limits.unanswered_packets = count as u32),
        show: |config| config.limits.unanswered_packets.to_string(),
    },
    Key {
        path: "timeouts.head",
        about: "from a stream's first byte to its whole head",
        read: |value, config| duration(value, ms(100)..=seconds(300)).map(|span| config.timeouts.head = span),
        show: |config| durations(config.timeouts.head),
    },
    Key {
        path: "timeouts.authenticate",
        about: "from a connection's first packet to its first authenticated request",
        read: |value, config| duration(value, ms(100)..=seconds(300)).map(|span| config.timeouts.authenticate = span),
        show: |config| durations(config.timeouts.authenticate),
    },
    Key {
        path: "timeouts.dns",
        about: "resolving a target's name",
        read: |value, config| duration(value, ms(100)..=seconds(60)).map(|span| config.timeouts.dns = span),
        show: |config| durations(config.timeouts.dns),
    },
    Key {
        path: "timeouts.connect",
        about: "connecting to a TCP target, all its addresses together",
        read: |value, config| duration(value, ms(100)..=seconds(300)).map(|span| config.timeouts.connect = span),
        show: |config| durations(config.timeouts.connect),
    },
    Key {
        path: "timeouts.idle",
        about: "a connection without a request (HTTP/2), or without a packet (HTTP/3, where `udp_idle` counts if it is longer)",
        read: |value, config| duration(value, ms(100)..=seconds(24 * HOUR)).map(|span| config.timeouts.idle = span),
        show: |config| durations(config.timeouts.idle),
    },
    Key {
        path: "timeouts.udp_idle",
        about: "a UDP tunnel without a packet; RFC 9298 asks for two minutes or more",
        read: |value, config| duration(value, seconds(1)..=seconds(24 * HOUR)).map(|span| config.timeouts.udp_idle = span),
        show: |config| durations(config.timeouts.udp_idle),
    },
    Key {
        path: "timeouts.tcp_idle",
        about: "a TCP tunnel without a byte",
        read: |value, config| duration(value, seconds(1)..=seconds(720 * HOUR)).map(|span| config.timeouts.tcp_idle = span),
        show: |config| durations(config.timeouts.tcp_idle),
    },
    Key {
        path: "timeouts.capsule_stall",
        about: "a capsule that a client leaves half read",
        read: |value, config| duration(value, seconds(1)..=seconds(600)).map(|span| config.timeouts.capsule_stall = span),
        show: |config| durations(config.timeouts.capsule_stall),
    },
    Key {
        path: "timeouts.drain",
        about: "from SIGTERM to the end of the last tunnel",
        read: |value, config| duration(value, seconds(0)..=seconds(24 * HOUR)).map(|span| config.timeouts.drain = span),
        show: |config| durations(config.timeouts.drain),
    },
    Key {
        path: "dns.servers",
        about: "resolvers, `ADDR` or `ADDR:PORT`; none: the system's",
        read: |value, config| {
            config.dns.servers = list(value, MOST_ADDRESSES, |one| parsed(one, resolver))?;
            Ok(())
        },
        show: |config| quoted_list(&config.dns.servers),
    },
    Key {
        path: "quic.initial_mtu",
        about: "UDP payload of the first packets; an inner QUIC handshake needs 1290 or more; behind another relay, 40 less than that has",
        read: |value, config| number(value, 1200..=1452).map(|mtu| config.quic.initial_mtu = mtu as u16),
        show: |config| config.quic.initial_mtu.to_string(),
    },
    Key {
        path: "quic.keep_alive",
        about: "time between the relay's own PINGs; 0: none, since a phone's radio pays for them",
        read: |value, config| duration(value, seconds(0)..=seconds(600)).map(|span| config.quic.keep_alive = span),
        show: |config| durations(config.quic.keep_alive),
    },
    Key {
        path: "quic.retry",
        about: "when a client must prove its address: `never`, under `load`, `always`",
        read: |value, config| choice(value, &RETRIES).map(|retry| config.quic.retry = retry),
        show: |config| word(&RETRIES, config.quic.retry),
    },
    Key {
        path: "quic.socket_buffer",
        about: "SO_RCVBUF and SO_SNDBUF of the listening sockets, bytes; the kernel may give less",
        read: |value, config| number(value, 64 << 10..=1 << 30).map(|size| config.quic.socket_buffer = size as usize),
        show: |config| config.quic.socket_buffer.to_string(),
    },
    Key {
        path: "quic.congestion",
        about: "how fast the relay sends to a client: `cubic` backs off at every loss; `bbr`, experimental, never, and floods a shared path",
        read: |value, config| choice(value, &CONGESTIONS).map(|congestion| config.quic.congestion = congestion),
        show: |config| word(&CONGESTIONS, config.quic.congestion),
    },
    quirk!("apple.well_known", "`/.well-known/masque/udp/…` is served beside whatever `templates` says", WellKnown),
    quirk!("apple.draft_03", "the method CONNECT-UDP of draft-03 gets 501 with a reason, not 405", Draft03),
    quirk!("apple.bind", "CONNECT-UDP to `*` gets 501 with a reason, not 400", Bind),
    quirk!("apple.connect_ip", "CONNECT-UDP with the path of CONNECT-IP gets 501 with a reason, not 404", ConnectIp),
    quirk!(
        "apple.own_fields",
        "requests with `proxy-quic-forwarding` or `sec-ch-*` are counted; the fields are ignored either way",
        OwnFields
    ),
    quirk!(
        "apple.old_datagrams",
        "SETTINGS with the datagrams of old drafts are counted and logged; they are not spoken either way",
        OldDatagrams
    ),
    quirk!("apple.hints", "the log says beside a refusal what in a profile explains it", Hints),
    switch!("bisect.grease", "GREASE is sent in transport parameters; none is sent elsewhere", bisect.grease),
    switch!("bisect.new_token", "NEW_TOKEN is sent; the tokens are not accepted", bisect.new_token),
    switch!("bisect.datagrams", "the transport parameter max_datagram_frame_size is sent", bisect.datagrams),
    switch!("bisect.h3_datagram", "SETTINGS_H3_DATAGRAM (0x33) is sent", bisect.h3_datagram),
    switch!("bisect.extended_connect", "SETTINGS_ENABLE_CONNECT_PROTOCOL (0x08) is sent", bisect.extended_connect),
    switch!("bisect.mtu_discovery", "larger packets are tried", bisect.mtu_discovery),
    Key {
        path: "bisect.cid_length",
        about: "length of the relay's connection IDs, bytes",
        read: |value, config| number(value, 4..=20).map(|length| config.bisect.cid_length = length as u8),
        show: |config| config.bisect.cid_length.to_string(),
    },
    switch!("fault.allow", "the relay may misbehave on purpose (`serve --fault`), for tests of clients", fault.allow),
    Key {
        path: "log.privacy",
        about: "how much of a target's name is logged: `full`, `domain` (its last two labels), `none`",
        read: |value, config| choice(value, &PRIVACIES).map(|privacy| config.log.privacy = privacy),
        show: |config| word(&PRIVACIES, config.log.privacy),
    },
    file_or_off!(
        "log.records",
        "a file that gets a line of JSON for every connection that is over, mode 0600; `\"off\"`: none",
        log.records
    ),
    file_or_off!(
        "log.qlog",
        "a directory that gets a qlog file for every HTTP/3 connection, packet by packet, mode 0600; `\"off\"`: none",
        log.qlog
    ),
];
