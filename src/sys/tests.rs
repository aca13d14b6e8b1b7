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
#[cfg(target_os = "linux")]
fn what_found_no_room_is_known() {
    let (a, b) = pair("127.0.0.1");
    socket2::SockRef::from(&b).set_recv_buffer_size(20_000).unwrap();
    for _ in 0..200 {
        a.send(&[0; 1000]).unwrap();
    }
    let lost = overrun(&b);
    b.set_nonblocking(true).unwrap();
    assert!(lost > 0);
    assert_eq!(received(&b).len() as u64 + lost, 200);
}

#[test]
fn payloads_arrive_one_by_one_whatever_went_together() {
    for address in ["127.0.0.1", "::1"] {
        let (a, b) = pair(address);
        let lens = [1200, 1200, 1200, 700, 0, 0, 5, 5, 6, 1200, 1];
        let payloads: Vec<Bytes> = lens.iter().enumerate().map(|(index, len)| vec![index as u8; *len].into()).collect();
        let sent = send(&a, &payloads);
        assert_eq!((sent.packets, sent.bytes), (lens.len() as u64, lens.iter().sum::<usize>() as u64));
        assert_eq!(received(&b), payloads.iter().map(|payload| payload.to_vec()).collect::<Vec<_>>());
    }
}

#[test]
fn more_than_one_run_goes_in_several() {
    let (a, b) = pair("127.0.0.1");
    let payloads: Vec<Bytes> = (0..100_u8).map(|index| vec![index; 900].into()).collect();
    assert_eq!(send(&a, &payloads).packets, 100);
    let got = received(&b);
    assert_eq!(got.len(), 100);
    assert!(got.iter().zip(&payloads).all(|(got, sent)| got == sent));
}

#[test]
fn a_run_is_one_message_and_a_full_receive_asks_for_more() {
    let (a, b) = pair("127.0.0.1");
    let mut arena = Arena::default();
    send(&a, &vec![Bytes::from(vec![7; 1200]); 20]);
    let run = receive(&b, &mut arena).unwrap();
    assert_eq!((run.messages(), run.iter().count(), run.full()), (1, 20, false));
    for _ in 0..20 {
        a.send(b"alone").unwrap();
    }
    let batches = [0; 2].map(|_| {
        let batch = receive(&b, &mut arena).unwrap();
        (batch.messages(), batch.full())
    });
    assert_eq!(batches, [(4, true), (16, false)]);
}

#[test]
fn a_payload_no_packet_holds_costs_itself() {
    let (a, b) = pair("127.0.0.1");
    let payloads = [Bytes::from(vec![1; 65_527]), Bytes::from_static(b"small")];
    let sent = send(&a, &payloads);
    assert_eq!((sent.packets, sent.too_big), (1, 1));
    assert_eq!(received(&b), [b"small".to_vec()]);
}

#[test]
fn a_run_that_cannot_go_together_goes_singly() {
    let (a, b) = pair("127.0.0.1");
    // Segmentation needs checksums: without them the kernel answers a joined send with EINVAL.
    system::set(std::os::fd::AsRawFd::as_raw_fd(&a), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let payloads: Vec<Bytes> = (0..5_u8).map(|index| vec![index; 700].into()).collect();
    assert_eq!(system::send_joined(&a, &payloads).unwrap_err().raw_os_error(), Some(libc::EINVAL), "else this test shows nothing");
    let sent = send(&a, &payloads);
    assert_eq!((sent.packets, sent.bytes), (5, 3500));
    assert_eq!(received(&b), payloads.iter().map(|payload| payload.to_vec()).collect::<Vec<_>>());
}

#[test]
fn a_full_buffer_loses_the_rest() {
    // Loopback's packets leave the send buffer at once; those of a Unix socket stay until they are read.
    let (a, b) = Socket::pair(Domain::UNIX, Type::DGRAM, None).unwrap();
    let (a, b) = (UdpSocket::from(a), UdpSocket::from(b));
    a.set_nonblocking(true).unwrap();
    // Longer and longer, so that none go together.
    let payloads: Vec<Bytes> = (1..=2000).map(|len| vec![7; len].into()).collect();
    let sent = send(&a, &payloads);
    assert!(sent.packets > 0 && sent.no_room > 0, "{sent:?}");
    assert_eq!(sent.packets + sent.no_room, 2000);
    assert_eq!(received(&b).len() as u64, sent.packets, "none went out behind one that did not");
}

#[test]
fn runs_are_of_one_length_and_bounded() {
    let lens = |lens: &[usize]| lens.iter().map(|len| Bytes::from(vec![0; *len])).collect::<Vec<_>>();
    for (payloads, run) in [
        (lens(&[0, 0]), 1),
        (lens(&[5, 5, 3, 5]), 3),
        (lens(&[5, 5, 0]), 2),
        (lens(&[5, 6]), 1),
        (lens(&[5; 65]), 64),
        (lens(&[32_753, 32_753, 1]), 2),
        (lens(&[32_754, 32_754]), 1),
        (lens(&[65_527, 65_527]), 1),
    ] {
        assert_eq!(run_length(&payloads), run, "{:?}", payloads.iter().map(Bytes::len).collect::<Vec<_>>());
    }
}

#[test]
fn c71_packets_are_not_ect_and_c69_not_fragmented() {
    for (address, level, name, want) in [
        ("127.0.0.1", libc::IPPROTO_IP, libc::IP_TOS, 0),
        ("127.0.0.1", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        ("::1", libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 0),
        ("::1", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    ] {
        let (a, _b) = pair(address);
        assert_eq!(system::option(&a, level, name).unwrap(), want, "{address} {name}");
    }
}

/// A prepared socket towards a port that nobody listens on, to which a packet was sent.
fn refused() -> UdpSocket {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(target.local_addr().unwrap()).unwrap();
    prepare_upstream(&socket).unwrap();
    drop(target);
    assert_eq!(send(&socket, &[Bytes::from_static(b"anybody there")]).packets, 1);
    socket
}

#[test]
fn c68_a_closed_port_is_fatal_whoever_asks_first() {
    let socket = refused();
    let error = receive(&socket, &mut Arena::default()).unwrap_err();
    assert!(is_fatal(&error), "{error}");
    drain_errors(&socket);
    assert_eq!(receive(&socket, &mut Arena::default()).unwrap_err().kind(), io::ErrorKind::WouldBlock);

    let sent = send(&refused(), &[Bytes::from_static(b"hello"), Bytes::from_static(b"again?")]);
    assert_eq!((sent.packets, sent.refused), (0, 2));
    assert!(is_fatal(&sent.fatal.unwrap()));

    let drained = drain_errors(&refused()).expect("the error queue has it");
    assert_eq!(drained.raw_os_error(), Some(libc::ECONNREFUSED));
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
fn a_packet_too_short_to_steer_still_arrives() {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let socket = UdpSocket::from(socket);
    steer_by_connection_id(&socket, 1).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    for len in 0..=8 {
        for first in [0x40, 0xc0, 0xe0] {
            let packet = vec![first; len];
            client.send(&packet).unwrap();
            assert_eq!(received(&socket), [packet]);
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
