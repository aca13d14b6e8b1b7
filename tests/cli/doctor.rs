//! `doctor`: what a person sees of it, against a real relay.

use std::fs;

use crate::{Home, serve::Relay};

/// A report as it is but for what differs from run to run.
fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"127\.0\.0\.1:\d+", "ADDRESS");
    settings.add_filter(r"\d+(\.\d)? (ms|s)\b", "TIME");
    settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE");
    settings.add_filter(r"it names .*", "it names NAMES");
    settings
}

/// A development relay that has finished looking at itself, with its line about that.
fn dev(home: &Home, more: &[&str]) -> (Relay, String) {
    let mut relay = Relay::start(home, &[&["serve", "--dev", "--listen", "127.0.0.1:0"], more].concat());
    let says = relay.process.hears("doctor: ");
    (relay, says)
}

#[test]
fn a_development_relay_is_well_and_says_so() {
    let home = Home::new();
    let (_relay, says) = dev(&home, &[]);
    assert_eq!(says, "doctor: 74 checks: 74 ok");
    settings().bind(|| {
        insta::assert_snapshot!(home.run(&["doctor"]), @r"
    exit 0
    -- stdout
    ADDRESS
    reach
      ok    127.0.0.1 is at 127.0.0.1
      ok    udp ADDRESS answers first packets of 1350 and 1200 bytes; handshake in TIME
      ok    tcp ADDRESS answers; TLS in TIME
    certificate
      ok    a leaf with P-256, issued by CN=masque-relay development CA, and nothing else
      ok    it is issued by a CA, not by itself
      ok    the chain leads to a trusted authority
      ok    it names NAMES
      ok    127.0.0.1 is among them
      ok    it is valid until DATE
      ok    it is valid since DATE
      ok    it is valid for 397 days
      ok    its extended key usage has serverAuth
      ok    no signature uses SHA-1
      ok    its key is P-256
      ok    both versions show the same
    HTTP/3 connection
      ok    QUIC v1, TLS 1.3, ALPN h3, in TIME
      ok    no Retry packet
      ok    the relay's connection ID has 8 bytes
      ok    max_datagram_frame_size is 65535
      ok    the relay allows 100 requests at once
      ok    the relay announces that it keeps an idle connection for TIME (not tried)
      ok    the relay asks for no client certificate
      ok    SETTINGS: 0x6 = 16384, 0x8 = 1, 0x33 = 1
      ok    they come in the relay's first flight, before it has our Finished
      ok    SETTINGS_ENABLE_CONNECT_PROTOCOL (0x08) is 1
      ok    SETTINGS_H3_DATAGRAM (0x33) is 1
      ok    the relay stops none of our critical streams
      ok    the relay keeps its critical streams open
      ok    no rule of HTTP was broken
      ok    no GOAWAY
      ok    the relay keeps the connection open
      ok    the connection goes on from another port
    HTTP/3 TCP
      ok    classic CONNECT to a port that nobody serves is answered with 502
      ok    a tunnel to the target opens in TIME
      ok    the 200 has no field that does not belong there
      ok    64 bytes come back in TIME
      ok    1024 KiB come back in TIME
      ok    our end reaches the target, and its end comes back
    HTTP/3 UDP
      ok    a tunnel to the target opens by the well-known path
      ok    the URL's template is the well-known path
      ok    the answer has `capsule-protocol: ?1`
      ok    payloads come under context ID 0
      ok    datagrams come to their own stream
      ok    52 of 52 payloads come back in datagrams
      ok    the fastest payload took TIME
      ok    a payload in a DATAGRAM capsule comes back too
      ok    a second tunnel carries its own payloads beside the first
    HTTP/3 refusals
      ok    a refusal with 502 has Proxy-Status
      ok    a refusal ends with the end of the stream
      ok    a request without the credential is answered with 407
    HTTP/2 connection
      ok    TCP, TLS, ALPN h2, in TIME
      ok    the relay asks for no client certificate
      ok    SETTINGS: 0x3 = 1088, 0x4 = 8388608, 0x5 = 65536, 0x6 = 16384, 0x8 = 1
      ok    they come TIME after the handshake
      ok    SETTINGS_ENABLE_CONNECT_PROTOCOL (0x08) is 1
      ok    no rule of HTTP was broken
      ok    no GOAWAY
      ok    the relay keeps the connection open
    HTTP/2 TCP
      ok    classic CONNECT to a port that nobody serves is answered with 502
      ok    a tunnel to the target opens in TIME
      ok    the 200 has no field that does not belong there
      ok    64 bytes come back in TIME
      ok    1024 KiB come back in TIME
      ok    our end reaches the target, and its end comes back
    HTTP/2 UDP
      ok    a tunnel to the target opens by the well-known path
      ok    the URL's template is the well-known path
      ok    the answer has `capsule-protocol: ?1`
      ok    payloads come under context ID 0
      ok    52 of 52 payloads come back in capsules
      ok    the fastest payload took TIME
      ok    a second tunnel carries its own payloads beside the first
    HTTP/2 refusals
      ok    a refusal with 502 has Proxy-Status
      ok    a refusal ends with the end of the stream
      ok    a request without the credential is answered with 407

    74 checks: 74 ok
    ");
    });
}

#[test]
fn a_fault_is_named_with_evidence_and_hint() {
    let home = Home::new();
    let (_relay, says) = dev(&home, &["--fault", "no-h3-datagram"]);
    assert_eq!(says, "doctor: 74 checks: 73 ok, 1 failed; `doctor` in this directory tells more");
    let report = home.run(&["doctor"]);
    let failed: Vec<_> = report.lines().skip_while(|line| !line.starts_with("  fail")).take(3).collect();
    insta::assert_snapshot!(failed.join("\n"), @r"
      fail  http3.h3-datagram: SETTINGS_H3_DATAGRAM (0x33) is not announced
            hint: a client may not send UDP payloads in QUIC datagrams without it: it must be 1
            like `serve --fault no-h3-datagram`
    ");
    assert!(report.starts_with("exit 1\n") && report.ends_with("\n-- stderr\nerror: a check failed\n"), "{report}");
}

#[test]
fn what_is_announced_and_not_tried_is_called_so() {
    let home = Home::new().with_certificate();
    let relay = Relay::configured(&home, "timeouts.idle = \"30s\"\ntimeouts.udp_idle = \"45s\"\n");
    let report = home.run(&["doctor", &relay.url, "--ca", "certs/ca.pem", "--token-file", "token"]);
    let found: Vec<_> = report.lines().skip_while(|line| !line.contains("http3.idle")).take(2).collect();
    insta::assert_snapshot!(found.join("\n"), @r"
      warn  http3.idle: the relay announces that it gives up an idle connection after 45 s (not tried)
            hint: clients go idle for a minute and more: allow 120 s at least
    ");
}

#[test]
fn json_has_every_finding() {
    let home = Home::new();
    let (_relay, _) = dev(&home, &[]);
    let json: serde_json::Value = serde_json::from_str(&home.stdout(&["doctor", "--json"])).expect("JSON");
    let findings = json[0]["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), 74);
    for finding in findings {
        assert!(finding["check"].is_string() && finding["group"].is_string() && finding["evidence"].is_string(), "{finding}");
        assert_eq!(finding["verdict"], "ok", "{finding}");
    }
}

#[test]
fn a_credential_that_does_not_count_is_named_without_any_target() {
    let home = Home::new().with_client();
    let serial = home.foreign_stdout("openssl", &["x509", "-in", "certs/alice.pem", "-noout", "-serial"]);
    let serial = serial.trim().strip_prefix("serial=").expect("a number");
    let relay = Relay::configured(&home, &format!("access.client_ca = \"certs/ca.pem\"\naccess.revoked = [\"{serial}\"]\n"));
    home.write("alice", &(home.read("certs/alice.pem") + &home.read("certs/alice.key")));
    for (given, exit, says) in [
        (&["--token", "nope"][..], 1, "fail  http3.credential: the credential is not accepted (status 407)"),
        (&["--identity", "alice"], 1, "fail  http2.credential: the client certificate is not accepted as a credential (status 407)"),
        (&[], 0, "skip  http3.credential: the relay asks for a credential (status 407), and none is given"),
        (&["--token-file", "token"], 0, "ok    a request without the credential is answered with 407"),
    ] {
        let report = home.run(&[&["doctor", &relay.url, "--ca", "certs/ca.pem"], given].concat());
        assert!(report.starts_with(&format!("exit {exit}\n")) && report.contains(says), "{given:?}: {report}");
    }
}

/// In every form in which people have one; RC2 after it was packed anew as the hint says.
#[test]
fn an_identity_opens_the_door_as_pem_and_as_pkcs12() {
    let home = Home::new().with_client();
    let relay = Relay::configured(&home, "access.client_ca = \"certs/ca.pem\"\n");
    home.write("both.pem", &(home.read("certs/alice.pem") + &home.read("certs/alice.key")));
    home.packed("new.p12", &[]);
    home.packed("rc2.p12", &["-legacy"]);
    home.foreign_stdout("openssl", &["pkcs12", "-legacy", "-in", "rc2.p12", "-nodes", "-out", "plain.pem", "-passin", "file:password"]);
    home.foreign_stdout("openssl", &["pkcs12", "-export", "-in", "plain.pem", "-out", "again.p12", "-passout", "file:password"]);
    let password = ["--identity-password-file", "password"];
    for (file, more) in [("certs/alice.pem", &[][..]), ("both.pem", &[]), ("new.p12", &password), ("again.p12", &password)] {
        let report = home.run(&[&["doctor", &relay.url, "--ca", "certs/ca.pem", "--identity", file], more].concat());
        assert!(report.starts_with("exit 0\n") && report.contains("and takes ours"), "{file}: {report}");
    }
    let profile = ["profile", "mobileconfig", &relay.url, "--ca", "certs/ca.pem", "--match", "corp.example", "--password-file", "password"];
    home.stdout(&[&profile[..], &["--identity", "new.p12", "--out", "new.mobileconfig"]].concat());
    let report = home.run(&["doctor", "--profile", "new.mobileconfig"]);
    assert!(report.starts_with("exit 0\n") && report.contains("and takes ours"), "{report}");

    home.stdout(&[&profile[..], &["--identity", "rc2.p12", "--out", "rc2.mobileconfig"]].concat());
    let report = home.run(&["doctor", "--profile", "rc2.mobileconfig"]);
    let told: Vec<_> = report.lines().skip_while(|line| !line.contains("profile.identity")).take(2).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
      warn  profile.identity: the identity in it is not shown to the relay: it is protected by RC2 (40 bits), which is not read here
            hint: pack it anew: `openssl pkcs12 -legacy -in OLD -nodes -out PEM`, then `openssl pkcs12 -export -in PEM -out NEW`
    ");
}

#[test]
fn an_identity_that_cannot_be_used_says_why() {
    let home = Home::new().with_client();
    home.packed("alice.p12", &[]);
    home.packed("rc2.p12", &["-legacy"]);
    home.packed("open.p12", &["-keypbe", "NONE", "-certpbe", "NONE", "-nomac", "-nokeys"]);
    home.write("wrong", "another\n");
    home.write("text", "a text");
    let told = |identity: &[&str]| home.run(&[&["doctor", "https://relay.invalid", "--identity"], identity].concat());
    insta::assert_snapshot!(told(&["alice.p12", "--identity-password-file", "wrong"]), @r"
    exit 2
    -- stderr
    error: cannot use the identity alice.p12: the password does not open it
    ");
    insta::assert_snapshot!(told(&["alice.p12"]), @r"
    exit 2
    -- stderr
    error: cannot use the identity alice.p12 without its password

    hint: `--identity-password-file FILE` names a file with it
    ");
    insta::assert_snapshot!(told(&["rc2.p12", "--identity-password-file", "password"]), @r"
    exit 2
    -- stderr
    error: cannot use the identity rc2.p12: it is protected by RC2 (40 bits), which is not read here

    hint: pack it anew: `openssl pkcs12 -legacy -in OLD -nodes -out PEM`, then `openssl pkcs12 -export -in PEM -out NEW`
    ");
    insta::assert_snapshot!(told(&["open.p12"]), @r"
    exit 2
    -- stderr
    error: cannot use the identity open.p12: it has no private key

    hint: it must hold both the certificate and its key
    ");
    insta::assert_snapshot!(told(&["text"]), @r"
    exit 2
    -- stderr
    error: cannot use the identity text: it is no PKCS#12, or a damaged one

    hint: it must be PKCS#12 or PEM; `masque-relay cert client NAME` makes the latter
    ");
    insta::assert_snapshot!(told(&["certs/alice.pem", "--identity-password-file", "password"]), @r"
    exit 2
    -- stderr
    error: cannot use a password with the identity certs/alice.pem: it is PEM
    ");
    home.write("bob.pem", &home.read("certs/alice.pem"));
    insta::assert_snapshot!(told(&["bob.pem"]), @r"
    exit 2
    -- stderr
    error: cannot read the private key bob.key
      caused by: no such file or directory (os error 2)

    hint: the key is the file that was made together with the certificate
    ");
}

#[test]
fn no_credential_goes_where_the_certificate_is_not_trusted() {
    let home = Home::new().with_certificate();
    let relay = Relay::configured(&home, "");
    home.stdout(&["cert", "ca", "--out", "other"]);
    let arguments = ["doctor", &relay.url, "--ca", "other/ca.pem", "--token-file", "token"];
    let report = home.run(&arguments);
    assert!(report.contains("http3.connect: the credential was not sent, since the certificate is not to be trusted"), "{report}");
    assert!(report.contains("like `serve --fault cert-no-chain`"), "{report}");
    let report = home.run(&[&arguments[..], &["--insecure"]].concat());
    assert!(report.contains("ok    classic CONNECT to a port that nobody serves is answered with 502"), "{report}");
}

#[test]
fn a_profile_is_linted_and_its_relay_examined() {
    let home = Home::new();
    let (_relay, _) = dev(&home, &[]);
    let echo: serde_json::Value = serde_json::from_str(&home.read("certs/dev/relay.json")).expect("JSON");
    let (tcp, udp) = (echo["tcp"].as_str().expect("an address"), echo["udp"].as_str().expect("an address"));
    let report = home.run(&["doctor", "--profile", "certs/dev/relay.mobileconfig", "--target-tcp", tcp, "--target-udp", udp]);
    assert!(report.starts_with("exit 0\n") && report.contains("\n74 checks: 74 ok\n"), "{report}");
    settings().bind(|| {
        let linted = report.split("\n\n").next().unwrap_or_default();
        insta::assert_snapshot!(linted, @r"
        exit 0
        -- stdout
        certs/dev/relay.mobileconfig
        profile
          warn  profile.lint: `MatchDomains`: is empty, and so is `MatchFQDNs`: everything the device does goes through the relay
          warn  profile.lint: `Relays[0].HTTP3RelayURL`: `127.0.0.1` is the device itself: only this machine reaches a relay there
        ");
    });
    // One that a device refuses is not only linted: what can be examined is.
    let text = home.read("certs/dev/relay.mobileconfig").replace("<string>Configuration</string>", "<string>Other</string>");
    fs::write(home.path("bad.mobileconfig"), text).expect("a file");
    let report = home.run(&["doctor", "--profile", "bad.mobileconfig"]);
    assert!(report.starts_with("exit 1\n") && report.contains("fail  profile.lint: `PayloadType`: must be"), "{report}");
    assert!(report.contains("ok    QUIC v1"), "{report}");
}

#[test]
fn wrong_usage_is_told() {
    insta::assert_snapshot!(Home::new().run(&["doctor"]), @r"
    exit 2
    -- stderr
    error: no relay is named, and no development relay was started in this directory

    hint: `masque-relay doctor https://relay.example`, or `masque-relay serve --dev` first
    ");
    insta::assert_snapshot!(Home::new().run(&["doctor", "http://relay.example"]), @r"
    exit 2
    -- stderr
    error: cannot use the URL http://relay.example: it does not start with https://

    hint: write it like `https://relay.example` or `https://[2001:db8::7]:4433`
    ");
    insta::assert_snapshot!(Home::new().run(&["doctor", "https://relay.invalid"]), @r"
    exit 1
    -- stdout
    relay.invalid:443
    reach
      fail  reach.name: relay.invalid cannot be resolved: failed to lookup address information: Name or service not known
            hint: the name in the URL needs an A or AAAA record that clients see
      skip  2 checks: they need `reach.name` to be ok
    certificate
      skip  12 checks: they need `reach.name` to be ok

    15 checks: 1 failed, 14 skipped
    -- stderr
    error: a check failed
    ");
}
