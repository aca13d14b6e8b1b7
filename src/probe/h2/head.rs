//! A request head in the h2 crate's form, and an answer's in ours.

use h2::ext::Protocol;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, Version, uri};

use crate::proto::head::Head;

/// A head as the h2 crate takes it. Its `http` types cannot hold every wrong head: what they would change is refused.
pub(super) fn request(head: &Head) -> Result<Request<()>, &'static str> {
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    let mut parts = uri::Parts::default();
    let mut seen = Vec::new();
    for (name, value) in &head.fields {
        if !name.starts_with(b":") {
            if name.iter().any(u8::is_ascii_uppercase) {
                return Err("HTTP/2: a field name in upper case");
            }
            let name = HeaderName::from_bytes(name).map_err(|_| "HTTP/2: a field name that is none")?;
            let value = HeaderValue::from_bytes(value).map_err(|_| "HTTP/2: a field value that is none")?;
            request.headers_mut().append(name, value);
            continue;
        }
        if seen.contains(&name) || !request.headers().is_empty() {
            return Err("HTTP/2: a pseudo-header field twice, or behind another field");
        }
        seen.push(name);
        let text = std::str::from_utf8(value).map_err(|_| "HTTP/2: a pseudo-header field that is no text")?;
        match &name[..] {
            b":method" => *request.method_mut() = Method::from_bytes(value).map_err(|_| "HTTP/2: a method that is none")?,
            b":protocol" => drop(request.extensions_mut().insert(Protocol::from(text))),
            b":scheme" => parts.scheme = Some(text.try_into().map_err(|_| "HTTP/2: a scheme that is none")?),
            b":authority" => parts.authority = Some(text.try_into().map_err(|_| "HTTP/2: an authority that is none")?),
            b":path" => parts.path_and_query = Some(text.try_into().map_err(|_| "HTTP/2: a path that is none")?),
            _ => return Err("HTTP/2: an unknown pseudo-header field"),
        }
    }
    let classic = request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none();
    if classic && (parts.scheme.is_some() || parts.path_and_query.is_some()) {
        return Err("HTTP/2: a classic CONNECT with a scheme or a path");
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| "HTTP/2: a head without authority, scheme or path")?;
    Ok(request)
}

/// The head of an answer. The h2 crate has put fields of one name together; otherwise it is what came.
pub(super) fn answer(response: &Response<h2::RecvStream>) -> Head {
    let mut head = Head::default();
    head.push(":status", response.status().as_str().to_owned());
    for (name, value) in response.headers() {
        head.push(name.as_str().to_owned(), value.as_bytes().to_vec());
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_h2_crate_would_change_is_refused() {
        for (fields, what) in [
            (&[(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")][..], "with a scheme or a path"),
            (&[(":method", "CONNECT"), (":method", "CONNECT")], "twice"),
            (&[(":method", "CONNECT"), ("a", "b"), (":authority", "a:1")], "behind"),
            (&[(":method", "CONNECT"), (":authority", "a:1"), ("A", "b")], "upper case"),
            (&[(":method", "CONNECT"), (":authority", "a:1"), ("a", "b\n")], "value"),
            (&[(":method", "CONNECT"), (":target", "a:1")], "unknown"),
            (&[(":method", "GET"), (":authority", "a:1"), (":path", "/")], "without"),
        ] {
            let mut head = Head::default();
            for (name, value) in fields {
                head.push(*name, *value);
            }
            let error = request(&head).unwrap_err();
            assert!(error.contains(what), "{what}: {error}");
        }
    }
}
