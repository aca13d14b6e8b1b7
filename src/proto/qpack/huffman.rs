//! The Huffman code of string literals (RFC 7541 Appendix B, which RFC 9204 §4.1.2 takes over).
//!
//! The code is canonical: sorted by length, then by octet, each code is the one before it plus one. So the lengths say it all, and codes
//! of up to eight bits, which cover everything common in a head, are one look into a table of 512 bytes.

/// Why a coded string has no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// No encoder writes this; says why.
    Broken(&'static str),
    /// The text is longer than there is room for.
    TooLong,
}

/// The text behind `coded`, at most `room` bytes of it. Allocates no more than that.
pub(super) fn decode(coded: &[u8], room: usize) -> Result<Vec<u8>, Wrong> {
    let mut text = Vec::with_capacity(room.min(coded.len().saturating_mul(8) / SHORTEST));
    let mut coded = coded.iter();
    let mut bits = 0_u64; // the next bit is the highest; below those held there are zeros
    let mut held = 0;
    loop {
        if held < LONGEST {
            while held <= 56
                && let Some(octet) = coded.next()
            {
                bits |= u64::from(*octet) << (56 - held);
                held += 8;
            }
        }
        // Padding is the start of the end-of-string code, all ones, and never a whole octet (RFC 7541 §5.2).
        if held < 8 && bits.leading_ones() >= held {
            return Ok(text);
        }
        let (octet, length) = next(bits).ok_or(Wrong::Broken("a Huffman string holds the end-of-string code"))?;
        if length > held {
            return Err(Wrong::Broken("a Huffman string ends inside a code"));
        }
        if text.len() == room {
            return Err(Wrong::TooLong);
        }
        text.push(octet);
        bits <<= length;
        held -= length;
    }
}

/// The octet whose code `bits` starts with, and the length of that code. `None` is the end-of-string code.
fn next(bits: u64) -> Option<(u8, u32)> {
    let (octet, length) = SHORT[(bits >> 56) as usize];
    if length > 0 {
        return Some((octet, u32::from(length)));
    }
    CODES.iter().filter(|code| code.length > 8).find_map(|code| {
        // No shorter code fits, so this is at or behind the first of this length.
        let index = (bits >> (64 - code.length)) - code.first;
        code.octets.get(index as usize).map(|octet| (*octet, code.length))
    })
}

/// The codes of one length: `first` for the first of `octets`, one more for each that follows.
#[derive(Clone, Copy)]
struct Codes {
    length: u32,
    first: u64,
    octets: &'static [u8],
}

/// By the next eight bits: the octet and the length of its code; length 0 where the code is longer.
static SHORT: [(u8, u8); 256] = {
    let mut short = [(0, 0); 256];
    let mut row = 0;
    while CODES[row].length <= 8 {
        let codes = CODES[row];
        let mut at = 0;
        while at < codes.octets.len() {
            let free = 8 - codes.length;
            let mut bits = (codes.first as usize + at) << free;
            let end = bits + (1 << free);
            while bits < end {
                short[bits] = (codes.octets[at], codes.length as u8);
                bits += 1;
            }
            at += 1;
        }
        row += 1;
    }
    short
};

static CODES: [Codes; LENGTHS.len()] = {
    let mut codes = [Codes { length: 0, first: 0, octets: &[] }; LENGTHS.len()];
    let (mut row, mut next, mut last) = (0, 0, 0);
    while row < LENGTHS.len() {
        let (length, octets) = LENGTHS[row];
        next <<= length - last;
        codes[row] = Codes { length, first: next, octets };
        next += octets.len() as u64;
        last = length;
        row += 1;
    }
    codes
};

const SHORTEST: usize = 5;
const LONGEST: u32 = 30;

/// The octets by the length of their code in bits, in the order of their codes. The one code left over, 30 ones, is end-of-string.
const LENGTHS: [(u32, &[u8]); 21] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\x00$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
    (20, &[128, 130, 131, 162, 184, 194, 224, 226]),
    (21, &[153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230]),
    (
        22,
        &[129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189, 190, 196, 198, 228, 232, 233],
    ),
    (
        23,
        &[
            1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174, 175, 180, 182, 183, 188, 191,
            197, 231, 239,
        ],
    ),
    (24, &[9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237]),
    (25, &[199, 207, 234, 235]),
    (26, &[192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255]),
    (27, &[203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254]),
    (28, &[2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31, 127, 220, 249]),
    (30, &[10, 13, 22]),
];

/// What a peer would send for `text`: this relay itself writes plain strings.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut coded, mut bits, mut held) = (Vec::new(), 0_u64, 0);
    for octet in text {
        let (code, length) = tests::code_of(*octet);
        bits = bits << length | code;
        held += length;
        while held >= 8 {
            held -= 8;
            coded.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        coded.push((bits << (8 - held)) as u8 | 0xff >> held);
    }
    coded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 7541 Appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_rfc_decode() {
        for (coded, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
            (&[0xae, 0xc3, 0x77, 0x1a, 0x4b], "private"),
            (&[], ""),
        ] {
            assert_eq!(decode(coded, 100).as_deref(), Ok(text.as_bytes()));
            assert_eq!(encode(text.as_bytes()), coded);
        }
    }

    #[test]
    fn every_octet_has_one_code_and_end_of_string_is_the_only_one_left() {
        let mut octets: Vec<u8> = LENGTHS.iter().flat_map(|(_, octets)| octets.iter().copied()).collect();
        octets.sort_unstable();
        assert_eq!(octets, (0..=255).collect::<Vec<u8>>());
        let last = CODES.last().unwrap();
        assert_eq!((last.length, last.first + last.octets.len() as u64), (LONGEST, (1 << 30) - 1));
        for octet in 0..=255 {
            assert_eq!(decode(&encode(&[octet]), 1), Ok(vec![octet]), "{octet}");
        }
    }

    /// A few codes as the RFC prints them, one from each end of the table.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (octet, code, length) in [
            (b'0', 0x0, 5),
            (b' ', 0x14, 6),
            (b'z', 0x7b, 7),
            (b'Z', 0xfd, 8),
            (b'!', 0x3f8, 10),
            (0, 0x1ff8, 13),
            (b'\\', 0x7_fff0, 19),
            (1, 0x7f_ffd8, 23),
            (255, 0x3ff_ffee, 26),
            (249, 0xfff_fffe, 28),
            (22, 0x3fff_fffe, 30),
        ] {
            assert_eq!(code_of(octet), (code, length), "{octet}");
        }
    }

    #[test]
    fn wrong_padding_is_broken() {
        let ends_inside = Err(Wrong::Broken("a Huffman string ends inside a code"));
        for (coded, wanted) in [
            (&[0x07][..], Ok(b"0".to_vec())),     // `0` and three ones
            (&[0x06], ends_inside.clone()),       // padding that is not all ones
            (&[0x00], ends_inside.clone()),       // padding of zeros
            (&[0x07, 0xff], ends_inside.clone()), // a whole octet of padding
            (&[0xff], ends_inside.clone()),       // nothing but padding
            (&[0xff, 0xff, 0xff], ends_inside),   // a long code cut short
            (&[0xff; 4], Err(Wrong::Broken("a Huffman string holds the end-of-string code"))),
            (&[0x07, 0xff, 0xff, 0xff, 0xff], Err(Wrong::Broken("a Huffman string holds the end-of-string code"))),
        ] {
            assert_eq!(decode(coded, 100), wanted, "{coded:02x?}");
        }
    }

    #[test]
    fn no_more_text_than_there_is_room_for() {
        let coded = encode(&[b'0'; 800]);
        assert_eq!(coded.len(), 500);
        assert_eq!(decode(&coded, 799), Err(Wrong::TooLong));
        let text = decode(&coded, 800).unwrap();
        assert_eq!((text.len(), text.capacity()), (800, 800));
        assert_eq!(decode(&[], 0), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(text: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&text), text.len()), Ok(text));
        }

        #[test]
        fn what_decodes_is_the_only_spelling_of_its_text(coded: Vec<u8>) {
            if let Ok(text) = decode(&coded, usize::MAX) {
                prop_assert_eq!(encode(&text), coded);
            }
        }
    }

    pub(super) fn code_of(octet: u8) -> (u64, u32) {
        let with = |codes: &Codes| Some((codes.first + codes.octets.iter().position(|each| *each == octet)? as u64, codes.length));
        CODES.iter().find_map(with).unwrap()
    }
}
