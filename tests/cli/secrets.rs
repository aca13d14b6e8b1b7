//! Nothing that a command says repeats a credential, save the files and texts that are made to carry one.

use crate::{Home, serve::Relay};

#[test]
fn no_command_repeats_a_credential() {
    let home = Home::new();
    let mut relay = Relay::start(&home, &["serve", "--dev", "--listen", "127.0.0.1:0"]);
    relay.process.hears("doctor: ");
    let token = home.read("certs/dev/token").trim().to_owned();
    let running: serde_json::Value = serde_json::from_str(&home.read("certs/dev/relay.json")).expect("JSON");
    let echo = running["tcp"].as_str().expect("an address");
    let (wrong, header) = ("V3J0aG9lcml0aG0", "x-other-key: Zm9yZ2V0bWVub3Q");
    let probe = ["probe", &relay.url, "--ca", "certs/dev/ca.pem", "--tcp", echo, "--header", header];
    let mut said = vec![
        home.run(&[&probe[..], &["--token", &token]].concat()),
        home.run(&[&probe[..], &["--token", wrong]].concat()),
        home.run(&[&probe[..], &["--token", "a\tb", "--http", "2"]].concat()),
    ];
    for arguments in [
        &["doctor", "--header", header][..],
        &["doctor", "--header", header, "--json"],
        &["doctor", "--token", wrong],
        &["doctor", "--profile", "certs/dev/relay.mobileconfig"],
        &["doctor", "--profile", "certs/dev/relay.mobileconfig", "--json"],
        &["profile", "lint", "certs/dev/relay.mobileconfig"],
        &["profile", "mobileconfig", &relay.url, "--token-file", "certs/dev/token", "--header", header, "--out", "made"],
        &["sessions"],
        &["sessions", "--json"],
        &["fault"],
    ] {
        said.push(home.run(arguments));
    }
    let list = home.stdout(&["sessions", "--json"]);
    for line in list.lines() {
        let session: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let id = session["id"].as_str().expect("a name");
        said.extend([home.run(&["sessions", id]), home.run(&["sessions", id, "--json"])]);
    }
    let all = said.join("\n");
    assert!(all.contains("74 checks: 74 ok") && all.contains("proxy-authorization") && all.contains("x-other-key"), "{all}");
    assert!(all.contains("status 407") && said.len() > 18, "{all}");
    for secret in [token.as_str(), wrong, "Zm9yZ2V0bWVub3Q"] {
        assert!(!all.contains(secret), "{secret} in\n{all}");
    }
    assert!(home.read("made").contains(&token), "the one place where it belongs");
}
