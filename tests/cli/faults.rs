//! `serve --fault`: what may, what may not, and what is said about it.

use insta::assert_snapshot;
use masque_relay::fault::EVERY;

use crate::{Home, serve::Relay};

#[test]
fn help_lists_every_fault_and_starts_nothing() {
    let list = Home::new().stdout(&["serve", "--fault", "help"]);
    assert!(list.starts_with("ways to misbehave, and the versions of HTTP in which each shows:\n"), "{list}");
    for fault in EVERY {
        assert!(list.contains(&format!("\n  {} ", fault.about().form())), "{fault} is not in {list}");
    }
    assert!(list.lines().all(|line| line.chars().count() <= 120), "{list}");
}

#[test]
fn what_is_no_fault_says_what_is() {
    assert_snapshot!(Home::new().run(&["serve", "--dev", "--fault", "goawy"]), @r"
    exit 2
    -- stderr
    error: invalid value 'goawy' for '--fault <NAME[=ARG]>': there is no fault `goawy`: did you mean `goaway`?; `masque-relay fault help` lists them

    For more information, try '--help'.
    ");
    assert_snapshot!(Home::new().run(&["serve", "--dev", "--fault", "stall=0"]), @r"
    exit 2
    -- stderr
    error: invalid value 'stall=0' for '--fault <NAME[=ARG]>': `stall=0` cannot be: it takes a number of bytes, 1 or more

    For more information, try '--help'.
    ");
}

#[test]
fn a_relay_that_may_not_misbehave_does_not_start() {
    let home = Home::new().with_certificate();
    let arguments =
        ["serve", "--cert", "certs/cert.pem", "--key", "certs/key.pem", "--listen", "127.0.0.1:0", "--open", "--fault", "goaway"];
    assert_snapshot!(home.run(&arguments), @r"
    exit 2
    -- stderr
    error: cannot start with the fault `goaway`: this relay may not misbehave

    hint: `--dev` lets it, and so does `allow = true` under `[fault]`; not where anybody depends on it
    ");
}

#[test]
fn a_development_relay_misbehaves_and_says_so_loudly() {
    let home = Home::new();
    let arguments = ["serve", "--dev", "--listen", "127.0.0.1:0", "--fault", "status=503", "--fault", "datagram-drop=0.3", "--seed", "7"];
    let mut relay = Relay::start(&home, &arguments);
    relay.process.hears("the fault `status=503` is on: this relay answers every request with CODE");
    relay.process.hears("the fault `datagram-drop=0.3` is on");
    let probed = home.run(&["probe", &relay.url, "--ca", "certs/dev/ca.pem", "--token-file", "certs/dev/token", "--tcp", "127.0.0.1:9"]);
    assert!(probed.starts_with("exit 1\n") && probed.contains("the fault `status` is on"), "{probed}");
}

/// Bad certificates are of the development CA: they are bad in one way alone.
#[test]
fn a_bad_certificate_is_of_the_ca_that_clients_trust() {
    let home = Home::new();
    let relay = Relay::start(&home, &["serve", "--dev", "--listen", "127.0.0.1:0", "--fault", "cert-expired"]);
    let probed = home.run(&["probe", &relay.url, "--ca", "certs/dev/ca.pem", "--token-file", "certs/dev/token", "--tcp", "127.0.0.1:9"]);
    assert!(probed.starts_with("exit 1\n") && probed.contains("certificate expired"), "{probed}");
}

#[test]
fn a_running_relay_is_made_to_misbehave_and_to_behave_again() {
    let home = Home::new();
    let relay = Relay::start(&home, &["serve", "--dev", "--listen", "127.0.0.1:0", "--fault", "cid=19"]);
    let probe =
        || home.run(&["probe", &relay.url, "--ca", "certs/dev/ca.pem", "--token-file", "certs/dev/token", "--tcp", "nowhere.invalid:9"]);
    assert!(!probe().contains("the fault"), "{}", probe());

    assert_eq!(home.stdout(&["fault", "status=503", "retry"]), "cid=19\nstatus=503\nretry\n");
    assert!(probe().contains("the fault `status` is on"), "{}", probe());
    assert_eq!(home.stdout(&["fault", "--off", "retry", "status=500"]), "cid=19\nstatus=500\n");
    assert_eq!(home.stdout(&["fault"]), "cid=19\nstatus=500\n");

    assert_snapshot!(home.run(&["fault", "cid=8"]), @r"
    exit 1
    -- stderr
    error: the relay says: `cid` is decided when the relay starts: `serve --fault cid=LENGTH`
    ");
    assert_snapshot!(home.run(&["fault", "--off", "goaway", "retry"]), @r"
    exit 1
    -- stderr
    error: the relay says: the fault `goaway` is not on
    ");
    // What was refused changed nothing.
    assert_eq!(home.stdout(&["fault"]), "cid=19\nstatus=500\n");

    assert_eq!(home.stdout(&["fault", "--clear"]), "cid=19\n");
    assert!(!probe().contains("the fault"), "{}", probe());
}

#[test]
fn a_relay_that_may_not_misbehave_is_not_made_to() {
    let home = Home::new().with_certificate();
    let serve =
        ["serve", "--cert", "certs/cert.pem", "--key", "certs/key.pem", "--listen", "127.0.0.1:0", "--open", "--config", "relay.toml"];
    home.write("relay.toml", "admin = \"admin.sock\"\n");
    let _relay = Relay::start(&home, &serve);
    assert_snapshot!(home.run(&["fault", "--admin", "admin.sock"]), @r"
    exit 0
    -- stderr
    no fault is on
    ");
    assert_snapshot!(home.run(&["fault", "--admin", "admin.sock", "goaway"]), @r"
    exit 1
    -- stderr
    error: the relay says: it may not misbehave: start it with `--dev`, or with `allow = true` under `[fault]`
    ");
}
