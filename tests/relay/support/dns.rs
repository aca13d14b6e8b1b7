//! A name server that answers as it is told.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hickory_resolver::proto::{
    op::{Edns, Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::opt::EdnsOption},
};
use tokio::{net::UdpSocket, sync::watch, task::JoinSet};

use super::within;

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These addresses, as far as they are of the family asked for; none of it: an empty answer.
    Addresses(Vec<IpAddr>),
    /// An error.
    Error(ResponseCode),
    /// An error with an extended one (RFC 8914).
    Extended(ResponseCode, u16),
    /// None, ever.
    Silence,
    /// This one, once [`ScriptedDns::release`] is called.
    Held(Box<Self>),
}

/// A name server on loopback. NXDOMAIN for every name without a script.
pub(crate) struct ScriptedDns {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// By name, lower case and without the final dot, and type: what comes next. The last reply stays.
    scripts: Mutex<HashMap<(String, RecordType), Vec<Reply>>>,
    /// Every question so far.
    asked: watch::Sender<Vec<(String, RecordType)>>,
    released: watch::Sender<bool>,
}

impl ScriptedDns {
    /// On 127.0.0.1.
    pub(crate) async fn start() -> Self {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port"));
        let address = socket.local_addr().expect("it is bound");
        super::descriptors::is_target(address);
        let shared = Arc::new(Shared::default());
        let mut task = JoinSet::new();
        task.spawn(serve(socket, shared.clone()));
        Self { address, shared, _task: task }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `name` has these addresses, of either family, from now on.
    pub(crate) fn addresses(&self, name: &str, addresses: &[IpAddr]) {
        self.always(name, &Reply::Addresses(addresses.to_vec()));
    }

    /// `name` gets this answer for A and for AAAA from now on.
    pub(crate) fn always(&self, name: &str, reply: &Reply) {
        self.script(name, RecordType::A, vec![reply.clone()]);
        self.script(name, RecordType::AAAA, vec![reply.clone()]);
    }

    /// Questions for `name` and `kind` get these answers, one after the other; the last again and again.
    pub(crate) fn script(&self, name: &str, kind: RecordType, replies: Vec<Reply>) {
        assert!(!replies.is_empty(), "a script has at least one reply");
        self.shared.scripts().insert((name.to_lowercase(), kind), replies);
    }

    /// Lets every held answer go, now and from now on.
    pub(crate) fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// How often `name` was asked for, over all types.
    pub(crate) fn count(&self, name: &str) -> usize {
        count(&self.shared.asked.borrow(), name)
    }

    /// How many questions came, for whatever name.
    pub(crate) fn count_all(&self) -> usize {
        self.shared.asked.borrow().len()
    }

    /// Waits until `name` was asked for `times` times.
    pub(crate) async fn asked(&self, name: &str, times: usize) {
        let mut asked = self.shared.asked.subscribe();
        let what = format!("{times} questions for {name}");
        within(&what, asked.wait_for(|asked| count(asked, name) >= times)).await.expect("self holds the sender");
    }
}

impl Shared {
    fn scripts(&self) -> MutexGuard<'_, HashMap<(String, RecordType), Vec<Reply>>> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, name: &str, kind: RecordType) -> Reply {
        match self.scripts().get_mut(&(name.to_owned(), kind)) {
            Some(replies) if replies.len() > 1 => replies.remove(0),
            Some(replies) => replies[0].clone(),
            None => Reply::Error(ResponseCode::NXDomain),
        }
    }
}

fn count(asked: &[(String, RecordType)], name: &str) -> usize {
    asked.iter().filter(|(asked, _)| asked == name).count()
}

async fn serve(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        tokio::select! {
            came = socket.recv_from(&mut buffer) => {
                // An ICMP error for an answer that came too late is nothing to this socket.
                if let Ok((length, from)) = came {
                    answers.spawn(answer(socket.clone(), shared.clone(), buffer[..length].to_vec(), from));
                }
            }
            Some(done) = answers.join_next() => done.expect("an answer does not panic"),
        }
    }
}

async fn answer(socket: Arc<UdpSocket>, shared: Arc<Shared>, question: Vec<u8>, from: SocketAddr) {
    let question = Message::from_vec(&question).expect("the relay asks well-formed questions");
    let query = question.queries.first().expect("a question asks something").clone();
    let name = query.name().to_ascii().trim_end_matches('.').to_lowercase();
    let mut reply = shared.next(&name, query.query_type());
    shared.asked.send_modify(|asked| asked.push((name, query.query_type())));
    while let Reply::Held(held) = reply {
        let mut released = shared.released.subscribe();
        released.wait_for(|released| *released).await.expect("the sender is shared");
        reply = *held;
    }
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.metadata.recursion_desired = question.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    match reply {
        Reply::Addresses(addresses) => {
            message.answers = addresses.iter().filter_map(|address| record(query.name(), query.query_type(), *address)).collect();
        }
        Reply::Error(code) => message.metadata.response_code = code,
        Reply::Extended(code, info) => {
            message.metadata.response_code = code;
            let mut edns = Edns::new();
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, info.to_be_bytes().to_vec()));
            // Only who asks with EDNS is answered with it (RFC 6891 §7).
            message.edns = question.edns.as_ref().map(|_| edns);
        }
        Reply::Silence => return,
        Reply::Held(_) => unreachable!("unwrapped above"),
    }
    message.queries.push(query);
    let bytes = message.to_vec().expect("a small answer");
    // The asker may have given up.
    socket.send_to(&bytes, from).await.ok();
}

/// A record that is not to be kept: what a second question gets is the script's to say.
fn record(name: &Name, kind: RecordType, address: IpAddr) -> Option<Record> {
    let data = match (kind, address) {
        (RecordType::A, IpAddr::V4(address)) => RData::A(address.into()),
        (RecordType::AAAA, IpAddr::V6(address)) => RData::AAAA(address.into()),
        _ => return None,
    };
    Some(Record::from_rdata(name.clone(), 0, data))
}

/// The EDNS option of RFC 8914.
const EXTENDED_ERROR: u16 = 15;
