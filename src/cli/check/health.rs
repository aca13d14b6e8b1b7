//! `check --health`: asks the configured listeners as a client would, as far as their SETTINGS.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use rustls::pki_types::ServerName;

use crate::{
    certs::Identity,
    cli::report::{Exit, Failure, say},
    config::Config,
    probe::{Client, Options, ProbeError},
    proto::settings::ENABLE_CONNECT_PROTOCOL,
};

/// Asks every address of the configuration, the first that does not answer is the failure.
pub(super) fn ask(config: &Config, identity: &Identity) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Failure::io("cannot make the runtime", &source))?;
    runtime.block_on(async {
        for listen in &config.listen {
            ask_one(reachable(*listen), identity).await?;
        }
        Ok(())
    })
}

async fn ask_one(address: SocketAddr, identity: &Identity) -> Result<(), Failure> {
    if address.port() == 0 {
        return Err(Failure::says(Exit::Wrong, format!("cannot ask {address}: port 0 is another one every time")));
    }
    let mut options = Options::new(address, &server_name(identity.names(), address.ip()));
    // The files at hand are the relay's, not its CA's.
    options.pin(identity.leaf().clone());
    options.timeout = PATIENCE;
    let unhealthy = |source| Failure::from(Unhealthy { address, source });
    let client = Client::open(options).await.map_err(unhealthy)?;
    let settings = client.settings().await.map_err(unhealthy)?;
    if settings.get(ENABLE_CONNECT_PROTOCOL) != Some(1) {
        return Err(Failure::says(Exit::Failed, format!("{address} answers, but does not offer CONNECT-UDP")));
    }
    say(format_args!("ok: {address} answered in {:.1?}", client.handshake()));
    client.shut().await;
    Ok(())
}

/// A listener that does not do what a relay's should.
#[derive(Debug, thiserror::Error)]
#[error("the relay at {address} does not answer as it should")]
struct Unhealthy {
    address: SocketAddr,
    source: ProbeError,
}

impl From<Unhealthy> for Failure {
    fn from(error: Unhealthy) -> Self {
        let hint = match &error.source {
            ProbeError::TimedOut { .. } => "nothing came in time: does it run, with this configuration?",
            ProbeError::Connect { .. } => {
                "is it the certificate? A relay takes up renewed files within ten seconds; if it does not, its log says why"
            }
            _ => return Self::new(Exit::Failed, &error, None),
        };
        Self::new(Exit::Failed, &error, Some(hint.into()))
    }
}

/// A wildcard is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The first name that can be asked for; a wildcard cannot.
fn server_name(names: &[String], ip: IpAddr) -> String {
    let name = names.iter().find(|name| ServerName::try_from(name.as_str()).is_ok());
    name.cloned().unwrap_or_else(|| ip.to_string())
}

/// Under the ten seconds that health checks usually have.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_asked_on_loopback_by_a_name_without_star() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()), "127.0.0.1:1".parse().unwrap());
        assert_eq!(reachable("[::]:1".parse().unwrap()), "[::1]:1".parse().unwrap());
        assert_eq!(reachable("192.0.2.7:1".parse().unwrap()), "192.0.2.7:1".parse().unwrap());
        let ip = Ipv4Addr::LOCALHOST.into();
        assert_eq!(server_name(&["*.example".into(), "a.example".into()], ip), "a.example");
        assert_eq!(server_name(&["*.example".into()], ip), "127.0.0.1");
    }
}
