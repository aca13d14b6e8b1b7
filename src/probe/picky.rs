//! A client that does not like the relay's transport parameters, whatever they are: it closes with the transport error that is for that.

use std::{any::Any, sync::Arc};

use quinn::crypto::{ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session};
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, TransportErrorCode, transport_parameters::TransportParameters};

/// What it says.
pub(super) const REASON: &str = "the probe was told to refuse the parameters";

/// The TLS of a client, which goes on until the relay's parameters are there.
pub(super) struct Picky<C>(pub(super) Arc<C>);

impl<C: ClientConfig + 'static> ClientConfig for Picky<C> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        Ok(Box::new(Refusing(Arc::clone(&self.0).start_session(version, server_name, params)?)))
    }
}

struct Refusing(Box<dyn Session>);

impl Session for Refusing {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.0.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.0.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.0.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.0.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.0.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.0.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        match self.0.transport_parameters()? {
            None => Ok(None),
            Some(_) => Err(TransportError { code: TransportErrorCode::TRANSPORT_PARAMETER_ERROR, frame: None, reason: REASON.into() }),
        }
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.0.write_handshake(buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.0.next_1rtt_keys()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.0.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(&self, output: &mut [u8], label: &[u8], context: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        self.0.export_keying_material(output, label, context)
    }
}
