//! `serve`: from the command line to the orderly end.

mod secrets;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::interval,
};
use tracing::{info, warn};

use super::{
    ServeArguments,
    dev::Dev,
    doctor, faults,
    report::{Exit, Failure, print, say},
    sessions::in_runtime_directory,
};
use crate::{
    certs::Serving,
    config::{Admin, Config, file::Settings},
    server::{Found, Reload, Server},
    sys,
};

/// Runs the relay until a signal ends it. A second signal ends it at once.
pub fn run(arguments: &ServeArguments, program: &str, now: SystemTime) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Failure::io("cannot make the runtime", &source))?;
    runtime.block_on(serve(arguments, program, now))
}

async fn serve(arguments: &ServeArguments, program: &str, now: SystemTime) -> Result<(), Failure> {
    // Before anything else: a signal that comes while the relay starts must not be lost.
    let mut signals = Signals::listen().map_err(|source| Failure::io("cannot listen for signals", &source))?;
    if arguments.faults.help() {
        return print(&faults::list());
    }
    let (mut config, dev) = if arguments.dev {
        let (config, dev) = Dev::prepare(&arguments.overrides, program, now).await?;
        (config, Some(dev))
    } else {
        let mut settings = Settings::new();
        arguments.overrides.lay(&mut settings)?;
        let mut config = settings.finish()?.config;
        if config.admin == Admin::Auto {
            config.admin = in_runtime_directory().map_or(Admin::Off, Admin::At);
        }
        (config, None)
    };
    arguments.faults.lay(&mut config);
    let serving = Serving::load(&config)?;
    serving.check(now)?;
    for (identity, files) in serving.identities().iter().zip(config.certificates()) {
        for complaint in identity.facts().complaints(now) {
            warn!("the certificate {}: {complaint}", files.chain.display());
        }
    }
    if let Some(file) = secrets::file()? {
        warn!("SSLKEYLOGFILE: the secrets of all connections are written to {}: whoever reads it reads all traffic", file.display());
        config.log.secrets = true;
    }
    let room = make_room(&config);
    let grace = config.timeouts.drain;
    let qlog = config.log.qlog.clone();
    let server = Server::start(config)?;
    if let Some(directory) = qlog {
        warn!("qlog: every packet of every HTTP/3 connection is noted in {}, which costs time and room", directory.display());
    }
    for warning in room.iter().chain(server.warnings()) {
        // On a machine one tries things on, a small limit is normal.
        if dev.is_some() { info!("{warning}") } else { warn!("{warning}") }
    }
    faults::warn_of(server.faults());
    if let Some(dev) = &dev {
        dev.write_profile(server.addresses())?;
        dev.note_running(server.addresses())?;
        dev.greet(server.addresses());
    }
    print(&ready(serving.first().names(), server.addresses()))?;

    let checkup = async {
        if dev.is_some() {
            say(Box::pin(doctor::checkup(now)).await);
        }
    };
    let configured = dev.is_none().then_some(arguments);
    let mut ended = std::pin::pin!(run_until_signalled(server, &mut signals, configured, grace));
    let ended = tokio::select! {
        ended = &mut ended => ended,
        () = checkup => ended.await,
    };
    if let Some(dev) = dev {
        dev.finish().await;
    }
    ended
}

/// `configured` is what a configuration is read from again at SIGHUP.
async fn run_until_signalled(
    server: Server,
    signals: &mut Signals,
    configured: Option<&ServeArguments>,
    grace: Duration,
) -> Result<(), Failure> {
    let mut reload = server.reload();
    let mut watch = interval(WATCH);
    let name = loop {
        tokio::select! {
            signal = signals.any() => match signal {
                Some(name) => break name,
                None => load(&mut reload, configured),
            },
            _ = watch.tick() => look(&mut reload, false),
        }
    };
    info!("{name}: no new work; tunnels have {grace:?} to end, a second signal cuts them at once");
    let cut = tokio::select! {
        cut = server.drain(grace) => cut,
        name = signals.next() => return Err(Failure::says(Exit::Failed, format!("{name} again: stopped at once"))),
    };
    match cut {
        0 => {
            info!("all tunnels ended; stopped");
            Ok(())
        }
        cut => Err(Failure::says(
            Exit::Failed,
            format!(
                "{cut} {} did not end within {grace:?} and {} cut",
                if cut == 1 { "tunnel" } else { "tunnels" },
                if cut == 1 { "was" } else { "were" }
            ),
        )
        .hint("`timeouts.drain` gives them more time")),
    }
}

/// Reads everything again, as far as it counts without a restart.
fn load(reload: &mut Reload, configured: Option<&ServeArguments>) {
    let Some(arguments) = configured else { return look(reload, true) };
    let mut settings = Settings::new();
    let config = arguments.overrides.lay(&mut settings).and_then(|()| settings.finish().map(|meant| meant.config).map_err(Failure::from));
    match config.and_then(|config| reload.load(config, clock()).map_err(Failure::from)) {
        Ok(()) => info!("SIGHUP: certificates, `access` and `rules` are read again; everything else takes a restart"),
        Err(failure) => warn!("SIGHUP: nothing is changed: {}", failure.line()),
    }
}

/// The clock, for what happens long after the start.
#[expect(clippy::disallowed_methods, reason = "a certificate that comes while the relay runs is judged by the time it comes at")]
fn clock() -> SystemTime {
    SystemTime::now()
}

/// Serves certificates that are new; of bad ones it tells once.
fn look(reload: &mut Reload, asked: bool) {
    match reload.look(clock()) {
        Ok(Found::New) => info!("the certificates are new: they serve new connections"),
        Ok(Found::Same) if asked => info!("SIGHUP: the certificates are unchanged"),
        Ok(Found::Same) => {}
        Err(error) => warn!("the certificates are new and bad, those before stay: {}", Failure::from(error).line()),
    }
}

/// What scripts wait for: `ready https://relay.example:443`, one line.
fn ready(names: &[String], addresses: &[SocketAddr]) -> String {
    match addresses.first() {
        Some(first) => format!("ready {}\n", url(names, *first)),
        None => "ready\n".into(),
    }
}

/// The relay's URL by the certificate's first name; a wildcard is no name to connect to.
pub(super) fn url(names: &[String], address: SocketAddr) -> String {
    let name = names.iter().find(|name| !name.starts_with("*."));
    match name {
        Some(name) => match name.parse() {
            Ok(ip) => format!("https://{}", SocketAddr::new(ip, address.port())),
            Err(_) => format!("https://{name}:{}", address.port()),
        },
        None => format!("https://{address}"),
    }
}

/// Raises the descriptor limit; gives a warning when it does not reach as far as the configuration.
fn make_room(config: &Config) -> Option<String> {
    let needed = descriptors(config);
    match sys::raise_descriptor_limit() {
        Ok(limit) if limit < needed => Some(format!(
            "this process may open {limit} files, but `limits.tunnels` = {} needs {needed}: raise the limit (`LimitNOFILE=` of systemd, \
             `ulimit -n`) or lower `limits.tunnels`",
            config.limits.tunnels
        )),
        Ok(_) => None,
        Err(error) => Some(format!("cannot raise the limit of open files: {error}")),
    }
}

/// A socket for every tunnel; a socket for every address, an epoll and a few more for every worker; and some for the process.
fn descriptors(config: &Config) -> u64 {
    let workers = config.workers.saturating_mul(config.listen.len().saturating_add(8));
    config.limits.tunnels.saturating_add(workers).saturating_add(64) as u64
}

/// How often the files of certificates are looked at.
const WATCH: Duration = Duration::from_secs(10);

/// SIGTERM and SIGINT, and SIGHUP.
struct Signals {
    hangup: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// The next one: the name of one that ends the relay, none for SIGHUP. Cancel safe.
    async fn any(&mut self) -> Option<&'static str> {
        tokio::select! {
            _ = self.term.recv() => Some("SIGTERM"),
            _ = self.int.recv() => Some("SIGINT"),
            _ = self.hangup.recv() => None,
        }
    }

    /// The name of the next one that ends the relay. Cancel safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// Beneath the help of `serve`.
pub const HELP: &str = "\
A flag overrides its variable (--no-h2: MASQUE_RELAY_NO_H2), and that the file. Says `ready URL`.
Example: masque-relay serve --config /etc/masque-relay/relay.toml";

#[cfg(test)]
mod tests;
