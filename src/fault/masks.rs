//! Which fault hides which from somebody outside, and why: what the matrix of pairs leaves out, and `doctor` cannot be blamed for.

/// Each of `hiders` hides each of `hidden`, itself excepted.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// Names of faults.
    pub hiders: &'static [&'static str],
    /// Names of faults, group by group.
    pub hidden: &'static [&'static [&'static str]],
    /// In words.
    pub why: &'static str,
}

impl Mask {
    /// Whether this row hides `hidden` behind `hider`.
    fn hides(&self, hider: &str, hidden: &str) -> bool {
        self.hiders.contains(&hider) && self.hidden.iter().any(|group| group.contains(&hidden))
    }
}

/// Why `hidden` cannot be seen from outside while `hider` is on; `None`: it can.
pub fn masked(hidden: &str, hider: &str) -> Option<&'static str> {
    MASKS.iter().find(|mask| hidden != hider && mask.hides(hider, hidden)).map(|mask| mask.why)
}

/// The whole table, as `doctor` sees it without an identity, over HTTP/3 and HTTP/2: it notes a broken rule and goes on, but asks for nothing that a
/// client may not ask for.
pub const MASKS: &[Mask] = &[
    Mask { hiders: CERTIFICATES, hidden: &[CERTIFICATES], why: "one certificate is shown at a time" },
    Mask {
        hiders: &["client-cert"],
        hidden: &[
            &[
                "no-h3-datagram",
                "no-extended-connect",
                "settings-late",
                "settings-never",
                "stop-client-control",
                "finish-control",
                "goaway",
            ],
            ANSWERS,
            &["close"],
            TCP,
            CAPSULE_PROTOCOL,
            PAYLOADS,
        ],
        why: "without a client certificate there is no connection to see more on",
    },
    Mask {
        hiders: &["tcp-only"],
        hidden: &[&["no-datagram-parameter", "no-h3-datagram", "stop-client-control", "finish-control", "datagram-stream", "retry", "cid"]],
        why: "they show on HTTP/3 alone, and no packet of it is answered",
    },
    Mask {
        hiders: &["settings-never"],
        hidden: &[&["no-h3-datagram", "no-extended-connect", "settings-late", "finish-control", "goaway"]],
        why: "what would come in or behind SETTINGS does not come",
    },
    Mask {
        hiders: &["settings-never", "no-extended-connect"],
        hidden: &[CAPSULE_PROTOCOL, PAYLOADS],
        why: "without SETTINGS_ENABLE_CONNECT_PROTOCOL a client may not ask for a UDP tunnel (RFC 9220 section 3, RFC 8441 section 3)",
    },
    Mask { hiders: &["goaway"], hidden: &[ANSWERS, &["close"], TCP, CAPSULE_PROTOCOL, PAYLOADS], why: "no request is taken" },
    Mask {
        hiders: &["close"],
        hidden: &[ANSWERS, TCP, CAPSULE_PROTOCOL, PAYLOADS],
        why: "the connection is over before a request is answered",
    },
    Mask { hiders: &["status"], hidden: &[&["bare-status"]], why: "a request has one answer" },
    Mask { hiders: &["bare-status"], hidden: &[&["status"]], why: "a request has one answer" },
    Mask { hiders: &["status", "bare-status"], hidden: &[TCP, CAPSULE_PROTOCOL, PAYLOADS], why: "no tunnel is opened" },
    Mask { hiders: &["connect-reset"], hidden: &[TCP], why: "no TCP tunnel is opened" },
    Mask { hiders: &["abort-after-response"], hidden: &[TCP, PAYLOADS], why: "every tunnel is over as soon as it is open" },
    Mask { hiders: &["tcp-blackhole"], hidden: &[&["stall"]], why: "a tunnel that carries nothing does not stop" },
    Mask {
        hiders: &["no-capsule-protocol"],
        hidden: &[&["capsule-protocol-parameter"]],
        why: "a field that is not there has no parameter",
    },
    Mask {
        hiders: &["no-datagram-parameter", "no-h3-datagram"],
        hidden: &[&["datagram-stream"]],
        why: "payloads come back in capsules, which name no stream",
    },
];

const CERTIFICATES: &[&str] =
    &["cert-self-signed", "cert-expired", "cert-future", "cert-name", "cert-no-san", "cert-no-eku", "cert-long", "cert-no-chain"];
/// They show in the answer to a request.
const ANSWERS: &[&str] = &["connect-reset", "status", "bare-status", "abort-after-response"];
/// In what a TCP tunnel carries.
const TCP: &[&str] = &["tcp-blackhole", "stall"];
/// In the head that opens a UDP tunnel.
const CAPSULE_PROTOCOL: &[&str] = &["no-capsule-protocol", "capsule-protocol-parameter"];
/// In what a UDP tunnel carries.
const PAYLOADS: &[&str] = &["datagram-drop", "datagram-delay", "datagram-context", "datagram-stream"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{EVERY, Fault};

    #[test]
    fn the_table_names_faults_and_every_row_is_needed() {
        let names: Vec<_> = EVERY.iter().map(Fault::name).collect();
        for (at, mask) in MASKS.iter().enumerate() {
            for name in mask.hiders.iter().chain(mask.hidden.iter().copied().flatten()) {
                assert!(names.contains(name), "{name} is no fault");
            }
            let first = |hider: &str, hidden: &str| MASKS.iter().position(|mask| mask.hides(hider, hidden));
            for hider in mask.hiders {
                assert!(
                    mask.hidden.iter().copied().flatten().any(|hidden| first(hider, hidden) == Some(at)),
                    "{hider}: {} says nothing new",
                    mask.why
                );
            }
        }
    }

    #[test]
    fn no_two_hide_each_other_but_for_one_place_that_both_want() {
        for a in names() {
            for b in names() {
                let (Some(why), Some(_)) = (masked(a, b), masked(b, a)) else { continue };
                assert!(
                    ["one certificate is shown at a time", "a request has one answer"].contains(&why),
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
