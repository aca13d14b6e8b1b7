//! `check`: problems with their lines, the configuration as meant, exit codes.

use std::fs;

use crate::{Home, shown};

const GOOD: &str = r#"
listen = ["192.0.2.7:443", "[2001:db8::7]:443"]
workers = 2

[certificate]
chain = "certs/cert.pem"
key = "certs/key.pem"

[access]
tokens = [{ user = "alice", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }]

[rules]
list = [
  { deny = ["*"], ports = ["25"] },
  { allow = ["example.com", ".example.org"], ports = ["443", "8000-8999"], protocols = ["tcp"] },
  { deny = ["*"], denial = "direct" },
]

[timeouts]
drain = "2m"
"#;

fn bound(run: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE");
    settings.add_filter(r"this machine has .*", "this machine has LESS");
    settings.bind(run);
}

#[test]
fn a_good_configuration_is_summed_up() {
    let home = Home::new().with_certificate();
    home.write("relay.toml", GOOD);
    bound(|| {
        insta::assert_snapshot!(home.run(&["check", "--config", "relay.toml"]), @r"
    exit 0
    -- stderr
    ok: 192.0.2.7:443, [2001:db8::7]:443 as relay.example, 192.0.2.7 (until DATE), 1 token, 3 rules, 2 workers
    ");
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "all of it is one text")]
fn what_is_meant_is_shown_with_its_sources() {
    let home = Home::new().with_certificate();
    home.write("relay.toml", GOOD);
    let mut command = home.command(&["check", "--config", "relay.toml", "--show", "--workers", "3"]);
    command.env("MASQUE_RELAY_ALLOW_PRIVATE", "true").env("MASQUE_RELAY_WORKERS", "1");
    bound(|| {
        insta::assert_snapshot!(shown(command), @r#"
    exit 0
    -- stdout
    listen = ["192.0.2.7:443", "[2001:db8::7]:443"]  # relay.toml line 2
    http3 = true                                  # default
    http2 = true                                  # default
    http1 = false                                 # default
    tls12 = false                                 # default
    name = "masque-relay"                         # default
    workers = 3                                   # flag --workers
    templates = []                                # default
    admin = "auto"                                # default

    [certificate]
    chain = "certs/cert.pem"                      # relay.toml line 6
    key = "certs/key.pem"                         # relay.toml line 7
    more = []                                     # default

    [access]
    open = false                                  # default
    header = "proxy-authorization"                # default
    tokens = [
      { user = "alice", sha256 = "[secret]" },
    ]  # relay.toml line 10
    client_ca = "off"                             # default
    revoked = []                                  # default

    [rules]
    allow_private = true                          # environment MASQUE_RELAY_ALLOW_PRIVATE
    denial = "block"                              # default
    list = [
      { deny = ["*"], ports = ["25"] },
      { allow = ["example.com", ".example.org"], ports = ["443", "8000-8999"], protocols = ["tcp"] },
      { deny = ["*"], denial = "direct" },
    ]  # relay.toml line 13

    [limits]
    connections = 10000                           # default
    tunnels = 100000                              # default
    tunnels_per_connection = 1024                 # default
    unauthenticated_per_source = 256              # default
    unanswered_packets = 64                       # default

    [timeouts]
    head = "10s"                                  # default
    authenticate = "10s"                          # default
    dns = "5s"                                    # default
    connect = "10s"                               # default
    idle = "2m"                                   # default
    udp_idle = "2m"                               # default
    tcp_idle = "1h"                               # default
    capsule_stall = "30s"                         # default
    drain = "2m"                                  # relay.toml line 20

    [dns]
    servers = []                                  # default

    [quic]
    initial_mtu = 1350                            # default
    keep_alive = "0s"                             # default
    retry = "load"                                # default
    socket_buffer = 4194304                       # default
    congestion = "cubic"                          # default

    [apple]
    well_known = true                             # default
    draft_03 = true                               # default
    bind = true                                   # default
    connect_ip = true                             # default
    own_fields = true                             # default
    old_datagrams = true                          # default
    hints = true                                  # default

    [bisect]
    grease = true                                 # default
    new_token = false                             # default
    datagrams = true                              # default
    h3_datagram = true                            # default
    extended_connect = true                       # default
    mtu_discovery = true                          # default
    cid_length = 8                                # default

    [fault]
    allow = false                                 # default

    [log]
    privacy = "domain"                            # default
    records = "off"                               # default
    qlog = "off"                                  # default

    # worst-case memory, kernel buffers not counted
    #   a connection that has not authenticated: 1.5 MiB
    #     160 KiB    receive window: 64 KiB × 5 / 2
    #     1.1 MiB    datagrams: 1 MiB in, 64 KiB out, 64 KiB early
    #     256 KiB    heads: 16 × 16 KiB
    #     64 KiB     state
    #   as many as one address may have, 256: 408 MiB
    #   a connection that has: 490.9 MiB
    #     120 MiB    receive windows: (16 MiB + 4 × 8 MiB) × 5 / 2
    #     8 MiB      send window
    #     1.1 MiB    datagrams: 1 MiB in, 64 KiB out, 64 KiB early
    #     800 KiB    packets back: 512 × 1600 B
    #     1 MiB      heads: 64 × 16 KiB
    #     64 KiB     state
    #     360 MiB    tunnels: 1024 × 360 KiB
    #   all: 10000 connections × 130.9 MiB + 100000 tunnels × 360 KiB + 3 workers × 8 MiB = 1.2 TiB
    -- stderr
    warning: at worst 1.2 TiB, and this machine has LESS
    ok: 192.0.2.7:443, [2001:db8::7]:443 as relay.example, 192.0.2.7 (until DATE), 1 token, 3 rules, 3 workers
    "#);
    });
}

#[test]
fn the_memory_of_qlog_is_shown_where_it_is_on() {
    let home = Home::new().with_certificate();
    home.write("relay.toml", &format!("{GOOD}\n[log]\nqlog = \"packets\"\n"));
    let shown = home.stdout(&["check", "--config", "relay.toml", "--show"]);
    let lines: Vec<_> =
        shown.lines().filter(|line| line.starts_with("qlog = ") || line.contains("qlog: ") || line.contains("all: ")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    qlog = "packets"                              # relay.toml line 23
    #     5 KiB      qlog: 4 KiB, and a line of 1 KiB
    #     5 KiB      qlog: 4 KiB, and a line of 1 KiB
    #   all: 10000 connections × 130.9 MiB + 100000 tunnels × 360 KiB + 2 workers × 8 MiB + 5 MiB of qlog to be written = 1.2 TiB
    "#);
}

#[test]
fn what_is_shown_is_a_configuration() {
    let home = Home::new().with_certificate();
    home.write(
        "relay.toml",
        &GOOD.replace("192.0.2.7", "127.0.0.1").replace("2001:db8::7", "::1").replace("[access]\n", "[access]\nopen = true\n"),
    );
    let first = home.stdout(&["check", "--config", "relay.toml", "--show"]);
    // A hash is not shown, so the token has to go.
    let again: String = first.lines().filter(|line| !line.contains("[secret]")).map(|line| format!("{line}\n")).collect();
    home.write("again.toml", &again);
    let without_sources = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.contains("[secret]"))
            .map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned())
            .collect()
    };
    let again = home.stdout(&["check", "--config", "again.toml", "--show"]);
    assert_eq!(without_sources(&again.replace("tokens = []", "tokens = [\n]")), without_sources(&first));
}

#[test]
fn an_unknown_key_names_its_line() {
    let home = Home::new().with_certificate();
    home.write("relay.toml", &GOOD.replace("listen =", "listn ="));
    insta::assert_snapshot!(home.run(&["check", "--config", "relay.toml"]), @r"
    exit 2
    -- stderr
    error: relay.toml, line 2: unknown key `listn`: did you mean `listen`?
    ");
    insta::assert_snapshot!(home.run(&["serve", "--config", "relay.toml"]), @r"
    exit 2
    -- stderr
    error: relay.toml, line 2: unknown key `listn`: did you mean `listen`?
    ");
}

#[test]
fn all_problems_come_at_once() {
    let home = Home::new();
    home.write("relay.toml", "workers = 1000\n\n[limits]\ntunels = 5\n\n[access]\nopen = \"yes\"\n");
    insta::assert_snapshot!(home.run(&["check", "--config", "relay.toml"]), @r"
    exit 2
    -- stderr
    error: 5 problems in relay.toml
      line 1: `workers` must be 1 to 256, not 1000
      line 4: unknown key `limits.tunels`: did you mean `limits.tunnels`?
      line 7: `access.open` must be true or false, not a text
      `certificate.chain` is missing: name the PEM file here or with `--cert` (`masque-relay cert` makes one)
      `certificate.key` is missing: name the PEM file here or with `--key` (`masque-relay cert` makes one)
    ");
}

#[test]
fn without_anything_it_says_what_is_needed() {
    insta::assert_snapshot!(Home::new().run(&["serve"]), @r"
    exit 2
    -- stderr
    error: 3 problems in the configuration
      `certificate.chain` is missing: name the PEM file here or with `--cert` (`masque-relay cert` makes one)
      `certificate.key` is missing: name the PEM file here or with `--key` (`masque-relay cert` makes one)
      no token is configured, and [::]:443 can be reached from other machines: add one to `access.tokens` (`masque-relay cert token` makes it), name the CA of client certificates in `access.client_ca`, or declare `access.open = true`

    hint: name a file with `--config`; without one, `masque-relay serve --dev` is a relay to try
    ");
    insta::assert_snapshot!(Home::new().run(&["serve", "--config", "relay.toml"]), @r"
    exit 2
    -- stderr
    error: cannot read the configuration relay.toml
      caused by: no such file or directory (os error 2)

    hint: name a file with `--config`; without one, `masque-relay serve --dev` is a relay to try
    ");
    insta::assert_snapshot!(Home::new().run(&["serve", "--dev", "--config", "relay.toml"]), @r"
    exit 2
    -- stderr
    error: cannot use `--dev` and `--config` together

    hint: `--dev` makes its own configuration and certificate; leave one of the two out
    ");
}

#[test]
fn flags_alone_are_a_configuration() {
    let home = Home::new().with_certificate();
    let arguments = ["check", "--cert", "certs/cert.pem", "--key", "certs/key.pem", "--listen", "127.0.0.1:4433", "--workers", "1"];
    bound(|| {
        insta::assert_snapshot!(home.run(&arguments), @r"
    exit 0
    -- stderr
    ok: 127.0.0.1:4433 as relay.example, 192.0.2.7 (until DATE), 0 tokens, 0 rules, 1 worker
    ");
    });
    let mut command = home.command(&["check"]);
    for (name, value) in [("CERT", "certs/cert.pem"), ("KEY", "certs/key.pem"), ("LISTEN", "127.0.0.1:1,[::1]:2"), ("WORKERS", "2")] {
        command.env(format!("MASQUE_RELAY_{name}"), value);
    }
    bound(|| {
        insta::assert_snapshot!(shown(command), @r"
    exit 0
    -- stderr
    ok: 127.0.0.1:1, [::1]:2 as relay.example, 192.0.2.7 (until DATE), 0 tokens, 0 rules, 2 workers
    ");
    });
}

#[test]
fn a_certificate_that_cannot_be_served_is_refused() {
    let home = Home::new().with_certificate();
    home.write("relay.toml", GOOD);
    let key = home.read("certs/key.pem");
    home.write("certs/key.pem", &home.read("certs/ca.key"));
    insta::assert_snapshot!(home.run(&["check", "--config", "relay.toml"]), @r"
    exit 2
    -- stderr
    error: cannot use certs/key.pem with certs/cert.pem: the private key belongs to another certificate

    hint: `masque-relay cert inspect FILE` shows what a certificate is; give the key made with this one
    ");
    insta::assert_snapshot!(home.run(&["serve", "--config", "relay.toml"]), @r"
    exit 2
    -- stderr
    error: cannot use certs/key.pem with certs/cert.pem: the private key belongs to another certificate

    hint: `masque-relay cert inspect FILE` shows what a certificate is; give the key made with this one
    ");
    home.write("certs/key.pem", &key);
    fs::remove_file(home.path("certs/cert.pem")).unwrap();
    insta::assert_snapshot!(home.run(&["check", "--config", "relay.toml"]), @r"
    exit 2
    -- stderr
    error: cannot read the certificate certs/cert.pem
      caused by: no such file or directory (os error 2)

    hint: `masque-relay cert ca` and `masque-relay cert server NAME` make a CA and a certificate
    ");
}
