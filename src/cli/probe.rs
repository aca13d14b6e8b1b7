//! `probe`: one tunnel on stdin and stdout. Data on stdout, talk on stderr.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::{
    ArgGroup, Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use http::HeaderValue;
use rustls::sign::SingleCertAndKey;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdin, Stdout, stdin, stdout},
    time::{Instant, sleep_until},
};
use zeroize::Zeroizing;

use super::{
    credential::{Token, fields},
    identity::ClientIdentity,
    report::{Exit, Failure, printable, say},
};
use crate::{
    doctor::Target,
    probe::{Answer, Client, Http, Options, ProbeError, StreamEnd, TcpTunnel, UdpTunnel},
};

/// `probe`.
#[derive(Args)]
#[command(group = ArgGroup::new("target").required(true))]
pub struct ProbeArguments {
    /// The relay, `https://HOST[:PORT][/TEMPLATE]`
    #[arg(value_name = "URL")]
    url: String,
    /// Reach this over TCP: stdin goes there until its end, stdout shows the answer
    #[arg(long, value_name = "HOST:PORT", group = "target", value_parser = Target::parse)]
    tcp: Option<Target>,
    /// Reach this over UDP: every line of stdin is a datagram, and so is every answer
    #[arg(long, value_name = "HOST:PORT", group = "target", value_parser = Target::parse)]
    udp: Option<Target>,
    /// The version of HTTP: 3 over UDP, 2 or 1 over TCP
    #[arg(long, value_name = "1|2|3", default_value = "3", hide_possible_values = true, value_parser = http())]
    http: Http,
    /// Trust these CAs instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    token: Token,
    /// Another field of the request; repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    #[command(flatten)]
    identity: ClientIdentity,
}

/// What went through.
#[derive(Debug, Default)]
struct Carried {
    out: u64,
    back: u64,
}

/// Opens the tunnel and carries until the target ends it, or, on UDP, until stdin has ended and no answer came for a second.
pub fn run(arguments: &ProbeArguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Failure::io("cannot make the runtime", &source))?;
    let ended = runtime.block_on(probe(arguments));
    // A read of stdin that waits for a person must not keep the process.
    runtime.shutdown_background();
    ended
}

async fn probe(arguments: &ProbeArguments) -> Result<(), Failure> {
    let client = Client::open(arguments.options().await?).await?;
    say(format_args!("connected to {} in {:.1?}, {}", client.remote_addr(), client.handshake(), client.http()));
    let asked = Instant::now();
    let carried = carry(&client, arguments, asked).await;
    if let Ok(carried) = &carried {
        say(format_args!("ended after {:.1?}: {} bytes out, {} back", asked.elapsed(), carried.out, carried.back));
    }
    // Whatever came of it, the relay is told that it is over, and need not wait for a time-out.
    client.shut().await;
    carried.map(drop)
}

async fn carry(client: &Client, arguments: &ProbeArguments, asked: Instant) -> Result<Carried, Failure> {
    if let Some(target) = &arguments.tcp {
        let tunnel = client.connect_tcp(&target.text).await?;
        answered(&tunnel.answer, asked);
        carry_tcp(tunnel, stdin(), stdout()).await
    } else if let Some(target) = &arguments.udp {
        let tunnel = client.connect_udp(&target.host, target.port).await?;
        answered(&tunnel.answer, asked);
        carry_udp(tunnel, stdin(), stdout()).await
    } else {
        Err(Failure::says(Exit::Wrong, "neither `--tcp` nor `--udp` is given"))
    }
}

/// Status, Proxy-Status and the time it took.
fn answered(answer: &Answer, asked: Instant) {
    let after = asked.elapsed();
    match answer.field("proxy-status") {
        Some(proxy_status) => {
            say(format_args!("status {} in {after:.1?}, Proxy-Status {}", answer.status, printable(&proxy_status)));
        }
        None => say(format_args!("status {} in {after:.1?}", answer.status)),
    }
}

async fn carry_tcp(tunnel: TcpTunnel, mut input: Stdin, mut output: Stdout) -> Result<Carried, Failure> {
    let (mut send, mut recv) = tunnel.split();
    let (mut out, mut back) = (0, 0);
    let up = async {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let len = input.read(&mut chunk).await.map_err(|source| Failure::io("cannot read stdin", &source))?;
            if len == 0 {
                return send.finish().map_err(broke);
            }
            send.send(Bytes::copy_from_slice(&chunk[..len])).await.map_err(broke)?;
            out += len as u64;
        }
    };
    let down = async {
        while let Some(bytes) = recv.recv().await.map_err(broke)? {
            write(&mut output, &bytes).await?;
            back += bytes.len() as u64;
        }
        Ok(())
    };
    // The target's end is the end; ours only closes our half.
    let ended = tokio::select! {
        ended = down => ended,
        Err(failure) = up => Err(failure),
    };
    ended.map(|()| Carried { out, back })
}

async fn carry_udp(mut tunnel: UdpTunnel, input: Stdin, mut output: Stdout) -> Result<Carried, Failure> {
    let mut input = BufReader::new(input);
    let mut carried = Carried::default();
    let mut line = Vec::new();
    let mut last = None;
    loop {
        tokio::select! {
            // Cancel safe as long as `line` lives: what was read stays in it.
            read = input.read_until(b'\n', &mut line), if last.is_none() => {
                let len = read.map_err(|source| Failure::io("cannot read stdin", &source))?;
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                if len > 0 {
                    tunnel.send_either(&line).await?;
                    carried.out += line.len() as u64;
                    line.clear();
                } else {
                    last = Some(Instant::now() + LAST_ANSWER);
                }
            }
            packet = tunnel.recv() => {
                let packet = packet.map_err(broke)?;
                carried.back += packet.payload.len() as u64;
                write(&mut output, &packet.payload).await?;
                write(&mut output, b"\n").await?;
                last = last.map(|_| Instant::now() + LAST_ANSWER);
            }
            () = sleep_until(last.unwrap_or_else(Instant::now)), if last.is_some() => break,
        }
    }
    tunnel.finish().map_err(broke)?;
    Ok(carried)
}

async fn write(output: &mut Stdout, bytes: &[u8]) -> Result<(), Failure> {
    let written = async {
        output.write_all(bytes).await?;
        output.flush().await
    };
    written.await.map_err(|source| Failure::io("cannot write to stdout", &source))
}

fn broke(end: StreamEnd) -> Failure {
    Failure::says(Exit::Failed, format!("the tunnel broke: {end}"))
}

impl ProbeArguments {
    async fn options(&self) -> Result<Options, Failure> {
        // What is wrong with the command comes before what is wrong with the network.
        let credential = self.credential()?;
        let fields = fields(&self.header, "--header")?;
        let identity = self.identity.given()?;
        let mut options = Options::resolve(&self.url).await?;
        options.http = self.http;
        match &self.ca {
            Some(path) => {
                let pem = fs::read(path).map_err(|source| Failure::io(format!("cannot read {}", path.display()), &source))?;
                options.trust_pem(&pem).map_err(|error| {
                    let failure = Failure::from(error);
                    failure.hint(format!("{} must hold certificates in PEM; a development relay's are in certs/dev/ca.pem", path.display()))
                })?;
            }
            None => options.trust_system()?,
        }
        if let Some(token) = credential {
            options.bearer(&token);
        }
        options.fields.extend(fields);
        options.identity = identity.map(|identity| Arc::new(SingleCertAndKey::from(identity)) as _);
        // A person may think for as long as they like.
        options.patience = None;
        options.keep_alive = Some(KEEP_ALIVE);
        Ok(options)
    }

    fn credential(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match self.token.given()? {
            Some(token) if token.is_empty() || HeaderValue::from_str(&token).is_err() => {
                Err(Failure::says(Exit::Wrong, "cannot use the token: it is empty, or has characters that no field can carry"))
            }
            token => Ok(token),
        }
    }
}

/// Headers may be credentials as well.
impl std::fmt::Debug for ProbeArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProbeArguments").field("url", &self.url).field("tcp", &self.tcp).field("udp", &self.udp).finish_non_exhaustive()
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        use quinn::ConnectionError::{TimedOut, TransportError};
        let exit = match error {
            ProbeError::Url { .. } | ProbeError::Template { .. } | ProbeError::RootPem { .. } | ProbeError::NoRoots => Exit::Wrong,
            _ => Exit::Failed,
        };
        let hint = match &error {
            ProbeError::Url { .. } => Some("write it like `https://relay.example` or `https://[2001:db8::7]:4433`".to_owned()),
            ProbeError::NoSystemRoots => Some("name the relay's CA with `--ca FILE`".to_owned()),
            ProbeError::Refused(refused) if refused.status == 407 => Some(CREDENTIAL.to_owned()),
            ProbeError::Connect { source: TransportError(fault), .. } if u64::from(fault.code) == NO_ALPN => Some(NOT_SERVED.to_owned()),
            ProbeError::ConnectTcp { source, .. } if speaks_otherwise(source) => Some(NOT_SERVED.to_owned()),
            ProbeError::Connect { source: TransportError(fault), .. } if is_alert(fault.code) => Some(TRUST.to_owned()),
            ProbeError::ConnectTcp { source, .. } if is_tls(source) => Some(TRUST.to_owned()),
            ProbeError::ConnectTcp { .. } => Some("nothing answers there: is the relay up, and its TCP port open on the way?".to_owned()),
            ProbeError::Connect { source: TimedOut, .. } | ProbeError::TimedOut { .. } => Some(
                "nothing answers there: is the relay up, and its port open on the way, UDP for `--http 3`, TCP for 2 and 1?".to_owned(),
            ),
            _ => None,
        };
        Self::new(exit, &error, hint)
    }
}

const CREDENTIAL: &str =
    "the relay asks for a credential: `--token-file FILE`, `--token TOKEN`, `--identity FILE`, or `--header 'NAME: VALUE'`";

/// The alert no_application_protocol, as QUIC carries it.
const NO_ALPN: u64 = 0x100 + 120;
const NOT_SERVED: &str = "the relay does not serve this version of HTTP: try another with `--http 3`, `--http 2` or `--http 1`";

/// The same over TCP.
fn speaks_otherwise(error: &io::Error) -> bool {
    let alert = error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>());
    matches!(alert, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)))
}

/// QUIC carries TLS alerts as codes of their own (RFC 9001 §4.8).
fn is_alert(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

/// TLS over TCP failed, and not TCP.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(|source| source.downcast_ref::<rustls::Error>()).is_some()
}

/// A version by its number.
fn http() -> impl TypedValueParser<Value = Http> {
    PossibleValuesParser::new(["1", "2", "3"]).map(|number| match number.as_str() {
        "1" => Http::H1,
        "2" => Http::H2,
        _ => Http::H3,
    })
}

const TRUST: &str = "the relay's certificate is not trusted, or the two do not agree on TLS: `--ca FILE` names the CA, and the URL must use a \
                     name of the certificate";

/// How long a UDP target may take to its last answer.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Under the idle limit of every relay and most NATs.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Beneath the help of `probe`.
pub const HELP: &str = "\
The token may also be in MASQUE_RELAY_TOKEN. Status, Proxy-Status and timings go to stderr.
Example: echo hello | masque-relay probe https://localhost:4433 --ca certs/dev/ca.pem \\
           --token-file certs/dev/token --tcp 127.0.0.1:7";
