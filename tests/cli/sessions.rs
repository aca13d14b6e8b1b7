//! `sessions`, beside a relay that runs, and beside none.

use std::net::UdpSocket;

use super::{Home, PATIENCE, Process, Relay};

/// Numbers that are others every time.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    for (pattern, word) in [
        (r"(?m)^ +\+[0-9.]+ m?s", "  +TIME"),
        (r"after [0-9.]+ m?s", "after TIME"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "DATE"),
        (r"\d\d:\d\d:\d\d\.\d{3}", "TIME"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"\d+/\d+", "IN/OUT"),
        (r"(over|ended): (both sides finished|the client's connection is gone: the client closed: H3_NO_ERROR)", "$1: WHY"),
        (r"q13\w+", "JA4"),
        (r"\d+ bytes in, \d+ out; round trip [0-9.]+ m?s, MTU \d+, 0 of \d+ packets lost, \d+ received", "FIGURES"),
        (r"(?m)([^ \n])  +", "$1  "),
    ] {
        settings.add_filter(pattern, word);
    }
    settings
}

/// A relay with its admin socket, through which one tunnel went and another was refused.
fn relay(home: &Home) -> Relay {
    let relay = Relay::configured(home, "admin = \"admin.sock\"\nlog.records = \"records.jsonl\"\nlog.privacy = \"none\"\n");
    let (mut probe, target) = relay.tunnel(home);
    drop(target);
    drop(probe.ended());
    let mut stranger = Process::start(home.command(&["probe", &relay.url, "--ca", "certs/ca.pem", "--tcp", "a.test:80"]));
    drop(stranger.ended());
    relay
}

/// What `sessions` says, but for lines that come or do not come with the hurry of the machine.
fn shown(home: &Home, arguments: &[&str]) -> String {
    let text = home.run(&[&["sessions", "--admin", "admin.sock"], arguments].concat());
    // What the client of this program offers is not this test's to say.
    let (before, rest) = text.split_once("the client offered:").unwrap_or((&text, ""));
    let behind = rest.find("findings:").map_or("", |at| &rest[at..]);
    let lines = before.lines().chain(behind.lines()).filter(|line| !line.ends_with("stream 0: opened") && !line.ends_with("stream 0: FIN"));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn connections_in_a_table_and_one_as_a_timeline() {
    let home = Home::new().with_certificate();
    let mut relay = relay(&home);
    for _ in 0..2 {
        relay.process.hears("connection closed");
    }
    settings().bind(|| {
        insta::assert_snapshot!(shown(&home, &[]), @r"
        exit 0
        -- stdout
        ID  SINCE (UTC)  CLIENT  HTTP  REQUESTS  BYTES IN/OUT  STATE
        0.1  TIME  ADDRESS  3  1  IN/OUT  over after TIME: the client closed with 0x100 (H3_NO_ERROR)
        0.2  TIME  ADDRESS  3  1  IN/OUT  over after TIME: the client closed with 0x100 (H3_NO_ERROR); CONNECT was answered 407 after TIME: the credential was missing or wrong
        ");
        insta::assert_snapshot!(shown(&home, &["0.1"]), @r"
        exit 0
        -- stdout
        connection 0.1 from ADDRESS, HTTP/3, since DATE

          +TIME  client  first packet
          +TIME  client  ClientHello for no name, JA4
          +TIME  relay  SETTINGS 0x6 (max field section) = 16384, 0x8 (extended CONNECT) = 1, 0x33 (datagrams) = 1
          +TIME  -  the handshake is complete
          +TIME  client  SETTINGS 0x33 (datagrams) = 1
          +TIME  client  stream 0: CONNECT, as alice; proxy-authorization (50 bytes)
          +TIME  relay  stream 0: 200
          +TIME  -  stream 0: over: WHY; 0 bytes out, 0 back
          +TIME  client  the client closed with 0x100 (H3_NO_ERROR)

        FIGURES
        findings:
          the client closed with 0x100 (H3_NO_ERROR)
            certain: an orderly end: it names no fault
          CONNECT was answered 200 after TIME; ended: WHY
        ");
        insta::assert_snapshot!(shown(&home, &["0.2"]), @r"
        exit 0
        -- stdout
        connection 0.2 from ADDRESS, HTTP/3, since DATE

          +TIME  client  first packet
          +TIME  client  ClientHello for no name, JA4
          +TIME  relay  SETTINGS 0x6 (max field section) = 16384, 0x8 (extended CONNECT) = 1, 0x33 (datagrams) = 1
          +TIME  -  the handshake is complete
          +TIME  client  SETTINGS 0x33 (datagrams) = 1
          +TIME  client  stream 0: CONNECT
          +TIME  relay  stream 0: 407, http_request_denied: no credentials; the client's profile has none, or another field carries them
          +TIME  client  the client closed with 0x100 (H3_NO_ERROR)

        FIGURES
        findings:
          the client closed with 0x100 (H3_NO_ERROR)
            certain: an orderly end: it names no fault
          CONNECT was answered 407 after TIME
            certain: the credential was missing or wrong
            next: put it into AdditionalHTTPHeaderFields of the profile: there is no second round to count on
        ");
        insta::assert_snapshot!(shown(&home, &["0.17"]), @r"
        exit 1
        -- stderr
        error: the relay says: no connection is called 0.17, or it is no longer among the last ones

        hint: `masque-relay sessions` lists those that are known
        ");
    });
    // What it prints as JSON is what the file has, and what `explain` reads.
    let told = home.stdout(&["sessions", "--admin", "admin.sock", "0.2", "--json"]);
    relay.process.signal("TERM");
    relay.process.ended();
    assert_eq!(home.read("records.jsonl").lines().nth(1), told.lines().next());
    // Over already: follow tells it and ends, were the relay there.
    let after = home.run(&["sessions", "--admin", "admin.sock"]);
    assert!(after.starts_with("exit 1") && after.contains("no relay runs here"), "{after}");
}

#[test]
fn a_client_of_another_quic_version_is_listed_with_what_it_was_told() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "admin = \"admin.sock\"\n");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.set_read_timeout(Some(PATIENCE)).expect("a time that is not zero");
    // QUIC version 2 (RFC 9369), an Initial packet as far as anybody can tell.
    let mut packet = [&[0xd0, 0x6b, 0x33, 0x43, 0xcf, 8][..], &[1; 8], &[0]].concat();
    packet.resize(1200, 0);
    client.send_to(&packet, relay.url.trim_start_matches("https://")).expect("the relay's port");
    client.recv(&mut packet).expect("an answer");
    settings().bind(|| {
        insta::assert_snapshot!(shown(&home, &[]), @r"
        exit 0
        -- stdout
        ID  SINCE (UTC)  CLIENT  HTTP  REQUESTS  BYTES IN/OUT  STATE
        0.1  TIME  ADDRESS  -  0  IN/OUT  not let in: version negotiation, it offered 0x6b3343cf (v2)
        ");
        insta::assert_snapshot!(shown(&home, &["0.1"]), @r"
        exit 0
        -- stdout
        connection 0.1 from ADDRESS, QUIC, since DATE

          +TIME  client  packet of QUIC version 0x6b3343cf (v2), connection IDs of 8 and 0 bytes
          +TIME  relay  Version Negotiation: 0xa1a2a3a (GREASE), 0x1 (v1), 0xff00001d (draft-29), 0xff00001e (draft-30), 0xff00001f (draft-31), 0xff000020 (draft-32), 0xff000021 (draft-33), 0xff000022 (draft-34)

        0 bytes in, 0 out
        findings:
          the client offered QUIC version 0x6b3343cf (v2), which is not spoken here, and was told those that are
            certain: if it speaks one of them, there is another record of it; if there is none, it does not, or did not get the answer
            next: it must speak version 1 (RFC 9000), or HTTP/2 over TCP
        ");
    });
    relay.process.signal("TERM");
    relay.process.ended();
}

#[test]
fn who_follows_sees_connections_come_and_go() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "admin = \"admin.sock\"\n");
    let mut follower = Process::start(home.command(&["sessions", "--admin", "admin.sock", "--follow"]));
    assert!(follower.line().starts_with("ID "), "a heading first");
    let (mut probe, target) = relay.tunnel(&home);
    drop(target);
    drop(probe.ended());
    relay.process.hears("connection closed");
    let (opened, closed) = (follower.line(), follower.line());
    assert!(opened.starts_with("0.1 ") && opened.ends_with(" open"), "{opened}");
    assert!(closed.starts_with("0.1 ") && closed.contains(" over after "), "{closed}");
    let one = home.stdout(&["sessions", "--admin", "admin.sock", "--follow", "0.1"]);
    assert!(one.contains("findings:"), "one that is over is told at once: {one}");
    relay.process.signal("TERM");
    relay.process.ended();
}

#[test]
fn where_no_relay_runs() {
    let home = Home::new();
    insta::assert_snapshot!(home.run(&["sessions"]), @r"
    exit 1
    -- stderr
    error: no relay runs here: there is no admin socket at /run/masque-relay/admin.sock or certs/dev/admin.sock

    hint: start one, like `masque-relay serve --dev`; or name its socket (the key `admin`) with `--admin FILE`
    ");
    drop(std::os::unix::net::UnixListener::bind(home.path("left.sock")).expect("a free path"));
    insta::assert_snapshot!(home.run(&["sessions", "--admin", "left.sock"]), @r"
    exit 1
    -- stderr
    error: cannot ask the relay at left.sock
      caused by: connection refused (os error 111)

    hint: the relay that made it is gone; start it again, or name another with `--admin`
    ");
    insta::assert_snapshot!(home.stdout(&["sessions", "--help"]), @r"
    Show the connections of a running relay, and what happened on one

    Usage: masque-relay sessions [OPTIONS] [ID]

    Arguments:
      [ID]  One connection: what happened on it, in the order of time, and what that means

    Options:
          --follow        Go on with what happens
          --json          A line of JSON for each
          --admin <FILE>  The relay's admin socket, where it is not found by itself
      -h, --help          Print help

    Known are the open connections and the last 1,024 that are over. The socket is that of `--admin`
    or MASQUE_RELAY_ADMIN, or admin.sock in $RUNTIME_DIRECTORY, /run/masque-relay or certs/dev.
    Example: masque-relay sessions 0.17
    ");
}

#[test]
fn a_socket_that_cannot_be_is_explained() {
    let home = Home::new().with_certificate();
    let entry = "listen = [\"127.0.0.1:0\"]\naccess.open = true\ncertificate = { chain = \"certs/cert.pem\", key = \"certs/key.pem\" }\n";
    home.write("relay.toml", &format!("admin = \"{}\"\n{entry}", "x".repeat(120)));
    insta::assert_snapshot!(home.run(&["serve", "--config", "relay.toml"]), @r#"
    exit 1
    -- stderr
    error: cannot listen at xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: the path has 120 bytes, a socket's at most 107

    hint: name a shorter one with the key `admin`, or `admin = "off"`
    "#);
    home.write("relay.toml", &format!("log.records = \"nowhere/records.jsonl\"\n{entry}"));
    insta::assert_snapshot!(home.run(&["serve", "--config", "relay.toml"]), @r"
    exit 1
    -- stderr
    error: cannot open the file for records nowhere/records.jsonl
      caused by: no such file or directory (os error 2)

    hint: `log.records` names it; the user that runs the relay must be allowed to write there
    ");
    home.write("relay.toml", &format!("log.qlog = \"relay.toml\"\n{entry}"));
    insta::assert_snapshot!(home.run(&["serve", "--config", "relay.toml"]), @r"
    exit 1
    -- stderr
    error: cannot use the directory for qlog files relay.toml
      caused by: file exists (os error 17)

    hint: `--qlog` or `log.qlog` names it; the user that runs the relay must be allowed to write there
    ");
}
