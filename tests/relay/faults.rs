//! Faults: what each alters can be seen on the wire, and nowhere on a healthy relay. Every story is told three times on one relay, with the fault
//! switched on and off while it runs.

mod answers;
mod certificates;
mod connection;
mod tunnels;

use std::time::Duration;

use masque_relay::{
    config::Config,
    fault::Fault,
    probe::{self, Http, Options, ProbeError, TcpTunnel, UdpTunnel},
    server::Server,
};

use crate::support::{Relay, tcp::TcpEcho, udp::UdpTarget};

/// How long something is waited for that does not come, and may on a busy machine be late.
const IN_VAIN: Duration = Duration::from_millis(1500);

/// On every version that the fault is for: `seen` sees it while it is on, and only then.
async fn shows(fault: &str, seen: impl AsyncFn(&Relay, Http) -> bool) {
    let fault: Fault = fault.parse().unwrap();
    let relay = Relay::spawn(|config| config.fault.allow = true).await;
    for http in versions(&fault) {
        assert!(!seen(&relay, http).await, "{fault} is seen over {http} on a healthy relay");
        relay.faults().set(fault);
        assert!(seen(&relay, http).await, "{fault} is not seen over {http}");
        assert!(relay.faults().clear(fault.name()));
        assert!(!seen(&relay, http).await, "{fault} is seen over {http} though it is off again");
    }
    relay.finish().await;
}

/// The versions that a fault is for.
fn versions(fault: &Fault) -> Vec<Http> {
    let version = |name: &&str| match *name {
        "h3" => Http::H3,
        "h2" => Http::H2,
        _ => Http::H1,
    };
    fault.about().http.iter().map(version).collect()
}

/// A client that does not wait for long.
fn options(relay: &Relay, http: Http) -> Options {
    let mut options = relay.options();
    (options.http, options.timeout, options.patience) = (http, IN_VAIN, Some(IN_VAIN));
    options
}

async fn open(relay: &Relay, http: Http) -> probe::Client {
    probe::Client::open(options(relay, http)).await.unwrap()
}

async fn tcp(client: &probe::Client, echo: &TcpEcho) -> Result<TcpTunnel, ProbeError> {
    client.connect_tcp(&echo.address().to_string()).await
}

async fn udp(client: &probe::Client, echo: &UdpTarget) -> Result<UdpTunnel, ProbeError> {
    client.connect_udp(&echo.address().ip().to_string(), echo.address().port()).await
}

#[tokio::test]
async fn faults_that_are_not_allowed_keep_a_relay_from_starting() {
    let mut config = Config { listen: vec!["127.0.0.1:0".parse().unwrap()], ..Config::default() };
    config.fault.on = vec![Fault::Goaway];
    let error = Server::start(config).unwrap_err();
    assert_eq!(error.to_string(), "cannot start with the fault `goaway`: this relay may not misbehave");
    assert!(error.hint().unwrap().contains("`allow = true` under `[fault]`"));
}
