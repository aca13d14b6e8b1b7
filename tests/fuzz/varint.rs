//! Variable-length integers.

use bolero::check;
use masque_relay::proto::{VARINT_MAX, read_varint, varint_len, write_varint};

#[test]
fn what_is_read_is_written_no_longer() {
    check!().with_test_time(super::TIME).for_each(|bytes| {
        let Some((value, size)) = read_varint(bytes) else {
            assert!(bytes.first().is_none_or(|first| bytes.len() < 1 << (first >> 6)));
            return;
        };
        assert!(value <= VARINT_MAX && size <= bytes.len());
        let mut written = Vec::new();
        write_varint(value, &mut written);
        assert_eq!(written.len(), varint_len(value));
        assert_eq!(read_varint(&written), Some((value, written.len())));
        assert!(written.len() < size || written == bytes[..size]);
    });
}
