//! Extended DNS errors (RFC 8914), which the resolver library drops when it makes an error of an answer: they are read off the answers as they
//! come from the servers, and kept until the error is told.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{TryStreamExt, future::BoxFuture, stream::Stream};
use hickory_resolver::{
    ConnectionProvider, PoolContext,
    config::ConnectionConfig,
    net::{DnsHandle, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::{DnsRequest, DnsResponse, Message},
        rr::{
            Name, RecordType,
            rdata::opt::{EdnsCode, EdnsOption},
        },
    },
};

/// The extended errors of late, by question. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Extended(Arc<Mutex<HashMap<(Name, RecordType), u16>>>);

/// Connections to name servers that note extended errors.
#[derive(Clone)]
pub(super) struct Noting {
    provider: TokioRuntimeProvider,
    extended: Extended,
}

/// One of those connections.
#[derive(Clone)]
pub(super) struct NotingConnection {
    connection: <TokioRuntimeProvider as ConnectionProvider>::Conn,
    extended: Extended,
}

impl Extended {
    /// Connections that note here.
    pub(super) fn provider(&self) -> Noting {
        Noting { provider: TokioRuntimeProvider::default(), extended: self.clone() }
    }

    /// The info-code of the last answer to this question.
    pub(super) fn info_code(&self, name: &Name, family: RecordType) -> Option<u16> {
        self.lock().get(&(name.clone(), family)).copied()
    }

    fn note(&self, answer: &Message) {
        let Some(question) = answer.queries.first().map(|query| (query.name().clone(), query.query_type())) else { return };
        let mut kept = self.lock();
        match info_code(answer) {
            None => {
                kept.remove(&question);
            }
            Some(code) => {
                if kept.len() >= KEPT {
                    kept.clear();
                }
                kept.insert(question, code);
            }
        }
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<(Name, RecordType), u16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionProvider for Noting {
    type Conn = NotingConnection;
    type FutureConn = BoxFuture<'static, Result<NotingConnection, NetError>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(&self, ip: IpAddr, config: &ConnectionConfig, cx: &PoolContext) -> Result<Self::FutureConn, NetError> {
        let connecting = self.provider.new_connection(ip, config, cx)?;
        let extended = self.extended.clone();
        Ok(Box::pin(async move { Ok(NotingConnection { connection: connecting.await?, extended }) }))
    }

    fn runtime_provider(&self) -> &TokioRuntimeProvider {
        &self.provider
    }
}

impl DnsHandle for NotingConnection {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let extended = self.extended.clone();
        Box::pin(self.connection.send(request).inspect_ok(move |answer| extended.note(answer)))
    }
}

/// The first two bytes of the option (RFC 8914 §2).
fn info_code(answer: &Message) -> Option<u16> {
    match answer.edns.as_ref()?.option(EdnsCode::Unknown(OPTION))? {
        EdnsOption::Unknown(_, value) => value.first_chunk().map(|code| u16::from_be_bytes(*code)),
        _ => None,
    }
}

/// RFC 8914 §5.1.
const OPTION: u16 = 15;

/// Questions whose extended error is remembered: as many as the resolver's cache holds answers, a few hundred bytes each at most.
const KEPT: usize = 4_096;
