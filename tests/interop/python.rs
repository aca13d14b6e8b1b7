//! The clients of this folder, on aioquic and h2: the same scenarios over HTTP/3 and HTTP/2.

use tempfile::TempDir;

use crate::{
    child::{Child, output_of, python, tool},
    echo::Echo,
    relay::Relay,
    servers::{dnsmasq, nginx, self_signed, write_noise},
};

mod http3 {
    use super::*;

    const HTTP: &str = "h3";

    #[test]
    fn connect_fetches_100_mb_from_nginx() {
        fetch(HTTP);
    }

    #[test]
    fn connect_udp_resolves_at_dnsmasq() {
        resolve(HTTP);
    }

    #[test]
    fn an_http3_request_runs_inside_a_connect_udp_tunnel() {
        nest(HTTP);
    }

    #[test]
    fn ten_tunnels_on_one_connection_at_once() {
        many(HTTP);
    }
}

mod http2 {
    use super::*;

    const HTTP: &str = "h2";

    #[test]
    fn connect_fetches_100_mb_from_nginx() {
        fetch(HTTP);
    }

    #[test]
    fn connect_udp_resolves_at_dnsmasq() {
        resolve(HTTP);
    }

    #[test]
    fn an_http3_request_runs_inside_a_connect_udp_tunnel() {
        nest(HTTP);
    }

    #[test]
    fn ten_tunnels_on_one_connection_at_once() {
        many(HTTP);
    }
}

fn fetch(http: &str) {
    let relay = Relay::start();
    let web = TempDir::new().unwrap();
    let file = web.path().join("blob");
    write_noise(&file, 100_000_000);
    let (_nginx, port) = nginx(web.path(), "");

    let fetched = relay.client(http, "fetch.py", &[&format!("127.0.0.1:{port}"), &"/blob"]);

    let hashed = output_of(tool("sha256sum").arg(&file));
    assert_eq!(Some(fetched.as_str()), hashed.split(' ').next());
}

fn resolve(http: &str) {
    let relay = Relay::start();
    let (_dnsmasq, port) = dnsmasq("--address=/masque.test/192.0.2.7");

    let address = relay.client(http, "resolve.py", &[&port.to_string(), &"masque.test"]);

    assert_eq!(address, "192.0.2.7");
}

fn nest(http: &str) {
    let relay = Relay::start();
    let directory = TempDir::new().unwrap();
    let (certificate, key) = self_signed(directory.path());
    let (_origin, ready) = Child::start(&mut python("origin.py", &[&certificate, &key]), "ready ");
    let port = ready.trim_start_matches("ready ");

    let echoed = relay.client(http, "nested.py", &[&port, &certificate]);

    assert_eq!(echoed, "262144");
}

fn many(http: &str) {
    let (tcp, udp) = (Echo::tcp(), Echo::udp());
    let relay = Relay::start();
    let ports = [tcp.addr, udp.addr].map(|addr| addr.port().to_string());

    let busy = relay.client(http, "many.py", &[&ports[0], &ports[1]]);

    assert_eq!(busy, "5 5");
    // Every tunnel in the log, and all of one connection.
    let log = relay.end();
    let tunnels: Vec<_> = log.iter().filter(|line| line["message"] == "tunnel closed").collect();
    assert_eq!(tunnels.len(), 10, "{log:#?}");
    assert!(tunnels.iter().all(|line| line["http"] == http && line["client"] == tunnels[0]["client"]), "{tunnels:#?}");
}
