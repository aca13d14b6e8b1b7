//! The same work without a relay, each in a process of its own: a bare UDP echo, and quinn alone.

use std::path::Path;

use bytes::Bytes;
use clap::ValueEnum;
use masque_relay::{
    certs::{Identity, Serving},
    config::Certificate,
};
use quinn::crypto::rustls::QuicServerConfig;
use tokio::task::JoinSet;

use crate::{Failure, paths::Controller, wire::Socket};

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Floor {
    /// All but the system calls: UDP in batches.
    Bare,
    /// HTTP/3, and everything towards targets: datagrams and streams of quinn's own.
    Quinn,
}

impl Floor {
    /// As the command line says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Quinn => "quinn",
        }
    }

    /// Answers until it is killed. Chain and key lie in the current directory.
    pub(crate) async fn serve(self, congestion: Option<Controller>) -> Result<(), Failure> {
        match self {
            Self::Bare => {
                let socket = Socket::bind()?;
                println!("ready https://{}", socket.address()?);
                socket.introduced().await?;
                socket.echo_at_best().await
            }
            Self::Quinn => quinn_alone(congestion).await,
        }
    }
}

async fn quinn_alone(congestion: Option<Controller>) -> Result<(), Failure> {
    let identity = Identity::load(&Certificate { chain: Path::new("chain.pem").into(), key: Path::new("key.pem").into() })?;
    let mut config = quinn::ServerConfig::with_crypto(std::sync::Arc::new(QuicServerConfig::try_from(
        Serving::of(vec![identity])?.tls_for_quic()?.certificate,
    )?));
    let mut transport = quinn::TransportConfig::default();
    // As the relay has them.
    transport.initial_mtu(1350).stream_receive_window(WINDOW.into()).receive_window(WINDOW.into()).send_window(WINDOW.into());
    if let Some(controller) = congestion {
        transport.congestion_controller_factory(controller.factory());
    }
    config.transport_config(transport.into());
    let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into())?;
    println!("ready https://{}", endpoint.local_addr()?);

    let mut connections = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        connections.spawn(async move {
            // A client that goes away is no error here.
            if let Ok(connection) = incoming.await {
                serve(connection).await.ok();
            }
        });
    }
    Ok(())
}

/// Sends datagrams back. A stream begins with the number of bytes to send on it; what more comes is thrown away.
async fn serve(connection: quinn::Connection) -> Result<(), Failure> {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            datagram = connection.read_datagram() => connection.send_datagram(datagram?)?,
            stream = connection.accept_bi() => {
                let (mut send, mut recv) = stream?;
                streams.spawn(async move {
                    let mut asked = [0; 8];
                    recv.read_exact(&mut asked).await?;
                    let mut left = u64::from_be_bytes(asked) as usize;
                    let chunk = Bytes::from(vec![0; 64 << 10]);
                    while left > 0 {
                        let part = chunk.slice(..chunk.len().min(left));
                        left -= part.len();
                        send.write_chunk(part).await?;
                    }
                    while recv.read_chunk(64 << 10, true).await?.is_some() {}
                    send.finish()?;
                    Ok::<(), Failure>(())
                });
            }
        }
    }
}

/// Bytes on their way, each way.
const WINDOW: u32 = 8 << 20;
