//! Which certificates `check` and `serve` take: by their dates, by the names that clients ask for, and however the file spells them.

use std::{fs, time::Duration};

use masque_relay::certs::{self, issue::Authority};

use super::Relay;
use crate::Home;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A relay's file with a certificate for `relay.example` in `certs/`, and another for `other.example` in `more/`.
fn two() -> Home {
    let home = Home::new().with_certificate();
    home.stdout(&["cert", "server", "other.example", "--out", "more"]);
    home.write(
        "relay.toml",
        "listen = [\"127.0.0.1:0\"]\nworkers = 1\naccess.open = true\n\n[certificate]\nchain = \"certs/cert.pem\"\nkey = \"certs/key.pem\"\n\
         more = [{ chain = \"more/cert.pem\", key = \"more/key.pem\" }]\n",
    );
    home
}

/// In place of what lies in `directory` one that was good ten days ago, for a day.
fn expire(home: &Home, directory: &str) {
    let then = certs::now() - 10 * DAY;
    let authority = Authority::new("CA of last week", then).expect("a CA");
    let pair = authority.server(&["relay.example".to_owned()], DAY, then).expect("a leaf");
    home.write(&format!("{directory}/cert.pem"), &pair.chain);
    home.write(&format!("{directory}/key.pem"), &pair.key);
}

fn bound(run: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE");
    settings.bind(run);
}

#[test]
fn an_expired_certificate_is_refused_and_so_is_one_of_several() {
    let home = two();
    expire(&home, "certs");
    bound(|| {
        insta::assert_snapshot!(home.run(&["check", "--config", "relay.toml"]), @r"
        exit 2
        -- stderr
        error: cannot serve the certificate in certs/cert.pem: it expired on DATE

        hint: renew it, like `masque-relay cert server NAME --force`
        ");
        insta::assert_snapshot!(home.run(&["serve", "--config", "relay.toml"]), @r"
        exit 2
        -- stderr
        error: cannot serve the certificate in certs/cert.pem: it expired on DATE

        hint: renew it, like `masque-relay cert server NAME --force`
        ");
    });
    home.stdout(&["cert", "server", "relay.example", "--force"]);
    expire(&home, "more");
    bound(|| {
        insta::assert_snapshot!(home.run(&["serve", "--config", "relay.toml"]), @r"
        exit 2
        -- stderr
        error: cannot serve the certificate in more/cert.pem: it expired on DATE

        hint: renew it, like `masque-relay cert server NAME --force`
        ");
    });
}

#[test]
fn one_that_expires_soon_is_served_with_a_warning() {
    let home = two();
    home.stdout(&["cert", "server", "other.example", "--out", "more", "--force", "--days", "13"]);
    bound(|| {
        insta::assert_snapshot!(home.run(&["check", "--config", "relay.toml"]), @r"
        exit 0
        -- stderr
        warning: the certificate more/cert.pem: it expires on DATE: renew it soon
        ok: 127.0.0.1:0 as relay.example, 192.0.2.7 (until DATE) and other.example (until DATE), open to everybody, 0 rules, 1 worker
        ");
    });
    let mut relay = Relay::start(&home, &["serve", "--config", "relay.toml"]);
    let line = relay.process.hears("renew it soon");
    assert!(line.contains("WARN") && line.contains("the certificate more/cert.pem: it expires on"), "{line}");

    home.stdout(&["cert", "server", "other.example", "--out", "more", "--force", "--days", "15"]);
    let shown = home.run(&["check", "--config", "relay.toml"]);
    assert!(shown.starts_with("exit 0\n-- stderr\nok: "), "{shown}");
}

/// The leaf that a client of another make gets which asks for `name` and trusts the CA. Over HTTP/1.1 the relay says nothing before it is asked.
fn shown(home: &Home, relay: &Relay, name: &str) -> String {
    let port = relay.url.rsplit(':').next().expect("a port");
    let address = format!("127.0.0.1:{port}");
    let arguments =
        ["s_client", "-connect", &address, "-servername", name, "-alpn", "http/1.1", "-CAfile", "certs/ca.pem", "-verify_return_error"];
    leaf(&home.foreign_stdout("openssl", &arguments))
}

/// The first certificate in a text.
fn leaf(text: &str) -> String {
    let begin = text.find("-----BEGIN CERTIFICATE-----").expect("a certificate");
    let end = text[begin..].find("-----END").expect("its end");
    text[begin..begin + end].split_whitespace().collect()
}

#[test]
fn further_certificates_are_found_by_name_however_they_are_written() {
    let home = Home::new().with_certificate();
    home.stdout(&["cert", "server", "first.example", "--out", "etc/first"]);
    home.stdout(&["cert", "server", "second.example", "*.third.example", "--out", "etc/more"]);
    let [first, second] = ["first", "more"].map(|directory| leaf(&home.read(&format!("etc/{directory}/cert.pem"))));
    // Paths are relative to the file, which lies elsewhere than where the relay is started.
    for more in [
        "more = [{ chain = \"more/cert.pem\", key = \"more/key.pem\" }]",
        "[[certificate.more]]\nchain = \"more/cert.pem\"\nkey = \"more/key.pem\"",
    ] {
        home.write(
            "etc/relay.toml",
            &format!(
                "listen = [\"127.0.0.1:0\"]\nworkers = 1\nhttp1 = true\naccess.open = true\n\n\
                 [certificate]\nchain = \"first/cert.pem\"\nkey = \"first/key.pem\"\n{more}\n"
            ),
        );
        let says = home.run(&["check", "--config", "etc/relay.toml"]);
        assert!(says.contains(" as first.example (until ") && says.contains(" and second.example, *.third.example (until "), "{says}");
        let relay = Relay::start(&home, &["serve", "--config", "etc/relay.toml"]);
        for (name, want) in [
            ("first.example", &first),
            ("second.example", &second),
            ("Second.EXAMPLE", &second),
            ("a.third.example", &second),
            ("third.example", &first),
            ("unknown.example", &first),
        ] {
            assert_eq!(&shown(&home, &relay, name), want, "{name} with {more}");
        }
    }
    fs::remove_file(home.path("etc/more/key.pem")).expect("it was there");
    let says = home.run(&["check", "--config", "etc/relay.toml"]);
    assert!(says.starts_with("exit 2\n-- stderr\nerror: cannot read the private key etc/more/key.pem\n"), "{says}");
}
