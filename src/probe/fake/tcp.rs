//! The same over TCP: bare TLS, and an HTTP/2 server on it.

use std::{net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use rustls::SupportedProtocolVersion;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::probe::{Client, Http, Options};

/// A TLS server on loopback.
pub(in crate::probe) struct TcpFake {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    root: Vec<u8>,
    http: Http,
}

impl TcpFake {
    /// Offers the ALPN of `http`.
    pub(in crate::probe) async fn start(http: Http) -> Self {
        Self::start_as(http, &[&rustls::version::TLS13], &[http.alpn()]).await
    }

    pub(in crate::probe) async fn start_as(http: Http, versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> Self {
        let (tls, root) = super::tls(versions, alpn);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)), root, http }
    }

    /// Options that trust it.
    pub(in crate::probe) fn options(&self) -> Options {
        super::options(self.listener.local_addr().unwrap(), &self.root, self.http)
    }

    /// The next connection; an error where the client does not like the handshake.
    pub(in crate::probe) async fn accept(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let (stream, _) = self.listener.accept().await?;
        self.acceptor.accept(stream).await
    }

    /// A client and its connection as seen from here.
    pub(in crate::probe) async fn pair(&self) -> (Client, TlsStream<TcpStream>) {
        self.pair_with(self.options()).await
    }

    pub(in crate::probe) async fn pair_with(&self, options: Options) -> (Client, TlsStream<TcpStream>) {
        let (client, stream) = tokio::join!(Client::open(options), self.accept());
        (client.unwrap(), stream.unwrap())
    }

    /// A client and an HTTP/2 server that offers extended CONNECT.
    pub(in crate::probe) async fn h2_pair(&self, options: Options) -> (Client, H2Relay) {
        let (client, stream) = self.pair_with(options).await;
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        (client, H2Relay::start(stream, builder).await)
    }
}

/// An HTTP/2 server whose answers are the test's.
pub(in crate::probe) struct H2Relay {
    requests: mpsc::Receiver<H2Request>,
    /// Sends GOAWAY with a code and ends the connection.
    pub(in crate::probe) goaway: Option<oneshot::Sender<Reason>>,
    tasks: JoinSet<Result<(), h2::Error>>,
}

/// A request, and how to answer it.
type H2Request = (http::Request<RecvStream>, SendResponse<Bytes>);

impl H2Relay {
    pub(in crate::probe) async fn start(stream: TlsStream<TcpStream>, builder: h2::server::Builder) -> Self {
        let mut connection = builder.handshake(stream).await.unwrap();
        let (requested, requests) = mpsc::channel(16);
        let (goaway, mut going) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut gone = false;
            loop {
                tokio::select! {
                    request = connection.accept() => match request {
                        Some(request) => requested.send(request?).await.unwrap(),
                        None => return Ok(()),
                    },
                    Ok(code) = &mut going, if !gone => {
                        gone = true;
                        connection.abrupt_shutdown(code);
                    }
                }
            }
        });
        Self { requests, goaway: Some(goaway), tasks }
    }

    pub(in crate::probe) async fn request(&mut self) -> H2Request {
        self.requests.recv().await.expect("the connection lives")
    }

    /// Answers the next request with 200 and these fields; gives its body and ours.
    pub(in crate::probe) async fn accept(&mut self, fields: &[(&str, &str)]) -> (http::Request<RecvStream>, h2::SendStream<Bytes>) {
        let (request, mut respond) = self.request().await;
        let send = respond.send_response(response(200, fields), false).unwrap();
        (request, send)
    }

    /// How the connection ended.
    pub(in crate::probe) async fn ended(&mut self) -> Result<(), h2::Error> {
        self.tasks.join_next().await.expect("it is asked once").unwrap()
    }
}

pub(in crate::probe) fn response(status: u16, fields: &[(&str, &str)]) -> http::Response<()> {
    let mut response = http::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

/// The head of a request of HTTP/1.1.
pub(in crate::probe) async fn h1_head(stream: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Reads the head of a request and writes `answer`.
pub(in crate::probe) async fn h1_answer(stream: &mut TlsStream<TcpStream>, answer: &str) -> String {
    let head = h1_head(stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    head
}
