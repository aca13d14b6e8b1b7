//! UUIDs that are the same in every run: of a name, by SHA-1 (RFC 9562 §5.5).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// The UUID of a name among ours, upper case as Apple writes them.
pub fn of(name: &str) -> String {
    written(v5(NAMESPACE, name))
}

/// Where our names are unique: the UUID of `masque-relay` among DNS names.
const NAMESPACE: [u8; 16] = [0x24, 0xcc, 0x89, 0x5b, 0xd4, 0x7d, 0x5d, 0x5a, 0xbe, 0xba, 0xfd, 0x8b, 0xb3, 0xdd, 0x2d, 0xed];

fn v5(namespace: [u8; 16], name: &str) -> [u8; 16] {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[&namespace[..], name.as_bytes()].concat());
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash.as_ref()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x50;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn written(uuid: [u8; 16]) -> String {
    let dashes = [4, 6, 8, 10];
    let each = uuid.iter().enumerate().map(|(at, byte)| format!("{}{byte:02X}", if dashes.contains(&at) { "-" } else { "" }));
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_uuid_of_rfc_9562() {
        // The namespace of DNS names, and the example of appendix A.4.
        let dns = [0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];
        assert_eq!(written(v5(dns, "www.example.com")), "2ED6657D-E927-568B-95E1-2665A8AEA6A2");
        assert_eq!(v5(dns, "masque-relay"), NAMESPACE);
    }
}
