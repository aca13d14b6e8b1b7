//! Help: every page on one screen, with an example.

use crate::Home;

const PAGES: [&[&str]; 19] = [
    &["--help"],
    &["serve", "--help"],
    &["check", "--help"],
    &["probe", "--help"],
    &["doctor", "--help"],
    &["fault", "--help"],
    &["sessions", "--help"],
    &["explain", "--help"],
    &["cert", "--help"],
    &["cert", "ca", "--help"],
    &["cert", "server", "--help"],
    &["cert", "client", "--help"],
    &["cert", "inspect", "--help"],
    &["cert", "token", "--help"],
    &["profile", "--help"],
    &["profile", "mobileconfig", "--help"],
    &["profile", "declaration", "--help"],
    &["profile", "swift", "--help"],
    &["profile", "lint", "--help"],
];

#[test]
fn every_page_fits_one_screen_and_has_an_example() {
    for page in PAGES {
        let text = Home::new().stdout(page);
        assert!(text.lines().count() <= 24, "{page:?} has {} lines", text.lines().count());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{page:?} is too wide:\n{text}");
        assert!(
            text.contains("Example: masque-relay") || text.contains("Example: echo") || text.contains("Try it: masque-relay"),
            "{text}"
        );
    }
}

#[test]
fn the_commands() {
    insta::assert_snapshot!(Home::new().stdout(&["--help"]), @r"
    A MASQUE relay: CONNECT and CONNECT-UDP over HTTP/3, HTTP/2 and HTTP/1.1

    Usage: masque-relay <COMMAND>

    Commands:
      serve     Run the relay
      check     Check a configuration, or a running relay, without starting one
      cert      Make and inspect certificates and tokens
      profile   Write what devices are told: configuration profile, declaration, Swift; and check one
      probe     Open one tunnel through a relay, on stdin and stdout
      doctor    Examine a relay from outside, as an Apple client would find it
      sessions  Show the connections of a running relay, and what happened on one
      fault     Make a running relay misbehave, or behave again, for tests of clients
      explain   Explain a log of Apple's client: what it shows, and what would settle the rest

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Try it: masque-relay serve --dev
    ");
}

#[test]
fn serve() {
    insta::assert_snapshot!(Home::new().stdout(&["serve", "--help"]), @r"
    Run the relay

    Usage: masque-relay serve [OPTIONS]

    Options:
          --dev                          Need nothing: make CA, certificate, token and echo, on loopback
          --config <FILE>                The configuration (TOML)
          --listen <ADDR:PORT>           Listen here; repeatable
          --cert <FILE>                  Certificate chain, PEM
          --key <FILE>                   Its private key, PEM
          --workers <N>                  Threads, each with its own sockets; `auto`: one per processor
          --open                         Ask nobody for a credential
          --allow-private                Let clients reach private addresses
          --no-h2                        Serve no HTTP/2
          --no-h3                        Serve no HTTP/3
          --qlog <DIR>                   Write what QUIC does, packet by packet, into qlog files there
          --fault <NAME[=ARG]>           Misbehave; repeatable; `--fault help` lists the ways
          --seed <N>                     Of faults that are random
          --log <LEVEL>                  What is logged: error to trace, or a filter [default: info]
          --log-format <auto|text|json>  How it looks; auto: text on a terminal, JSON otherwise
      -h, --help                         Print help

    A flag overrides its variable (--no-h2: MASQUE_RELAY_NO_H2), and that the file. Says `ready URL`.
    Example: masque-relay serve --config /etc/masque-relay/relay.toml
    ");
}

#[test]
fn check() {
    insta::assert_snapshot!(Home::new().stdout(&["check", "--help"]), @r"
    Check a configuration, or a running relay, without starting one

    Usage: masque-relay check [OPTIONS]

    Options:
          --show                Print the configuration as meant, each value with its source, and the
                                memory it may need
          --health              Ask the running relay whether it answers (for health checks)
          --config <FILE>       The configuration (TOML)
          --listen <ADDR:PORT>  Listen here; repeatable
          --cert <FILE>         Certificate chain, PEM
          --key <FILE>          Its private key, PEM
          --workers <N>         Threads, each with its own sockets; `auto`: one per processor
          --open                Ask nobody for a credential
          --allow-private       Let clients reach private addresses
          --no-h2               Serve no HTTP/2
          --no-h3               Serve no HTTP/3
          --qlog <DIR>          Write what QUIC does, packet by packet, into qlog files there
      -h, --help                Print help

    Example: masque-relay check --config relay.toml --show
    ");
}

#[test]
fn probe() {
    insta::assert_snapshot!(Home::new().stdout(&["probe", "--help"]), @r"
    Open one tunnel through a relay, on stdin and stdout

    Usage: masque-relay probe [OPTIONS] <--tcp <HOST:PORT>|--udp <HOST:PORT>> <URL>

    Arguments:
      <URL>  The relay, `https://HOST[:PORT][/TEMPLATE]`

    Options:
          --tcp <HOST:PORT>                Reach this over TCP: stdin goes there until its end, stdout
                                           shows the answer
          --udp <HOST:PORT>                Reach this over UDP: every line of stdin is a datagram, and
                                           so is every answer
          --http <1|2|3>                   The version of HTTP: 3 over UDP, 2 or 1 over TCP [default: 3]
          --ca <FILE>                      Trust these CAs instead of the system's (PEM)
          --token <TOKEN>                  The credential, sent as `Proxy-Authorization: Bearer`
          --token-file <FILE>              A file with the credential; goes before `--token`
          --header <NAME: VALUE>           Another field of the request; repeatable
          --identity <FILE>                A client certificate: PKCS#12, or PEM with its key or `.key`
          --identity-password-file <FILE>  What opens that PKCS#12
      -h, --help                           Print help

    The token may also be in MASQUE_RELAY_TOKEN. Status, Proxy-Status and timings go to stderr.
    Example: echo hello | masque-relay probe https://localhost:4433 --ca certs/dev/ca.pem \
               --token-file certs/dev/token --tcp 127.0.0.1:7
    ");
}

#[test]
fn explain() {
    insta::assert_snapshot!(Home::new().stdout(&["explain", "--help"]), @r#"
    Explain a log of Apple's client: what it shows, and what would settle the rest

    Usage: masque-relay explain [OPTIONS] [LOG]

    Arguments:
      [LOG]  The log, in any of its framings; none or `-`: stdin

    Options:
          --records <FILE>    The relay's records, a line of JSON each: joined by address, byte counts
                              and time
          --json              All there is to say, as JSON
          --client-error <N>  Explain a value of `getLastClientErrors` instead
      -h, --help              Print help

    Collect a log on the Mac, just after the failure:
      log show --info --debug --last 10m --style compact --predicate \
        'subsystem == "com.apple.network" OR subsystem == "com.apple.networkextension"' > mac.log
    Example: masque-relay explain mac.log
    "#);
}

#[test]
fn cert() {
    insta::assert_snapshot!(Home::new().stdout(&["cert", "--help"]), @r"
    Make and inspect certificates and tokens

    Usage: masque-relay cert <COMMAND>

    Commands:
      ca       Make a CA: DIR/ca.pem for the clients, DIR/ca.key to issue with
      server   Issue a server certificate: DIR/cert.pem and DIR/key.pem
      client   Issue a client identity: DIR/USER.pem and DIR/USER.key
      inspect  Say what a certificate is, and what Apple's clients would not like about it
      token    Print a new token, and the entry for `access.tokens` that accepts it

    Options:
      -h, --help  Print help

    Example: masque-relay cert ca && masque-relay cert server relay.example
    ");
}

#[test]
fn cert_server() {
    insta::assert_snapshot!(Home::new().stdout(&["cert", "server", "--help"]), @r"
    Issue a server certificate: DIR/cert.pem and DIR/key.pem

    Usage: masque-relay cert server [OPTIONS] <NAME>...

    Arguments:
      <NAME>...  What clients write in the URL: DNS names, IP addresses

    Options:
          --ca <DIR>     Where `ca.pem` and `ca.key` are [default: certs]
          --days <DAYS>  How long it is valid, 1 to 825 [default: 397]
          --out <DIR>    Where to write [default: certs]
          --force        Replace what is there
      -h, --help         Print help

    Example: masque-relay cert server relay.example 192.0.2.7
    ");
}

#[test]
fn profile() {
    insta::assert_snapshot!(Home::new().stdout(&["profile", "--help"]), @r"
    Write what devices are told: configuration profile, declaration, Swift; and check one

    Usage: masque-relay profile <COMMAND>

    Commands:
      mobileconfig  Write a configuration profile, for any device: install it, or push it by MDM
      declaration   Write the same as declarations, for MDM and systems of version 27 and later
      swift         Write the same as Swift: `NERelayManager`, and `RelayHop` for one app
      lint          Say what a device would refuse about a profile, and where it is a trap

    Options:
      -h, --help  Print help

    Example: masque-relay profile mobileconfig https://relay.example --token-file token
    ");
}

#[test]
fn profile_mobileconfig() {
    insta::assert_snapshot!(Home::new().stdout(&["profile", "mobileconfig", "--help"]), @r"
    Write a configuration profile, for any device: install it, or push it by MDM

    Usage: masque-relay profile mobileconfig [OPTIONS] <URL>

    Options:
          --token-file <FILE>      The credential, as `Proxy-Authorization: Bearer`
          --user <NAME>            Whose it is: sent as Basic then
          --header <NAME: VALUE>   Another field of every request; repeatable
          --ca <FILE>              A CA that devices do not know, to be trusted (PEM)
          --raw-public-key <FILE>  Trust the key in FILE, or that of a certificate, instead of a CA
          --identity <FILE>        The client's certificate: PKCS#12, or PEM with its key or `.key`
          --password-file <FILE>   What opens that PKCS#12
          --match <DOMAIN>         Relay only DOMAIN and below it, or `=NAME` alone; repeatable
          --exclude <DOMAIN>       But not these, written alike; repeatable
          --name <TEXT>            What the device shows [default: the relay's host]
          --out <FILE>             Where to write, mode 0600; stdout without it
          --sign <DIR>             Sign it with the CA in DIR (`ca.pem` and `ca.key`)
      -h, --help                   Print help

    Seldom: --http 2|3 (one version), --h2-url URL, --second URL and --second-header (a chain of two),
    --organization TEXT, --locked (no switch on the device), --dns-failover, --force (replace).
    Example: masque-relay profile mobileconfig https://relay.example --token-file token \
               --ca certs/ca.pem --match corp.example --out relay.mobileconfig
    ");
}

#[test]
fn wrong_usage_is_exit_2_with_a_tip() {
    insta::assert_snapshot!(Home::new().run(&["serve", "--wrokers", "2"]), @r"
    exit 2
    -- stderr
    error: unexpected argument '--wrokers' found

      tip: a similar argument exists: '--workers'

    Usage: masque-relay serve --workers <N>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(Home::new().run(&["serve", "--workers", "0"]), @r"
    exit 2
    -- stderr
    error: invalid value '0' for '--workers <N>': must be 1 to 256 or `auto`, not `0`

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(Home::new().run(&["serve", "--listen", "192.0.2.1"]), @r"
    exit 2
    -- stderr
    error: invalid value '192.0.2.1' for '--listen <ADDR:PORT>': must be an address with a port like `192.0.2.1:443`, not `192.0.2.1`

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(Home::new().run(&["probe", "https://relay.example"]), @r"
    exit 2
    -- stderr
    error: the following required arguments were not provided:
      <--tcp <HOST:PORT>|--udp <HOST:PORT>>

    Usage: masque-relay probe <--tcp <HOST:PORT>|--udp <HOST:PORT>> <URL>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(Home::new().run(&["probe", "https://relay.example", "--tcp", "a.test:1", "--http", "4"]), @r"
    exit 2
    -- stderr
    error: invalid value '4' for '--http <1|2|3>'
      [possible values: 1, 2, 3]

    For more information, try '--help'.
    ");
}

#[test]
fn no_command_is_exit_2_with_the_help() {
    let shown = Home::new().run(&[]);
    assert!(shown.starts_with("exit 2\n-- stderr\nA MASQUE relay"), "{shown}");
}

/// `masque-relay … | head` is no error.
#[test]
fn who_has_seen_enough_is_told_nothing() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = home.command(&["serve", "--fault", "help"]).stdout(writer).output().expect("the program runs");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), ""));
}
