//! Which fault hides which from somebody outside, and why: what the matrix of pairs leaves out, and `doctor` cannot be blamed for.

/// Each of `hiders` hides each of `hidden`, itself excepted.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// Names of faults.
    pub hiders: &'static [&'static str],
    /// Names of faults.
    pub hidden: &'static [&'static str],
    /// In words.
    pub why: &'static str,
}

/// Why `hidden` cannot be seen from outside while `hider` is on; `None`: it can.
pub fn masked(hidden: &str, hider: &str) -> Option<&'static str> {
    let hides = |mask: &&Mask| hidden != hider && mask.hiders.contains(&hider) && mask.hidden.contains(&hidden);
    MASKS.iter().find(hides).map(|mask| mask.why)
}

/// The whole table, as a strict client sees it that has no identity and tries HTTP/3 and HTTP/2.
pub const MASKS: &[Mask] = &[
    Mask { hiders: CERTIFICATES, hidden: CERTIFICATES, why: "one certificate is shown at a time" },
    Mask {
        hiders: &["client-cert"],
        hidden: &[
            "no-h3-datagram",
            "no-extended-connect",
            "settings-late",
            "settings-never",
            "stop-client-control",
            "finish-control",
            "goaway",
            "connect-reset",
            "status",
            "bare-status",
            "abort-after-response",
            "close",
            "tcp-blackhole",
            "stall",
            "no-capsule-protocol",
            "capsule-protocol-parameter",
            "datagram-drop",
            "datagram-delay",
            "datagram-context",
            "datagram-stream",
        ],
        why: "without a client certificate there is no connection to see more on",
    },
    Mask {
        hiders: &["tcp-only"],
        hidden: &["no-datagram-parameter", "no-h3-datagram", "stop-client-control", "finish-control", "datagram-stream", "retry", "cid"],
        why: "they show on HTTP/3 alone, and no packet of it is answered",
    },
    Mask {
        hiders: &["settings-never"],
        hidden: &["no-h3-datagram", "no-extended-connect", "settings-late", "goaway"],
        why: "what would come in or behind SETTINGS does not come",
    },
    Mask {
        hiders: &["settings-never", "no-extended-connect"],
        hidden: &[
            "no-capsule-protocol",
            "capsule-protocol-parameter",
            "datagram-drop",
            "datagram-delay",
            "datagram-context",
            "datagram-stream",
        ],
        why: "without SETTINGS_ENABLE_CONNECT_PROTOCOL a client may not ask for a UDP tunnel (RFC 9220 section 3, RFC 8441 section 3)",
    },
    Mask {
        hiders: &["stop-client-control"],
        hidden: &["finish-control"],
        why: "the client closes the connection at the first closed critical stream (RFC 9114 section 6.2.1)",
    },
    Mask {
        hiders: &["finish-control"],
        hidden: &["stop-client-control"],
        why: "the client closes the connection at the first closed critical stream (RFC 9114 section 6.2.1)",
    },
    Mask {
        hiders: &["stop-client-control", "finish-control"],
        hidden: &["datagram-stream"],
        why: "it shows on HTTP/3 alone, where the client has closed the connection",
    },
    Mask {
        hiders: &["goaway"],
        hidden: &[
            "connect-reset",
            "status",
            "bare-status",
            "abort-after-response",
            "close",
            "tcp-blackhole",
            "stall",
            "no-capsule-protocol",
            "capsule-protocol-parameter",
            "datagram-drop",
            "datagram-delay",
            "datagram-context",
            "datagram-stream",
        ],
        why: "no request is taken",
    },
    Mask {
        hiders: &["close"],
        hidden: &[
            "connect-reset",
            "status",
            "bare-status",
            "abort-after-response",
            "tcp-blackhole",
            "stall",
            "no-capsule-protocol",
            "capsule-protocol-parameter",
            "datagram-drop",
            "datagram-delay",
            "datagram-context",
            "datagram-stream",
        ],
        why: "the connection is over before a request is answered",
    },
    Mask { hiders: &["status"], hidden: &["bare-status"], why: "a request has one answer" },
    Mask { hiders: &["bare-status"], hidden: &["status"], why: "a request has one answer" },
    Mask {
        hiders: &["status", "bare-status"],
        hidden: &[
            "tcp-blackhole",
            "stall",
            "no-capsule-protocol",
            "capsule-protocol-parameter",
            "datagram-drop",
            "datagram-delay",
            "datagram-context",
            "datagram-stream",
        ],
        why: "no tunnel is opened",
    },
    Mask { hiders: &["connect-reset"], hidden: &["tcp-blackhole", "stall"], why: "no TCP tunnel is opened" },
    Mask {
        hiders: &["abort-after-response"],
        hidden: &["tcp-blackhole", "stall", "datagram-drop", "datagram-delay", "datagram-context", "datagram-stream"],
        why: "every tunnel is over as soon as it is open",
    },
    Mask { hiders: &["tcp-blackhole"], hidden: &["stall"], why: "a tunnel that carries nothing does not stop" },
    Mask { hiders: &["no-capsule-protocol"], hidden: &["capsule-protocol-parameter"], why: "a field that is not there has no parameter" },
    Mask {
        hiders: &["no-datagram-parameter", "no-h3-datagram"],
        hidden: &["datagram-stream"],
        why: "payloads come back in capsules, which name no stream",
    },
];

const CERTIFICATES: &[&str] =
    &["cert-self-signed", "cert-expired", "cert-future", "cert-name", "cert-no-san", "cert-no-eku", "cert-long", "cert-no-chain"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{EVERY, Fault};

    #[test]
    fn the_table_names_faults_and_every_row_is_needed() {
        let names: Vec<_> = EVERY.iter().map(Fault::name).collect();
        for (at, mask) in MASKS.iter().enumerate() {
            for name in mask.hiders.iter().chain(mask.hidden) {
                assert!(names.contains(name), "{name} is no fault");
            }
            let first =
                |hider: &str, hidden: &str| MASKS.iter().position(|mask| mask.hiders.contains(&hider) && mask.hidden.contains(&hidden));
            for hider in mask.hiders {
                assert!(mask.hidden.iter().any(|hidden| first(hider, hidden) == Some(at)), "{hider}: {} says nothing new", mask.why);
            }
        }
    }

    #[test]
    fn no_two_hide_each_other_but_for_one_place_that_both_want() {
        for a in names() {
            for b in names() {
                let (Some(why), Some(_)) = (masked(a, b), masked(b, a)) else { continue };
                assert!(
                    ["one certificate is shown at a time", "a request has one answer"].contains(&why) || why.contains("first closed"),
                    "{a} and {b} hide each other, so that nothing is seen: {why}"
                );
            }
        }
    }

    #[test]
    fn the_table_printed() {
        for hidden in names() {
            for hider in names() {
                if let Some(why) = masked(hidden, hider) {
                    println!("{hidden:<27} is hidden by {hider:<22} {why}");
                }
            }
        }
        assert_eq!(masked("stall", "tcp-blackhole"), Some("a tunnel that carries nothing does not stop"));
        assert_eq!((masked("tcp-blackhole", "stall"), masked("goaway", "goaway"), masked("cert-name", "cert-name")), (None, None, None));
        assert!(masked("cert-name", "cert-long").is_some());
    }

    fn names() -> impl Iterator<Item = &'static str> {
        EVERY.iter().map(Fault::name)
    }
}
