//! PKCS#12 and CMS, both BER: whatever a profile holds is read or refused, within its work.

use bolero::{TypeGenerator, check};
use masque_relay::certs::{cms, p12};

/// A piece of BER. `Wrap` takes the last few into a value of their own.
#[derive(Debug, TypeGenerator)]
enum Token {
    Known(#[generator(0..OIDS.len())] usize),
    Number(u32),
    Octets(Vec<u8>),
    Wrap(#[generator(0..TAGS.len())] usize, #[generator(1..5)] usize),
    Noise(Vec<u8>),
}

/// SEQUENCE, SET, OCTET STRING in pieces, and what is explicit and implicit under 0.
const TAGS: [u8; 5] = [0x30, 0x31, 0x24, 0xa0, 0x80];

/// Contents of identifiers: data, encryptedData, signedData; the bags and what is in them; PBES2 with all that belongs to it, 3DES; hashes.
const OIDS: [&[u8]; 16] = [
    &[42, 134, 72, 134, 247, 13, 1, 7, 1],
    &[42, 134, 72, 134, 247, 13, 1, 7, 6],
    &[42, 134, 72, 134, 247, 13, 1, 7, 2],
    &[42, 134, 72, 134, 247, 13, 1, 12, 10, 1, 1],
    &[42, 134, 72, 134, 247, 13, 1, 12, 10, 1, 2],
    &[42, 134, 72, 134, 247, 13, 1, 12, 10, 1, 3],
    &[42, 134, 72, 134, 247, 13, 1, 9, 22, 1],
    &[42, 134, 72, 134, 247, 13, 1, 9, 21],
    &[42, 134, 72, 134, 247, 13, 1, 5, 13],
    &[42, 134, 72, 134, 247, 13, 1, 5, 12],
    &[42, 134, 72, 134, 247, 13, 2, 9],
    &[96, 134, 72, 1, 101, 3, 4, 1, 42],
    &[96, 134, 72, 1, 101, 3, 4, 1, 2],
    &[42, 134, 72, 134, 247, 13, 1, 12, 1, 3],
    &[43, 14, 3, 2, 26],
    &[96, 134, 72, 1, 101, 3, 4, 2, 1],
];

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x83][..], &(content.len() as u32).to_be_bytes()[1..], content].concat()
}

fn laid(tokens: &[Token]) -> Vec<u8> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    for token in tokens {
        let next = match token {
            Token::Known(oid) => value(6, OIDS[*oid]),
            Token::Number(number) => value(2, &number.to_be_bytes()),
            Token::Octets(octets) => value(4, octets),
            Token::Wrap(tag, last) => value(TAGS[*tag], &values.split_off(values.len().saturating_sub(*last)).concat()),
            Token::Noise(noise) => noise.clone(),
        };
        values.push(next);
    }
    values.concat()
}

/// A `ContentInfo` of type data.
fn data(content: &[u8]) -> Vec<u8> {
    value(0x30, &[value(6, OIDS[0]), value(0xa0, &value(4, content))].concat())
}

/// `PFX`, or anything else with a number and two values.
fn pfx(safe: &[u8], mac: &[u8]) -> Vec<u8> {
    value(0x30, &[&[2, 1, 3][..], &data(safe), mac].concat())
}

#[test]
fn any_structure_is_read_or_refused() {
    check!().with_type::<(Vec<Token>, Vec<Token>)>().with_test_time(super::TIME).for_each(|(tokens, more)| {
        let (tokens, more) = (laid(tokens), laid(more));
        let sequence = value(0x30, &tokens);
        // As the whole, as the safe, as the bags in it, as what locks a key in it, and as the MAC.
        let locked = value(0x30, &[value(0x30, &tokens), value(4, &more)].concat());
        let key = value(0x30, &[value(6, OIDS[4]), value(0xa0, &locked)].concat());
        for bytes in [
            tokens.clone(),
            pfx(&sequence, &[]),
            pfx(&value(0x30, &data(&sequence)), &[]),
            pfx(&value(0x30, &data(&value(0x30, &key))), &[]),
            pfx(&value(0x30, &[]), &value(0x30, &more)),
        ] {
            drop(cms::content(&bytes));
            if let Ok(held) = p12::read(&bytes, "secret", &mut p12::Work::of(1000)) {
                assert!(!held.chain.is_empty());
                assert_eq!(p12::opens(&bytes, "secret", &mut p12::Work::of(1000)), Ok(p12::Opens::Yes));
            }
        }
    });
}
