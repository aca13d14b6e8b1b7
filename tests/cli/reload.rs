//! SIGHUP and `SSLKEYLOGFILE`: a relay that is changed, or watched, while it runs.

use std::{fs, io::Write, os::unix::fs::PermissionsExt};

use super::{Process, Relay};
use crate::Home;

fn hang_up(relay: &mut Relay, word: &str) -> String {
    relay.process.signal("HUP");
    let line = relay.process.hears("SIGHUP");
    assert!(line.contains(word), "{line}");
    line
}

fn asks(home: &Home, relay: &Relay) -> String {
    home.run(&["probe", &relay.url, "--ca", "certs/ca.pem", "--token-file", "token", "--tcp", "127.0.0.1:9"])
}

#[test]
fn c80_sighup_reads_access_and_rules_again_and_a_bad_configuration_changes_nothing() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "");
    let (mut probe, mut target) = relay.tunnel(&home);
    let config = home.read("relay.toml");
    let denied = "rules.list = [{ deny = [\"*\"], denial = \"forbidden\" }]\n";
    assert!(!asks(&home, &relay).contains("status 403"));

    // Bad: a key nobody knows, then a certificate with another's key; each with a rule that must not count.
    home.write("relay.toml", &format!("{denied}nonsense = 1\n{config}"));
    let line = hang_up(&mut relay, "nothing is changed");
    assert!(line.contains("unknown key `nonsense`"), "{line}");
    let key = home.read("certs/key.pem");
    home.write("relay.toml", &format!("{denied}{config}"));
    home.stdout(&["cert", "server", "127.0.0.1", "--force"]);
    home.write("certs/key.pem", &key);
    let line = hang_up(&mut relay, "nothing is changed");
    assert!(line.contains("the private key belongs to another certificate") && line.contains("hint: "), "{line}");
    assert!(!asks(&home, &relay).contains("status 403"));

    // Good.
    home.stdout(&["cert", "server", "127.0.0.1", "--force"]);
    hang_up(&mut relay, "are read again");
    let shown = asks(&home, &relay);
    assert!(shown.contains("status 403"), "{shown}");
    target.write_all(b"still there\n").expect("an open tunnel");
    assert_eq!(probe.line(), "still there");
}

#[test]
fn qlog_files_are_written_only_where_it_is_said() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "log.qlog = \"packets\"\n");
    let line = relay.process.hears("qlog: ");
    assert!(line.contains("every packet of every HTTP/3 connection is noted in packets"), "{line}");
    asks(&home, &relay);
    relay.process.signal("TERM");
    relay.process.ended();
    assert_eq!(fs::read_dir(home.path("packets")).expect("it is made").count(), 1);

    // A flag overrides the file, and nothing is written where nobody asked.
    let mut process = Process::start(home.command(&["serve", "--config", "relay.toml", "--qlog", "elsewhere"]));
    process.hears("is noted in elsewhere");
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "");
    asks(&home, &relay);
    relay.process.signal("TERM");
    let (_, talk) = relay.process.ended();
    assert!(!talk.iter().any(|line| line.contains("qlog")), "{talk:#?}");
}

#[test]
fn secrets_are_written_only_where_the_environment_says_so() {
    let home = Home::new().with_certificate();
    let relay = Relay::configured(&home, "");
    asks(&home, &relay);
    drop(relay);
    assert!(!home.path("secrets").exists());

    let mut command = home.command(&["serve", "--config", "relay.toml"]);
    command.env("SSLKEYLOGFILE", home.path("secrets"));
    let mut process = Process::start(command);
    process.hears("the secrets of all connections are written to");
    let url = process.line().strip_prefix("ready ").expect("ready").to_owned();
    let relay = Relay { process, url };
    asks(&home, &relay);
    let secrets = home.read("secrets");
    assert!(secrets.contains("CLIENT_TRAFFIC_SECRET_0 "), "{secrets}");
    assert_eq!(fs::metadata(home.path("secrets")).expect("it is there").permissions().mode() & 0o777, 0o600);
}
