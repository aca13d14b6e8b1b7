//! ClientHello: whatever comes, in whatever pieces, is read within bounds, and the pieces change nothing.

use bolero::{TypeGenerator, check};
use masque_relay::proto::hello::{Hello, HelloStream, Over};

/// A ClientHello whose frame is right, so that noise gets inside.
#[derive(Debug, TypeGenerator)]
struct Offer {
    tcp: bool,
    ciphers: Vec<u16>,
    extensions: Vec<(Kind, Vec<u8>)>,
    cuts: Vec<u8>,
    behind: Vec<u8>,
}

#[derive(Debug, TypeGenerator)]
enum Kind {
    Read(#[generator(0..READ.len())] usize),
    Any(u16),
}

/// Those whose bodies are looked into.
const READ: [u16; 11] = [0, 10, 13, 16, 19, 20, 35, 41, 43, 51, 57];

impl Offer {
    fn bytes(&self) -> Vec<u8> {
        let vector = |body: Vec<u8>| [&(body.len().min(0xffff) as u16).to_be_bytes()[..], &body].concat();
        let ciphers = vector(self.ciphers.iter().flat_map(|suite| suite.to_be_bytes()).collect());
        let extensions = self.extensions.iter().flat_map(|(kind, body)| {
            let kind = match kind {
                Kind::Read(place) => READ[*place],
                Kind::Any(kind) => *kind,
            };
            // Half the time the inner length is right too.
            let body = if body.len() % 2 == 0 { vector(body.clone()) } else { body.clone() };
            [&kind.to_be_bytes()[..], &vector(body)].concat()
        });
        let body = [&[3, 3][..], &[0; 32], &[0], &ciphers, &[1, 0], &vector(extensions.collect())].concat();
        [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body, &self.behind].concat()
    }
}

#[test]
fn pieces_change_nothing_and_bounds_hold() {
    check!().with_type::<Offer>().with_test_time(super::TIME).for_each(|offer| {
        let over = if offer.tcp { Over::Tcp } else { Over::Quic };
        let bytes = offer.bytes();
        let whole = Hello::parse(&bytes, over).expect("the frame is right").expect("it is whole");
        assert!(whole.ciphers.len() <= 64 && whole.extensions.len() <= 64 && whole.alpn.len() <= 4);
        assert!(whole.cut || whole.ciphers == offer.ciphers);
        assert_eq!(whole.ja4.len(), 36, "{}", whole.ja4);
        assert!(!whole.to_string().contains('\r'));
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Hello>(&json).unwrap(), whole);

        let mut stream = HelloStream::new(over);
        let mut seen = None;
        for piece in super::chunks(&records(&bytes, over).into(), &offer.cuts) {
            seen = stream.push(&piece).unwrap();
            if seen.is_some() {
                break;
            }
        }
        assert_eq!(seen, Some(whole));
    });
}

fn records(bytes: &[u8], over: Over) -> Vec<u8> {
    match over {
        Over::Quic => bytes.to_vec(),
        Over::Tcp => bytes.chunks(77).flat_map(|part| [&[22, 3, 1, 0, part.len() as u8][..], part].concat()).collect(),
    }
}

#[test]
fn noise_is_refused_or_read() {
    check!().with_type::<(bool, Vec<u8>, Vec<u8>)>().with_test_time(super::TIME).for_each(|(tcp, front, noise)| {
        let over = if *tcp { Over::Tcp } else { Over::Quic };
        let mut stream = HelloStream::new(over);
        for bytes in [front, noise] {
            if let Ok(Some(hello)) = stream.push(bytes) {
                assert!(hello.length <= front.len() + noise.len());
                break;
            }
        }
    });
}
