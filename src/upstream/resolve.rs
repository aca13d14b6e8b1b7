//! Names to addresses, with the rcode and the extended error (RFC 8914) kept for Proxy-Status.
//!
//! Names are absolute: no search domain is ever tried. The hosts file counts only where the system's resolvers do.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError},
    proto::{
        op::ResponseCode,
        rr::{Name, RecordType},
    },
};

use super::extended::{Extended, Noting};
use crate::refusal::Refusal;

/// A caching resolver; one per worker, since its connections live on the worker's runtime.
#[derive(Debug)]
pub struct Resolver {
    dns: hickory_resolver::Resolver<Noting>,
    extended: Extended,
    timeout: Duration,
}

impl Resolver {
    /// With the configured servers, or the system's. Must be called on the runtime that will use it. `timeout` is for one round of servers;
    /// the whole of a lookup is [`super::Dialer`]'s to bound.
    pub fn new(dns: &crate::config::Dns, timeout: Duration) -> io::Result<Self> {
        let extended = Extended::default();
        let (builder, hosts) = if dns.servers.is_empty() {
            (hickory_resolver::Resolver::builder(extended.provider()).map_err(io::Error::other)?, ResolveHosts::Always)
        } else {
            let servers = dns.servers.iter().map(|server| name_server(*server)).collect();
            let config = ResolverConfig::from_name_servers(servers);
            (hickory_resolver::Resolver::builder_with_config(config, extended.provider()), ResolveHosts::Never)
        };
        let dns = builder.with_options(options(timeout, hosts)).build().map_err(io::Error::other)?;
        Ok(Self { dns, extended, timeout })
    }

    /// The addresses of `name` in one family: `A` or `AAAA`. A name without any is [`Refusal::Unresolvable`] with rcode `NOERROR`.
    pub(super) async fn addresses(&self, name: &str, family: RecordType) -> Result<Vec<IpAddr>, Refusal> {
        // Label by label: as a host name the library would refuse one that begins with a hyphen, and DNS holds such names. This one is absolute.
        let name = Name::from_labels(name.split('.').map(str::as_bytes));
        let name = name.map_err(|_| Refusal::Unresolvable { rcode: None, info_code: None })?;
        self.look_up(&name, family).await.map_err(|error| self.refusal(&error, &name, family))
    }

    async fn look_up(&self, name: &Name, family: RecordType) -> Result<Vec<IpAddr>, NetError> {
        let lookup = self.dns.lookup(name.clone(), family).await?;
        let addresses: Vec<_> = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
        if addresses.is_empty() { Err(DnsError::ResponseCode(ResponseCode::NoError).into()) } else { Ok(addresses) }
    }

    fn refusal(&self, error: &NetError, name: &Name, family: RecordType) -> Refusal {
        let rcode = match error {
            NetError::Timeout => return Refusal::DnsTimedOut { after: self.timeout },
            NetError::Io(source) if super::is_exhaustion(source) => {
                return Refusal::Exhausted { source: io::Error::new(source.kind(), source.to_string()) };
            }
            NetError::Dns(DnsError::NoRecordsFound(none)) => Some(none.response_code),
            NetError::Dns(DnsError::ResponseCode(code)) => Some(*code),
            _ => None,
        };
        // Without an answer there is no extended error: what is remembered would be an older one's.
        let info_code = rcode.and_then(|_| self.extended.info_code(name, family));
        Refusal::Unresolvable { rcode: rcode.map(rcode_name), info_code }
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

fn options(timeout: Duration, hosts: ResolveHosts) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.use_hosts_file = hosts;
    options.cache_size = CACHE;
    options.positive_min_ttl = Some(Duration::from_secs(1));
    options.positive_max_ttl = Some(Duration::from_hours(24));
    // A name that comes into being is there half a minute later.
    options.negative_max_ttl = Some(Duration::from_secs(30));
    options
}

/// Names of RCODEs as IANA registers them, upper case (RFC 9209 §2.3.2 shows `NXDOMAIN`).
fn rcode_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        ResponseCode::NotAuth => "NOTAUTH".into(),
        other => format!("RCODE{}", u16::from(other)),
    }
}

/// Answers kept, a few hundred bytes each: a busy worker's working set in about 2 MiB.
const CACHE: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::script::{Answer, Script};

    async fn ask(script: &Script, name: &str, family: RecordType) -> Result<Vec<IpAddr>, Refusal> {
        script.resolver(Duration::from_millis(300)).addresses(name, family).await
    }

    #[tokio::test]
    async fn addresses_of_both_families_are_found() {
        let script = Script::start(|name, family| match (name, family) {
            ("x.test.", RecordType::A) => Answer::Addresses(&["192.0.2.1", "192.0.2.2"]),
            ("x.test.", RecordType::AAAA) => Answer::Addresses(&["2001:db8::1"]),
            _ => Answer::Code(ResponseCode::Refused),
        })
        .await;
        let a = ask(&script, "x.test", RecordType::A).await.unwrap();
        assert_eq!(a, ["192.0.2.1".parse::<IpAddr>().unwrap(), "192.0.2.2".parse().unwrap()]);
        let aaaa = ask(&script, "x.test", RecordType::AAAA).await.unwrap();
        assert_eq!(aaaa, ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn whatever_name_is_let_in_is_looked_up() {
        let script = Script::start(|_, _| Answer::Addresses(&["192.0.2.1"])).await;
        for name in ["-x.test", "x-.test", "_x._y.test", "xn--nxasmq6b.test", "1.2.x", "a"] {
            ask(&script, name, RecordType::A).await.unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        }
    }

    #[tokio::test]
    async fn the_rcode_is_kept() {
        for (code, want) in [
            (ResponseCode::NXDomain, "NXDOMAIN"),
            (ResponseCode::ServFail, "SERVFAIL"),
            (ResponseCode::Refused, "REFUSED"),
            (ResponseCode::NoError, "NOERROR"),
        ] {
            let script = Script::start(move |_, _| Answer::Code(code)).await;
            let refusal = ask(&script, "x.test", RecordType::A).await.unwrap_err();
            assert!(matches!(&refusal, Refusal::Unresolvable { rcode: Some(rcode), .. } if rcode == want), "{want}: {refusal:?}");
        }
    }

    #[tokio::test]
    async fn a_silent_server_is_a_time_out() {
        let script = Script::start(|_, _| Answer::Silence).await;
        let refusal = ask(&script, "x.test", RecordType::A).await.unwrap_err();
        assert!(matches!(refusal, Refusal::DnsTimedOut { after } if after.as_millis() == 300), "{refusal:?}");
    }

    #[tokio::test]
    async fn names_are_absolute_and_answers_are_cached() {
        let script = Script::start(
            |name, _| if name == "short." { Answer::Addresses(&["192.0.2.1"]) } else { Answer::Code(ResponseCode::NXDomain) },
        )
        .await;
        let resolver = script.resolver(Duration::from_secs(5));
        for _ in 0..3 {
            resolver.addresses("short", RecordType::A).await.unwrap();
        }
        assert!(resolver.addresses("other", RecordType::A).await.is_err());
        assert_eq!(script.asked(), ["short. A", "other. A"]);
    }

    #[tokio::test]
    async fn localhost_is_answered_without_a_server() {
        let script = Script::start(|_, _| Answer::Silence).await;
        assert!(ask(&script, "localhost", RecordType::A).await.unwrap()[0].is_loopback());
        assert!(ask(&script, "x.localhost", RecordType::AAAA).await.unwrap()[0].is_loopback());
        assert!(script.asked().is_empty());
    }
}
