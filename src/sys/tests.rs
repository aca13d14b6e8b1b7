use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::*;

/// Two sockets of one address family, each connected to the other.
fn pair(address: &str) -> (UdpSocket, UdpSocket) {
    let a = UdpSocket::bind((address, 0)).unwrap();
    let b = UdpSocket::bind((address, 0)).unwrap();
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    prepare_upstream(&a).unwrap();
    prepare_upstream(&b).unwrap();
    (a, b)
}

/// Everything that is waiting; loopback delivers before `send` returns.
fn received(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut arena = Arena::default();
    let mut all = Vec::new();
    loop {
        match receive(socket, &mut arena) {
            Ok(packets) => all.extend(packets.iter().map(<[u8]>::to_vec)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn payloads_arrive_one_by_one_whatever_went_together() {
    for address in ["127.0.0.1", "::1"] {
        let (a, b) = pair(address);
        let lens = [1200, 1200, 1200, 700, 0, 0, 5, 5, 6, 1200, 1];
        let payloads: Vec<Bytes> = lens.iter().enumerate().map(|(index, len)| vec![index as u8; *len].into()).collect();
        let sent = send(&a, &payloads).unwrap();
        assert_eq!(sent, Sent { packets: lens.len() as u64, bytes: lens.iter().sum::<usize>() as u64, ..Sent::default() });
        assert_eq!(received(&b), payloads.iter().map(|payload| payload.to_vec()).collect::<Vec<_>>());
    }
}

#[test]
fn more_than_one_run_goes_in_several() {
    let (a, b) = pair("127.0.0.1");
    let payloads: Vec<Bytes> = (0..100_u8).map(|index| vec![index; 900].into()).collect();
    assert_eq!(send(&a, &payloads).unwrap().packets, 100);
    let got = received(&b);
    assert_eq!(got.len(), 100);
    assert!(got.iter().zip(&payloads).all(|(got, sent)| got == sent));
}

#[test]
fn a_payload_no_packet_holds_costs_itself() {
    let (a, b) = pair("127.0.0.1");
    let payloads = [Bytes::from(vec![1; 65_527]), Bytes::from_static(b"small")];
    let sent = send(&a, &payloads).unwrap();
    assert_eq!((sent.packets, sent.too_big), (1, 1));
    assert_eq!(received(&b), [b"small".to_vec()]);
}

#[test]
fn c68_a_closed_port_is_fatal() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(target.local_addr().unwrap()).unwrap();
    prepare_upstream(&socket).unwrap();
    drop(target);
    send(&socket, &[Bytes::from_static(b"anybody there")]).unwrap();
    let error = receive(&socket, &mut Arena::default()).unwrap_err();
    assert!(is_fatal(&error), "{error}");
    drain_errors(&socket);
    assert_eq!(receive(&socket, &mut Arena::default()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn packets_find_the_worker_their_connection_id_names() {
    let bind = |port: u16| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        UdpSocket::from(socket)
    };
    let first = bind(0);
    let address = first.local_addr().unwrap();
    let mut group = vec![first];
    group.extend((1..4).map(|_| bind(address.port())));
    steer_by_connection_id(&group[0], 4).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for worker in 0..4_u8 {
        // A short header, then a Handshake packet's long one.
        client.send_to(&[0x40, 0xaa, worker, 1, 2, 3, 4, 5, 6, 9], address).unwrap();
        client.send_to(&[0xe0, 0, 0, 0, 1, 8, 0xaa, worker, 1, 2, 3, 4, 5, 6], address).unwrap();
        let socket = &group[usize::from(worker)];
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for first in [0x40, 0xe0] {
            let mut packet = [0; 64];
            socket.recv(&mut packet).expect("a packet with this worker's number");
            assert_eq!(packet[0], first);
        }
    }
}

#[test]
fn the_limits_of_the_process_can_be_read() {
    let cpus = allowed_cpus().unwrap();
    assert!(!cpus.is_empty());
    pin_to(cpus[0]).unwrap();
    assert!(raise_descriptor_limit().unwrap() >= 64);
}
