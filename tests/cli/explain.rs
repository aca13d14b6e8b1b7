//! `explain`: the real log word for word, with the relay's records and without; what it says when there is nothing to say.

use std::{io::Write, process::Stdio};

use crate::{Home, shown};

const LOG: &str = include_str!("../logs/macos-abort.log");

/// Another client's record, a line that is none, and the record of the connection in the log, of a relay whose clock is 1.8 s ahead.
const RECORDS: &str = r#"{"start":"2026-03-01T16:43:05.100Z","client":"192.168.4.140:50000","bytes_in":2000,"bytes_out":3000}
not a record
{"start":"2026-03-01T16:43:06.144Z","duration_ms":121.2,"client":"192.168.4.139:53898","http":3,"bytes_in":4322,"bytes_out":2880,"settings_sent_ms":1.9,"critical":[],"requests":[{"at_ms":116.0,"method":"CONNECT","reset":270,"ended":"malformed"}],"close":{"by":"client","layer":"application","code":256,"reason":""}}
"#;

impl Home {
    fn with_log(self) -> Self {
        self.write("mac.log", LOG);
        self.write("records.jsonl", RECORDS);
        self
    }
}

#[test]
fn the_real_log() {
    insta::assert_snapshot!(Home::new().with_log().run(&["explain", "mac.log"]), @r#"
    exit 0
    -- stdout
    mac.log: 14 lines, 14 understood (Console copy 9, no framing 5)
    2 connections, 1 attempt to use a relay

    attempt 1: curl: C1, C2 to relay 192.168.4.197:4433 for IPv4#124bdc4d:80: failed with error 53 (ECONNABORTED, "Software caused connection abort")

      what happened
        09:43:04.459517     +0 ms  C1.1.1    transport  QUIC connected
        09:43:04.459901   +0.4 ms  C1.1.1    transport  finish transport, 131 ms from its start
        09:43:04.460745   +1.2 ms  C1.1.1    http       HTTP/3 joined
        09:43:04.461049   +1.5 ms  C1.1.1    transport  finish transport, 133 ms from its start
        09:43:04.465115   +5.6 ms  C2        end        the client cancels
        09:43:04.465238   +5.7 ms  C2        end        cancelled
        09:43:04.465975   +6.5 ms  C2        end        disconnected
        09:43:04.469189   +9.7 ms  C1.1      end        the proxy failed with error 53 (ECONNABORTED, "Software caused connection abort")
        09:43:04.469289   +9.8 ms  C1.1.1    end        failed connect, 141 ms from its start: Software caused connection abort

      known
        the TLS handshake took 111 ms
          likely: the client let the relay's certificate pass
        HTTP/3 was joined
          certain: the handshake is behind: address, port, TLS and ALPN suit the client
        the client itself cancelled the connection, 4.4 ms after HTTP/3 was joined
        2880 bytes came in and 4322 went out in 4 and 8 packets
          likely: nothing was sent again: there is no sign of lost packets
        the attempt ended with error 53 (ECONNABORTED, "Software caused connection abort")
          likely: the client gave the connection up; the number does not say why

      not known
        whether a request left, and whether the relay answered it: no line says so
        whether the client waited for an answer: the round trip it gives (74 ms) includes the relay's work in the handshake; on a local network the true one may be shorter than the 4.4 ms it waited
        with which code the client closed: the log has no lines of QUIC itself (they come at level debug)
        what the relay saw and did: no record of it is joined to this attempt

      hypotheses, the likeliest first; the log alone decides none of them, and their order is a guess
        H3  possible   plain CONNECT is answered by a reset of its stream instead of a status
            for: it broke off after HTTP was joined and before anything worked
            for: the target IPv4#124bdc4d:80 is most often reached over TCP, and TCP becomes plain CONNECT
            settled by: a CONNECT sent by `probe --tcp`: a status, or a reset; the relay's record has both
        H2  possible   the relay stopped, reset or finished a control or QPACK stream
            for: it broke off after HTTP was joined and before anything worked
            settled by: the relay's record: FIN, RESET or STOP_SENDING on such a stream; the client closes with 0x104
        H4  possible   the answer is not 2xx, and stream or connection are aborted in the same flight
            for: it broke off after HTTP was joined and before anything worked
            settled by: the relay's record: the status, and a close within a millisecond
        H5  possible   the relay's URL says `http://`, or names an IP address that is not in the SAN
            for: the log prints the relay as http://192.168.4.197:4433 (whether the profile does is not in it)
            for: the relay is named by an IP address, which the SAN must hold
            against: the handshake was done, so the client let the certificate pass
            settled by: the URL in the profile, and `cert inspect` of the certificate
        H1  possible   the relay's first flight behind the handshake breaks a transport rule for this client
            for: it broke off right behind the handshake
            against: HTTP was joined first: until then the log shows no complaint about QUIC
            settled by: the client's CONNECTION_CLOSE in the relay's record: a transport code, and its reason
        H6  possible   it is not the relay: another leg won, or the program went away
            for: the client cancelled the connection itself
            against: the failure was reported to what had asked for it: it was still there
            against: the log shows no other leg that worked
            settled by: another request of the same client that succeeded at the same time

    what to do to learn more
      on the Mac, before the next try: with which code the client closed, and what it did before
        log stream --level debug --style compact --predicate 'subsystem == "com.apple.network" OR subsystem == "com.apple.networkextension"' > mac.log
      on the relay, right after the next try: who closed, with which code, and what the requests were answered; ID is what the first column says
        masque-relay sessions && masque-relay sessions ID
      on the device's network: everything a device expects of a relay, over HTTP/3 on UDP and HTTP/2 on TCP, whoever runs it
        masque-relay doctor https://192.168.4.197:4433 --ca ca.pem --token-file token
      on the device's network: H3, H4: a status, or a reset, for the plain CONNECT that TCP becomes
        masque-relay probe https://192.168.4.197:4433 --ca ca.pem --token-file token --tcp example.com:80
      where the profile and the certificate are: H5: `https://`, and a name or address that the certificate has
        grep -A1 RelayURL relay.mobileconfig && masque-relay cert inspect certs/cert.pem
      then: H1 to H6: with the relay's record of the same connection, one JSON object a line
        masque-relay sessions ID --json > records.jsonl && masque-relay explain mac.log --records records.jsonl
    "#);
}

/// `tests/logs/macos-abort.json` is what `masque-relay explain --json tests/logs/macos-abort.log` printed when last looked at.
#[test]
fn the_real_log_as_json() {
    let json = Home::new().with_log().stdout(&["explain", "--json", "mac.log"]);
    assert_eq!(json, include_str!("../logs/macos-abort.json"));
}

#[test]
fn with_the_relays_records() {
    let shown = Home::new().with_log().run(&["explain", "mac.log", "--records", "records.jsonl"]);
    insta::assert_snapshot!(shown, @r#"
    exit 0
    -- stdout
    mac.log: 14 lines, 14 understood (Console copy 9, no framing 5)
    2 connections, 1 attempt to use a relay
    2 records of the relay, 1 joined to an attempt
    clock skew: the client's clock is 1.8 s behind the relay's, give or take a round trip; estimated from one connection joined by address or byte counts; the log has no date: whole days are not counted

    attempt 1: curl: C1, C2 to relay 192.168.4.197:4433 for IPv4#124bdc4d:80: failed with error 53 (ECONNABORTED, "Software caused connection abort")

      what happened
        09:43:04.459517     +0 ms  C1.1.1    transport  QUIC connected
        09:43:04.459901   +0.4 ms  C1.1.1    transport  finish transport, 131 ms from its start
        09:43:04.460745   +1.2 ms  C1.1.1    http       HTTP/3 joined
        09:43:04.461049   +1.5 ms  C1.1.1    transport  finish transport, 133 ms from its start
        09:43:04.465115   +5.6 ms  C2        end        the client cancels
        09:43:04.465238   +5.7 ms  C2        end        cancelled
        09:43:04.465975   +6.5 ms  C2        end        disconnected
        09:43:04.469189   +9.7 ms  C1.1      end        the proxy failed with error 53 (ECONNABORTED, "Software caused connection abort")
        09:43:04.469289   +9.8 ms  C1.1.1    end        failed connect, 141 ms from its start: Software caused connection abort

      known
        the TLS handshake took 111 ms
          likely: the client let the relay's certificate pass
        HTTP/3 was joined
          certain: the handshake is behind: address, port, TLS and ALPN suit the client
        the client itself cancelled the connection, 4.4 ms after HTTP/3 was joined
        2880 bytes came in and 4322 went out in 4 and 8 packets
          likely: nothing was sent again: there is no sign of lost packets
        the attempt ended with error 53 (ECONNABORTED, "Software caused connection abort")
          likely: the client gave the connection up; the number does not say why

      the relay's record (certain to be this connection's, by address and port, byte counts, duration, time)
        the client closed with 0x100 (H3_NO_ERROR)
          certain: an orderly end: it names no fault
        CONNECT was not answered; ended: malformed
          certain: the relay reset its stream with 0x10e (H3_MESSAGE_ERROR)

      not known
        whether the client waited for an answer: the round trip it gives (74 ms) includes the relay's work in the handshake; on a local network the true one may be shorter than the 4.4 ms it waited
        with which code the client closed: the log has no lines of QUIC itself (they come at level debug)

      hypotheses, the likeliest first
        H3  likely     plain CONNECT is answered by a reset of its stream instead of a status
            for: it broke off after HTTP was joined and before anything worked
            for: the target IPv4#124bdc4d:80 is most often reached over TCP, and TCP becomes plain CONNECT
            for: relay's record: it reset a plain CONNECT with 0x10e (H3_MESSAGE_ERROR)
        H5  possible   the relay's URL says `http://`, or names an IP address that is not in the SAN
            for: the log prints the relay as http://192.168.4.197:4433 (whether the profile does is not in it)
            for: the relay is named by an IP address, which the SAN must hold
            against: the handshake was done, so the client let the certificate pass
            against: relay's record: a request came over this connection, so the client trusted it
            settled by: the URL in the profile, and `cert inspect` of the certificate
        H1  possible   the relay's first flight behind the handshake breaks a transport rule for this client
            for: it broke off right behind the handshake
            against: HTTP was joined first: until then the log shows no complaint about QUIC
            against: relay's record: the client closed with 0x100 (H3_NO_ERROR)
            settled by: the client's CONNECTION_CLOSE in the relay's record: a transport code, and its reason
        H6  possible   it is not the relay: another leg won, or the program went away
            for: the client cancelled the connection itself
            against: the failure was reported to what had asked for it: it was still there
            against: the log shows no other leg that worked
            settled by: another request of the same client that succeeded at the same time
        H2  ruled out  the relay stopped, reset or finished a control or QPACK stream
            for: it broke off after HTTP was joined and before anything worked
            against: relay's record: it ended no critical stream
        H4  ruled out  the answer is not 2xx, and stream or connection are aborted in the same flight
            for: it broke off after HTTP was joined and before anything worked
            against: relay's record: it sent no answer that is not 2xx

    what to do to learn more
      on the Mac, before the next try: with which code the client closed, and what it did before
        log stream --level debug --style compact --predicate 'subsystem == "com.apple.network" OR subsystem == "com.apple.networkextension"' > mac.log
      on the device's network: everything a device expects of a relay, over HTTP/3 on UDP and HTTP/2 on TCP, whoever runs it
        masque-relay doctor https://192.168.4.197:4433 --ca ca.pem --token-file token
      on the device's network: H3, H4: a status, or a reset, for the plain CONNECT that TCP becomes
        masque-relay probe https://192.168.4.197:4433 --ca ca.pem --token-file token --tcp example.com:80
      where the profile and the certificate are: H5: `https://`, and a name or address that the certificate has
        grep -A1 RelayURL relay.mobileconfig && masque-relay cert inspect certs/cert.pem
    -- stderr
    warning: cannot read line 2 of records.jsonl: expected ident at line 1 column 2
    "#);
}

#[test]
fn without_a_file_stdin_is_read() {
    let home = Home::new().with_log();
    let want = home.stdout(&["explain", "mac.log"]).replacen("mac.log", "stdin", 1);
    for arguments in [&["explain"][..], &["explain", "-"]] {
        let mut child = home.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary runs");
        child.stdin.take().expect("it is piped").write_all(LOG.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout)), (Some(0), want.as_str().into()));
    }
}

/// Lines that nothing is made of, an attempt that worked, a host taken out, more failures than one wants to read, and a log that paints the terminal.
#[test]
fn a_log_of_all_sorts() {
    let home = Home::new();
    home.write("mac.log", ALL_SORTS);
    insta::assert_snapshot!(home.run(&["explain", "mac.log"]), @r#"
    exit 0
    -- stdout
    mac.log: 10 lines, 8 understood (Console copy 9, no framing 1)
    9 connections, 8 attempts to use a relay
    not understood: 2 lines; `--json` has them all
      \u{1b}[31mhello
      default 09:00:01.000000-0700 Safari nw_x [C8] something nobody knows yet

    attempt 1: Safari: C9 to relay (not in the log) for <private>:443: failed with error 60 (ETIMEDOUT, "Operation timed out")

      what happened
        09:00:02.000000     +0 ms  C9.1      end        the proxy failed with error 60 (ETIMEDOUT, "Operation timed out")

      known
        the attempt ended with error 60 (ETIMEDOUT, "Operation timed out")
          possible: UDP is blocked on the way, or the relay is silent
          do: run `masque-relay probe` from the same network with `--http 3`, then `--http 2`; is there an HTTP2RelayURL in the profile?

      not known
        what the relay saw and did: no record of it is joined to this attempt

    attempt 2: Safari: C13 to relay relay.example:443 for 192.0.2.1:443: failed with error 61 (ECONNREFUSED, "Connection refused")

      what happened
        09:00:03.000000     +0 ms  C13.1     end        the proxy failed with error 61 (ECONNREFUSED, "Connection refused")

      known
        the attempt ended with error 61 (ECONNREFUSED, "Connection refused")
          possible: a closed port, or an answer that is not 2xx and has no Proxy-Status to excuse it
          do: look up the status in the relay's log

      not known
        what the relay saw and did: no record of it is joined to this attempt

    attempt 3: Safari: C14 to relay relay.example:443 for 192.0.2.1:443: failed with error 61 (ECONNREFUSED, "Connection refused")

      what happened
        09:00:04.000000     +0 ms  C14.1     end        the proxy failed with error 61 (ECONNREFUSED, "Connection refused")

      known
        the attempt ended with error 61 (ECONNREFUSED, "Connection refused")
          possible: a closed port, or an answer that is not 2xx and has no Proxy-Status to excuse it
          do: look up the status in the relay's log

      not known
        what the relay saw and did: no record of it is joined to this attempt

    attempt 4: Safari: C15 to relay relay.example:443 for 192.0.2.1:443: failed with error 61 (ECONNREFUSED, "Connection refused")

      what happened
        09:00:05.000000     +0 ms  C15.1     end        the proxy failed with error 61 (ECONNREFUSED, "Connection refused")

      known
        the attempt ended with error 61 (ECONNREFUSED, "Connection refused")
          possible: a closed port, or an answer that is not 2xx and has no Proxy-Status to excuse it
          do: look up the status in the relay's log

      not known
        what the relay saw and did: no record of it is joined to this attempt

    attempt 5: Safari: C16 to relay relay.example:443 for 192.0.2.1:443: failed with error 61 (ECONNREFUSED, "Connection refused")

      what happened
        09:00:06.000000     +0 ms  C16.1     end        the proxy failed with error 61 (ECONNREFUSED, "Connection refused")

      known
        the attempt ended with error 61 (ECONNREFUSED, "Connection refused")
          possible: a closed port, or an answer that is not 2xx and has no Proxy-Status to excuse it
          do: look up the status in the relay's log

      not known
        what the relay saw and did: no record of it is joined to this attempt

    attempt 6: Safari: C17 to relay relay.example:443 for 192.0.2.1:443: failed with error 61 (ECONNREFUSED, "Connection refused")

    attempt 7: Safari: C18 to relay relay.example:443 for 192.0.2.1:443: failed with error 61 (ECONNREFUSED, "Connection refused")

    worked, or still going on
      Safari: C7 to relay (not in the log) for example.com:443: worked

    only the first 5 attempts are told in full; `--json` has them all

    what to do to learn more
      on the Mac, before the next try: with which code the client closed, and what it did before
        log stream --level debug --style compact --predicate 'subsystem == "com.apple.network" OR subsystem == "com.apple.networkextension"' > mac.log
      on the relay, right after the next try: who closed, with which code, and what the requests were answered; ID is what the first column says
        masque-relay sessions && masque-relay sessions ID
      on the device's network: everything a device expects of a relay, over HTTP/3 on UDP and HTTP/2 on TCP, whoever runs it
        masque-relay doctor https://relay.example:443 --ca ca.pem --token-file token
      then: with the relay's record of the same connection, one JSON object a line
        masque-relay sessions ID --json > records.jsonl && masque-relay explain mac.log --records records.jsonl
    "#);
}

const ALL_SORTS: &str = "\u{1b}[31mhello\n\
    default 09:00:00.000000-0700 Safari [C7.1 example.com:443 ready proxy (satisfied)] event: flow:finish_connect @0.200s\n\
    default 09:00:01.000000-0700 Safari nw_x [C8] something nobody knows yet\n\
    default 09:00:02.000000-0700 Safari [C9.1 <private>:443 in_progress proxy (satisfied)] Privacy proxy failed with error 60\n\
    default 09:00:03.000000-0700 Safari [C13.1 192.0.2.1:443 failed proxy (satisfied)] Privacy proxy failed with error 61 ([C13.1.1] masque Proxy: https://relay.example:443)\n\
    default 09:00:04.000000-0700 Safari [C14.1 192.0.2.1:443 failed proxy (satisfied)] Privacy proxy failed with error 61 ([C14.1.1] masque Proxy: https://relay.example:443)\n\
    default 09:00:05.000000-0700 Safari [C15.1 192.0.2.1:443 failed proxy (satisfied)] Privacy proxy failed with error 61 ([C15.1.1] masque Proxy: https://relay.example:443)\n\
    default 09:00:06.000000-0700 Safari [C16.1 192.0.2.1:443 failed proxy (satisfied)] Privacy proxy failed with error 61 ([C16.1.1] masque Proxy: https://relay.example:443)\n\
    default 09:00:07.000000-0700 Safari [C17.1 192.0.2.1:443 failed proxy (satisfied)] Privacy proxy failed with error 61 ([C17.1.1] masque Proxy: https://relay.example:443)\n\
    default 09:00:08.000000-0700 Safari [C18.1 192.0.2.1:443 failed proxy (satisfied)] Privacy proxy failed with error 61 ([C18.1.1] masque Proxy: https://relay.example:443)\n";

#[test]
fn a_log_without_a_relay() {
    let home = Home::new();
    home.write(
        "mac.log",
        "default 09:00:00.000000-0700 Safari [C7 192.0.2.1:443 ready socket-flow (satisfied)] event: flow:finish_connect @0.200s\n",
    );
    insta::assert_snapshot!(home.run(&["explain", "mac.log"]), @r#"
    exit 0
    -- stdout
    mac.log: 1 line, 1 understood (Console copy 1)
    1 connection, 0 attempts to use a relay

    no connection in this log goes through a relay: it was not asked for, or the log does not reach back to it

    what to do to learn more
      on the Mac, before the next try: with which code the client closed, and what it did before
        log stream --level debug --style compact --predicate 'subsystem == "com.apple.network" OR subsystem == "com.apple.networkextension"' > mac.log
    "#);
}

#[test]
fn a_line_of_any_length_is_read_and_said_to_be_cut() {
    let home = Home::new();
    home.write("mac.log", &format!("{}\n{}", "x".repeat(70_000), LOG.lines().next().expect("a line")));
    let shown = home.stdout(&["explain", "mac.log"]);
    insta::assert_snapshot!(shown.lines().take(5).collect::<Vec<_>>().join("\n"), @r"
    mac.log: 2 lines, 1 understood (Console copy 1, no framing 1)
    1 connection, 0 attempts to use a relay
    not understood: 1 line; `--json` has them all
      xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    cut: 1 line longer than 64 KiB
    ");
}

#[test]
fn every_client_error() {
    let home = Home::new();
    let all: String = (1..=10).map(|value| home.stdout(&["explain", "--client-error", &value.to_string()])).collect();
    insta::assert_snapshot!(all, @r"
    getLastClientErrors says 1, none
      certain: the client has no error to report
      do: if traffic still does not pass, the relay was not chosen: check the match and exclude lists of the profile
    getLastClientErrors says 2, dnsFailed
      likely: the relay's own name did not resolve on the device
      do: resolve the host of the relay's URL on the device's network
    getLastClientErrors says 3, serverUnreachable
      likely: nothing answered at the relay's address: UDP or TCP port closed on the way, or the relay is down
      do: run `masque-relay probe` from the same network with `--http 3`, then `--http 2`; give the profile an HTTP2RelayURL too
    getLastClientErrors says 4, serverDisconnected
      possible: the relay was reached and the connection ended; others report it for answers of 4xx and 5xx as well
      do: look for this client's connection in the relay's log: who closed it, and which status its requests got
    getLastClientErrors says 5, certificateMissing
      likely: the relay asks for a client certificate and the profile has none
      do: give the relay's entry in the profile a PayloadCertificateUUID
    getLastClientErrors says 6, certificateInvalid
      likely: the client certificate of the profile was not accepted
      do: check which CA the relay accepts clients from, and that the identity's chain ends there
    getLastClientErrors says 7, certificateExpired
      likely: the client certificate of the profile has expired
      do: issue a new one and install the profile again
    getLastClientErrors says 8, serverCertificateInvalid
      likely: the device does not trust the relay's certificate: its CA is not installed and trusted, or the URL's name is not in the SAN
      do: `masque-relay cert inspect FILE` names what Apple's clients do not like about it
    getLastClientErrors says 9, serverCertificateExpired
      likely: the relay's certificate has expired, or the device's clock is wrong
      do: renew it, and restart the relay
    getLastClientErrors says 10, other
      certain: the client has an error with no value of its own
      do: collect its log: `masque-relay explain --help`
    ");
    insta::assert_snapshot!(home.run(&["explain", "--client-error", "11"]), @r"
    exit 2
    -- stderr
    error: cannot explain the client error 11

    hint: Apple documents 1 to 10
    ");
    insta::assert_snapshot!(home.stdout(&["explain", "--client-error", "4", "--json"]), @r#"
    {
      "value": 4,
      "name": "serverDisconnected",
      "finding": {
        "seen": "getLastClientErrors says 4, serverDisconnected",
        "means": "the relay was reached and the connection ended; others report it for answers of 4xx and 5xx as well",
        "certainty": "possible",
        "next": "look for this client's connection in the relay's log: who closed it, and which status its requests got"
      }
    }
    "#);
}

#[test]
fn what_cannot_be_read_is_exit_1() {
    let home = Home::new().with_log();
    home.write("empty.log", "");
    home.write("other.log", "a letter\nof two lines\n");
    insta::assert_snapshot!(home.run(&["explain", "gone.log"]), @r"
    exit 1
    -- stderr
    error: cannot read gone.log
      caused by: no such file or directory (os error 2)
    ");
    insta::assert_snapshot!(home.run(&["explain", "empty.log"]), @r#"
    exit 1
    -- stderr
    error: cannot explain empty.log: it is empty

    hint: collect one on the Mac: log show --info --debug --last 10m --style compact --predicate 'subsystem == "com.apple.network" OR subsystem == "com.apple.networkextension"' > mac.log
    "#);
    insta::assert_snapshot!(home.run(&["explain", "other.log"]), @r#"
    exit 1
    -- stderr
    error: cannot explain other.log: none of its 2 lines is one of Apple's network log

    hint: collect one on the Mac: log show --info --debug --last 10m --style compact --predicate 'subsystem == "com.apple.network" OR subsystem == "com.apple.networkextension"' > mac.log
    "#);
    insta::assert_snapshot!(home.run(&["explain", "mac.log", "--records", "other.log"]), @r"
    exit 1
    -- stderr
    error: cannot read other.log: line 1: expected value at line 1 column 1

    hint: each line must be a record in JSON, like the relay writes them
    ");
    insta::assert_snapshot!(home.run(&["explain", "mac.log", "--records", "gone.jsonl"]), @r"
    exit 1
    -- stderr
    error: cannot read gone.jsonl
      caused by: no such file or directory (os error 2)
    ");
}

#[test]
fn wrong_usage_is_exit_2() {
    let home = Home::new();
    insta::assert_snapshot!(home.run(&["explain", "mac.log", "--client-error", "4"]), @r"
    exit 2
    -- stderr
    error: the argument '[LOG]' cannot be used with '--client-error <N>'

    Usage: masque-relay explain <LOG>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(shown(home.command(&["explain", "--client-error", "none"])), @r"
    exit 2
    -- stderr
    error: invalid value 'none' for '--client-error <N>': invalid digit found in string

    For more information, try '--help'.
    ");
}
