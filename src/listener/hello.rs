//! What every client offers, kept from before TLS looks at it: so it is known also of handshakes that fail.
//!
//! Over QUIC a connection's TLS starts once its ClientHello is whole, and then as the client asks for it: with a certificate or a raw public key
//! (RFC 7250). Over TCP the same bytes are listened to on their way to TLS. A ClientHello of more than 16 KiB goes on unread.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use quinn::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion,
    rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use quinn_proto::{ConnectionId, Side, TransportError, transport_parameters::TransportParameters};

use crate::{
    certs::Tls,
    proto::hello::{Hello, HelloStream, Over},
    record::Offer,
};

/// The ClientHello of one connection, as soon as it is there. Made before the handshake, and readable also when that fails.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<OnceLock<Hello>>);

impl Seen {
    /// What the client offered; none while its ClientHello has not come. One that could not be read says so itself ([`Hello::unread`]).
    pub fn get(&self) -> Option<&Hello> {
        self.0.get()
    }

    /// The client's fingerprint; empty while there is none.
    pub fn ja4(&self) -> &str {
        self.get().map_or("", |hello| &hello.ja4)
    }

    /// The same for the connection's record, copied only when somebody looks.
    pub fn offer(&self) -> Offer {
        let seen = self.clone();
        Box::new(move || seen.get().cloned())
    }

    /// Whether the client would rather have a raw public key than a certificate.
    pub(super) fn prefers_raw_key(&self) -> bool {
        self.get().is_some_and(Hello::prefers_raw_key)
    }

    /// The first one counts: after a HelloRetryRequest the client offers no more than it did.
    fn set(&self, hello: Hello) {
        self.0.get_or_init(|| hello);
    }
}

/// Listens to what a client sends until its ClientHello is whole, or will never be.
#[derive(Debug)]
pub(in crate::listener) struct Ear {
    stream: HelloStream,
    over: Over,
    seen: Seen,
}

impl Ear {
    pub(in crate::listener) fn new(over: Over, seen: Seen) -> Self {
        Self { stream: HelloStream::new(over), over, seen }
    }

    /// Whether that was all it listens for.
    pub(in crate::listener) fn hear(&mut self, bytes: &[u8]) -> bool {
        match self.stream.push(bytes) {
            Ok(None) => return false,
            Ok(Some(hello)) => self.seen.set(hello),
            Err(why) => self.seen.set(Hello::unread(self.over, self.stream.len(), why.to_string())),
        }
        true
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if !self.stream.is_empty() {
            // Kept only if nothing else was.
            self.seen.set(Hello::unread(self.over, self.stream.len(), "it never was whole"));
        }
    }
}

/// TLS as QUIC wants it, for all connections.
pub(super) struct QuicTls {
    certificate: Arc<QuicServerConfig>,
    raw_key: Arc<QuicServerConfig>,
}

impl QuicTls {
    pub(super) fn new(tls: &Tls) -> Result<Self, NoInitialCipherSuite> {
        let quic = |tls: &Arc<rustls::ServerConfig>| QuicServerConfig::try_from(Arc::clone(tls)).map(Arc::new);
        Ok(Self { certificate: quic(&tls.certificate)?, raw_key: quic(&tls.raw_key)? })
    }
}

/// ... and for one of them.
pub(super) struct Watched {
    pub(super) tls: Arc<QuicTls>,
    pub(super) seen: Seen,
}

impl crypto::ServerConfig for Watched {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.tls.certificate.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.tls.certificate.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn crypto::Session> {
        let ear = Ear::new(Over::Quic, self.seen.clone());
        Box::new(Session::Listening { tls: Arc::clone(&self.tls), ear, version, params: Box::new(*params) })
    }
}

/// One connection's TLS.
enum Session {
    /// Its ClientHello is not whole.
    Listening {
        tls: Arc<QuicTls>,
        ear: Ear,
        version: u32,
        /// Ours, for the server's first flight.
        params: Box<TransportParameters>,
    },
    Started(Box<dyn crypto::Session>),
}

impl Session {
    fn started(&self) -> Option<&dyn crypto::Session> {
        match self {
            Self::Listening { .. } => None,
            Self::Started(session) => Some(&**session),
        }
    }
}

impl crypto::Session for Session {
    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        match self {
            Self::Listening { tls, ear, version, params } => {
                if !ear.hear(bytes) {
                    return Ok(false);
                }
                let config = if ear.seen.prefers_raw_key() { &tls.raw_key } else { &tls.certificate };
                let mut session = crypto::ServerConfig::start_session(Arc::clone(config), *version, params);
                let read = session.read_handshake(&ear.stream.take_held());
                *self = Self::Started(session);
                read
            }
            Self::Started(session) => session.read_handshake(bytes),
        }
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        match self {
            Self::Listening { .. } => None,
            Self::Started(session) => session.write_handshake(out),
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        match self {
            Self::Listening { .. } => None,
            Self::Started(session) => session.next_1rtt_keys(),
        }
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        match self {
            Self::Listening { tls, version, .. } => crypto::ServerConfig::initial_keys(&*tls.certificate, *version, dst_cid)
                .expect("the version was accepted with the first packet"),
            Self::Started(session) => session.initial_keys(dst_cid, side),
        }
    }

    fn is_handshaking(&self) -> bool {
        self.started().is_none_or(crypto::Session::is_handshaking)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.started()?.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.started()?.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.started()?.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.started()?.early_data_accepted()
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.started().map_or(Ok(None), crypto::Session::transport_parameters)
    }

    /// Retry comes from servers.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    fn export_keying_material(&self, output: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        self.started().ok_or(ExportKeyingMaterialError)?.export_keying_material(output, label, context)
    }
}

impl fmt::Debug for QuicTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicTls").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hello_counts_and_one_that_breaks_off_says_so() {
        let seen = Seen::default();
        let mut ear = Ear::new(Over::Tcp, seen.clone());
        assert!(!ear.hear(&[22, 3, 1, 1, 0, 1, 0]));
        assert_eq!(seen.get(), None);
        drop(ear);
        let unread = Hello::unread(Over::Tcp, 2, "it never was whole");
        assert_eq!(seen.get(), Some(&unread));
        assert!(Ear::new(Over::Tcp, seen.clone()).hear(b"GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(seen.get(), Some(&unread));
    }

    #[test]
    fn what_is_no_tls_is_said_and_silence_is_nothing() {
        let seen = Seen::default();
        drop(Ear::new(Over::Quic, seen.clone()));
        assert_eq!(seen.get(), None);
        assert!(Ear::new(Over::Tcp, seen.clone()).hear(b"GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(seen.get().unwrap().to_string(), "ClientHello over TCP, 0 bytes, not read: the client does not speak TLS");
    }
}
