//! HTTP Datagrams: what is taken apart can be put together again.

use bolero::check;
use masque_relay::proto::datagram::{Datagram, MAX_HEADER, MAX_UDP_PAYLOAD, take_quarter_id, write_header};

use super::{Part, stream};

#[test]
fn what_is_parsed_is_written_the_same() {
    check!().with_type::<(Part, Part)>().with_test_time(super::TIME).for_each(|(front, rest)| {
        let sent = stream(&[front.clone(), rest.clone()]);
        let mut frame = sent.clone();
        let Some(quarter_id) = take_quarter_id(&mut frame) else {
            assert_eq!(frame, sent);
            return;
        };
        assert!(quarter_id < 1 << 60 && frame.len() < sent.len());
        let Datagram::Udp(payload) = Datagram::parse(frame) else { return };
        assert!(payload.len() <= MAX_UDP_PAYLOAD && sent.ends_with(&payload));
        let mut again = Vec::new();
        write_header(quarter_id, &mut again);
        assert!(again.len() <= MAX_HEADER);
        again.extend_from_slice(&payload);
        let mut again = again.into();
        assert_eq!(take_quarter_id(&mut again), Some(quarter_id));
        assert_eq!(Datagram::parse(again), Datagram::Udp(payload));
    });
}
