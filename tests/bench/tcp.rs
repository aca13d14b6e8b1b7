//! Bytes: to the client and to the target, by one stream or several.

use bytes::Bytes;
use masque_relay::probe::{Client, Http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use crate::{
    Failure,
    floor::Floor,
    meter::{Figure, Meter},
    subject::{On, Subject},
};

/// Handed over at once.
const CHUNK: usize = 64 << 10;

/// All streams run in tasks of their own and give the bytes that came.
type Streams = JoinSet<Result<u64, Failure>>;

/// Downloads: `bytes` in all.
pub(crate) async fn to_client(subject: &Subject, http: Http, streams: u64, bytes: u64) -> Result<Figure, Failure> {
    let each = bytes / streams;
    let mut running = Streams::new();
    if subject.on == On::Floor(Floor::Quinn) {
        let (_endpoint, connection) = subject.quinn().await?;
        let meter = Meter::start(subject.pid).await?;
        for _ in 0..streams {
            let (mut send, mut recv) = connection.open_bi().await?;
            send.write_all(&each.to_be_bytes()).await?;
            send.finish()?;
            running.spawn(async move {
                let mut came = 0;
                while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
                    came += chunk.bytes.len() as u64;
                }
                Ok(came)
            });
        }
        return finish(meter, running, each).await;
    }

    let (client, target) = (subject.client(http).await?, TcpListener::bind(("127.0.0.1", 0)).await?);
    let mut sources = JoinSet::new();
    let mut tunnels = Vec::new();
    for _ in 0..streams {
        let (tunnel, accepted) = opened(&client, &target).await?;
        tunnels.push((tunnel, accepted));
    }
    let meter = Meter::start(subject.pid).await?;
    for (mut tunnel, mut accepted) in tunnels {
        sources.spawn(async move {
            let chunk = vec![0; CHUNK];
            let mut left = each as usize;
            while left > 0 {
                left -= accepted.write(&chunk[..left.min(CHUNK)]).await?;
            }
            accepted.shutdown().await?;
            Ok::<_, Failure>(accepted)
        });
        running.spawn(async move {
            let mut came = 0;
            while let Some(bytes) = tunnel.recv().await? {
                came += bytes.len() as u64;
            }
            tunnel.finish()?;
            Ok(came)
        });
    }
    finish(meter, running, each).await
}

/// Uploads: `bytes` in all.
pub(crate) async fn to_target(subject: &Subject, http: Http, streams: u64, bytes: u64) -> Result<Figure, Failure> {
    let each = bytes / streams;
    let chunk = Bytes::from(vec![0; CHUNK]);
    let parts = move || {
        (0..each).step_by(CHUNK).map({
            let chunk = chunk.clone();
            move |at| chunk.slice(..(CHUNK as u64).min(each - at) as usize)
        })
    };
    let mut running = Streams::new();
    if subject.on == On::Floor(Floor::Quinn) {
        let (_endpoint, connection) = subject.quinn().await?;
        let meter = Meter::start(subject.pid).await?;
        for _ in 0..streams {
            let (mut send, mut recv) = connection.open_bi().await?;
            let parts = parts();
            running.spawn(async move {
                send.write_all(&0_u64.to_be_bytes()).await?;
                for part in parts {
                    send.write_chunk(part).await?;
                }
                send.finish()?;
                // Its end says that all has come.
                recv.read_to_end(0).await?;
                Ok(each)
            });
        }
        return finish(meter, running, each).await;
    }

    let (client, target) = (subject.client(http).await?, TcpListener::bind(("127.0.0.1", 0)).await?);
    let mut tunnels = Vec::new();
    for _ in 0..streams {
        tunnels.push(opened(&client, &target).await?);
    }
    let meter = Meter::start(subject.pid).await?;
    for (mut tunnel, mut accepted) in tunnels {
        let parts = parts();
        running.spawn(async move {
            let send = async {
                for part in parts {
                    tunnel.send(part).await?;
                }
                tunnel.finish()?;
                Ok::<_, Failure>(())
            };
            let receive = async {
                let (mut came, mut buffer) = (0, vec![0; 4 * CHUNK]);
                loop {
                    match accepted.read(&mut buffer).await? {
                        0 => return Ok::<_, Failure>(came),
                        length => came += length as u64,
                    }
                }
            };
            Ok(tokio::try_join!(send, receive)?.1)
        });
    }
    finish(meter, running, each).await
}

/// A tunnel, and the target's end of it.
pub(crate) async fn opened(
    client: &Client,
    target: &TcpListener,
) -> Result<(masque_relay::probe::TcpTunnel, tokio::net::TcpStream), Failure> {
    let authority = target.local_addr()?.to_string();
    let (tunnel, accepted) = tokio::join!(client.connect_tcp(&authority), target.accept());
    Ok((tunnel?, accepted?.0))
}

/// CPU for a gigabyte, once every stream has carried `each`.
async fn finish(meter: Meter, mut running: Streams, each: u64) -> Result<Figure, Failure> {
    let mut whole = 0;
    while let Some(done) = running.join_next().await {
        let came = done??;
        if came != each {
            return Err(format!("{came} bytes came of {each}").into());
        }
        whole += came;
    }
    meter.stop(whole as f64 / 1e9).await
}
