use proptest::{collection::vec, prelude::*};

use super::*;

/// A vector with `width` bytes of length.
fn vector(width: usize, body: &[u8]) -> Vec<u8> {
    [&body.len().to_be_bytes()[8 - width..], body].concat()
}

fn numbers(list: &[u16]) -> Vec<u8> {
    list.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, body)].concat()
}

/// A ClientHello with these cipher suites and extensions.
fn client_hello(ciphers: &[u16], extensions: &[Vec<u8>]) -> Vec<u8> {
    let body =
        [&[3, 3][..], &[7; 32], &vector(1, &[9; 32]), &vector(2, &numbers(ciphers)), &vector(1, &[0]), &vector(2, &extensions.concat())];
    [&[CLIENT_HELLO][..], &vector(3, &body.concat())].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &vector(2, &[&[0][..], &vector(2, name)].concat()))
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    extension(16, &vector(2, &names.iter().flat_map(|name| vector(1, name)).collect::<Vec<_>>()))
}

fn whole(bytes: &[u8], over: Over) -> Hello {
    Hello::parse(bytes, over).unwrap().unwrap()
}

/// What a client of Apple's kind could send.
fn example() -> Vec<u8> {
    client_hello(
        &[0x4a4a, 0x1301, 0x1302],
        &[
            extension(0x2a2a, &[]),
            sni(b"relay.example"),
            alpn(&[b"h3", b"\x0a\xff"]),
            extension(10, &vector(2, &numbers(&[0x11ec, 0x1d, 0x9999]))),
            extension(13, &vector(2, &numbers(&[0x0403, 0x0804]))),
            extension(43, &vector(1, &numbers(&[0x3a3a, 0x0304]))),
            extension(51, &vector(2, &[&numbers(&[0x1d])[..], &vector(2, &[1; 32])].concat())),
            extension(20, &vector(1, &[2, 0])),
            extension(
                41,
                &[&vector(2, &[&vector(2, &[5; 40])[..], &[0, 0, 0, 1]].concat())[..], &vector(2, &vector(1, &[6; 32]))].concat(),
            ),
            extension(57, &[1, 2, 0x40, 0x64, 0x20, 2, 0x45, 0xdc, 0x1b, 3, 1, 2, 3, 0x40, 0x77, 0]),
        ],
    )
}

#[test]
fn everything_that_is_offered_is_read() {
    let bytes = example();
    let hello = whole(&[&bytes[..], b"what follows"].concat(), Over::Quic);
    assert_eq!(hello.length, bytes.len());
    assert_eq!(hello.sni.as_deref(), Some("relay.example"));
    assert_eq!(hello.alpn, ["h3", r"\n\xff"]);
    assert_eq!((&hello.versions[..], hello.legacy_version), (&[0x3a3a, 0x0304][..], 0x0303));
    assert_eq!(hello.ciphers, [0x4a4a, 0x1301, 0x1302]);
    assert_eq!((&hello.groups[..], &hello.key_shares[..]), (&[0x11ec, 0x1d, 0x9999][..], &[0x1d][..]));
    assert_eq!(hello.signatures, [0x0403, 0x0804]);
    assert_eq!(hello.extensions, [0x2a2a, 0, 16, 10, 13, 43, 51, 20, 41, 57]);
    assert!(hello.prefers_raw_key());
    assert_eq!((hello.tickets, hello.early_data, hello.cut), (1, false, false));
    let parameters = hello.parameters.as_ref().unwrap();
    assert_eq!((parameters.get(1), parameters.max_datagram_frame_size()), (Some(100), Some(1500)));
    assert!(hello.damaged.is_empty(), "{:?}", hello.damaged);
    insta::assert_snapshot!(hello, @r"
    ClientHello over QUIC, 308 bytes
      ja4                 q13d0209h3_62ed6f6ca7ad_0ca36e0be1f1
      name                relay.example
      alpn                h3 \n\xff
      versions            GREASE, TLS 1.3
      ciphers             GREASE AES_128_GCM_SHA256 AES_256_GCM_SHA384
      groups              X25519MLKEM768 x25519 0x9999
      key shares          x25519
      signatures          ecdsa_secp256r1_sha256 rsa_pss_rsae_sha256
      extensions          GREASE server_name alpn supported_groups signature_algorithms supported_versions key_share server_certificate_type pre_shared_key quic_transport_parameters
      server certificate  raw public key, X.509
      resumes             1 offered
      transport           max_idle_timeout=100 max_datagram_frame_size=1500 GREASE(3 bytes) 0x77
    ");
    let json = serde_json::to_string(&hello).unwrap();
    assert_eq!(serde_json::from_str::<Hello>(&json).unwrap(), hello);
}

#[test]
fn it_is_whole_with_its_last_byte_only() {
    let bytes = example();
    for len in 0..bytes.len() {
        assert_eq!(Hello::parse(&bytes[..len], Over::Quic), Ok(None), "{len} bytes");
    }
    assert!(Hello::parse(&[2, 0, 0, 0], Over::Quic).is_err());
}

#[test]
fn a_damaged_extension_costs_only_itself() {
    let bytes = client_hello(&[0x1301], &[extension(10, &[0, 3, 0, 1, 2]), extension(16, &[0, 3, 9, b'h']), sni(b"a.example")]);
    let hello = whole(&bytes, Over::Tcp);
    assert_eq!((&hello.damaged[..], hello.sni.as_deref()), (&[10, 16][..], Some("a.example")));
    assert!(hello.to_string().contains("damaged"), "{hello}");
    // One byte short, and the frame itself does not hold.
    let mut bytes = client_hello(&[0x1301], &[sni(b"a.example")]);
    bytes[3] -= 1;
    bytes.pop();
    assert!(Hello::parse(&bytes, Over::Tcp).is_err());
}

#[test]
fn long_lists_are_cut_and_it_is_said() {
    let many: Vec<u16> = (0x1000..0x1100).collect();
    let hello = whole(&client_hello(&many, &[alpn(&[&[b'x'; 200]])]), Over::Tcp);
    assert_eq!((hello.ciphers.len(), hello.alpn[0].len(), hello.cut), (ENTRIES, ALPN_LEN, true));
    assert!(hello.ja4.starts_with("t12i9901xx_"), "JA4 counts what came: {}", hello.ja4);
}

#[test]
fn whatever_a_client_sends_takes_little_room() {
    let memory = |hello: &Hello| {
        let texts = [&hello.sni, &hello.unread].into_iter().flatten().chain(&hello.alpn).chain([&hello.ja4]).map(String::capacity);
        let parts = [
            size_of::<Hello>(),
            texts.sum(),
            hello.alpn.capacity() * size_of::<String>(),
            hello.numbers().map(Vec::capacity).iter().sum::<usize>() * 2,
            hello.server_certificate_types.capacity() + hello.client_certificate_types.capacity(),
            hello.parameters.as_ref().map_or(0, |parameters| parameters.raw.capacity()),
        ];
        parts.iter().sum::<usize>()
    };
    let many: Vec<u16> = (0x1000..0x1064).collect();
    let list = vector(2, &numbers(&many));
    let mut extensions = vec![sni(&[0xff; 999]), alpn(&[&[0xff; 200][..]; 40]), extension(57, &[0x77, 0].repeat(999))];
    extensions.extend([10, 13].map(|kind| extension(kind, &list)));
    extensions.push(extension(43, &vector(1, &numbers(&many))));
    extensions.extend([19, 20].map(|kind| extension(kind, &vector(1, &[2; 200]))));
    extensions.extend(vec![extension(51, &[1]); 100]);
    let worst = whole(&client_hello(&many, &extensions), Over::Quic);
    assert!(worst.cut, "{worst}");
    println!("{} bytes at the worst, {} as it is", memory(&worst), memory(&whole(&example(), Over::Quic)));
    assert!(memory(&worst) <= ROOM, "{} bytes", memory(&worst));
}

#[test]
fn records_are_taken_apart() {
    let bytes = example();
    // Three records, fed byte by byte.
    let records: Vec<u8> = bytes.chunks(100).flat_map(|part| [&[22, 3, 1][..], &vector(2, part)].concat()).collect();
    let mut stream = HelloStream::new(Over::Tcp);
    let mut seen = None;
    for byte in &records {
        assert_eq!(seen, None, "whole before its last byte");
        seen = stream.push(&[*byte]).unwrap();
    }
    assert_eq!(seen, Some(whole(&bytes, Over::Tcp)));
    assert_eq!(stream.take_held(), bytes);
}

#[test]
fn what_is_no_hello_is_named() {
    let broken = |over, bytes: &[u8]| HelloStream::new(over).push(bytes).unwrap_err();
    assert_eq!(broken(Over::Tcp, b"GET / HTTP/1.1\r\n"), Broken::NotTls);
    assert_eq!(broken(Over::Tcp, &[22, 2, 0]), Broken::NotTls);
    assert_eq!(broken(Over::Tcp, &[21, 3, 1, 0, 2, 2, 40]), Broken::Alert);
    assert!(matches!(broken(Over::Quic, &[11, 0, 0, 1, 0]), Broken::Malformed(_)));
    assert_eq!(broken(Over::Quic, &[&[1, 0xff, 0, 0][..], &[0; MAX_HELLO]].concat()), Broken::TooLong);
}

proptest! {
    #[test]
    fn there_and_back(
        ciphers in vec(any::<u16>(), 0..26),
        groups in vec(any::<u16>(), 0..26),
        signatures in vec(any::<u16>(), 0..26),
        versions in vec(any::<u16>(), 0..26),
        name in "[a-z]{1,40}",
        types in vec(any::<u8>(), 0..9),
        cuts in vec(1..500_usize, 1..9),
    ) {
        let bytes = client_hello(&ciphers, &[
            extension(10, &vector(2, &numbers(&groups))),
            extension(13, &vector(2, &numbers(&signatures))),
            extension(43, &vector(1, &numbers(&versions))),
            sni(name.as_bytes()),
            extension(19, &vector(1, &types)),
        ]);
        let hello = whole(&bytes, Over::Quic);
        prop_assert_eq!(&hello.ciphers, &ciphers);
        prop_assert_eq!(&hello.groups, &groups);
        prop_assert_eq!(&hello.signatures, &signatures);
        prop_assert_eq!(&hello.versions, &versions);
        prop_assert_eq!(&hello.client_certificate_types, &types);
        prop_assert_eq!(hello.sni.as_deref(), Some(name.as_str()));
        let mut stream = HelloStream::new(Over::Quic);
        let (mut rest, mut seen) = (&bytes[..], None);
        for cut in cuts.iter().cycle() {
            let (part, behind) = rest.split_at(rest.len().min(*cut));
            seen = stream.push(part).unwrap();
            rest = behind;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(seen, Some(hello));
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..400), tail in vec(any::<u8>(), 0..40), at in 0..400_usize) {
        let mut mutated = example();
        for (to, from) in mutated.iter_mut().skip(at).zip(&tail) { *to = *from; }
        for input in [&bytes, &mutated] {
            for over in [Over::Quic, Over::Tcp] {
                if let Ok(Some(hello)) = Hello::parse(input, over) { hello.to_string(); }
                HelloStream::new(over).push(input).unwrap_or_default();
            }
        }
    }
}
