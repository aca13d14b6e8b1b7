//! `serve`, `probe` and `check --health`: a real relay as its own process.

mod certificates;
mod reload;
mod sessions;
mod sockets;

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::Duration,
};

use crate::{Home, shown};

/// A process whose lines are waited for. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// Lines of stderr that were passed over.
    talk: Vec<String>,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let stdin = child.stdin.take();
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Self { child, stdin, stdout, stderr, talk: Vec::new() }
    }

    /// The next line of stdout.
    fn line(&mut self) -> String {
        self.stdout.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{error}; stderr: {:#?}", self.rest()))
    }

    /// Waits for a line of stderr with `word` in it.
    pub(crate) fn hears(&mut self, word: &str) -> String {
        loop {
            let Ok(line) = self.stderr.recv_timeout(PATIENCE) else { panic!("no {word:?} in {:#?}", self.talk) };
            self.talk.push(line.clone());
            if line.contains(word) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().expect("sh runs");
        assert!(status.success());
    }

    /// Waits for the end: exit code and all of stderr.
    fn ended(&mut self) -> (Option<i32>, Vec<String>) {
        drop(self.stdin.take());
        // The channel closes with the process's end of the pipe.
        let talk = self.rest();
        assert!(matches!(self.stderr.try_recv(), Err(TryRecvError::Disconnected)), "it does not end: {talk:#?}");
        (self.child.wait().expect("it was started").code(), talk)
    }

    fn rest(&mut self) -> Vec<String> {
        while let Ok(line) = self.stderr.recv_timeout(PATIENCE) {
            self.talk.push(line);
        }
        self.talk.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        if self.child.kill().is_ok() {
            self.child.wait().expect("it was started");
        }
    }
}

fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A running relay and its URL.
pub(crate) struct Relay {
    pub(crate) process: Process,
    pub(crate) url: String,
}

impl Relay {
    pub(crate) fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut process = Process::start(home.command(arguments));
        let ready = process.line();
        let url = ready.strip_prefix("ready ").unwrap_or_else(|| panic!("{ready}")).to_owned();
        Self { process, url }
    }

    fn dev(home: &Home) -> Self {
        Self::start(home, &["serve", "--dev", "--listen", "127.0.0.1:0"])
    }

    /// One that loads `relay.toml`, with `certs/` by `cert` and a token in the file `token`.
    pub(crate) fn configured(home: &Home, more: &str) -> Self {
        let out = home.stdout(&["cert", "token", "--user", "alice"]);
        let (token, entry) = out.split_once('\n').expect("two lines");
        home.stdout(&["cert", "server", "127.0.0.1", "--force"]);
        home.write("token", token);
        home.write(
            "relay.toml",
            &format!(
                "listen = [\"127.0.0.1:0\"]\nworkers = 1\nrules.allow_private = true\naccess.tokens = [{entry}]\n\
                 certificate = {{ chain = \"certs/cert.pem\", key = \"certs/key.pem\" }}\n{more}"
            ),
        );
        Self::start(home, &["serve", "--config", "relay.toml"])
    }

    /// An open TCP tunnel through a configured relay to a listener of its own.
    fn tunnel(&self, home: &Home) -> (Process, std::net::TcpStream) {
        let target = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = target.local_addr().expect("a bound socket").to_string();
        let mut probe =
            Process::start(home.command(&["probe", &self.url, "--ca", "certs/ca.pem", "--token-file", "token", "--tcp", &address]));
        probe.hears("status 200");
        let (stream, _) = target.accept().expect("the relay has connected");
        (probe, stream)
    }
}

/// What a wait for something that must come is given: under the limit of a test.
const PATIENCE: Duration = Duration::from_secs(8);

#[test]
fn dev_prints_what_to_try() {
    let home = Home::new();
    let mut relay = Relay::dev(&home);
    relay.process.hears("masque-relay sessions");
    let text: Vec<_> = relay.process.talk.iter().filter(|line| !line.starts_with('{')).cloned().collect();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r":\d+", ":PORT");
    settings.add_filter(&regex_of(env!("CARGO_BIN_EXE_masque-relay")), "masque-relay");
    settings.bind(|| {
        insta::assert_snapshot!(relay.url, @"https://127.0.0.1:PORT");
        insta::assert_snapshot!(text.join("\n"), @r"
        a development relay is at https://127.0.0.1:PORT
          HTTP/3    https://127.0.0.1:PORT over UDP
          HTTP/2    https://127.0.0.1:PORT over TCP, and HTTP/1.1
          template  https://127.0.0.1:PORT/.well-known/masque/udp/{target_host}/{target_port}/
          token     in certs/dev/token, as `Proxy-Authorization: Bearer TOKEN`, or Basic with the user `dev`
          CA        certs/dev/ca.pem; clients must trust it
          profile   certs/dev/relay.mobileconfig: CA, URLs and token, for an Apple device
          echo      tcp 127.0.0.1:PORT, udp 127.0.0.1:PORT (any other target is let through, private ones too)
        try, in this directory:
          echo hello | masque-relay probe https://127.0.0.1:PORT --ca certs/dev/ca.pem --token-file certs/dev/token --tcp 127.0.0.1:PORT
          echo hello | masque-relay probe https://127.0.0.1:PORT --ca certs/dev/ca.pem --token-file certs/dev/token --udp 127.0.0.1:PORT
          echo hello | masque-relay probe https://127.0.0.1:PORT --http 2 --ca certs/dev/ca.pem --token-file certs/dev/token --udp 127.0.0.1:PORT
          masque-relay sessions
        ");
    });
}

/// The literal text as a pattern.
fn regex_of(text: &str) -> String {
    text.replace('.', r"\.")
}

#[test]
fn what_dev_prints_works_when_pasted() {
    let home = Home::new();
    let mut relay = Relay::dev(&home);
    relay.process.hears("--http 2");
    let commands: Vec<_> = relay.process.talk.iter().filter(|line| line.starts_with("  echo hello")).cloned().collect();
    assert_eq!(commands.len(), 3, "{:#?}", relay.process.talk);
    for pasted in commands {
        let output = Command::new("sh").args(["-c", &pasted]).current_dir(home.path(".")).output().expect("sh runs");
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n", "{pasted}\n{talk}");
        assert!(output.status.success() && talk.contains("status 200"), "{talk}");
        assert!(talk.contains("next-hop=\"127.0.0.1:"), "{talk}");
    }
}

#[test]
fn dev_keeps_its_files_for_the_next_time() {
    let home = Home::new();
    let read = |home: &Home| ["ca.pem", "cert.pem", "token"].map(|name| home.read(&format!("certs/dev/{name}")));
    drop(Relay::dev(&home));
    let before = read(&home);
    drop(Relay::dev(&home));
    assert_eq!(read(&home), before);
}

#[test]
fn dev_writes_a_profile_that_a_device_would_take() {
    let home = Home::new();
    let relay = Relay::dev(&home);
    let profile = home.read("certs/dev/relay.mobileconfig");
    assert!(profile.contains(&format!("<string>{}</string>", relay.url)), "{profile}");
    assert!(profile.contains(&format!("<string>Bearer {}</string>", home.read("certs/dev/token").trim())), "{profile}");
    let mode = fs::metadata(home.path("certs/dev/relay.mobileconfig")).expect("the profile").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let shown = home.run(&["profile", "lint", "certs/dev/relay.mobileconfig"]);
    assert!(shown.starts_with("exit 0") && shown.contains("is the device itself"), "{shown}");
}

#[test]
fn a_development_relay_off_loopback_warns() {
    let home = Home::new();
    let mut relay = Relay::start(&home, &["serve", "--dev", "--listen", "0.0.0.0:0"]);
    let warning = relay.process.hears("can be reached from other machines");
    assert!(warning.contains("whoever has the token"), "{warning}");
    let mut relay = Relay::start(&home, &["serve", "--dev", "--open", "--listen", "0.0.0.0:0"]);
    let warning = relay.process.hears("can be reached from other machines");
    assert!(warning.contains("anybody who reaches it"), "{warning}");
}

#[test]
fn a_port_in_use_is_one_clear_error() {
    let home = Home::new();
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound socket").to_string();
    let shown = home.run(&["serve", "--dev", "--listen", &address]);
    assert!(shown.starts_with("exit 1\n"), "{shown}");
    assert!(shown.contains(&format!("error: cannot listen on udp {address}\n  caused by: address already in use")), "{shown}");
    assert!(shown.contains("\n\nhint: "), "{shown}");
    assert!(!shown.contains("ready https"), "{shown}");
}

#[test]
fn a_relay_without_tunnels_ends_at_the_first_signal() {
    for signal in ["TERM", "INT"] {
        let home = Home::new().with_certificate();
        let mut relay = Relay::configured(&home, "");
        relay.process.signal(signal);
        let (code, talk) = relay.process.ended();
        assert_eq!(code, Some(0), "{talk:#?}");
        assert!(talk.iter().any(|line| line.contains(&format!("SIG{signal}: no new work"))), "{talk:#?}");
    }
}

#[test]
fn a_drain_waits_for_the_last_tunnel() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "");
    let (mut probe, mut target) = relay.tunnel(&home);
    relay.process.signal("TERM");
    relay.process.hears("no new work");
    // The tunnel still carries.
    target.write_all(b"late\n").expect("an open tunnel");
    assert_eq!(probe.line(), "late");
    drop(target);
    let (code, talk) = probe.ended();
    assert_eq!(code, Some(0), "{talk:#?}");
    let (code, talk) = relay.process.ended();
    assert_eq!(code, Some(0), "{talk:#?}");
}

#[test]
fn a_second_signal_stops_at_once() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "");
    let (_probe, _target) = relay.tunnel(&home);
    relay.process.signal("TERM");
    relay.process.hears("no new work");
    relay.process.signal("TERM");
    let (code, talk) = relay.process.ended();
    assert_eq!(code, Some(1), "{talk:#?}");
    assert!(talk.iter().any(|line| line == "error: SIGTERM again: stopped at once"), "{talk:#?}");
}

#[test]
fn the_grace_has_an_end() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "timeouts.drain = \"200ms\"\n");
    let (_probe, _target) = relay.tunnel(&home);
    relay.process.signal("TERM");
    let (code, talk) = relay.process.ended();
    assert_eq!(code, Some(1), "{talk:#?}");
    assert!(talk.iter().any(|line| line.starts_with("error: 1 tunnel did not end within 200ms")), "{talk:#?}");
}

#[test]
fn a_probe_without_the_token_is_told_what_is_missing() {
    let home = Home::new().with_certificate();
    let relay = Relay::configured(&home, "");
    let shown = home.run(&["probe", &relay.url, "--ca", "certs/ca.pem", "--tcp", "127.0.0.1:9"]);
    assert!(shown.starts_with("exit 1\n") && shown.contains("error: refused: status 407"), "{shown}");
    assert!(shown.contains("hint: the relay asks for a credential: `--token-file FILE`"), "{shown}");
    let shown = home.run(&["probe", &relay.url, "--ca", "certs/ca.pem", "--token", "wrong", "--udp", "127.0.0.1:9"]);
    assert!(shown.starts_with("exit 1\n") && shown.contains("error: refused: status 407"), "{shown}");
}

/// Without a token, as PEM and as PKCS#12.
#[test]
fn c46_a_probe_with_a_client_certificate_gets_through() {
    let home = Home::new().with_client();
    home.packed("alice.p12", &[]);
    let relay = Relay::configured(&home, "access.client_ca = \"certs/ca.pem\"\n");
    let target = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = target.local_addr().expect("a bound socket").to_string();
    let probe = ["probe", &relay.url, "--ca", "certs/ca.pem", "--tcp", &address];
    let packed = ["alice.p12", "--identity-password-file", "password"];
    for (http, identity) in [("3", &["certs/alice.pem"][..]), ("3", &packed), ("2", &packed)] {
        let mut probe = Process::start(home.command(&[&probe[..], &["--http", http, "--identity"], identity].concat()));
        probe.hears("status 200");
        drop(target.accept().expect("the relay has connected"));
        assert_eq!(probe.ended().0, Some(0), "{http} {identity:?}");
    }
    let shown = home.run(&probe);
    assert!(shown.starts_with("exit 1\n") && shown.contains("error: refused: status 407"), "{shown}");
    assert!(shown.contains("`--identity FILE`"), "{shown}");
    home.write("password", "another\n");
    let shown = home.run(&[&probe[..], &["--identity"], &packed].concat());
    assert_eq!(shown, "exit 2\n-- stderr\nerror: cannot use the identity alice.p12: the password does not open it\n");
}

#[test]
fn a_probe_speaks_the_version_it_is_told() {
    let home = Home::new().with_certificate();
    let relay = Relay::configured(&home, "");
    for (number, name) in [("2", "HTTP/2"), ("3", "HTTP/3")] {
        let shown = home.run(&["probe", &relay.url, "--ca", "certs/ca.pem", "--http", number, "--tcp", "127.0.0.1:9"]);
        assert!(shown.starts_with("exit 1\n") && shown.contains("error: refused: status 407"), "{shown}");
        let connected = shown.lines().find(|line| line.starts_with("connected to 127.0.0.1:")).expect(&shown);
        assert!(connected.ends_with(name), "{connected}");
    }
}

#[test]
fn a_probe_that_does_not_trust_the_relay_is_told_how_to() {
    let home = Home::new().with_certificate();
    let relay = Relay::configured(&home, "");
    home.stdout(&["cert", "ca", "--out", "other"]);
    let shown = home.run(&["probe", &relay.url, "--ca", "other/ca.pem", "--tcp", "127.0.0.1:9"]);
    assert!(shown.starts_with("exit 1\n"), "{shown}");
    assert!(shown.contains("hint: the relay's certificate is not trusted"), "{shown}");
}

#[test]
fn a_probe_over_tcp_that_meets_silence_is_told_where() {
    let home = Home::new().with_certificate();
    // Takes connections and closes them at once.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", listener.local_addr().expect("a bound socket"));
    let closing = thread::spawn(move || drop(listener.accept()));
    let shown = home.run(&["probe", &url, "--ca", "certs/ca.pem", "--http", "2", "--tcp", "127.0.0.1:9"]);
    closing.join().expect("it took one");
    assert!(shown.starts_with("exit 1\n") && shown.contains("error: cannot connect to 127.0.0.1:"), "{shown}");
    assert!(shown.contains("hint: nothing answers there: is the relay up, and its TCP port open on the way?"), "{shown}");
}

#[test]
fn the_token_may_be_in_the_environment() {
    let home = Home::new().with_certificate();
    let relay = Relay::configured(&home, "");
    let target = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    target.set_read_timeout(Some(PATIENCE)).expect("a bound socket");
    let address = target.local_addr().expect("a bound socket").to_string();
    let mut command = home.command(&["probe", &relay.url, "--ca", "certs/ca.pem", "--udp", &address]);
    command.env("MASQUE_RELAY_TOKEN", home.read("token"));
    let mut probe = Process::start(command);
    probe.hears("status 200");
    let stdin = probe.stdin.as_mut().expect("piped");
    stdin.write_all(b"one\ntwo\n").expect("the probe reads");
    let mut packet = [0; 16];
    let mut came = HashSet::new();
    for _ in 0..2 {
        let (len, from) = target.recv_from(&mut packet).expect("a datagram");
        came.insert(packet[..len].to_vec());
        target.send_to(b"back", from).expect("a datagram");
        assert_eq!(probe.line(), "back");
    }
    assert_eq!(came, HashSet::from([b"one".to_vec(), b"two".to_vec()]), "a line is a datagram, without its end");
    let (code, talk) = probe.ended();
    assert_eq!(code, Some(0), "{talk:#?}");
}

#[test]
fn health_is_asked_of_the_running_relay() {
    let home = Home::new().with_certificate();
    let relay = Relay::configured(&home, "");
    let address = relay.url.strip_prefix("https://").expect("an https URL");
    let arguments = ["check", "--config", "relay.toml", "--health", "--listen", address];
    let shown = home.run(&arguments);
    assert!(shown.starts_with("exit 0\n-- stderr\nok: 127.0.0.1:"), "{shown}");
    // Another certificate than the one it runs with.
    home.stdout(&["cert", "server", "127.0.0.1", "--force"]);
    let shown = home.run(&arguments);
    let hint = "\n\nhint: is it the certificate? A relay takes up renewed files within ten seconds";
    assert!(shown.starts_with("exit 1\n") && shown.contains(hint), "{shown}");
    drop(relay);
}

#[test]
fn health_of_a_relay_that_is_down_is_exit_1() {
    let home = Home::new().with_certificate();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("a bound socket").to_string();
    let arguments = ["check", "--cert", "certs/cert.pem", "--key", "certs/key.pem", "--health", "--listen", &address];
    let shown = home.run(&arguments);
    let error = format!("exit 1\n-- stderr\nerror: the relay at {address} does not answer as it should\n  caused by: ");
    assert!(shown.starts_with(&error) && shown.contains("\n\nhint: nothing came in time"), "{shown}");
}

#[test]
fn logs_are_json_where_nobody_reads() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "");
    relay.process.signal("TERM");
    let (_, talk) = relay.process.ended();
    assert!(!talk.is_empty());
    for line in &talk {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
    }
    let token = home.read("token");
    assert!(talk.iter().all(|line| !line.contains(&token)));
}

#[test]
fn a_tunnels_line_has_one_target_and_it_is_the_clients() {
    let home = Home::new().with_certificate();
    let mut relay = Relay::configured(&home, "");
    let (mut probe, target) = relay.tunnel(&home);
    let port = target.local_addr().expect("a connected socket").port();
    drop(target);
    probe.ended();
    relay.process.signal("TERM");
    let (_, talk) = relay.process.ended();
    let line = talk.iter().find(|line| line.contains("tunnel closed")).unwrap_or_else(|| panic!("{talk:#?}"));
    assert_eq!(line.matches(r#""target":"#).count(), 1, "{line}");
    let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
    // As much of it as `log.privacy` says by default.
    assert_eq!(event["target"], format!("127.0.0.0/24:{port}"), "{line}");
}

#[test]
fn text_is_logged_when_asked_for_and_levels_are_kept() {
    let home = Home::new().with_certificate();
    drop(Relay::configured(&home, ""));
    let quiet = |level: &str| {
        let arguments = ["serve", "--config", "relay.toml", "--log-format", "text", "--log", level];
        let mut relay = Relay::start(&home, &arguments);
        relay.process.signal("TERM");
        relay.process.ended()
    };
    let (_, talk) = quiet("info");
    assert!(talk.iter().any(|line| line.contains(" INFO ") && line.contains("SIGTERM")), "{talk:#?}");
    let (_, talk) = quiet("error");
    assert!(talk.is_empty(), "{talk:#?}");
    let shown = shown(home.command(&["serve", "--dev", "--log", "=,="]));
    assert!(shown.starts_with("exit 2\n") && shown.contains("hint: `--log` takes"), "{shown}");
    assert!(fs::metadata(home.path("certs/dev")).is_err(), "nothing is made before the arguments are right");
}
