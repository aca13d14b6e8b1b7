//! Field sections (RFC 9204) with the static table only: we advertise a dynamic table of capacity 0, so any reference to one is an error.
//!
//! ```text
//! 1T index                       a field of the table
//! 01NT index · value             a name of the table (T = 1: the static one), a value
//! 001NH name · value             neither (N = 1: must never be indexed, H = 1: Huffman)
//! 0001 index, 0000N index · …    the dynamic table's newest entries
//! ```

use bytes::Bytes;

use self::{huffman::Wrong, table::Found};
use super::{
    VARINT_MAX,
    head::{Field, Head},
};

mod huffman;

mod table;

/// Why a field section is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QpackError {
    /// Cannot be decoded (RFC 9204 §2.2, §3.1, §4.5): QPACK_DECOMPRESSION_FAILED on the connection. Says why.
    #[error("QPACK: {0}")]
    Decompression(&'static str),
    /// Decodes to more than the limit (RFC 9114 §4.2.2: names + values + 32 a field): 431.
    #[error("the field section is larger than {0} bytes")]
    TooLarge(usize),
}

/// Decodes a field section whose size by RFC 9114 §4.2.2 is at most `limit`. Works in time and memory linear in the input and `limit`.
/// Plain strings are not copied: they are slices of `section` and keep it alive.
pub fn decode(section: &Bytes, limit: usize) -> Result<Head, QpackError> {
    let mut decoder = Decoder { section, at: 0, limit, room: limit };
    decoder.prefix()?;
    let mut head = Head::default();
    while decoder.at < section.len() {
        let field = decoder.field()?;
        head.fields.push(field);
    }
    Ok(head)
}

/// Encodes with static references where they fit and plain literals otherwise; authentication fields are never-indexed literals.
pub fn encode(head: &Head) -> Vec<u8> {
    let size = head.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    let mut out = Vec::with_capacity(2 + size);
    out.extend([0, 0]); // Required Insert Count 0, Base 0
    for (name, value) in &head.fields {
        let secret = matches!(&name[..], b"authorization" | b"proxy-authorization");
        match table::find(name, value) {
            Found::Field(index) if !secret => write_integer(0b1100_0000, 6, index, &mut out),
            Found::Field(index) | Found::Name(index) => {
                write_integer(if secret { 0b0111_0000 } else { 0b0101_0000 }, 4, index, &mut out);
                write_string(0, 7, value, &mut out);
            }
            Found::Nothing => {
                write_string(if secret { 0b0011_0000 } else { 0b0010_0000 }, 3, name, &mut out);
                write_string(0, 7, value, &mut out);
            }
        }
    }
    out
}

struct Decoder<'a> {
    section: &'a Bytes,
    at: usize,
    limit: usize,
    /// What is left of `limit`.
    room: usize,
}

impl Decoder<'_> {
    /// Required Insert Count and Base (RFC 9204 §4.5.1). Base may be anything as long as nothing refers to it, except negative.
    fn prefix(&mut self) -> Result<(), QpackError> {
        let first = self.octet()?;
        if self.integer(first, 8)? != 0 {
            return Err(DYNAMIC);
        }
        let first = self.octet()?;
        self.integer(first, 7)?;
        if first & 0b1000_0000 != 0 {
            return Err(QpackError::Decompression("the Base is negative"));
        }
        Ok(())
    }

    /// One field line (RFC 9204 §4.5.2 to §4.5.6).
    fn field(&mut self) -> Result<Field, QpackError> {
        let first = self.octet()?;
        let (name, value) = match first.leading_zeros() {
            0 if first & 0b0100_0000 != 0 => {
                let (name, value) = self.entry(first, 6)?;
                (name, Bytes::from_static(value.as_bytes()))
            }
            1 if first & 0b0001_0000 != 0 => (self.entry(first, 4)?.0, self.value()?),
            2 => (self.string(first, 3)?, self.value()?),
            _ => return Err(DYNAMIC),
        };
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        self.room = self.room.checked_sub(size).ok_or(QpackError::TooLarge(self.limit))?;
        Ok((name, value))
    }

    /// The entry of the static table that an integer with a prefix of `bits` refers to.
    fn entry(&mut self, first: u8, bits: u32) -> Result<(Bytes, &'static str), QpackError> {
        let index = self.integer(first, bits)?;
        let (name, value) = table::entry(index).ok_or(QpackError::Decompression("a static index above 98"))?;
        Ok((Bytes::from_static(name.as_bytes()), value))
    }

    fn value(&mut self) -> Result<Bytes, QpackError> {
        let first = self.octet()?;
        self.string(first, 7)
    }

    /// A string whose length has a prefix of `bits`; the bit above it says whether it is Huffman coded (RFC 9204 §4.1.2).
    fn string(&mut self, first: u8, bits: u32) -> Result<Bytes, QpackError> {
        let length = usize::try_from(self.integer(first, bits)?).map_err(|_| TRUNCATED)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.section.len()).ok_or(TRUNCATED)?;
        let string = self.section.slice(self.at..end);
        self.at = end;
        if first >> bits & 1 == 0 {
            return Ok(string);
        }
        match huffman::decode(&string, self.room) {
            Ok(text) => Ok(text.into()),
            Err(Wrong::Broken(why)) => Err(QpackError::Decompression(why)),
            Err(Wrong::TooLong) => Err(QpackError::TooLarge(self.limit)),
        }
    }

    /// An integer that begins in the lower `bits` of `first` (RFC 7541 §5.1). RFC 9204 §4.1.1 asks for 62 bits; there are never more than
    /// nine octets behind the first.
    fn integer(&mut self, first: u8, bits: u32) -> Result<u64, QpackError> {
        let mask = (1 << bits) - 1;
        let mut value = u64::from(first) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in (0..63).step_by(7) {
            let octet = self.octet()?;
            value += u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 && value <= VARINT_MAX {
                return Ok(value);
            }
            if value > VARINT_MAX {
                break;
            }
        }
        Err(QpackError::Decompression("an integer of more than 62 bits"))
    }

    fn octet(&mut self) -> Result<u8, QpackError> {
        let octet = *self.section.get(self.at).ok_or(TRUNCATED)?;
        self.at += 1;
        Ok(octet)
    }
}

/// A string without Huffman coding, `pattern` above its length.
fn write_string(pattern: u8, bits: u32, string: &[u8], out: &mut Vec<u8>) {
    write_integer(pattern, bits, string.len() as u64, out);
    out.extend_from_slice(string);
}

/// An integer with a prefix of `bits` below `pattern` (RFC 7541 §5.1).
fn write_integer(pattern: u8, bits: u32, value: u64, out: &mut Vec<u8>) {
    let mask = (1 << bits) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// What a field counts beside its name and value (RFC 9114 §4.2.2).
const FIELD_OVERHEAD: usize = 32;

const DYNAMIC: QpackError = QpackError::Decompression("a reference to the dynamic table, whose capacity is 0");
const TRUNCATED: QpackError = QpackError::Decompression("the field section is cut short");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_9204_appendix_b1_decodes_and_encodes() {
        let section = b"\x00\x00\x51\x0b/index.html";
        let head = head(&[(b":path", b"/index.html")]);
        assert_eq!(decode(&Bytes::from_static(section), 100), Ok(head.clone()));
        assert_eq!(encode(&head), section);
    }

    #[test]
    fn each_kind_of_field_line_is_written_in_its_shortest_form() {
        for (name, value, line) in [
            (&b":method"[..], &b"CONNECT"[..], &b"\xcf"[..]),
            (b":status", b"503", b"\xdc"),
            (b"x-frame-options", b"sameorigin", b"\xff\x23"),
            (b":status", b"407", b"\x5f\x09\x03407"),
            (b"a", b"b", b"\x21a\x01b"),
            (b"capsule-protocol", b"?1", b"\x27\x09capsule-protocol\x02?1"),
            (b"", b"", b"\x20\x00"),
        ] {
            let head = head(&[(name, value)]);
            assert_eq!(encode(&head)[2..], *line);
            assert_eq!(decode(&encode(&head).into(), 100), Ok(head));
        }
    }

    #[test]
    fn authentication_fields_are_never_indexed() {
        let line = |name, value| encode(&head(&[(name, value)]))[2..].to_vec();
        assert_eq!(line(b"authorization", b"Bearer x"), b"\x7f\x45\x08Bearer x");
        assert_eq!(line(b"authorization", b""), b"\x7f\x45\x00");
        assert_eq!(line(b"proxy-authorization", b"Basic x"), b"\x37\x0cproxy-authorization\x07Basic x");
    }

    #[test]
    fn c10_plain_and_huffman_strings_decode() {
        let mut section = b"\x00\x00\x50\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff".to_vec();
        section.extend(b"\x2f\x01\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf");
        section.extend(b"\x50\x0fwww.example.com");
        let wanted = head(&[(b":authority", b"www.example.com"), (b"custom-key", b"custom-value"), (b":authority", b"www.example.com")]);
        assert_eq!(decode(&section.into(), 1000), Ok(wanted));
    }

    #[test]
    fn plain_strings_are_not_copied() {
        let section = Bytes::from(encode(&head(&[(b"name", b"value")])));
        let head = decode(&section, 100).unwrap();
        let (name, value) = &head.fields[0];
        assert_eq!((name.as_ptr(), value.as_ptr()), (section[3..].as_ptr(), section[8..].as_ptr()));
    }

    #[test]
    fn what_cannot_be_decoded_is_a_decompression_error() {
        for (section, wrong) in [
            (&b""[..], TRUNCATED),
            (b"\x00", TRUNCATED),
            (b"\x01\x00", DYNAMIC),                                                          // Required Insert Count 1
            (b"\xff\x00\x00", DYNAMIC),                                                      // Required Insert Count 255
            (b"\x00\x80", QpackError::Decompression("the Base is negative")),                // RFC 9204 §4.5.1.2
            (b"\x00\x00\x80", DYNAMIC),                                                      // indexed
            (b"\x00\x00\x10", DYNAMIC),                                                      // indexed, post-Base
            (b"\x00\x00\x40\x00", DYNAMIC),                                                  // name reference
            (b"\x00\x00\x00\x00", DYNAMIC),                                                  // name reference, post-Base
            (b"\x00\x00\xff\x24", QpackError::Decompression("a static index above 98")),     // 99
            (b"\x00\x00\x5f\x54\x00", QpackError::Decompression("a static index above 98")), // 99 as a name
            (b"\x00\x00\xff", TRUNCATED),                                                    // inside an integer
            (b"\x00\x00\x50", TRUNCATED),                                                    // no value
            (b"\x00\x00\x50\x03ab", TRUNCATED),                                              // inside a value
            (b"\x00\x00\x23ab", TRUNCATED),                                                  // inside a name
            (b"\x00\x00\x50\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x3e", TRUNCATED),            // a length of nearly 2^62
            (b"\x00\x00\x50\x81\xff", QpackError::Decompression("a Huffman string ends inside a code")),
            (b"\x00\x00\x50\x84\xff\xff\xff\xff", QpackError::Decompression("a Huffman string holds the end-of-string code")),
        ] {
            assert_eq!(decode(&Bytes::from_static(section), 1000), Err(wrong), "{section:02x?}");
        }
    }

    #[test]
    fn a_base_nobody_refers_to_may_be_anything() {
        assert_eq!(decode(&Bytes::from_static(b"\x00\x7f\x80\x01\xcf"), 100), Ok(head(&[(b":method", b"CONNECT")])));
    }

    #[test]
    fn integers_hold_62_bits_and_no_more() {
        for bits in [3, 4, 6, 7, 8] {
            let mask = (1 << bits) - 1;
            for value in [0, mask - 1, mask, mask + 127, mask + 128, 1 << 32, VARINT_MAX] {
                let mut out = Vec::new();
                write_integer(0, bits, value, &mut out);
                assert_eq!(integer(&out, bits), Ok(value), "{bits} {value}");
            }
        }
        let mut above = Vec::new();
        write_integer(0, 6, VARINT_MAX + 1, &mut above);
        let too_large = Err(QpackError::Decompression("an integer of more than 62 bits"));
        assert_eq!(integer(&above, 6), too_large);
        assert_eq!(integer(&[0xff; 20], 6), too_large);
        // Padded with zeros: eight octets of them are tolerated, a ninth is one too many.
        assert_eq!(integer(b"\x3f\x80\x80\x80\x80\x80\x80\x80\x80\x00", 6), Ok(63));
        assert_eq!(integer(b"\x3f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 6), too_large);
    }

    #[test]
    fn the_limit_counts_32_a_field_and_is_met_exactly() {
        let plain = Bytes::from(encode(&head(&[(b"name", b"value"), (b":method", b"CONNECT")])));
        let size = 4 + 5 + 32 + 7 + 7 + 32;
        assert!(decode(&plain, size).is_ok());
        assert_eq!(decode(&plain, size - 1), Err(QpackError::TooLarge(size - 1)));

        let huffman = Bytes::from(encode_huffman(&head(&[(b"name", b"value")])));
        assert!(decode(&huffman, 41).is_ok());
        assert_eq!(decode(&huffman, 40), Err(QpackError::TooLarge(40)));
        assert_eq!(decode(&huffman, 4), Err(QpackError::TooLarge(4)));
        assert_eq!(decode(&huffman, 0), Err(QpackError::TooLarge(0)));
        assert_eq!(decode(&Bytes::from_static(b"\0\0"), 0), Ok(Head::default()));
    }

    /// One octet here stands for 106 there: 64 KiB of it would be 6.6 MiB by the RFC's count.
    #[test]
    fn a_small_section_cannot_decode_to_a_large_head() {
        let mut section = vec![0xff; 2 + 64 * 1024];
        section[..2].fill(0);
        section[2..].chunks_mut(2).for_each(|line| line.copy_from_slice(&[0xff, 85 - 63]));
        assert_eq!(decode(&section.into(), 16 * 1024), Err(QpackError::TooLarge(16 * 1024)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(head in any_head()) {
            let size = size(&head);
            prop_assert_eq!(decode(&encode(&head).into(), size), Ok(head.clone()));
            prop_assert_eq!(decode(&encode_huffman(&head).into(), size), Ok(head));
        }

        #[test]
        fn a_section_cut_short_never_gives_the_whole_head(head in any_head(), cut: prop::sample::Index) {
            let section = Bytes::from(encode(&head));
            let cut = section.slice(..cut.index(section.len()));
            if let Ok(part) = decode(&cut, usize::MAX) {
                prop_assert!(head.fields.starts_with(&part.fields) && part.fields.len() < head.fields.len());
            }
        }

        #[test]
        fn garbage_never_panics_and_stays_within_the_limit(garbage: Vec<u8>, limit in 0..300_usize, prefix: bool) {
            let section = if prefix { [&[0, 0], &garbage[..]].concat() } else { garbage };
            if let Ok(head) = decode(&section.into(), limit) {
                prop_assert!(size(&head) <= limit);
            }
        }
    }

    fn any_head() -> impl Strategy<Value = Head> {
        let name = prop_oneof![
            Just(Bytes::from(":method")),
            Just(Bytes::from(":status")),
            Just(Bytes::from("proxy-authorization")),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from),
        ];
        let value = prop_oneof![
            Just(Bytes::from("CONNECT")),
            Just(Bytes::from("200")),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from),
        ];
        prop::collection::vec((name, value), 0..9).prop_map(|fields| Head { fields })
    }

    fn size(head: &Head) -> usize {
        head.fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }

    fn head(fields: &[(&'static [u8], &'static [u8])]) -> Head {
        Head { fields: fields.iter().map(|(name, value)| (Bytes::from_static(name), Bytes::from_static(value))).collect() }
    }

    /// Literals only, both strings Huffman coded.
    fn encode_huffman(head: &Head) -> Vec<u8> {
        let mut out = vec![0, 0];
        for (name, value) in &head.fields {
            write_string(0b0010_1000, 3, &huffman::encode(name), &mut out);
            write_string(0b1000_0000, 7, &huffman::encode(value), &mut out);
        }
        out
    }

    fn integer(octets: &[u8], bits: u32) -> Result<u64, QpackError> {
        let section = Bytes::copy_from_slice(octets);
        let mut decoder = Decoder { section: &section, at: 1, limit: 0, room: 0 };
        decoder.integer(octets[0], bits)
    }
}
