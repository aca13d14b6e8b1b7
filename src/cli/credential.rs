//! Credentials as a person gives them: a file with a token, fields of a request.

use std::{fs, path::Path};

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::report::Failure;

/// The token of a file.
pub(super) fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(path).map_err(|source| {
        Failure::io(format!("cannot read the token {}", path.display()), &source).hint("`serve --dev` writes one to certs/dev/token")
    })?;
    Ok(Zeroizing::new(Zeroizing::new(text).trim().to_owned()))
}

/// `NAME: VALUE`. The value is not repeated: it may be a credential.
pub(super) fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be a name, a colon and a value, like `x-relay-token: TOKEN`")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "must start with the name of a field".to_owned())?;
    let value = value.trim();
    if HeaderValue::from_str(value).is_err() {
        return Err("has characters that no field can carry".into());
    }
    Ok((name.as_str().into(), value.into()))
}
