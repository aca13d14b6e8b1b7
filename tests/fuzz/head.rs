//! Heads: whatever the fields, validation answers, and what it accepts is what was sent.

use bolero::{TypeGenerator, check};
use bytes::Bytes;
use masque_relay::proto::{head::Head, qpack};

/// A name or a value: one that matters, or anything.
#[derive(Debug, TypeGenerator)]
enum Text {
    Name(#[generator(0..NAMES.len())] usize),
    Value(#[generator(0..VALUES.len())] usize),
    Noise(Vec<u8>),
}

const NAMES: [&str; 16] = [
    ":method",
    ":scheme",
    ":authority",
    ":path",
    ":protocol",
    ":status",
    ":unknown",
    "host",
    "te",
    "connection",
    "transfer-encoding",
    "capsule-protocol",
    "proxy-authorization",
    "content-length",
    "Upper",
    "x-y",
];

const VALUES: [&str; 16] = [
    "CONNECT",
    "GET",
    "https",
    "connect-udp",
    "example.test:443",
    "example.test",
    "/",
    "/.well-known/masque/udp/192.0.2.1/53/",
    "200",
    "099",
    "trailers",
    "",
    " padded ",
    "line\r\nbreak",
    "nul\0",
    "?1",
];

impl Text {
    fn bytes(&self) -> Bytes {
        match self {
            Self::Name(at) => NAMES[*at].into(),
            Self::Value(at) => VALUES[*at].into(),
            Self::Noise(bytes) => Bytes::copy_from_slice(bytes),
        }
    }
}

#[test]
fn what_is_accepted_is_what_was_sent() {
    check!().with_type::<Vec<(Text, Text)>>().with_test_time(super::TIME).for_each(|fields| judge(fields));
}

/// The same behind fields that make a good start, so that more heads get past the first checks.
#[test]
fn what_is_accepted_behind_a_good_start_is_what_was_sent() {
    let start = |at: &u8| match at {
        0 => vec![(Text::Name(0), Text::Value(0)), (Text::Name(2), Text::Value(4))],
        1 => vec![(Text::Name(0), Text::Value(1)), (Text::Name(1), Text::Value(2)), (Text::Name(3), Text::Value(6))],
        _ => vec![(Text::Name(5), Text::Value(8))],
    };
    check!().with_generator((0..3_u8, bolero::produce::<Vec<(Text, Text)>>().with().len(0..3_usize))).with_test_time(super::TIME).for_each(
        |(at, fields)| {
            let mut head = Vec::new();
            for (name, value) in start(at).iter().chain(fields) {
                head.push((name.bytes(), value.bytes()));
            }
            judge_head(&Head { fields: head });
        },
    );
}

fn judge(fields: &[(Text, Text)]) {
    judge_head(&Head { fields: fields.iter().map(|(name, value)| (name.bytes(), value.bytes())).collect() });
}

fn judge_head(head: &Head) {
    let pseudo = head.pseudo();
    let status = head.status();
    assert!(pseudo.is_err() || status.is_err(), "no head is a request and a response");
    if let Ok(pseudo) = &pseudo {
        let sent = |name| head.get(name).map(|value| &value[..]);
        assert_eq!(sent(":method"), Some(pseudo.method.as_bytes()));
        for (name, value) in
            [(":scheme", pseudo.scheme), (":authority", pseudo.authority), (":path", pseudo.path), (":protocol", pseudo.protocol)]
        {
            assert_eq!(sent(name), value.map(str::as_bytes), "{name}");
            assert!(head.all(name).count() <= 1);
        }
    }
    if let Ok(status) = status {
        assert!((100..1000).contains(&status));
        assert_eq!(head.get(":status").map(|value| &value[..]), Some(status.to_string().as_bytes()));
    }
    if pseudo.is_ok() || status.is_ok() {
        let regular = head.fields.iter().skip_while(|(name, _)| name.starts_with(b":"));
        for (name, value) in regular {
            assert!(name.iter().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && *byte != b':'));
            assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)));
        }
    }
    let again = qpack::decode(&qpack::encode(head).into(), usize::MAX).expect("what we encode decodes");
    assert_eq!(&again, head);
}
