//! `cert`: files with the right modes, and words that say what they are for.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::Home;

#[test]
fn a_ca_and_a_leaf_are_two_commands() {
    let home = Home::new();
    insta::assert_snapshot!(home.run(&["cert", "ca"]), @r"
    exit 0
    -- stderr
    wrote certs/ca.pem and certs/ca.key
    clients trust the relay once ca.pem is installed on them and trusted there; keep ca.key where the relay does not run
    ");
    insta::assert_snapshot!(home.run(&["cert", "server", "relay.example", "192.0.2.7"]), @r"
    exit 0
    -- stderr
    wrote certs/cert.pem and certs/key.pem
    ");
    insta::assert_snapshot!(home.run(&["cert", "client", "alice"]), @r"
    exit 0
    -- stderr
    wrote certs/alice.pem and certs/alice.key
    ");
    for (name, mode) in
        [("ca.pem", 0o644), ("ca.key", 0o600), ("cert.pem", 0o644), ("key.pem", 0o600), ("alice.pem", 0o644), ("alice.key", 0o600)]
    {
        let file = fs::metadata(home.path("certs").join(name)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let home = Home::new().with_certificate();
    let before = home.read("certs/cert.pem");
    insta::assert_snapshot!(home.run(&["cert", "server", "other.example"]), @r"
    exit 1
    -- stderr
    error: cannot write certs/cert.pem: it is there already

    hint: `--force` replaces it, `--out` writes elsewhere
    ");
    assert_eq!(home.read("certs/cert.pem"), before);
    home.stdout(&["cert", "server", "other.example", "--force"]);
    assert_ne!(home.read("certs/cert.pem"), before);
    let inspected = home.stdout(&["cert", "inspect", "certs/cert.pem"]);
    assert!(inspected.contains("names    other.example\n"), "{inspected}");
}

#[test]
fn what_cannot_be_issued_says_what_would_do() {
    insta::assert_snapshot!(Home::new().run(&["cert", "server", "relay.example"]), @r"
    exit 2
    -- stderr
    error: cannot read the certificate certs/ca.pem
      caused by: no such file or directory (os error 2)

    hint: `masque-relay cert ca` makes a CA
    ");
    let home = Home::new().with_certificate();
    insta::assert_snapshot!(home.run(&["cert", "server", "https://relay.example", "--force"]), @r"
    exit 2
    -- stderr
    error: cannot issue for `https://relay.example`: it is neither a DNS name nor an IP address

    hint: write a name without scheme or port, like `relay.example`, `*.example`, `192.0.2.7` or `2001:db8::7`
    ");
    insta::assert_snapshot!(home.run(&["cert", "server", "relay.example", "--force", "--days", "826"]), @r"
    exit 2
    -- stderr
    error: cannot issue for 826 days

    hint: take 1 to 825: Apple's clients refuse longer ones
    ");
    insta::assert_snapshot!(home.run(&["cert", "client", "../alice"]), @r"
    exit 2
    -- stderr
    error: cannot issue for `../alice`: it is neither a DNS name nor an IP address

    hint: write a name without scheme or port, like `relay.example`, `*.example`, `192.0.2.7` or `2001:db8::7`
    ");
    insta::assert_snapshot!(home.run(&["cert", "client", "a:b"]), @r"
    exit 2
    -- stderr
    error: invalid value 'a:b' for '<USER>': must be 1 to 64 visible ASCII characters without colon, quote or backslash, and not `-` alone

    For more information, try '--help'.
    ");
}

#[test]
fn a_certificate_says_what_it_is() {
    let home = Home::new().with_certificate();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE");
    settings.add_filter(r"([0-9a-f]{2}:){15}[0-9a-f]{2}", "SERIAL");
    settings.add_filter(r"[0-9a-f]{64}", "HASH");
    settings.bind(|| {
        insta::assert_snapshot!(home.run(&["cert", "inspect", "certs/cert.pem"]), @r"
        exit 0
        -- stdout
        subject  CN=relay.example
        issuer   CN=masque-relay CA
        names    relay.example, 192.0.2.7
        valid    DATE to DATE
        key      P-256
        usage    server
        serial   SERIAL
        sha-256  HASH
        ");
        insta::assert_snapshot!(home.run(&["cert", "inspect", "certs/ca.pem"]), @r"
        exit 0
        -- stdout
        subject  CN=masque-relay CA
        issuer   CN=masque-relay CA
        names    none
        valid    DATE to DATE
        key      P-256
        usage    CA
        serial   SERIAL
        sha-256  HASH
        ");
    });
    insta::assert_snapshot!(home.run(&["cert", "inspect", "certs/key.pem"]), @r"
    exit 2
    -- stderr
    error: cannot use certs/key.pem: there is no certificate in it

    hint: the file needs the certificate first, then the intermediates of its CA
    ");
    insta::assert_snapshot!(home.run(&["cert", "inspect", "nowhere.pem"]), @r"
    exit 2
    -- stderr
    error: cannot read the certificate nowhere.pem
      caused by: no such file or directory (os error 2)

    hint: `masque-relay cert ca` and `masque-relay cert server NAME` make a CA and a certificate
    ");
}

#[test]
fn what_apple_would_refuse_is_a_warning() {
    let home = Home::new().with_certificate();
    home.stdout(&["cert", "server", "relay.example", "--force", "--days", "2"]);
    let inspected = home.stdout(&["cert", "inspect", "certs/cert.pem"]);
    assert!(inspected.contains("\nwarning  it expires on "), "{inspected}");
}

#[test]
fn a_token_and_its_entry_belong_together() {
    let home = Home::new().with_certificate();
    let out = home.stdout(&["cert", "token", "--user", "alice"]);
    let [token, entry] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    assert_eq!(token.len(), 43);
    assert!(!entry.contains(token));
    home.write(
        "relay.toml",
        &format!("certificate = {{ chain = \"certs/cert.pem\", key = \"certs/key.pem\" }}\naccess.tokens = [{entry}]\n"),
    );
    let shown = home.run(&["check", "--config", "relay.toml"]);
    assert!(shown.starts_with("exit 0") && shown.contains("1 token,"), "{shown}");
    assert_ne!(home.stdout(&["cert", "token"]), out);
}
