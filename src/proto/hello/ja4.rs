//! JA4: a client's fingerprint, of what its ClientHello offers. Public and short: `t13d1516h2_8daaf6152771_e5627efa2ab1` says TCP, TLS 1.3, a name
//! asked for, 15 cipher suites, 16 extensions, ALPN `h2`; then a hash of the suites, and one of the extensions and signature schemes. GREASE counts
//! nowhere, and order only among signature schemes: so it survives clients that shuffle.

use aws_lc_rs::digest;

use super::{Hello, Over, is_grease};

/// Extensions that are counted and not hashed: the name asked for and the protocols, which differ between connections of one client.
const SNI: u16 = 0;
const ALPN: u16 = 16;

/// The lists of a ClientHello, whole.
#[derive(Default)]
pub(super) struct Offered<'a> {
    pub(super) ciphers: Vec<u16>,
    pub(super) extensions: Vec<u16>,
    pub(super) signatures: Vec<u16>,
    pub(super) versions: Vec<u16>,
    pub(super) first_alpn: &'a [u8],
}

pub(super) fn ja4(hello: &Hello, offered: &Offered<'_>) -> String {
    let transport = match hello.over {
        Over::Quic => 'q',
        Over::Tcp => 't',
    };
    let version = match without_grease(&offered.versions).into_iter().max().unwrap_or(hello.legacy_version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    };
    let name = if offered.extensions.contains(&SNI) { 'd' } else { 'i' };
    let (mut ciphers, mut extensions) = (without_grease(&offered.ciphers), without_grease(&offered.extensions));
    let counts = [ciphers.len().min(99), extensions.len().min(99)];
    ciphers.sort_unstable();
    extensions.retain(|extension| ![SNI, ALPN].contains(extension));
    extensions.sort_unstable();
    let mut behind = list(&extensions);
    let signatures = list(&without_grease(&offered.signatures));
    if !signatures.is_empty() {
        behind = format!("{behind}_{signatures}");
    }
    let [first, last] = alpn(offered.first_alpn);
    let [suites, extensions] = counts;
    format!("{transport}{version}{name}{suites:02}{extensions:02}{first}{last}_{}_{}", hash(&list(&ciphers)), hash(&behind))
}

fn without_grease(list: &[u16]) -> Vec<u16> {
    list.iter().copied().filter(|number| !is_grease(*number)).collect()
}

fn list(numbers: &[u16]) -> String {
    numbers.iter().map(|number| format!("{number:04x}")).collect::<Vec<_>>().join(",")
}

/// First and last character of the first protocol; of its hexadecimal form, if one of them is neither letter nor digit.
fn alpn(name: &[u8]) -> [char; 2] {
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return ['0', '0'] };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)];
    }
    let digit = |nibble| char::from_digit(u32::from(nibble), 16).expect("four bits are a digit");
    [digit(first >> 4), digit(last & 15)]
}

/// Six bytes of SHA-256, in hexadecimal.
fn hash(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(12);
    }
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lists of the algorithm's own worked example, shuffled and greased.
    fn example() -> Offered<'static> {
        Offered {
            ciphers: [
                0x5a5a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x9c, 0x9d, 0x2f, 0x35,
            ]
            .into(),
            extensions: [0x8a8a, 0x1b, 0, 0x33, 0x10, 0x4469, 0x17, 0x2d, 0xd, 5, 0x23, 0x12, 0x2b, 0xff01, 0xb, 0xa, 0x15, 0xfafa].into(),
            signatures: [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601].into(),
            versions: [0x2a2a, 0x0304, 0x0303].into(),
            first_alpn: b"h2",
        }
    }

    fn over(over: Over) -> Hello {
        Hello { over, legacy_version: 0x0303, ..Hello::default() }
    }

    #[test]
    fn the_worked_example_and_its_variants() {
        let tcp = over(Over::Tcp);
        assert_eq!(ja4(&tcp, &example()), "t13d1516h2_8daaf6152771_e5627efa2ab1");
        assert_eq!(ja4(&over(Over::Quic), &Offered { first_alpn: b"h3", ..example() }), "q13d1516h3_8daaf6152771_e5627efa2ab1");
        // Without versions the legacy one counts; an empty list has a hash of its own.
        assert_eq!(ja4(&tcp, &Offered::default()), "t12i000000_000000000000_000000000000");
        // `printf 000d_0403 | sha256sum`
        let bare = Offered { extensions: vec![13], signatures: vec![0x0403], ..Offered::default() };
        assert_eq!(ja4(&tcp, &bare), "t12i000100_000000000000_79c50902419d");
    }

    #[test]
    fn a_protocol_by_its_ends() {
        for (name, want) in [
            (&b""[..], "00"),
            (b"h3", "h3"),
            (b"http/1.1", "h1"),
            (b"x", "xx"),
            (&[0xab, 0xcd], "ad"),
            (&[0x30, 0xab], "3b"),
            (&[0x0a, 0x0a], "0a"),
        ] {
            assert_eq!(String::from_iter(alpn(name)), want, "{name:02x?}");
        }
    }
}
