//! A name server on loopback that answers by a script, for tests.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use hickory_resolver::proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::{net::UdpSocket, task::JoinSet};

use super::resolve::Resolver;

pub(super) struct Script {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    /// Ends with the test.
    _server: JoinSet<()>,
}

pub(super) enum Answer {
    Addresses(&'static [&'static str]),
    Code(ResponseCode),
    Silence,
}

impl Script {
    /// `answer` gets the absolute name and A or AAAA.
    pub(super) async fn start(answer: impl Fn(&str, RecordType) -> Answer + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut server = JoinSet::new();
        server.spawn(serve(socket, answer, Arc::clone(&asked)));
        Self { address, asked, _server: server }
    }

    pub(super) fn resolver(&self, timeout: Duration) -> Resolver {
        Resolver::new(&crate::config::Dns { servers: vec![self.address] }, timeout).unwrap()
    }

    /// `x.test. A`, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(socket: UdpSocket, answer: impl Fn(&str, RecordType) -> Answer + Send, asked: Arc<Mutex<Vec<String>>>) {
    let mut packet = [0; 4096];
    loop {
        let (len, from) = socket.recv_from(&mut packet).await.unwrap();
        let request = Message::from_vec(&packet[..len]).unwrap();
        let query = request.queries[0].clone();
        asked.lock().unwrap().push(format!("{} {}", query.name(), query.query_type()));

        let mut response = Message::response(request.metadata.id, OpCode::Query);
        match answer(&query.name().to_string(), query.query_type()) {
            Answer::Silence => continue,
            Answer::Code(code) => response.metadata.response_code = code,
            Answer::Addresses(list) => {
                let record = |text: &&str| Record::from_rdata(query.name().clone(), 60, RData::from(text.parse::<IpAddr>().unwrap()));
                response.add_answers(list.iter().map(record));
            }
        }
        response.add_query(query);
        socket.send_to(&response.to_vec().unwrap(), from).await.unwrap();
    }
}
