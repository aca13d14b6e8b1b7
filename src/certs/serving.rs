//! What is served: a certificate by the name that is asked for, or its raw public key (RFC 7250); and the tickets for coming back.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use rustls::{
    CipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::CertificateDer,
    server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{
    CertError, Identity,
    client::{Authorities, Demanding},
    misfits::Misfits,
};
use crate::config::{Config, Versions};

/// TLS for one way in, by what a client takes from a server.
#[derive(Clone, Debug)]
pub struct Tls {
    /// A certificate.
    pub certificate: Arc<rustls::ServerConfig>,
    /// A raw public key: the certificate's (TLS 1.3 only).
    pub raw_key: Arc<rustls::ServerConfig>,
}

/// Everything that is served.
#[derive(Debug)]
pub struct Serving {
    /// For all workers and ways in: a client may come back by another. A new trust has a new one, so that nobody comes back from before it.
    ticketer: Arc<dyn ProducesTickets>,
    /// Whether the secrets of connections are written down, for debugging.
    secrets: bool,
    /// The first is for clients that ask for no name, or for none of these.
    identities: Vec<Identity>,
    /// Bad certificates in place of these, where faults are allowed.
    misfits: Option<Arc<Misfits>>,
    /// Whose certificates of clients are asked for, where they count.
    authorities: Option<Arc<Authorities>>,
}

impl Serving {
    /// Reads what the configuration names. Dates are [`Self::check`]'s.
    pub fn load(config: &Config) -> Result<Self, CertError> {
        let authorities = config.access.client_ca.as_deref().map(Authorities::read).transpose()?.map(Arc::new);
        let serving = Self::of(config.certificates().map(Identity::load).collect::<Result<_, _>>()?)?;
        Ok(Self { secrets: config.log.secrets, authorities, ..serving })
    }

    /// These; there is at least one.
    pub fn of(identities: Vec<Identity>) -> Result<Self, CertError> {
        assert!(!identities.is_empty(), "a relay has a certificate");
        let ticketer = provider::Ticketer::new().map_err(|source| CertError::Tls { source })?;
        Ok(Self { ticketer, secrets: false, identities, misfits: None, authorities: None })
    }

    /// Whose certificates of clients count, where any do.
    pub fn authorities(&self) -> Option<Arc<Authorities>> {
        self.authorities.clone()
    }

    /// From now on faults decide about what is shown, and whether a client's certificate is asked for.
    pub fn misbehave(&mut self, misfits: Arc<Misfits>) {
        self.misfits = Some(misfits);
    }

    /// The one for clients that ask for no name, or for none of the others'.
    pub fn first(&self) -> &Identity {
        &self.identities[0]
    }

    /// All of them, the first first.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Refuses an expired, not yet valid or nameless leaf.
    pub fn check(&self, now: SystemTime) -> Result<(), CertError> {
        self.identities.iter().try_for_each(|identity| identity.check(now))
    }

    /// The TLS side of QUIC: TLS 1.3 only, ALPN `h3`.
    pub fn tls_for_quic(&self) -> Result<Tls, CertError> {
        self.tls(&[&TLS13], &[b"h3"])
    }

    /// The TLS side of HTTP over TCP: ALPN by what is served, TLS 1.3, and 1.2 where it is allowed.
    pub fn tls_for_tcp(&self, http: Versions, tls12: bool) -> Result<Tls, CertError> {
        let versions: &[_] = if tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
        let alpn = [(http.h2, &b"h2"[..]), (http.h1, b"http/1.1")];
        let alpn: Vec<_> = alpn.into_iter().filter_map(|(served, name)| served.then_some(name)).collect();
        self.tls(versions, &alpn)
    }

    fn tls(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> Result<Tls, CertError> {
        let certificates = Arc::new(ByName::new(&self.identities, false));
        let raw_keys = Arc::new(ByName::new(&self.identities, true));
        let asked = self.authorities.as_ref().map(|authorities| authorities.verifier());
        let good = asked.clone().unwrap_or_else(WebPkiClientVerifier::no_client_auth);
        let (certificates, clients): (Arc<dyn ResolvesServerCert>, Arc<dyn ClientCertVerifier>) = match &self.misfits {
            None => (certificates, Arc::clone(&good)),
            Some(misfits) => {
                let clients: Arc<dyn ClientCertVerifier> = match asked {
                    Some(good) => Arc::new(Demanding { misfits: Arc::clone(misfits), good }),
                    None => Arc::clone(misfits) as _,
                };
                (Arc::new(Misfitting { misfits: Arc::clone(misfits), good: certificates }), clients)
            }
        };
        Ok(Tls { certificate: self.server(versions, alpn, certificates, clients)?, raw_key: self.server(&[&TLS13], alpn, raw_keys, good)? })
    }

    /// AES-128-GCM first, X25519MLKEM768 allowed, tickets by one shared ticketer, no 0-RTT.
    fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
        certificates: Arc<dyn ResolvesServerCert>,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<rustls::ServerConfig>, CertError> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(crypto()))
            .with_protocol_versions(versions)
            .map_err(|source| CertError::Tls { source })?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(certificates);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.ignore_client_order = true;
        config.ticketer = Arc::clone(&self.ticketer);
        if self.secrets {
            config.key_log = Arc::new(rustls::KeyLogFile::new());
        }
        config.send_tls13_tickets = 2;
        // CONNECT is not safe to replay (RFC 8470): a tunnel would be opened twice.
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

/// The provider with AES-128-GCM in front: it seals a 1200-byte packet a tenth faster than AES-256-GCM, and a phone with AES units agrees.
fn crypto() -> CryptoProvider {
    let mut crypto = provider::default_provider();
    crypto.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    crypto
}

/// Certificates, or their raw public keys, by the name a client asks for.
#[derive(Debug)]
struct ByName {
    first: Arc<CertifiedKey>,
    /// By name, in lower case; `*.example.com` stands for one label more than `example.com`.
    names: HashMap<String, Arc<CertifiedKey>>,
    raw: bool,
}

impl ByName {
    fn new(identities: &[Identity], raw: bool) -> Self {
        let keys: Vec<_> =
            identities.iter().map(|identity| if raw { raw_key(&identity.certified) } else { Arc::clone(&identity.certified) }).collect();
        let mut names = HashMap::new();
        for (identity, key) in identities.iter().zip(&keys) {
            for name in identity.names() {
                names.entry(name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(key));
            }
        }
        Self { first: Arc::clone(&keys[0]), names, raw }
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.names.get(&format!("*.{}", name.split_once('.')?.1));
        self.names.get(&name).or_else(wildcard)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        Some(Arc::clone(named.unwrap_or(&self.first)))
    }

    fn only_raw_public_keys(&self) -> bool {
        self.raw
    }
}

/// A bad certificate while a fault asks for one.
#[derive(Debug)]
struct Misfitting {
    misfits: Arc<Misfits>,
    good: Arc<ByName>,
}

impl ResolvesServerCert for Misfitting {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.misfits.fault() {
            None => self.good.resolve(hello),
            Some(fault) => self.misfits.shown(fault),
        }
    }
}

/// The same key with its SubjectPublicKeyInfo in place of the certificate (RFC 7250 §3).
fn raw_key(certified: &CertifiedKey) -> Arc<CertifiedKey> {
    let public = certified.key.public_key().expect("Identity::load has compared it with the certificate's");
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(public.to_vec())], Arc::clone(&certified.key)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::NamedGroup;

    use super::*;
    use crate::certs::issue::Authority;

    fn identity(authority: &Authority, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let pair = authority.server(&names, Duration::from_secs(86_400), now).unwrap();
        let dir = tempfile::TempDir::new().unwrap();
        let files = crate::config::Certificate { chain: dir.path().join("c.pem"), key: dir.path().join("k.pem") };
        std::fs::write(&files.chain, &pair.chain).unwrap();
        std::fs::write(&files.key, pair.key.as_bytes()).unwrap();
        Identity::load(&files).unwrap()
    }

    fn authority() -> Authority {
        Authority::new("Test CA", SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)).unwrap()
    }

    #[test]
    fn a_certificate_is_found_by_its_name_and_a_wildcard_is_one_label() {
        let authority = authority();
        let identities = [
            identity(&authority, &["first.example"]),
            identity(&authority, &["a.example", "*.wild.example"]),
            identity(&authority, &["a.example", "b.wild.example"]),
        ];
        let certificates = ByName::new(&identities, false);
        let found = |name: &str| {
            let found = certificates.find(name)?;
            identities.iter().position(|identity| Arc::ptr_eq(&identity.certified, found))
        };
        for (name, want) in [
            ("first.example", Some(0)),
            ("A.Example", Some(1)),
            ("x.wild.example", Some(1)),
            ("b.wild.example", Some(2)),
            ("x.y.wild.example", None),
            ("wild.example", None),
            ("elsewhere.example", None),
            ("localhost", None),
        ] {
            assert_eq!(found(name), want, "{name}");
        }
    }

    #[test]
    fn a_ticket_counts_for_every_way_in_and_not_after_a_change_of_trust() {
        let authority = authority();
        let serving = || Serving::of(vec![identity(&authority, &["a.example"])]).unwrap();
        let (before, after) = (serving(), serving());
        let versions = Versions { h1: false, h2: true, h3: true };
        let ticket = before.tls_for_quic().unwrap().certificate.ticketer.encrypt(b"a session").unwrap();
        let tcp = |serving: &Serving| serving.tls_for_tcp(versions, false).unwrap().certificate.ticketer.decrypt(&ticket);
        assert_eq!(tcp(&before).as_deref(), Some(&b"a session"[..]));
        assert_eq!(tcp(&after), None);
    }

    #[test]
    fn a_raw_key_is_the_leafs() {
        let identity = identity(&authority(), &["a.example"]);
        let raw = raw_key(&identity.certified);
        let (_, leaf) = x509_parser::parse_x509_certificate(identity.leaf()).unwrap();
        assert_eq!(raw.cert[0].as_ref(), leaf.tbs_certificate.subject_pki.raw);
    }

    #[test]
    fn tls_is_what_the_design_asks_for() {
        let Tls { certificate, raw_key } = Serving::of(vec![identity(&authority(), &["a.example"])]).unwrap().tls_for_quic().unwrap();
        assert!(!certificate.cert_resolver.only_raw_public_keys() && raw_key.cert_resolver.only_raw_public_keys());
        for tls in [certificate, raw_key] {
            assert_eq!(tls.alpn_protocols, [b"h3"]);
            assert!(tls.ignore_client_order);
            assert!(tls.ticketer.enabled());
            assert_eq!(tls.send_tls13_tickets, 2);
            assert_eq!(tls.max_early_data_size, 0, "C-07");
            let provider = tls.crypto_provider();
            assert_eq!(provider.cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
            assert!(provider.kx_groups.iter().any(|group| group.name() == NamedGroup::X25519MLKEM768));
            assert!(provider.kx_groups.iter().any(|group| group.name() == NamedGroup::X25519));
        }
    }
}
