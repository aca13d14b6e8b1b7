//! Where it goes: a [`Permit`] becomes a connected socket. Names are resolved once, every address is vetted, and the vetted address is dialled.

mod eyeballs;
mod extended;
pub mod resolve;
#[cfg(test)]
mod script;

use std::{
    future::ready,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use hickory_resolver::proto::rr::RecordType;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use crate::{
    policy::Permit,
    refusal::Refusal,
    request::{Host, Target},
    sys,
};
use resolve::Resolver;

/// Connects permits to targets. One per worker.
#[derive(Debug)]
pub struct Dialer {
    resolver: Resolver,
    dns: Duration,
    connect: Duration,
}

impl Dialer {
    /// With these budgets: `dns` for each lookup, `connect` from the first attempt to a connection.
    pub fn new(resolver: Resolver, dns: Duration, connect: Duration) -> Self {
        Self { resolver, dns, connect }
    }

    /// Connects by Happy Eyeballs (RFC 8305). Cancelled by dropping. TCP_NODELAY is set.
    pub async fn tcp(&self, permit: &Permit) -> Result<(TcpStream, SocketAddr), Refusal> {
        self.race(permit, tcp_stream).await
    }

    /// A UDP socket connected to the first allowed address that has a route: DF set, Not-ECT, ICMP errors reported, non-blocking.
    pub async fn udp(&self, permit: &Permit) -> Result<(UdpSocket, SocketAddr), Refusal> {
        // Connecting a UDP socket only asks for a route, so the first attempt that finds one decides the race.
        self.race(permit, |address| ready(udp_socket(address))).await
    }

    async fn race<S, C>(&self, permit: &Permit, connect: impl Fn(SocketAddr) -> C) -> Result<(S, SocketAddr), Refusal>
    where
        C: Future<Output = Result<(S, SocketAddr), Refusal>>,
    {
        let Permit { protocol, target, rules, .. } = permit;
        let at = |address| SocketAddr::new(address, target.port.get());
        let lookups = [RecordType::AAAA, RecordType::A].map(|family| self.addresses(target, family));
        eyeballs::race(lookups, |address| rules.judge_address(*protocol, target, at(address)), |address| connect(at(address)), self.connect)
            .await
    }

    /// What the target is, or resolves to, in one family; for a literal of the other family nothing.
    async fn addresses(&self, target: &Target, family: RecordType) -> Result<Vec<IpAddr>, Refusal> {
        match &target.host {
            Host::Address(address) => Ok(Vec::from_iter((address.is_ipv6() == (family == RecordType::AAAA)).then_some(*address))),
            Host::Name(name) => {
                let found = tokio::time::timeout(self.dns, self.resolver.addresses(name, family)).await;
                found.unwrap_or(Err(Refusal::DnsTimedOut { after: self.dns }))
            }
        }
    }
}

async fn tcp_stream(address: SocketAddr) -> Result<(TcpStream, SocketAddr), Refusal> {
    let stream = TcpStream::connect(address).await.map_err(|source| unreachable(address, source))?;
    stream.set_nodelay(true).map_err(|source| unreachable(address, source))?;
    Ok((stream, address))
}

fn udp_socket(address: SocketAddr) -> Result<(UdpSocket, SocketAddr), Refusal> {
    let socket = datagram_socket(address).map_err(|source| unreachable(address, source))?;
    // Before the options: most failures are here, where no route is.
    socket.connect(&address.into()).map_err(|source| unreachable(address, source))?;
    prepare(socket).map(|socket| (socket, address)).map_err(|source| Refusal::Internal { source })
}

/// A non-blocking socket. Every system call counts here: each tunnel makes one.
fn datagram_socket(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return Socket::new(domain, Type::DGRAM.nonblocking(), None);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// A new socket's traffic class is nought, which is Not-ECT, as RFC 9298 §6.2 has it; the kernel's own room for sending does.
fn prepare(socket: Socket) -> io::Result<UdpSocket> {
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    let socket = UdpSocket::from(socket);
    sys::prepare_upstream(&socket)?;
    Ok(socket)
}

fn unreachable(address: SocketAddr, source: io::Error) -> Refusal {
    if is_exhaustion(&source) { Refusal::Exhausted { source } } else { Refusal::Unreachable { address, source } }
}

/// Whether the relay, not the target, is out of something: descriptors or memory.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// SO_RCVBUF of a UDP upstream, bytes: some 100 full packets on their way while the worker is busy elsewhere. The kernel may give less.
const SOCKET_BUFFER: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::ResponseCode;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        config::{self, Config, Protocol},
        policy::{Policy, Standing, limits::Limits},
        request::{Ask, Request},
    };
    use script::{Answer, Script};

    const BUDGET: Duration = Duration::from_secs(2);

    /// `change` says what the rules are.
    fn permit(protocol: Protocol, host: &str, port: u16, change: impl FnOnce(&mut config::Rules)) -> Permit {
        let mut config = Config::default();
        change(&mut config.rules);
        let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Address);
        let ask = Ask::Tunnel(protocol, Target { host, port: port.try_into().unwrap() });
        let policy = Policy::new(&config, Vec::new(), None, CancellationToken::new());
        policy.permit(Request { ask }, Standing::Open, &Limits::new(&config.limits)).unwrap()
    }

    fn private(rules: &mut config::Rules) {
        rules.allow_private = true;
    }

    fn dialer(script: &Script) -> Dialer {
        Dialer::new(script.resolver(BUDGET), BUDGET, BUDGET)
    }

    async fn both_families() -> Script {
        Script::start(|_, family| match family {
            RecordType::AAAA => Answer::Addresses(&["::1"]),
            _ => Answer::Addresses(&["127.0.0.1"]),
        })
        .await
    }

    #[tokio::test]
    async fn tcp_connects_to_a_name_by_the_family_that_answers() {
        let script = both_families().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let want = listener.local_addr().unwrap();
        let permit = permit(Protocol::Tcp, "x.test", want.port(), private);

        let (mut stream, address) = dialer(&script).tcp(&permit).await.unwrap();

        assert_eq!(address, want, "nothing listens on ::1");
        assert!(stream.nodelay().unwrap());
        let (mut served, _) = listener.accept().await.unwrap();
        served.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }

    #[tokio::test]
    async fn udp_is_connected_to_the_first_family_with_a_route() {
        let script = both_families().await;
        for (host, want) in [("127.0.0.1", "127.0.0.1:9"), ("::ffff:127.0.0.1", "127.0.0.1:9")] {
            let (socket, address) = dialer(&script).udp(&permit(Protocol::Udp, host, 9, private)).await.unwrap();
            assert_eq!((socket.peer_addr().unwrap(), address), (want.parse().unwrap(), want.parse().unwrap()));
            let mut nothing = [0];
            assert_eq!(socket.recv(&mut nothing).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        let has_ipv6 = UdpSocket::bind("[::1]:0").is_ok();
        let (_, address) = dialer(&script).udp(&permit(Protocol::Udp, "x.test", 9, private)).await.unwrap();
        assert_eq!(address.is_ipv6(), has_ipv6);
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_forbidden_address_is_refused_for_both_protocols() {
        let script = both_families().await;
        let none = |_: &mut config::Rules| ();
        let tcp = dialer(&script).tcp(&permit(Protocol::Tcp, "x.test", 443, none)).await.unwrap_err();
        let udp = dialer(&script).udp(&permit(Protocol::Udp, "x.test", 443, none)).await.unwrap_err();
        assert!(matches!((&tcp, &udp), (Refusal::ProhibitedAddress, Refusal::ProhibitedAddress)), "{tcp:?} {udp:?}");
    }

    #[tokio::test]
    async fn a_literal_is_judged_without_dns() {
        let script = Script::start(|_, _| Answer::Silence).await;
        for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "169.254.169.254"] {
            let refused = dialer(&script).udp(&permit(Protocol::Udp, host, 443, |_| ())).await.unwrap_err();
            assert!(matches!(refused, Refusal::ProhibitedAddress), "{host}: {refused:?}");
        }
        assert!(script.asked().is_empty());
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable_and_a_missing_name_unresolvable() {
        let script = Script::start(|name, family| match (name, family) {
            ("closed.test.", RecordType::A) => Answer::Addresses(&["127.0.0.1"]),
            ("closed.test.", _) => Answer::Code(ResponseCode::NoError),
            _ => Answer::Code(ResponseCode::NXDomain),
        })
        .await;
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let refused = dialer(&script).tcp(&permit(Protocol::Tcp, "closed.test", free.port(), private)).await.unwrap_err();
        assert!(matches!(&refused, Refusal::Unreachable { address, .. } if *address == free), "{refused:?}");
        let refused = dialer(&script).tcp(&permit(Protocol::Tcp, "none.test", 443, private)).await.unwrap_err();
        assert!(matches!(&refused, Refusal::Unresolvable { rcode: Some(rcode), .. } if rcode == "NXDOMAIN"), "{refused:?}");
    }

    #[tokio::test]
    async fn dns_that_does_not_answer_times_out() {
        let script = Script::start(|_, _| Answer::Silence).await;
        let short = Duration::from_millis(50);
        let dialer = Dialer::new(script.resolver(BUDGET), short, BUDGET);
        let refused = dialer.tcp(&permit(Protocol::Tcp, "x.test", 443, private)).await.unwrap_err();
        assert!(matches!(refused, Refusal::DnsTimedOut { after } if after == short), "{refused:?}");
    }

    #[test]
    fn running_out_of_descriptors_is_told_from_a_target_that_is_gone() {
        let address = "192.0.2.1:443".parse().unwrap();
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(matches!(unreachable(address, io::Error::from_raw_os_error(errno)), Refusal::Exhausted { .. }));
        }
        assert!(matches!(unreachable(address, io::Error::from_raw_os_error(libc::ECONNREFUSED)), Refusal::Unreachable { .. }));
    }
}
