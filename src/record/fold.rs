//! From the events of a connection to the record of it that is written and read.

use std::sync::Arc;

use super::{
    Log,
    event::{Event, What},
    head,
};
use crate::diagnosis::{
    By, Record,
    record::{Act, Critical, End, Moved, Request},
};

impl Log {
    /// What is known now.
    pub fn record(&self) -> Record {
        let mut record = self.without_offer();
        record.hello = self.lock().hello.as_ref().and_then(|offer| offer()).map(Box::new);
        record
    }

    /// The same but for what the client offered, which takes as long to write out as all the rest: no finding comes from it.
    pub(super) fn without_offer(&self) -> Record {
        let kept = self.lock();
        let mut record = Record::new(self.start, self.client);
        record.id = Some(self.id.to_string());
        record.http = kept.http;
        if let Some(turned_away) = &kept.turned_away {
            record.turned_away = Some(turned_away.why.to_string());
            record.negotiation = turned_away.negotiation.clone().map(Box::new);
        }
        record.proven = kept.proven;
        record.handshake_ms = kept.handshake.map(ms);
        if let Some((at, pairs)) = &kept.settings_sent {
            (record.settings_sent_ms, record.settings_sent) = (Some(ms(*at)), pairs.to_vec());
        }
        if let Some((at, pairs)) = &kept.settings_received {
            (record.settings_received_ms, record.settings_received) = (Some(ms(*at)), pairs.to_vec());
        }
        let figures = kept.meter.as_ref().map_or(kept.figures, |meter| meter());
        [record.bytes_in, record.bytes_out] = figures.bytes;
        record.path = figures.path;
        if let Some((at, close)) = &kept.close {
            record.duration_ms = Some(ms(*at));
            record.close = Some(close.clone());
        }
        // Only HTTP/3 has critical streams that this program can watch.
        record.critical = (kept.http == Some(3)).then(Vec::new);
        record.requests_in_all = Some(kept.requests);
        record.left_out = kept.left_out;
        record.cut = kept.left_out > 0;
        for event in kept.first.iter().chain(&kept.last) {
            fold(&mut record, event);
        }
        record
    }
}

fn fold(record: &mut Record, event: &Event) {
    let at = ms(event.at);
    match &event.what {
        What::Moved(client) => return record.moved.push(Moved { at_ms: at, client: **client }),
        What::Critical(critical) => {
            let critical = Critical { at_ms: Some(at), by: critical.by, act: critical.act, stream: critical.stream.into() };
            return record.critical.get_or_insert_default().push(critical);
        }
        What::Opened => {
            let mut request = Request::on(event.stream);
            request.opened_ms = Some(at);
            return record.requests.push(request);
        }
        _ => {}
    }
    // What came before it may have been left out.
    let Some(request) = record.requests.iter_mut().rev().find(|request| request.stream == Some(event.stream)) else { return };
    match &event.what {
        What::Opened | What::Moved(_) | What::Critical(_) => {}
        What::Head { text, .. } => with_head(request, at, text),
        What::Asked(asked) => {
            request.user = Some(asked.user.to_string());
            request.target = (!asked.target.is_empty()).then(|| asked.target.to_string());
        }
        What::Accepted { status } => (request.status, request.answered_ms) = (Some(*status), Some(at)),
        What::Refused(refused) => {
            (request.status, request.answered_ms) = (Some(refused.status), Some(at));
            request.proxy_status = Some(refused.error.into());
            request.why = Some(refused.why.to_string());
        }
        What::End { by, act, code } => end(request, End { at_ms: Some(at), by: *by, act: *act, code: *code }),
        What::Ended(ended) => {
            (request.ended, request.ended_ms) = (Some(ended.why.to_string()), Some(at));
            request.carried = ended.carried;
        }
    }
}

fn with_head(request: &mut Request, at: f64, text: &Arc<str>) {
    request.at_ms = Some(at);
    request.head = head::fields(text);
    let value = |name| request.head.iter().find(|field| field.name == name).and_then(|field| field.value.clone());
    (request.method, request.protocol) = (value(":method").unwrap_or_else(|| "-".into()), value(":protocol"));
}

/// A stream's end may be noticed in more than one place.
fn end(request: &mut Request, end: End) {
    if request.ends.iter().any(|known| known.by == end.by && known.act == end.act) {
        return;
    }
    let given_up = request.ends.iter().any(|known| known.by == By::Client && known.act != Act::Finished);
    // Else it only follows from what the client did.
    if end.by == By::Relay && end.act == Act::Reset && !given_up {
        request.reset = end.code;
    }
    request.ends.push(end);
}

/// Microseconds as milliseconds.
fn ms(micros: u64) -> f64 {
    crate::diagnosis::millis(i64::try_from(micros).unwrap_or(i64::MAX))
}
