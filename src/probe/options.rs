//! What a probe is told: where to, whom to trust, what to announce.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{Http, ProbeError, picky::Picky, pin::Pinned, tickets::Tickets, url};
use crate::proto::{
    head::Head,
    settings::{H3_DATAGRAM, Settings},
    template::Template,
};

/// How to reach a relay and what to tell it. Every field may be changed before [`Client::open`](super::Client::open).
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "one for each thing a test may want otherwise")]
pub struct Options {
    /// Which HTTP to speak. What is said of QUIC, DATAGRAM frames and SETTINGS below is HTTP/3's alone.
    pub http: Http,
    /// Where the relay listens; the first that answers is taken.
    pub addresses: Vec<SocketAddr>,
    /// The name its certificate must carry, a DNS name or an address.
    pub server_name: String,
    /// `:authority` of requests to the relay itself (CONNECT-UDP).
    pub authority: String,
    /// Trusted certificate authorities.
    pub roots: Vec<CertificateDer<'static>>,
    /// Added to every request head that the client builds, names in lower case: credentials for the most part.
    pub fields: Vec<(String, String)>,
    /// The CONNECT-UDP template; `None` is the well-known one.
    pub template: Option<Template>,
    /// The local address; `None` is the wildcard of the relay's family, any port.
    pub bind: Option<SocketAddr>,
    /// Carries our packets in place of a socket of our own, such as a tunnel through another relay.
    pub over: Option<Arc<dyn quinn::AsyncUdpSocket>>,
    /// What our SETTINGS say, in this order, unchecked.
    pub settings: Settings,
    /// When our SETTINGS are sent.
    pub settings_when: SettingsWhen,
    /// Bytes of received datagrams that may wait; `None`: no `max_datagram_frame_size` transport parameter (RFC 9221 §3).
    pub datagram_receive: Option<usize>,
    /// Bytes of datagrams that may wait to be sent; then the oldest are lost.
    pub datagram_send: usize,
    /// The `max_udp_payload_size` transport parameter: no larger packet may come, 1200 or more.
    pub max_udp_payload: u16,
    /// Receive window of a stream, bytes.
    pub stream_window: u32,
    /// Receive window of the connection, bytes.
    pub connection_window: u32,
    /// Whether what is taken out of an HTTP/2 tunnel makes room for more (WINDOW_UPDATE). `false`: no more than a window ever comes.
    pub window_updates: bool,
    /// Bytes that may be sent and not acknowledged, over all streams.
    pub send_window: u64,
    /// Unidirectional streams the relay may open.
    pub uni_streams: u32,
    /// The `max_idle_timeout` transport parameter; `None`: none.
    pub idle: Option<Duration>,
    /// PING interval, also over HTTP/2; `None`: no PINGs.
    pub keep_alive: Option<Duration>,
    /// UDP payload of our first packets, 1200..=1452.
    pub initial_mtu: u16,
    /// Whether the relay's transport parameters are refused, whatever they are: the connection ends with TRANSPORT_PARAMETER_ERROR.
    pub refuse_parameters: bool,
    /// Whether larger packets are tried.
    pub mtu_discovery: bool,
    /// The application protocol offered; `None` is that of [`Self::http`].
    pub alpn: Option<Vec<u8>>,
    /// The largest head accepted, bytes as in RFC 9114 §4.2.2.
    pub max_head: usize,
    /// Longest wait for the handshake, for SETTINGS, and for the head of an answer.
    pub timeout: Duration,
    /// Longest wait for anything else: data in a tunnel, a stream's end, GOAWAY, the connection's end. `None`: for ever.
    pub patience: Option<Duration>,
    /// Where the relay's session tickets go, and where one is taken for resumption; see [`Client::again`](super::Client::again).
    pub tickets: Tickets,
    /// Whether 0-RTT is tried where a ticket allows it.
    pub early_data: bool,
    /// The one leaf that is trusted, instead of `roots`.
    pub(super) pinned: Option<CertificateDer<'static>>,
    /// Whether the key exchange is X25519MLKEM768 where the relay has it; otherwise plain X25519, which costs both sides less.
    pub post_quantum: bool,
    /// rustls resumes a session only under the very configuration that made it.
    tls: Option<(Http, Arc<rustls::ClientConfig>)>,
}

/// When our SETTINGS are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SettingsWhen {
    /// As soon as the connection is there.
    #[default]
    AtOnce,
    /// Only when [`Client::send_settings`](super::Client::send_settings) is called; the control stream is open and empty until then.
    Withheld,
}

impl Options {
    /// For a relay at `address` whose certificate carries `server_name`. Trusts nobody yet.
    pub fn new(address: SocketAddr, server_name: &str) -> Self {
        Self {
            http: Http::default(),
            addresses: vec![address],
            server_name: server_name.into(),
            authority: authority(server_name, address.port()),
            roots: Vec::new(),
            fields: Vec::new(),
            template: None,
            bind: None,
            over: None,
            settings: Settings(vec![(H3_DATAGRAM, 1)]),
            settings_when: SettingsWhen::AtOnce,
            datagram_receive: Some(2 << 20),
            datagram_send: 64 << 10,
            max_udp_payload: 1500,
            stream_window: 8 << 20,
            connection_window: 16 << 20,
            window_updates: true,
            send_window: 8 << 20,
            uni_streams: 16,
            idle: Some(Duration::from_mins(2)),
            keep_alive: None,
            initial_mtu: 1350,
            refuse_parameters: false,
            mtu_discovery: true,
            alpn: None,
            max_head: 64 << 10,
            timeout: Duration::from_secs(10),
            patience: Some(Duration::from_secs(10)),
            tickets: Tickets::default(),
            early_data: false,
            pinned: None,
            post_quantum: true,
            tls: None,
        }
    }

    /// For `https://HOST[:PORT][/TEMPLATE]`, its name resolved. Trusts nobody yet.
    pub async fn resolve(url: &str) -> Result<Self, ProbeError> {
        let url = url::parse(url)?;
        let mut options = Self::new(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), url.port), &url.host);
        options.addresses = url::addresses(&url).await?;
        options.template = url.template;
        Ok(options)
    }

    /// Trusts every certificate authority of a PEM text.
    pub fn trust_pem(&mut self, pem: &[u8]) -> Result<(), ProbeError> {
        let before = self.roots.len();
        for root in CertificateDer::pem_slice_iter(pem) {
            self.roots.push(root.map_err(|source| ProbeError::RootPem { source })?);
        }
        if self.roots.len() == before {
            return Err(ProbeError::NoRoots);
        }
        Ok(())
    }

    /// Trusts the system's certificate authorities, from the first of the places where systems keep them as one file.
    pub fn trust_system(&mut self) -> Result<(), ProbeError> {
        match SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok()) {
            Some(pem) => self.trust_pem(&pem),
            None => Err(ProbeError::NoSystemRoots),
        }
    }

    /// Adds `proxy-authorization: Basic …` to every request (RFC 7617).
    pub fn basic(&mut self, user: &str, token: &str) {
        let pair = STANDARD.encode(format!("{user}:{token}"));
        self.fields.push(("proxy-authorization".into(), format!("Basic {pair}")));
    }

    /// Adds `proxy-authorization: Bearer …` to every request (RFC 6750).
    pub fn bearer(&mut self, token: &str) {
        self.fields.push(("proxy-authorization".into(), format!("Bearer {token}")));
    }

    /// The head of a classic CONNECT to `authority`, `host:port` (RFC 9114 §4.4).
    pub fn tcp_head(&self, authority: &str) -> Head {
        let mut head = Head::default();
        head.push(":method", "CONNECT");
        head.push(":authority", authority.to_owned());
        self.push_fields(head)
    }

    /// The head of a CONNECT-UDP to `host` and `port` (RFC 9298 §3.4).
    pub fn udp_head(&self, host: &str, port: u16) -> Head {
        let path = self.template.clone().unwrap_or_else(Template::well_known).expand(host, port);
        let mut head = Head::default();
        head.push(":method", "CONNECT");
        head.push(":protocol", "connect-udp");
        head.push(":scheme", "https");
        head.push(":authority", self.authority.clone());
        head.push(":path", path);
        head.push("capsule-protocol", "?1");
        self.push_fields(head)
    }

    fn push_fields(&self, mut head: Head) -> Head {
        for (name, value) in &self.fields {
            head.push(name.clone(), value.clone());
        }
        head
    }

    /// What quinn makes of these options: for a connection without HTTP/3 on it.
    pub fn quinn(&mut self) -> Result<quinn::ClientConfig, ProbeError> {
        let tls = self.tls()?;
        self.quic(tls)
    }

    pub(super) fn quic(&self, tls: Arc<rustls::ClientConfig>) -> Result<quinn::ClientConfig, ProbeError> {
        let crypto = QuicClientConfig::try_from(tls).expect("TLS 1.3 has the suite that Initial packets need");
        let mut config = if self.refuse_parameters {
            quinn::ClientConfig::new(Arc::new(Picky(Arc::new(crypto))))
        } else {
            quinn::ClientConfig::new(Arc::new(crypto))
        };
        config.transport_config(Arc::new(self.transport()?));
        Ok(config)
    }

    fn transport(&self) -> Result<quinn::TransportConfig, ProbeError> {
        let mut transport = quinn::TransportConfig::default();
        let idle = self.idle.map(quinn::IdleTimeout::try_from).transpose().map_err(|_| ProbeError::Options("the idle time-out"))?;
        transport
            // A relay has no business opening bidirectional streams (RFC 9114 §6.1).
            .max_concurrent_bidi_streams(0_u32.into())
            .max_concurrent_uni_streams(self.uni_streams.into())
            .stream_receive_window(self.stream_window.into())
            .receive_window(self.connection_window.into())
            .send_window(self.send_window)
            .datagram_receive_buffer_size(self.datagram_receive)
            .datagram_send_buffer_size(self.datagram_send)
            .max_idle_timeout(idle)
            .keep_alive_interval(self.keep_alive)
            .initial_mtu(self.initial_mtu)
            .mtu_discovery_config(self.mtu_discovery.then(quinn::MtuDiscoveryConfig::default));
        Ok(transport)
    }

    /// The TLS configuration; made once for a version of HTTP, so that clones of these options resume each other's sessions. Later changes of
    /// `roots`, `alpn` and `post_quantum` do nothing.
    pub(super) fn tls(&mut self) -> Result<Arc<rustls::ClientConfig>, ProbeError> {
        match &self.tls {
            Some((http, tls)) if *http == self.http => Ok(tls.clone()),
            _ => {
                let made = Arc::new(self.make_tls().map_err(|source| ProbeError::Tls { source })?);
                self.tls = Some((self.http, made.clone()));
                Ok(made)
            }
        }
    }

    fn make_tls(&self) -> Result<rustls::ClientConfig, rustls::Error> {
        // QUIC has TLS 1.3 alone (RFC 9001 §4.2).
        let versions: &[_] = match self.http {
            Http::H3 => &[&rustls::version::TLS13],
            Http::H1 | Http::H2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let mut provider = aws_lc_rs::default_provider();
        if !self.post_quantum {
            provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        }
        let provider = Arc::new(provider);
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
        let mut config = if let Some(leaf) = &self.pinned {
            let pinned = Pinned::new(leaf.clone(), &provider);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned)).with_no_client_auth()
        } else {
            let mut roots = rustls::RootCertStore::empty();
            for root in &self.roots {
                roots.add(root.clone())?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        };
        config.alpn_protocols = vec![self.alpn.clone().unwrap_or_else(|| self.http.alpn().to_vec())];
        config.enable_early_data = self.http == Http::H3;
        config.resumption = Resumption::store(Arc::new(self.tickets.clone()));
        Ok(config)
    }

    /// The local address for a connection to `address`.
    pub(super) fn local(&self, address: SocketAddr) -> SocketAddr {
        self.bind.unwrap_or(match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        })
    }
}

/// Field values and tickets are secrets; the rest says what was tried.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("addresses", &self.addresses)
            .field("server_name", &self.server_name)
            .field("authority", &self.authority)
            .field("fields", &self.fields.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// `host:port`, an IPv6 literal in brackets.
fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// Debian and Alpine, Fedora, then macOS and the BSDs.
const SYSTEM_ROOTS: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_credential() {
        let mut options = Options::new("[2001:db8::1]:4433".parse().unwrap(), "2001:db8::1");
        options.basic("user", "secret");
        let shown = format!("{options:?}");
        assert!(shown.contains("proxy-authorization"), "{shown}");
        assert!(!shown.contains("Basic") && !shown.contains(&STANDARD.encode("user:secret")), "{shown}");
        assert_eq!(options.authority, "[2001:db8::1]:4433");
    }

    #[test]
    fn a_text_without_certificate_is_not_trusted() {
        let mut options = Options::new("127.0.0.1:1".parse().unwrap(), "a");
        assert!(matches!(options.trust_pem(b"nothing here"), Err(ProbeError::NoRoots)));
        assert!(matches!(
            options.trust_pem(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
            Err(ProbeError::RootPem { .. })
        ));
    }
}
