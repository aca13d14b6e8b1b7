//! A ClientHello as a person reads it.

use std::fmt;

use super::{Hello, Over, Parameter, cipher_name, extension_name, group_name, is_grease, parameter_name, signature_name, version_name};

/// One `label  values` line for each thing that was offered; no line break behind the last.
impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = match self.over {
            Over::Quic => "QUIC",
            Over::Tcp => "TCP",
        };
        write!(f, "ClientHello over {over}, {} bytes", self.length)?;
        if let Some(why) = &self.unread {
            return write!(f, ", not read: {}", why.escape_debug());
        }
        line(f, "ja4", &self.ja4)?;
        line(f, "name", self.sni.as_deref().unwrap_or("none asked for"))?;
        line(f, "alpn", if self.alpn.is_empty() { "none".into() } else { self.alpn.join(" ") })?;
        let versions = if self.versions.is_empty() { vec![self.legacy_version] } else { self.versions.clone() };
        line(f, "versions", names(&versions, version_name, ", "))?;
        line(f, "ciphers", names(&self.ciphers, cipher_name, " "))?;
        line(f, "groups", names(&self.groups, group_name, " "))?;
        line(f, "key shares", names(&self.key_shares, group_name, " "))?;
        line(f, "signatures", names(&self.signatures, signature_name, " "))?;
        line(f, "extensions", names(&self.extensions, extension_name, " "))?;
        for (label, types) in
            [("server certificate", &self.server_certificate_types), ("client certificate", &self.client_certificate_types)]
        {
            if !types.is_empty() {
                line(f, label, types.iter().map(|kind| certificate_type(*kind)).collect::<Vec<_>>().join(", "))?;
            }
        }
        if self.tickets > 0 {
            line(f, "resumes", format!("{} offered{}", self.tickets, if self.early_data { ", with early data" } else { "" }))?;
        }
        if let Some(parameters) = &self.parameters {
            line(f, "transport", parameters.list().map(|parameter| parameter.to_string()).collect::<Vec<_>>().join(" "))?;
            if parameters.damaged {
                line(f, "damaged", "the transport parameters break off")?;
            }
        }
        if !self.damaged.is_empty() {
            line(f, "damaged", names(&self.damaged, extension_name, " "))?;
        }
        if self.cut || self.parameters.as_ref().is_some_and(|parameters| parameters.cut) {
            line(f, "cut", "there was more than is kept")?;
        }
        Ok(())
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match parameter_name(self.id) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{:#x}", self.id)?,
        }
        match (self.value, self.length) {
            (Some(value), _) => write!(f, "={value}"),
            (None, 0) => Ok(()),
            (None, length) => write!(f, "({length} bytes)"),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: impl AsRef<str>) -> fmt::Result {
    write!(f, "\n  {label:<18}  {}", text.as_ref())
}

fn names(numbers: &[u16], name: impl Fn(u16) -> Option<&'static str>, between: &str) -> String {
    if numbers.is_empty() {
        return "none".into();
    }
    let named = numbers.iter().map(|number| match name(*number) {
        Some(name) => name.into(),
        None if is_grease(*number) => "GREASE".into(),
        None => format!("{number:#06x}"),
    });
    named.collect::<Vec<String>>().join(between)
}

fn certificate_type(kind: u8) -> String {
    match kind {
        0 => "X.509".into(),
        2 => "raw public key".into(),
        other => format!("type {other}"),
    }
}
