//! QUIC packets from outside: what anybody may send to the relay's port.

use bolero::check;
use masque_relay::proto::packet::{Kind, LongHeader, is_foreign, packets};

#[test]
fn a_long_header_that_is_read_is_whole() {
    check!().with_type::<(u8, u32, Vec<u8>, Vec<u8>, Vec<u8>)>().with_test_time(super::TIME).for_each(
        |(first, version, one, other, rest)| {
            let (one, other) = (&one[..one.len().min(255)], &other[..other.len().min(255)]);
            let head = [&[*first][..], &version.to_be_bytes(), &[one.len() as u8], one, &[other.len() as u8], other].concat();
            let datagram = [&head[..], rest].concat();
            let long = first & 0x80 != 0;
            let header = LongHeader { version: *version, destination: one.len(), source: other.len() };
            assert_eq!(LongHeader::of(&datagram), long.then_some(header));
            assert_eq!(LongHeader::of(&head[..head.len() - 1]), None);
            assert_eq!(is_foreign(&datagram), long && *version != 1);
            if let Some(packet) = packets(&datagram).first().filter(|packet| packet.kind == Kind::Foreign) {
                assert_eq!((is_foreign(&datagram), packet.source), (true, Some(other.len())));
            }
        },
    );
}

#[test]
fn noise_is_refused_or_read() {
    check!().with_test_time(super::TIME).for_each(|bytes| {
        if let Some(header) = LongHeader::of(bytes) {
            assert!(header.destination + header.source + 7 <= bytes.len());
        }
        assert!(packets(bytes).len() <= 8);
    });
}
