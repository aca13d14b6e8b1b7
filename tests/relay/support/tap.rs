//! A wire between client and relay that keeps what the relay says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use masque_relay::probe::Client;
use tokio::{net::UdpSocket, task::JoinSet};

use super::Relay;

/// Where a client connects in place of the relay.
pub(crate) struct Tap {
    address: SocketAddr,
    said: Arc<Mutex<Vec<Vec<u8>>>>,
    _task: JoinSet<()>,
}

impl Tap {
    pub(crate) async fn on(relay: &Relay) -> Self {
        let (client, server) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        server.connect(relay.address()).await.unwrap();
        let (address, said) = (client.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (mut task, keep) = (JoinSet::new(), Arc::clone(&said));
        task.spawn(async move {
            let (mut from, mut there, mut back) = (None, [0; 2048], [0; 2048]);
            loop {
                tokio::select! {
                    Ok((size, client_address)) = client.recv_from(&mut there) => {
                        from = Some(client_address);
                        server.send(&there[..size]).await.unwrap();
                    }
                    Ok(size) = server.recv(&mut back), if from.is_some() => {
                        keep.lock().unwrap().push(back[..size].to_vec());
                        client.send_to(&back[..size], from.unwrap()).await.unwrap();
                    }
                }
            }
        });
        Self { address, said, _task: task }
    }

    /// A client on it.
    pub(crate) async fn client(&self, relay: &Relay) -> Client {
        let mut options = relay.options();
        options.addresses = vec![self.address];
        Client::open(options).await.unwrap()
    }

    /// The UDP payloads of the relay so far.
    pub(crate) fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().unwrap().clone()
    }
}

/// What the relay says to a client that opens a connection.
pub(crate) async fn handshake(relay: &Relay) -> Vec<Vec<u8>> {
    let tap = Tap::on(relay).await;
    let client = tap.client(relay).await;
    client.settings().await.unwrap();
    let said = tap.said();
    client.shut().await;
    said
}

/// The length of the connection ID that a long header gives as its own (RFC 9000 §17.2).
pub(crate) fn source_id_length(packet: &[u8]) -> usize {
    let destination = usize::from(packet[5]);
    packet[6 + destination].into()
}
