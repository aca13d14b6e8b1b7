//! The exact commands that collect what a log leaves open, for whoever has the device, and whoever has the relay.

use serde::Serialize;

use super::Explained;
use crate::diagnosis::host;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Errand {
    /// Where, and when.
    pub place: &'static str,
    /// What to type.
    pub command: String,
    /// What it settles.
    pub settles: String,
}

/// What is left to do after these; nothing if nothing went wrong.
pub fn for_attempts(attempts: &[Explained]) -> Vec<Errand> {
    let Some(wrong) = attempts.iter().rfind(|explained| explained.attempt.sight.went_wrong()) else {
        return if attempts.is_empty() { vec![log_stream()] } else { Vec::new() };
    };
    let sight = &wrong.attempt.sight;
    let relay = sight.relay.as_deref().and_then(address).unwrap_or_else(|| "RELAY:443".into());
    let mut errands = vec![log_stream()];
    if wrong.joined.is_none() {
        errands.push(Errand {
            place: "on the relay, right after the next try",
            command: "masque-relay sessions && masque-relay sessions ID".into(),
            settles: "who closed, with which code, and what the requests were answered; ID is what the first column says".into(),
        });
    }
    let open = !wrong.hypotheses.is_empty();
    errands.push(Errand {
        place: "on the device's network",
        command: format!("masque-relay doctor https://{relay} --ca ca.pem --token-file token"),
        settles: "everything a device expects of a relay, over HTTP/3 on UDP and HTTP/2 on TCP, whoever runs it".into(),
    });
    if open {
        let target = sight.target.as_deref().map_or_else(|| "example.com:443".into(), target);
        errands.push(Errand {
            place: "on the device's network",
            command: format!("masque-relay probe https://{relay} --ca ca.pem --token-file token --tcp {target}"),
            settles: H3_SETTLES.into(),
        });
    }
    if open {
        errands.push(Errand {
            place: "where the profile and the certificate are",
            command: "grep -A1 RelayURL relay.mobileconfig && masque-relay cert inspect certs/cert.pem".into(),
            settles: "H5: `https://`, and a name or address that the certificate has".into(),
        });
    }
    if wrong.joined.is_none() {
        errands.push(Errand {
            place: "then",
            command: "masque-relay sessions ID --json > records.jsonl && masque-relay explain mac.log --records records.jsonl".into(),
            settles: format!(
                "{}with the relay's record of the same connection, one JSON object a line",
                if open { "H1 to H6: " } else { "" }
            ),
        });
    }
    errands
}

/// The log with the lines of QUIC.
fn log_stream() -> Errand {
    Errand {
        place: "on the Mac, before the next try",
        command: format!("log stream --level debug --style compact --predicate '{PREDICATE}' > mac.log"),
        settles: "with which code the client closed, and what it did before".into(),
    }
}

/// `host:port` as a URL wants it; none if it is redacted, or has anything that a shell could take for its own.
fn address(endpoint: &str) -> Option<String> {
    let host = host(endpoint);
    let port = endpoint.rsplit([':', '.']).next()?;
    let plain =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte)) && !host.starts_with('-');
    let numeric = !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    (plain && numeric).then(|| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

/// The target, or one like it if it is redacted: the same port of another host.
fn target(endpoint: &str) -> String {
    address(endpoint).unwrap_or_else(|| {
        let port = endpoint.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0)).unwrap_or("443");
        format!("example.com:{port}")
    })
}

const H3_SETTLES: &str = "H3, H4: a status, or a reset, for the plain CONNECT that TCP becomes";

/// What of a Mac's log is wanted.
pub const PREDICATE: &str = r#"subsystem == "com.apple.network" OR subsystem == "com.apple.networkextension""#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_get_into_a_command() {
        for (endpoint, want) in [
            ("192.0.2.1:443", Some("192.0.2.1:443")),
            ("relay.example:4433", Some("relay.example:4433")),
            ("2001:db8::1.443", Some("[2001:db8::1]:443")),
            ("[2001:db8::1]:443", Some("[2001:db8::1]:443")),
            ("IPv4#124bdc4d:80", None),
            ("<private>:443", None),
            ("a;reboot:443", None),
            ("$(id):443", None),
            ("-x:443", None),
            ("relay.example", None),
            ("", None),
        ] {
            assert_eq!(address(endpoint).as_deref(), want, "{endpoint}");
        }
        assert_eq!(target("IPv4#124bdc4d:80"), "example.com:80");
        assert_eq!(target("<private>"), "example.com:443");
        assert_eq!(target("a.example:22"), "a.example:22");
    }
}
