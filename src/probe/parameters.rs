//! The relay's transport parameters (RFC 9000 §18), which quinn keeps to itself: its TLS session is watched on the way.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session},
    transport_parameters::TransportParameters,
};

use crate::proto::read_varint;

/// What the relay announced at first. Clones share it: the first connection made with them fills it.
#[derive(Clone, Debug, Default)]
pub struct Parameters(Arc<OnceLock<Values>>);

/// Identifiers with their values, as they came.
type Values = Vec<(u64, Vec<u8>)>;

impl Parameters {
    /// Whether they have come.
    pub fn came(&self) -> bool {
        self.0.get().is_some()
    }

    /// The value of one that is a number; none if it was left out, or has its default.
    pub fn number(&self, id: u64) -> Option<u64> {
        let value = self.0.get()?.iter().find(|(known, _)| *known == id).map(|(_, value)| value)?;
        read_varint(value).filter(|(_, length)| *length == value.len()).map(|(number, _)| number)
    }

    /// Whether one came, whatever its value.
    pub fn has(&self, id: u64) -> bool {
        self.0.get().is_some_and(|all| all.iter().any(|(known, _)| *known == id))
    }

    fn note(&self, parameters: &TransportParameters) {
        self.0.get_or_init(|| {
            let mut bytes = Vec::new();
            parameters.write(&mut bytes);
            split(&bytes)
        });
    }
}

/// Identifier and value of each. quinn wrote them, so they are well-formed.
fn split(mut bytes: &[u8]) -> Values {
    let mut all = Vec::new();
    while let Some((id, at)) = read_varint(bytes)
        && let Some((length, more)) = read_varint(&bytes[at..])
        && let Some((value, rest)) = usize::try_from(length).ok().and_then(|length| bytes[at + more..].split_at_checked(length))
    {
        all.push((id, value.to_vec()));
        bytes = rest;
    }
    all
}

/// TLS as quinn wants it, watched.
pub(super) struct Watched {
    tls: Arc<QuicClientConfig>,
    parameters: Parameters,
}

impl Watched {
    pub(super) fn new(tls: QuicClientConfig, parameters: Parameters) -> Self {
        Self { tls: Arc::new(tls), parameters }
    }
}

impl ClientConfig for Watched {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        ours: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let session = self.tls.clone().start_session(version, server_name, ours)?;
        Ok(Box::new(WatchedSession { session, parameters: self.parameters.clone() }))
    }
}

struct WatchedSession {
    session: Box<dyn Session>,
    parameters: Parameters,
}

impl Session for WatchedSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.session.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.session.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.session.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.session.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.session.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.session.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let parameters = self.session.transport_parameters()?;
        if let Some(parameters) = &parameters {
            self.parameters.note(parameters);
        }
        Ok(parameters)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.session.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.session.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.session.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(&self, output: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        self.session.export_keying_material(output, label, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_split_and_read() {
        let bytes = [0x01, 4, 0x80, 0, 0x75, 0x30, 0x0c, 0, 0x20, 4, 0x80, 1, 0, 0, 0x05, 9];
        let parameters = Parameters::default();
        assert!(!parameters.came());
        parameters.0.set(split(&bytes)).unwrap();
        assert_eq!((parameters.number(0x01), parameters.number(0x20), parameters.number(0x05)), (Some(30_000), Some(65_536), None));
        assert!(parameters.has(0x0c) && !parameters.has(0x05) && parameters.number(0x0c).is_none());
    }
}
