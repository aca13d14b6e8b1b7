//! `serve --dev`: everything a relay needs, made on the spot and kept in `certs/dev/` for the next time.

use std::{
    fmt::Write,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tracing::warn;
use zeroize::Zeroizing;

use super::{
    Overrides,
    echo::Echo,
    report::{Exit, Failure, say},
    serve::url,
    sessions::SOCKET,
};
use crate::{
    certs::{
        Identity,
        files::{Access, Existing, NewFile, write},
        issue::{self, Authority},
        read_chain,
    },
    config::{
        Admin, Certificate, Config, Privacy, Token, Versions,
        file::{Settings, Source},
    },
    profile::{Profile, Relay},
    proto::template::WELL_KNOWN,
};

/// Where everything of a development relay lies.
pub const DIRECTORY: &str = "certs/dev";

/// A development relay's surroundings: its files and its echo.
#[derive(Debug)]
pub struct Dev {
    program: String,
    files: Files,
    names: Vec<String>,
    open: bool,
    http: Versions,
    echo: Echo,
}

/// What lies in `certs/dev/`.
#[derive(Debug)]
struct Files {
    ca: PathBuf,
    ca_key: PathBuf,
    certificate: Certificate,
    token: PathBuf,
    profile: PathBuf,
}

impl Dev {
    /// Makes what is missing, and the configuration that uses it.
    pub async fn prepare(overrides: &Overrides, program: &str, now: SystemTime) -> Result<(Config, Self), Failure> {
        for flag in ["config", "cert", "key"] {
            if let Some(Source::Flag(flag)) = overrides.given.source(flag) {
                return Err(Failure::says(Exit::Wrong, format!("cannot use `--dev` and `{flag}` together"))
                    .hint("`--dev` makes its own configuration and certificate; leave one of the two out"));
            }
        }
        let files = Files::under(Path::new(DIRECTORY));
        let token = files.token()?;
        let mut settings = Settings::new();
        let flag = || Source::Flag("--dev");
        settings.set("listen", flag(), |config| config.listen = loopback());
        settings.set("http1", flag(), |config| config.http.h1 = true);
        settings.set("rules.allow_private", flag(), |config| config.rules.allow_private = true);
        settings.set("log.privacy", flag(), |config| config.log.privacy = Privacy::Full);
        settings.set("admin", flag(), |config| config.admin = admin());
        settings.set("access.tokens", flag(), |config| config.access.tokens = vec![Token::new(USER, &token)]);
        overrides.lay_given(&mut settings);
        // After the overrides: a certificate named in the environment is a production relay's.
        settings.set("certificate.chain", flag(), |config| config.certificate = files.certificate.clone());
        settings.set("certificate.key", flag(), |_| {});
        let config = settings.finish()?.config;

        let names = names(&config.listen, &outward());
        files.leaf(&names, now)?;
        warn_of_strangers(&config);
        let echo = Echo::start().await.map_err(|source| Failure::io("cannot start the echo on 127.0.0.1", &source))?;
        let (open, http) = (config.access.open, config.http);
        Ok((config, Self { program: program.into(), files, names, open, http, echo }))
    }

    /// Writes the profile for devices. Only now, since only now the port is known.
    pub fn write_profile(&self, addresses: &[SocketAddr]) -> Result<(), Failure> {
        let Some(first) = addresses.first().filter(|_| self.http.h3 || self.http.h2) else { return Ok(()) };
        let url = url(&for_devices(&self.names), *first);
        let mut relay = Relay { h3: self.http.h3.then(|| url.clone()), h2: self.http.h2.then_some(url), ..Relay::default() };
        if !self.open {
            relay.headers = vec![("Proxy-Authorization".into(), format!("Bearer {}", *self.files.token()?))];
        }
        let mut profile = Profile::new("masque-relay, for development", relay);
        profile.authorities = read_chain(&self.files.ca)?.iter().map(|der| der.to_vec()).collect();
        write(&[NewFile { path: &self.files.profile, text: &profile.mobileconfig(), access: Access::Owner }], Existing::Replace)?;
        Ok(())
    }

    /// Says on stderr what there is, and what to try.
    pub fn greet(&self, addresses: &[SocketAddr]) {
        let Some(first) = addresses.first() else { return };
        let url = url(&self.names, *first);
        let Files { ca, token, profile, .. } = &self.files;
        let mut text = format!("a development relay is at {url}\n");
        let mut line = |name: &str, value: String| writeln!(text, "  {name:<10}{value}").expect("a String takes everything");
        if self.http.h3 {
            line("HTTP/3", format!("{url} over UDP"));
        }
        if self.http.over_tcp() {
            let (name, more) = if self.http.h2 { ("HTTP/2", ", and HTTP/1.1") } else { ("HTTP/1.1", "") };
            line(name, format!("{url} over TCP{}", if self.http.h1 { more } else { "" }));
        }
        line("template", format!("{url}{WELL_KNOWN}"));
        if self.open {
            line("token", "none is asked for (--open)".into());
        } else {
            line("token", format!("in {}, as `Proxy-Authorization: Bearer TOKEN`, or Basic with the user `{USER}`", token.display()));
        }
        line("CA", format!("{}; clients must trust it", ca.display()));
        if self.http.h3 || self.http.h2 {
            let what = if self.open { "CA and URLs" } else { "CA, URLs and token" };
            line("profile", format!("{}: {what}, for an Apple device", profile.display()));
        }
        line("echo", format!("tcp {}, udp {} (any other target is let through, private ones too)", self.echo.tcp, self.echo.udp));
        text += "try, in this directory:\n";
        let credential = if self.open { String::new() } else { format!(" --token-file {}", shell(&token.to_string_lossy())) };
        let best = if self.http.h3 { "" } else { self.over_tcp() };
        let mut tries = vec![(best, "--tcp", self.echo.tcp), (best, "--udp", self.echo.udp)];
        if self.http.h3 && self.http.over_tcp() {
            tries.push((self.over_tcp(), "--udp", self.echo.udp));
        }
        for (http, flag, target) in tries {
            let (program, ca) = (shell(&self.program), shell(&ca.to_string_lossy()));
            writeln!(text, "  echo hello | {program} probe {url}{http} --ca {ca}{credential} {flag} {target}")
                .expect("a String takes everything");
        }
        writeln!(text, "  {} sessions", shell(&self.program)).expect("a String takes everything");
        say(text.trim_end());
    }

    /// The version to try over TCP.
    const fn over_tcp(&self) -> &'static str {
        if self.http.h2 { " --http 2" } else { " --http 1" }
    }

    /// Stops the echo.
    pub async fn finish(self) {
        self.echo.finish().await;
    }
}

impl Files {
    fn under(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca.key"),
            certificate: Certificate { chain: dir.join("cert.pem"), key: dir.join("key.pem") },
            token: dir.join("token"),
            profile: dir.join("relay.mobileconfig"),
        }
    }

    /// The token of the last time, or a new one.
    fn token(&self) -> Result<Zeroizing<String>, Failure> {
        match fs::read_to_string(&self.token) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let token = text.trim();
                if token.is_empty() {
                    return Err(Failure::says(Exit::Failed, format!("cannot use {}: it is empty", self.token.display()))
                        .hint("remove it: a new one is made"));
                }
                Ok(Zeroizing::new(token.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = issue::token();
                let text = Zeroizing::new(format!("{}\n", *token));
                write(&[NewFile { path: &self.token, text: text.as_bytes(), access: Access::Owner }], Existing::Keep)?;
                Ok(token)
            }
            Err(error) => Err(Failure::io(format!("cannot read the token {}", self.token.display()), &error)),
        }
    }

    /// A leaf for `names`: the one of the last time, if it still does.
    fn leaf(&self, names: &[String], now: SystemTime) -> Result<(), Failure> {
        let authority = self.authority(now)?;
        if self.leaf_serves(&authority, names, now) {
            return Ok(());
        }
        let pair = authority.server(names, LEAF, now)?;
        let new = [
            NewFile { path: &self.certificate.chain, text: pair.chain.as_bytes(), access: Access::Public },
            NewFile { path: &self.certificate.key, text: pair.key.as_bytes(), access: Access::Owner },
        ];
        Ok(write(&new, Existing::Replace)?)
    }

    /// The CA of the last time, as long as it can issue.
    fn authority(&self, now: SystemTime) -> Result<Authority, Failure> {
        let there = self.ca.exists() || self.ca_key.exists();
        if there {
            let authority = Authority::load(&self.ca, &self.ca_key).map_err(|error| {
                Failure::from(error).hint(format!(
                    "remove {} and {}: new ones are made, and clients must trust the new CA",
                    self.ca.display(),
                    self.ca_key.display()
                ))
            })?;
            if now + ENDING < authority.not_after() {
                return Ok(authority);
            }
            warn!("{} is about to expire: there is a new CA, and clients must trust it anew", self.ca.display());
        }
        let authority = Authority::new("masque-relay development CA", now)?;
        let key = authority.key_pem();
        let new = [
            NewFile { path: &self.ca, text: authority.pem().as_bytes(), access: Access::Public },
            NewFile { path: &self.ca_key, text: key.as_bytes(), access: Access::Owner },
        ];
        write(&new, if there { Existing::Replace } else { Existing::Keep })?;
        Ok(authority)
    }

    fn leaf_serves(&self, authority: &Authority, names: &[String], now: SystemTime) -> bool {
        let Ok(identity) = Identity::load(&self.certificate) else { return false };
        let Ok(pem) = fs::read(&self.certificate.chain) else { return false };
        let known = identity.names();
        // The first name is the one in the URL.
        known.first() == names.first()
            && names.iter().all(|name| known.contains(name))
            && identity.check(now).is_ok()
            && !identity.facts().expires_within(ENDING, now)
            && authority.issued(&pem, now)
    }
}

/// The socket for `sessions`; none where another development relay of this directory has it.
fn admin() -> Admin {
    let socket = Path::new(DIRECTORY).join(SOCKET);
    if UnixStream::connect(&socket).is_ok() {
        warn!("another development relay has {}: `sessions` shows that one", socket.display());
        return Admin::Off;
    }
    Admin::At(socket)
}

/// Both loopback addresses, or the one there is.
fn loopback() -> Vec<SocketAddr> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    match UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => vec![v4, SocketAddr::from((Ipv6Addr::LOCALHOST, PORT))],
        Err(error) => {
            warn!(%error, "there is no ::1 on this machine: listening on 127.0.0.1 only");
            vec![v4]
        }
    }
}

/// What the leaf must name, the name of the URL first: one under which a client on this machine reaches the first address.
fn names(listen: &[SocketAddr], outward: &[IpAddr]) -> Vec<String> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let mut names: Vec<String> = Vec::new();
    if localhost(listen) {
        names.push("localhost".into());
    }
    for ip in listen.iter().map(|addr| addr.ip().to_canonical()) {
        names.push(match ip {
            IpAddr::V4(ip) if ip.is_unspecified() => v4.to_string(),
            IpAddr::V6(ip) if ip.is_unspecified() => v6.to_string(),
            ip => ip.to_string(),
        });
    }
    names.extend(["localhost".into(), v4.to_string(), v6.to_string()]);
    if listen.iter().any(|addr| addr.ip().is_unspecified()) {
        names.extend(outward.iter().map(ToString::to_string));
    }
    let mut each = Vec::new();
    for name in names {
        if !each.contains(&name) {
            each.push(name);
        }
    }
    each
}

/// The names with that first under which another device reaches this machine, if there is one.
fn for_devices(names: &[String]) -> Vec<String> {
    let (mut outward, own): (Vec<String>, Vec<String>) =
        names.iter().cloned().partition(|name| name.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback()));
    outward.extend(own);
    outward
}

/// Whether `localhost` leads to the first port by either of its addresses: clients take the one or the other.
fn localhost(listen: &[SocketAddr]) -> bool {
    let Some(first) = listen.first() else { return false };
    let both = |addr: &SocketAddr| addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let reaches = |loopback: IpAddr| {
        listen.iter().any(|addr| {
            let ip = addr.ip();
            addr.port() == first.port() && (ip == loopback || ip.is_unspecified() && ip.is_ipv4() == loopback.is_ipv4())
        })
    };
    // Two sockets on port 0 get two ports.
    both(first) || (first.port() != 0 && reaches(Ipv4Addr::LOCALHOST.into()) && reaches(Ipv6Addr::LOCALHOST.into()))
}

/// The addresses under which other machines see this one: those it would send from. No packet is sent.
fn outward() -> Vec<IpAddr> {
    let documentation: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let from = |(any, there): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((there, 9)).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip())
    };
    documentation.into_iter().filter_map(from).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect()
}

/// Off loopback, a development relay is a way into this machine's network.
fn warn_of_strangers(config: &Config) {
    let Some(addr) = config.listen.iter().find(|addr| !addr.ip().to_canonical().is_loopback()) else { return };
    let who = if config.access.open { "anybody who reaches it" } else { "whoever has the token" };
    warn!("{addr} can be reached from other machines: {who} can reach this machine and its private networks through the relay");
}

/// A word of a command line, quoted where the shell would read something into it.
fn shell(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

const PORT: u16 = 4433;

/// Whose the token of `certs/dev/token` is.
const USER: &str = "dev";

/// 397 days: one less than anybody's limit.
const LEAF: Duration = Duration::from_secs(397 * 24 * 3600);

/// What ends within two weeks is made anew.
const ENDING: Duration = Duration::from_secs(14 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::UNIX_EPOCH};

    use tempfile::TempDir;

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn list(addrs: &[&str]) -> Vec<SocketAddr> {
        addrs.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_name_reaches_the_first_address() {
        let lan = ["192.168.1.5".parse().unwrap()];
        for (listen, want) in [
            (&["127.0.0.1:4433", "[::1]:4433"][..], &["localhost", "127.0.0.1", "::1"][..]),
            (&["127.0.0.1:1", "[::1]:2"], &["127.0.0.1", "::1", "localhost"]),
            (&["127.0.0.1:0", "[::1]:0"], &["127.0.0.1", "::1", "localhost"]),
            (&["[::1]:0"], &["::1", "localhost", "127.0.0.1"]),
            (&["192.168.1.5:4433"], &["192.168.1.5", "localhost", "127.0.0.1", "::1"]),
            (&["0.0.0.0:4433"], &["127.0.0.1", "localhost", "::1", "192.168.1.5"]),
            (&["0.0.0.0:4433", "[::1]:4433"], &["localhost", "127.0.0.1", "::1", "192.168.1.5"]),
            (&["[::]:0"], &["localhost", "::1", "127.0.0.1", "192.168.1.5"]),
        ] {
            assert_eq!(names(&list(listen), &lan), want, "{listen:?}");
        }
    }

    #[test]
    fn a_phone_is_told_an_address_it_can_reach() {
        for (names, want) in [(&["127.0.0.1", "localhost", "192.168.1.5"][..], "192.168.1.5"), (&["localhost", "127.0.0.1"], "localhost")] {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            assert_eq!(for_devices(&names)[0], want);
        }
    }

    #[test]
    fn files_are_made_once_and_kept() {
        let dir = TempDir::new().unwrap();
        let files = Files::under(&dir.path().join("certs/dev"));
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let token = files.token().unwrap();
        files.leaf(&names, now()).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let before: Vec<_> = [&files.ca, &files.certificate.chain, &files.token].map(|path| read(path)).into();
        assert_eq!(files.token().unwrap(), token);
        files.leaf(&names[..1], now()).unwrap();
        assert_eq!(before, [&files.ca, &files.certificate.chain, &files.token].map(|path| read(path)));
        for secret in [&files.ca_key, &files.certificate.key, &files.token] {
            assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600, "{}", secret.display());
        }
    }

    #[test]
    fn a_leaf_that_no_longer_does_is_issued_anew_by_the_same_ca() {
        let dir = TempDir::new().unwrap();
        let files = Files::under(dir.path());
        let names = ["localhost".to_owned()];
        files.leaf(&names, now()).unwrap();
        let (ca, first) = (fs::read(&files.ca).unwrap(), fs::read(&files.certificate.chain).unwrap());
        let more = ["localhost".to_owned(), "192.168.1.5".to_owned()];
        files.leaf(&more, now()).unwrap();
        let second = fs::read(&files.certificate.chain).unwrap();
        assert_ne!(second, first);
        assert_eq!(Identity::load(&files.certificate).unwrap().names(), more);
        files.leaf(&more, now() + LEAF - Duration::from_secs(24 * 3600)).unwrap();
        let third = fs::read(&files.certificate.chain).unwrap();
        assert_ne!(third, second, "about to expire");
        fs::write(&files.certificate.key, "garbage").unwrap();
        files.leaf(&more, now() + LEAF).unwrap();
        assert_ne!(fs::read(&files.certificate.chain).unwrap(), third, "unusable");
        assert_eq!(fs::read(&files.ca).unwrap(), ca);
    }

    #[test]
    fn a_new_ca_brings_a_new_leaf() {
        let dir = TempDir::new().unwrap();
        let files = Files::under(dir.path());
        let names = ["localhost".to_owned()];
        files.leaf(&names, now()).unwrap();
        let first = fs::read(&files.certificate.chain).unwrap();
        fs::remove_file(&files.ca).unwrap();
        let error = files.leaf(&names, now()).unwrap_err().to_string();
        assert!(error.contains("ca.key: new ones are made"), "{error}");
        fs::remove_file(&files.ca_key).unwrap();
        files.leaf(&names, now()).unwrap();
        assert_ne!(fs::read(&files.certificate.chain).unwrap(), first);
        let ca = fs::read(&files.ca).unwrap();
        let late = now() + Duration::from_secs(3650 * 24 * 3600);
        files.leaf(&names, late).unwrap();
        assert_ne!(fs::read(&files.ca).unwrap(), ca, "the CA was about to expire");
        assert!(Identity::load(&files.certificate).unwrap().check(late).is_ok());
    }

    #[test]
    fn an_empty_token_is_nobodys() {
        let dir = TempDir::new().unwrap();
        let files = Files::under(dir.path());
        fs::write(&files.token, "\n").unwrap();
        assert!(files.token().unwrap_err().to_string().contains("it is empty"));
    }

    #[test]
    fn words_survive_the_shell() {
        for (word, want) in
            [("target/debug/masque-relay", "target/debug/masque-relay"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")]
        {
            assert_eq!(shell(word), want);
        }
    }
}
