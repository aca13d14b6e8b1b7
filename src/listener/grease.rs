//! QUIC without GREASE in its transport parameters, for bisection: quinn has no switch for the reserved one (RFC 9000 §18.1).

use std::sync::Arc;

use quinn_proto::{
    ConnectionId, Side,
    crypto::{Keys, ServerConfig, Session, UnsupportedVersion},
    transport_parameters::TransportParameters,
};

/// `inner` as it is, or without the reserved transport parameter.
pub(super) fn greased(inner: Arc<dyn ServerConfig>, grease: bool) -> Arc<dyn ServerConfig> {
    if grease { inner } else { Arc::new(Plain(inner)) }
}

struct Plain(Arc<dyn ServerConfig>);

impl ServerConfig for Plain {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        Arc::clone(&self.0).start_session(version, &plain(params))
    }
}

/// A reader drops what it does not know, the reserved one with it.
fn plain(params: &TransportParameters) -> TransportParameters {
    let mut bytes = Vec::new();
    params.write(&mut bytes);
    // They are read as the client would.
    TransportParameters::read(Side::Client, &mut &bytes[..]).unwrap_or(*params)
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use quinn::{
        ClientConfig, Endpoint,
        crypto::rustls::{QuicClientConfig, QuicServerConfig},
    };
    use rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    };

    use super::*;
    use crate::{certs::issue::Authority, proto::read_varint};

    /// Keeps what is sent.
    struct Recorder(Arc<dyn ServerConfig>, Arc<Mutex<Vec<u8>>>);

    impl ServerConfig for Recorder {
        fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
            self.0.initial_keys(version, dst_cid)
        }

        fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
            self.0.retry_tag(version, orig_dst_cid, packet)
        }

        fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
            params.write(&mut *self.1.lock().unwrap());
            Arc::clone(&self.0).start_session(version, params)
        }
    }

    /// The identifiers a server sends in a handshake that succeeds.
    async fn sent(grease: bool) -> Vec<u64> {
        let now = crate::certs::now();
        let ca = Authority::new("CA", now).unwrap();
        let pair = ca.server(&["a.test".into()], Duration::from_secs(86_400), now).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = &[&rustls::version::TLS13];
        let tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let recorder = Recorder(Arc::new(QuicServerConfig::try_from(tls).unwrap()), Arc::clone(&kept));
        let config = quinn::ServerConfig::with_crypto(greased(Arc::new(recorder), grease));
        let server = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let client = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let connecting = client.connect_with(config, server.local_addr().unwrap(), "a.test").unwrap();
        let (here, there) = tokio::join!(connecting, async { server.accept().await.unwrap().await });
        assert!(here.is_ok() && there.is_ok(), "{here:?}, {there:?}");

        let bytes = kept.lock().unwrap().clone();
        let (mut rest, mut ids) = (&bytes[..], Vec::new());
        while let Some((id, at)) = read_varint(rest) {
            let (length, more) = read_varint(&rest[at..]).unwrap();
            ids.push(id);
            rest = &rest[at + more + usize::try_from(length).unwrap()..];
        }
        ids
    }

    #[tokio::test]
    async fn the_reserved_parameter_is_sent_unless_it_is_switched_off() {
        let (with, without) = (sent(true).await, sent(false).await);
        let reserved = |ids: &[u64]| ids.iter().filter(|id| *id % 31 == 27).count();
        assert_eq!((reserved(&with), reserved(&without)), (1, 0));
        let rest = |ids: Vec<u64>| {
            let mut ids: Vec<_> = ids.into_iter().filter(|id| id % 31 != 27).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(rest(with), rest(without), "and nothing else is left out");
    }
}
