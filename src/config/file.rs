//! Configuration as written: TOML, every key optional, unknown keys refused, all problems at once and each with its line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    Admin, Config,
    keys::{KEYS, Key, allowed_cpus},
    memory::{Part, TUNNEL, WORKER, bytes, sum},
    values::unknown,
};

/// A configuration in the making: the defaults, then what overrides them, in the order of the calls.
#[derive(Debug)]
pub struct Settings {
    config: Config,
    sources: BTreeMap<&'static str, Source>,
    problems: Vec<Problem>,
    /// Keys and sections with a problem: what else is wrong with them would only follow from it. `*` for all.
    broken: BTreeSet<String>,
    file: Option<PathBuf>,
}

/// The configuration as meant, and where each value is from.
#[derive(Debug)]
pub struct Meant {
    /// The configuration.
    pub config: Config,
    sources: BTreeMap<&'static str, Source>,
}

/// Where a value is from. What is not mentioned is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A line of a file, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command.
    Flag(&'static str),
}

/// One thing that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line of the file, counted from 1; none for what is missing altogether.
    pub line: Option<usize>,
    /// What, naming the key.
    pub says: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Everything that is wrong, in the order of the lines.
    #[error("{}", Listed(file.as_deref(), problems))]
    Problems {
        /// The file, if there is one.
        file: Option<PathBuf>,
        /// At least one.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => Some(NO_FILE.into()),
            Self::Problems { file: None, .. } => Some(NO_FILE.into()),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::InvalidData => Some("it must be TOML, text in UTF-8".into()),
            Self::Read { .. } | Self::Problems { .. } => None,
        }
    }
}

const NO_FILE: &str = "name a file with `--config`; without one, `masque-relay serve --dev` is a relay to try";

/// Reads one file with nothing overriding it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let mut settings = Settings::new();
    settings.read(path)?;
    settings.finish().map(|meant| meant.config)
}

impl Settings {
    /// The defaults: [`Config::default`] with a worker for every processor the process may use.
    pub fn new() -> Self {
        let config = Config { workers: allowed_cpus(), ..Config::default() };
        Self { config, sources: BTreeMap::new(), problems: Vec::new(), broken: BTreeSet::new(), file: None }
    }

    /// Lays a file over what is there. Only a file that cannot be read fails at once; what is wrong in it waits for [`Self::finish`].
    pub fn read(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        self.parse(path, &text);
        Ok(())
    }

    /// The same with the text of the file at hand.
    pub fn parse(&mut self, path: &Path, text: &str) {
        self.file = Some(path.into());
        let mut reader = Reader { text, path, settings: self };
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            reader.problem("*", &error.span().unwrap_or_default(), format!("this is not TOML: {}", error.message()));
        }
        // What a broken text was mended to is nobody's meaning.
        if errors.is_empty() {
            reader.table("", document.get_ref());
        }
        let base = path.parent().unwrap_or(Path::new(""));
        let mut files =
            vec![("certificate.chain", &mut self.config.certificate.chain), ("certificate.key", &mut self.config.certificate.key)];
        files.extend(
            self.config.more_certificates.iter_mut().flat_map(|one| [&mut one.chain, &mut one.key]).map(|file| ("certificate.more", file)),
        );
        files.extend(self.config.access.client_ca.as_mut().map(|file| ("access.client_ca", file)));
        files.extend(self.config.log.records.as_mut().map(|file| ("log.records", file)));
        files.extend(self.config.log.qlog.as_mut().map(|directory| ("log.qlog", directory)));
        if let Admin::At(socket) = &mut self.config.admin {
            files.push(("admin", socket));
        }
        for (key, file) in files {
            if matches!(self.sources.get(key), Some(Source::File(from, _)) if from == path) {
                *file = base.join(&*file);
            }
        }
    }

    /// Lays one value over what is there: a flag or an environment variable. `key` is the path of a [`Key`].
    pub fn set(&mut self, key: &'static str, source: Source, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.sources.insert(key, source);
    }

    /// The configuration, or everything that is wrong with it.
    pub fn finish(mut self) -> Result<Meant, ConfigError> {
        self.cross_check();
        if self.problems.is_empty() {
            return Ok(Meant { config: self.config, sources: self.sources });
        }
        self.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Err(ConfigError::Problems { file: self.file, problems: self.problems })
    }

    /// What no single value shows.
    fn cross_check(&mut self) {
        let mut wrong: Vec<(&str, String)> = Vec::new();
        let config = &self.config;
        if config.listen.is_empty() {
            wrong.push(("listen", "`listen` needs an address".into()));
        }
        if !config.http.over_tcp() && !config.http.h3 {
            wrong.push((
                "http3",
                "no version of HTTP is served: set `http3`, `http2` or `http1` to `true`, or leave out `--no-h3` or `--no-h2`".into(),
            ));
        }
        let twice = |(index, addr): (usize, &std::net::SocketAddr)| addr.port() != 0 && config.listen[..index].contains(addr);
        if let Some(index) = config.listen.iter().enumerate().position(twice) {
            wrong.push(("listen", format!("`listen` has {} twice", config.listen[index])));
        }
        for (key, flag, path) in
            [("certificate.chain", "--cert", &config.certificate.chain), ("certificate.key", "--key", &config.certificate.key)]
        {
            if path.as_os_str().is_empty() {
                wrong.push((key, format!("`{key}` is missing: name the PEM file here or with `{flag}` (`masque-relay cert` makes one)")));
            }
        }
        let tokens = &config.access.tokens;
        if let Some(index) = (1..tokens.len()).find(|&index| tokens[..index].iter().any(|token| token.sha256 == tokens[index].sha256)) {
            wrong.push(("access.tokens", format!("`access.tokens` has the token of `{}` twice", tokens[index].user)));
        }
        if let Some(addr) = config.open_to_all() {
            wrong.push((
                "access.tokens",
                format!(
                    "no token is configured, and {addr} can be reached from other machines: add one to `access.tokens` \
                     (`masque-relay cert token` makes it), name the CA of client certificates in `access.client_ca`, or declare `access.open = true`"
                ),
            ));
        }
        for (key, says) in wrong {
            let place = key.split('.').next().unwrap_or(key);
            if self.broken.contains("*") || self.broken.contains(place) {
                continue;
            }
            let line = match self.sources.get(key) {
                Some(Source::File(_, line)) => Some(*line),
                _ => None,
            };
            self.problems.push(Problem { line, says });
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Meant {
    /// The configuration as TOML, each value with its source, and the worst-case memory that follows from it. No secret in it.
    pub fn show(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for key in KEYS {
            if key.section() != section {
                section = key.section();
                out += &format!("\n[{section}]\n");
            }
            let value = format!("{} = {}", key.name(), (key.show)(&self.config));
            let source = self.sources.get(key.path).map_or_else(|| "default".into(), ToString::to_string);
            // Past the last line of a list, and beside a single value.
            out += &format!("{value:<44}  # {source}\n");
        }
        out + &self.show_memory()
    }

    fn show_memory(&self) -> String {
        let Config { limits, workers, .. } = &self.config;
        let worst = self.config.worst_case_memory();
        let parts =
            |parts: &[Part]| parts.iter().map(|part| format!("#     {:<10} {}\n", bytes(part.bytes), part.what)).collect::<String>();
        let tunnels = Part { what: format!("tunnels: {} × {}", limits.tunnels_per_connection, bytes(TUNNEL)), bytes: worst.tunnels };
        let qlog = if worst.qlog > 0 { format!(" + {} of qlog to be written", bytes(worst.qlog)) } else { String::new() };
        format!(
            "\n# worst-case memory, kernel buffers not counted\n\
             #   a connection that has not authenticated: {}\n{}\
             #   as many as one address may have, {}: {}\n\
             #   a connection that has: {}\n{}{}\
             #   all: {} connections × {} + {} tunnels × {} + {workers} workers × {}{qlog} = {}\n",
            bytes(sum(&worst.before)),
            parts(&worst.before),
            limits.unauthenticated_per_source,
            bytes(worst.address),
            bytes(sum(&worst.connection).saturating_add(worst.tunnels)),
            parts(&worst.connection),
            parts(&[tunnels]),
            limits.connections,
            bytes(sum(&worst.connection)),
            limits.tunnels,
            bytes(TUNNEL),
            bytes(WORKER),
            bytes(worst.total),
        )
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{} line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One problem fits the first line; several get a line each.
struct Listed<'a>(Option<&'a Path>, &'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(file, problems) = self;
        let file = file.map(|path| path.display().to_string());
        if let [only] = problems {
            return match (&file, only.line) {
                (Some(file), Some(line)) => write!(f, "{file}, line {line}: {}", only.says),
                (Some(file), None) => write!(f, "{file}: {}", only.says),
                (None, _) => write!(f, "{}", only.says),
            };
        }
        write!(f, "{} problems in {}", problems.len(), file.as_deref().unwrap_or("the configuration"))?;
        for Problem { line, says } in *problems {
            match line {
                Some(line) => write!(f, "\n  line {line}: {says}")?,
                None => write!(f, "\n  {says}")?,
            }
        }
        Ok(())
    }
}

/// Walks a document beside the table of keys.
struct Reader<'a> {
    text: &'a str,
    path: &'a Path,
    settings: &'a mut Settings,
}

impl Reader<'_> {
    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            if let Some(key) = Key::find(&path) {
                match (key.read)(value, &mut self.settings.config) {
                    Ok(()) => {
                        let source = Source::File(self.path.into(), self.line(&name.span()));
                        self.settings.sources.insert(key.path, source);
                    }
                    Err(wrongs) => wrongs.into_iter().for_each(|wrong| self.problem(&path, &wrong.at, format!("`{path}` {}", wrong.says))),
                }
            } else if section.is_empty() && KEYS.iter().any(|key| key.section() == path) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(&path, inner),
                    _ => self.problem(&path, &value.span(), format!("`{path}` must be a section, `[{path}]`")),
                }
            } else {
                // A misspelt section takes all its keys with it.
                let place = if section.is_empty() { "*" } else { section };
                self.problem(place, &name.span(), format!("unknown key {}", stranger(section, &path, name.get_ref())));
            }
        }
    }

    fn problem(&mut self, place: &str, at: &Range<usize>, says: String) {
        self.settings.broken.insert(place.split('.').next().unwrap_or(place).into());
        let line = Some(self.line(at));
        self.settings.problems.push(Problem { line, says });
    }

    fn line(&self, at: &Range<usize>) -> usize {
        1 + self.text.bytes().take(at.start).filter(|byte| *byte == b'\n').count()
    }
}

/// What may be meant by a key nobody knows: the same word in another section, else one like it beside it.
fn stranger(section: &str, path: &str, name: &str) -> String {
    if let Some(key) = KEYS.iter().find(|key| key.name() == name) {
        return format!("`{}`: did you mean `{}`?", path.escape_debug(), key.path);
    }
    let beside = KEYS.iter().filter(|key| key.section() == section).map(|key| key.path);
    let sections = KEYS.iter().map(Key::section).filter(|other| section.is_empty() && !other.is_empty());
    unknown(path, beside.chain(sections))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::{Access, Certificate, Congestion, Privacy, Protocol, Retry, Rule, Token},
        refusal::Denial,
    };

    /// What every file needs on an address that others reach.
    const NEEDED: &str = "certificate = { chain = \"c.pem\", key = \"k.pem\" }\naccess.open = true\n";

    fn meant(text: &str) -> Result<Meant, ConfigError> {
        let mut settings = Settings::new();
        settings.parse(Path::new("/etc/relay/relay.toml"), text);
        settings.finish()
    }

    fn config(text: &str) -> Config {
        meant(&format!("{NEEDED}{text}")).unwrap().config
    }

    /// The problems of a file that lacks nothing else; the first two lines are what it needs.
    fn problems(text: &str) -> Vec<(usize, String)> {
        match meant(&format!("{NEEDED}{text}")) {
            Err(ConfigError::Problems { problems, .. }) => {
                problems.into_iter().map(|problem| (problem.line.unwrap_or(0).saturating_sub(2), problem.says)).collect()
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn only(text: &str) -> String {
        let mut problems = problems(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.remove(0).1
    }

    #[test]
    fn what_a_file_leaves_out_is_the_default() {
        let mut want = Config { workers: allowed_cpus(), ..Config::default() };
        want.certificate = Certificate { chain: "/etc/relay/c.pem".into(), key: "/etc/relay/k.pem".into() };
        want.access = Access { open: true, ..Access::default() };
        assert_eq!(format!("{:?}", config("")), format!("{want:?}"));
    }

    /// Every key, each with a value that is not its default.
    const ALL: &str = r#"
listen = ["127.0.0.1:4433", "[::1]:0"]
http3 = false
http2 = false
http1 = true
tls12 = true
name = "edge-1"
admin = "run/admin.sock"
workers = 3
templates = ["https://relay.example/masque{?target_host,target_port}"]
[certificate]
chain = "tls/chain.pem"
key = "/run/key.pem"
more = [{ chain = "tls/more.pem", key = "tls/more.key" }]
[access]
open = true
header = "X-Relay-Token"
client_ca = "ca.pem"
revoked = ["00:AB"]
tokens = [{ user = "alice", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }]
[rules]
allow_private = true
denial = "direct"
list = [
  { allow = ["Example.com.", ".example.org", "192.0.2.0/24", "2001:db8::1"], ports = ["443", "8000-8999", 53], protocols = ["tcp"] },
  { deny = ["*"], denial = "filtered" },
]
[limits]
connections = 1
tunnels = 2
tunnels_per_connection = 3
unauthenticated_per_source = 4
unanswered_packets = 5
[timeouts]
head = 1
authenticate = "2s"
dns = "3000ms"
connect = "1m"
idle = "3m"
udp_idle = "1h"
tcp_idle = "2h"
capsule_stall = "8s"
drain = 0
[dns]
servers = ["192.0.2.53", "[2001:db8::53]:5353"]
[quic]
initial_mtu = 1_300
keep_alive = "15s"
retry = "always"
socket_buffer = 0x10_0000
congestion = "bbr"
[apple]
well_known = false
draft_03 = false
bind = false
connect_ip = false
own_fields = false
old_datagrams = false
hints = false
[bisect]
grease = false
new_token = true
datagrams = false
h3_datagram = false
extended_connect = false
mtu_discovery = false
cid_length = 19
[fault]
allow = true
[log]
privacy = "none"
records = "/var/log/records.jsonl"
qlog = "/var/log/qlog"
"#;

    #[test]
    fn every_key_is_read() {
        let meant = meant(ALL).unwrap();
        let config = &meant.config;
        let default = Config { workers: usize::MAX, ..Config::default() };
        for key in KEYS {
            assert_ne!((key.show)(config), (key.show)(&default), "{}", key.path);
            assert!(matches!(meant.sources.get(key.path), Some(Source::File(_, line)) if *line > 1), "{}", key.path);
        }
        assert_eq!(config.listen, ["127.0.0.1:4433".parse().unwrap(), "[::1]:0".parse().unwrap()]);
        assert_eq!(config.certificate.chain, Path::new("/etc/relay/tls/chain.pem"));
        assert_eq!(config.certificate.key, Path::new("/run/key.pem"));
        assert_eq!(config.access.header, "x-relay-token");
        assert_eq!(config.access.tokens[0].sha256, Token::new("", "abc").sha256);
        assert_eq!(config.timeouts.dns, Duration::from_secs(3));
        assert_eq!(config.timeouts.udp_idle, Duration::from_secs(3600));
        assert_eq!(config.dns.servers, ["192.0.2.53:53".parse().unwrap(), "[2001:db8::53]:5353".parse().unwrap()]);
        assert_eq!((config.quic.retry, config.log.privacy), (Retry::Always, Privacy::None));
        assert_eq!((config.quic.socket_buffer, config.quic.congestion), (1 << 20, Congestion::Bbr));
    }

    #[test]
    fn further_certificates_are_a_list_or_sections_alike() {
        let of = |more: &str| format!("[certificate]\nchain = \"c.pem\"\nkey = \"k.pem\"\n{more}\n[access]\nopen = true\n");
        let list = "more = [{ chain = \"d.pem\", key = \"l.pem\" }, { chain = \"/e.pem\", key = \"m.pem\" }]";
        let sections =
            "[[certificate.more]]\nchain = \"d.pem\"\nkey = \"l.pem\"\n[[certificate.more]]\nchain = \"/e.pem\"\nkey = \"m.pem\"";
        let [list, meant_by_sections] = [list, sections].map(|more| meant(&of(more)).unwrap().config);
        assert_eq!(format!("{list:?}"), format!("{meant_by_sections:?}"));
        let chains: Vec<_> = list.certificates().map(|one| one.chain.to_str().unwrap()).collect();
        assert_eq!(chains, ["/etc/relay/c.pem", "/etc/relay/d.pem", "/e.pem"]);
        let error = meant(&of(&sections.replacen("chain", "chian", 1))).unwrap_err();
        let wanted = "/etc/relay/relay.toml, line 5: `certificate.more` has the unknown key `chian`: did you mean `chain`?";
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn some_http_must_be_served() {
        let found = only("http3 = false\nhttp2 = false");
        assert_eq!(found, "no version of HTTP is served: set `http3`, `http2` or `http1` to `true`, or leave out `--no-h3` or `--no-h2`");
        meant(&format!("http2 = false\n{NEEDED}")).unwrap();
    }

    #[test]
    fn names_and_networks_of_one_list_are_two_rules_that_agree() {
        let [names, networks, last]: [Rule; 3] = meant(ALL).unwrap().config.rules.list.try_into().unwrap();
        assert_eq!(names.names, ["example.com", ".example.org"]);
        assert!(names.networks.is_empty() && networks.names.is_empty());
        assert_eq!(networks.networks, ["192.0.2.0/24".parse().unwrap(), "2001:db8::1/128".parse().unwrap()]);
        for rule in [&names, &networks] {
            assert!(rule.allow);
            assert_eq!(rule.ports, [(443, 443), (8000, 8999), (53, 53)]);
            assert_eq!(rule.protocols, [Protocol::Tcp]);
        }
        assert!(!last.allow && last.names.is_empty() && last.networks.is_empty());
        assert_eq!(last.denial, Some(Denial::Filtered));
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        let text = ALL
            .replace(r#"tokens = [{ user = "alice", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }]"#, "");
        let first = meant(&text).unwrap();
        let again = meant(&first.show()).unwrap();
        assert_eq!(format!("{:?}", again.config), format!("{:?}", first.config));
    }

    #[test]
    fn all_problems_come_at_once_each_with_its_line() {
        let found = problems("listn = 3\nworkers = 0\n[limits]\ntunnels = \"many\"\n\nconections = 5\n[quic]\nretry = \"often\"\n");
        assert_eq!(
            found,
            [
                (1, "unknown key `listn`: did you mean `listen`?".into()),
                (2, "`workers` must be 1 to 256, not 0".into()),
                (4, "`limits.tunnels` must be a number from 1 to 1000000, not a text".into()),
                (6, "unknown key `limits.conections`: did you mean `limits.connections`?".into()),
                (8, "`quic.retry` must be `never` or `load` or `always`, not `often`".into()),
            ]
        );
    }

    #[test]
    fn one_problem_fits_one_line_and_several_get_one_each() {
        let error = meant(&format!("{NEEDED}workers = 0")).unwrap_err();
        assert_eq!(error.to_string(), "/etc/relay/relay.toml, line 3: `workers` must be 1 to 256, not 0");
        let error = meant(&format!("{NEEDED}workers = 0\nname = 1")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2 problems in /etc/relay/relay.toml\n  line 3: `workers` must be 1 to 256, not 0\n  line 4: `name` must be a text in quotes, not a number"
        );
    }

    #[test]
    fn a_key_in_the_wrong_place_is_sent_to_the_right_one() {
        assert_eq!(only("tunnels = 5"), "unknown key `tunnels`: did you mean `limits.tunnels`?");
        assert_eq!(only("[limit]\ntunnels = 5"), "unknown key `limit`: did you mean `limits`?");
        assert_eq!(only("[log]\nworkers = 5"), "unknown key `log.workers`: did you mean `workers`?");
        assert_eq!(only("xyzzy = 5"), "unknown key `xyzzy`");
        assert_eq!(only("limits = 5"), "`limits` must be a section, `[limits]`");
    }

    #[test]
    fn a_broken_text_says_where() {
        let Err(ConfigError::Problems { problems, .. }) = meant("workers = 1\nname = \nlisten = [") else { panic!("accepted") };
        assert_eq!(problems[0].line, Some(2), "{problems:?}");
        assert!(problems.iter().all(|problem| problem.says.starts_with("this is not TOML")), "{problems:?}");
        let deep = format!("listen = {}", "[".repeat(100_000));
        assert!(meant(&deep).is_err());
    }

    #[test]
    fn what_is_missing_altogether_is_told() {
        let Err(ConfigError::Problems { problems, .. }) = meant("") else { panic!("accepted") };
        let says: Vec<_> = problems.iter().map(|problem| problem.says.as_str()).collect();
        assert_eq!(says.len(), 3, "{says:?}");
        assert!(says[0].contains("certificate.chain") && says[0].contains("--cert"));
        assert!(says[1].contains("certificate.key"));
        assert!(says[2].contains("[::]:443 can be reached"), "{}", says[2]);
        // What is broken is not reported missing as well.
        let Err(ConfigError::Problems { problems, .. }) = meant("[certificate]\nchian = \"c.pem\"\nkey = \"k.pem\"\n[access]\nopen = 1")
        else {
            panic!("accepted")
        };
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn later_sources_override_and_are_named() {
        let mut settings = Settings::new();
        settings.parse(Path::new("relay.toml"), &format!("{NEEDED}workers = 2\n"));
        settings.set("workers", Source::Flag("--workers"), |config| config.workers = 5);
        settings.set("listen", Source::Environment("MASQUE_RELAY_LISTEN"), |config| config.listen = vec!["127.0.0.1:1".parse().unwrap()]);
        let meant = settings.finish().unwrap();
        assert_eq!(meant.config.workers, 5);
        let shown = meant.show();
        let line = |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
        assert!(line("workers = 5").ends_with("# flag --workers"), "{shown}");
        assert!(line("listen = ").ends_with("# environment MASQUE_RELAY_LISTEN"), "{shown}");
        assert!(line("open = true").ends_with("# relay.toml line 2"), "{shown}");
        assert!(line("drain = \"30s\"").ends_with("# default"), "{shown}");
        assert!(shown.contains("# worst-case memory"), "{shown}");
    }

    #[test]
    fn no_secret_is_shown_nor_repeated() {
        let shown = meant(ALL).unwrap().show();
        assert!(shown.contains("alice") && !shown.contains("ba7816bf"), "{shown}");
        let wrong = only("access.tokens = [{ user = \"alice\", sha256 = \"correct horse\" }]");
        assert!(!wrong.contains("horse") && wrong.contains("cert token"), "{wrong}");
    }

    #[test]
    fn every_value_is_held_to_its_range() {
        for (text, word) in [
            ("listen = []", "needs an address"),
            ("listen = [\"localhost:443\"]", "address with a port"),
            ("listen = [\"192.0.2.1\"]", "192.0.2.1:443"),
            ("listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", "twice"),
            ("name = \"1st\"", "must be a letter"),
            ("templates = [\"/udp/{target_host}/\"]", "target_port"),
            ("workers = 257", "1 to 256"),
            ("workers = \"all\"", "`auto`"),
            ("workers = 1.5", "not a fraction"),
            ("certificate.chain = \"\"", "must name a file"),
            ("access.header = \"host\"", "meaning of its own"),
            ("access.header = \"a b\"", "name of a field"),
            ("access.tokens = [{ user = \"a\" }]", "needs both"),
            (
                "access.tokens = [{ user = \"a:b\", sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\" }]",
                "colon",
            ),
            ("access.tokens = [{ user = \"a\", sha256 = \"00\" }]", "a `sha256` that must be"),
            ("access.tokens = [{ usr = \"a\" }]", "did you mean `user`?"),
            (
                "access.tokens = [{ user = \"a\", sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" }]",
                "SHA-256 of nothing",
            ),
            ("rules.denial = \"drop\"", "`block` or `direct`"),
            ("rules.list = [{ ports = [1] }]", "needs `allow` or `deny`"),
            ("rules.list = [{ allow = [\"*\"], deny = [\"*\"] }]", "two rules"),
            ("rules.list = [{ alow = [\"*\"] }]", "did you mean `allow`?"),
            ("rules.list = [{ allow = [] }]", "empty list"),
            ("rules.list = [{ allow = [\"*\", \"a.example\"] }]", "has `*`"),
            ("rules.list = [{ allow = [\"*.example\"] }]", "write `.example`"),
            ("rules.list = [{ allow = [\"a..b\"] }]", "must hold names"),
            ("rules.list = [{ allow = [\"1.2.3\"] }]", "must hold names"),
            ("rules.list = [{ allow = [\"bücher.example\"] }]", "xn--"),
            ("rules.list = [{ allow = [\"192.0.2.1/24\"] }]", "write `192.0.2.0/24`"),
            ("rules.list = [{ allow = [\"192.0.2.0/33\"] }]", "networks like"),
            ("rules.list = [{ deny = [\"*\"], ports = [\"9-1\"] }]", "must hold ports"),
            ("rules.list = [{ deny = [\"*\"], ports = [0] }]", "1 to 65535"),
            ("rules.list = [{ deny = [\"*\"], ports = [] }]", "empty list"),
            ("rules.list = [{ deny = [\"*\"], protocols = [\"sctp\"] }]", "`tcp` or `udp`"),
            ("rules.list = [{ allow = [\"*\"], denial = \"block\" }]", "no meaning"),
            ("rules.list = [\"*\"]", "must hold tables"),
            ("limits.connections = 0", "1 to 1000000"),
            ("limits.tunnels = -1", "1 to 1000000"),
            ("limits.tunnels = 1000001", "1 to 1000000"),
            ("limits.tunnels_per_connection = 0", "1 to 1000000"),
            ("limits.unauthenticated_per_source = 0", "1 to 1000000"),
            ("limits.unanswered_packets = 0", "1 to 1000000"),
            ("timeouts.head = 0", "100ms to 5m"),
            ("timeouts.authenticate = \"10\"", "a time like"),
            ("timeouts.dns = \"2m\"", "100ms to 1m, not 2m"),
            ("timeouts.connect = true", "a time like"),
            ("timeouts.udp_idle = \"25h\"", "1s to 24h"),
            ("timeouts.tcp_idle = \"9999999999999999h\"", "a time like"),
            ("timeouts.capsule_stall = \"1 s\"", "a time like"),
            ("timeouts.drain = -1", "a time like"),
            ("dns.servers = [\"dns.example\"]", "192.0.2.53"),
            ("quic.initial_mtu = 1199", "1200 to 1452"),
            ("quic.initial_mtu = 1453", "1200 to 1452"),
            ("quic.keep_alive = \"11m\"", "0s to 10m"),
            ("quic.socket_buffer = 1024", "65536 to"),
            ("log.privacy = \"all\"", "`full` or `domain` or `none`"),
        ] {
            // `access` and `certificate` are inline above: these cases bring their own.
            let needed = match text.split(['.', ' ']).next() {
                Some("access") => "certificate = { chain = \"c\", key = \"k\" }\n",
                Some("certificate") => "access.open = true\ncertificate.key = \"k\"\n",
                _ => NEEDED,
            };
            let error = meant(&format!("{needed}{text}")).unwrap_err();
            let ConfigError::Problems { problems, .. } = &error else { panic!("{error}") };
            assert_eq!(problems.len(), 1, "{text}: {error}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn values_at_their_bounds_are_taken() {
        let config = config(
            "limits = { connections = 1000000, tunnels = 1 }\ntimeouts = { head = \"100ms\", udp_idle = 86400, drain = \"0s\" }\n\
             quic = { initial_mtu = 1452, keep_alive = 0, socket_buffer = 65536 }\nworkers = \"auto\"\n\
             rules.list = [{ deny = [\"a\"], ports = [\"1-65535\"] }]",
        );
        assert_eq!(config.limits.connections, 1_000_000);
        assert_eq!(config.timeouts.head, Duration::from_millis(100));
        assert_eq!(config.timeouts.udp_idle, Duration::from_secs(86_400));
        assert_eq!(config.workers, allowed_cpus());
        assert_eq!(config.rules.list[0].ports, [(1, 65535)]);
    }

    #[test]
    fn a_file_that_is_not_there_is_told_from_one_that_is_wrong() {
        let error = load(Path::new("/nowhere/relay.toml")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read the configuration /nowhere/relay.toml");
        assert!(error.hint().unwrap().contains("--dev"));
    }

    #[test]
    fn keys_are_unique_and_grouped_by_section() {
        let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
        sections.dedup();
        let count = sections.len();
        sections.sort_unstable();
        sections.dedup();
        assert_eq!(sections.len(), count, "a section is split");
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.path != key.path), "{} twice", key.path);
        }
    }
}
