//! A client that moves: its address changes in the middle of its transfers, and nothing is lost, doubled or mixed up.

use std::{collections::HashSet, time::Duration};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use bytes::Bytes;
use masque_relay::probe::UdpTunnel;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::interval,
};

use crate::support::{Relay, tcp::TcpTarget, udp::UdpTarget, within};

/// Each way.
const TRANSFER: usize = 32 << 20;
const BLOCK: usize = 64 << 10;
/// Changes of address, evenly over the transfer to the client.
const MOVES: usize = 7;

#[tokio::test]
async fn c80_32_mib_each_way_are_whole_after_seven_changes_of_address() {
    let relay = Relay::spawn(|_| {}).await;
    let (echo, target) = (UdpTarget::echo().await, TcpTarget::start().await);
    let client = relay.client().await;
    let mut udp = client.connect_udp("127.0.0.1", echo.address().port()).await.unwrap();
    let authority = target.address().to_string();
    let (tunnel, stream) = tokio::join!(client.connect_tcp(&authority), target.accept());
    let (mut send, mut recv) = tunnel.unwrap().split();
    let (mut read, mut write) = stream.into_split();

    let from_client = async {
        for number in 0..TRANSFER / BLOCK {
            send.send(block(b'c', number)).await.unwrap();
        }
        send.finish().unwrap();
    };
    let from_target = async {
        for number in 0..TRANSFER / BLOCK {
            write.write_all(&block(b't', number)).await.unwrap();
        }
        write.shutdown().await.unwrap();
    };
    let at_target = async {
        let (mut hash, mut buffer) = (Context::new(&SHA256), vec![0; BLOCK]);
        loop {
            match within("bytes at the target", read.read(&mut buffer)).await.unwrap() {
                0 => break hash.finish(),
                length => hash.update(&buffer[..length]),
            }
        }
    };
    let at_client = async {
        let (mut hash, mut received) = (Context::new(&SHA256), 0);
        let mut addresses = HashSet::from([client.local_addr().unwrap()]);
        while let Some(bytes) = recv.recv().await.unwrap() {
            hash.update(&bytes);
            received += bytes.len();
            if received > addresses.len() * TRANSFER / (MOVES + 1) {
                client.rebind().unwrap();
                assert!(addresses.insert(client.local_addr().unwrap()), "the same address again");
                goes_on(&mut udp, addresses.len()).await;
            }
        }
        assert_eq!((addresses.len(), received), (MOVES + 1, TRANSFER));
        hash.finish()
    };
    let ((), (), at_target, at_client) = tokio::join!(from_client, from_target, at_target, at_client);
    assert_eq!(at_target.as_ref(), whole(b'c').as_ref());
    assert_eq!(at_client.as_ref(), whole(b't').as_ref());
    let sources: HashSet<_> = echo.so_far().iter().map(|packet| packet.from).collect();
    assert_eq!(sources.len(), 1, "the target of the UDP tunnel sees no move");
    drop((read, write));
    relay.finish().await;
}

/// A payload goes there and back. What was on its way during the move may be lost: it is sent again, as its owner would.
async fn goes_on(tunnel: &mut UdpTunnel, number: usize) {
    let payload = number.to_be_bytes();
    let mut again = interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = again.tick() => tunnel.send(&payload).unwrap(),
            // An answer to an earlier one may still come.
            packet = tunnel.recv() => if packet.unwrap().payload[..] == payload {
                return;
            }
        }
    }
}

/// No two are alike.
fn block(direction: u8, number: usize) -> Bytes {
    let mut block = vec![direction; BLOCK];
    block[..8].copy_from_slice(&number.to_be_bytes());
    block.into()
}

fn whole(direction: u8) -> Digest {
    let mut hash = Context::new(&SHA256);
    (0..TRANSFER / BLOCK).for_each(|number| hash.update(&block(direction, number)));
    hash.finish()
}
