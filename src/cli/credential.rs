//! Credentials as a person gives them: a file with a token, fields of a request.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::report::{Exit, Failure};

/// The credential, however it is given.
#[derive(Args)]
pub(super) struct Token {
    /// The credential, sent as `Proxy-Authorization: Bearer`
    #[arg(long, value_name = "TOKEN", env = "MASQUE_RELAY_TOKEN", hide_env = true, hide_env_values = true)]
    token: Option<String>,
    /// A file with the credential; goes before `--token`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Token {
    /// What it is.
    pub(super) fn given(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        match &self.token_file {
            Some(path) => read_token(path).map(Some),
            None => Ok(self.token.clone().map(Zeroizing::new)),
        }
    }
}

/// The token of a file.
pub(super) fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(path).map_err(|source| {
        Failure::io(format!("cannot read the token {}", path.display()), &source).hint("`serve --dev` writes one to certs/dev/token")
    })?;
    Ok(Zeroizing::new(Zeroizing::new(text).trim().to_owned()))
}

/// The fields of every `flag`.
pub(super) fn fields(texts: &[String], flag: &str) -> Result<Vec<(String, String)>, Failure> {
    let fields = texts.iter().map(|text| field(text)).collect::<Result<_, _>>();
    fields.map_err(|says| Failure::says(Exit::Wrong, format!("cannot use a `{flag}`: it {says}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lower_case_and_their_values_not_repeated() {
        assert_eq!(field("X-Relay-Token:  abc ").unwrap(), ("x-relay-token".into(), "abc".into()));
        for text in ["secret", ":secret: x", "a b: secret", "a: secret\n"] {
            if let Err(error) = field(text) {
                assert!(!error.contains("secret"), "{error}");
            }
        }
        assert!(field("secret").is_err() && field("a b: secret").is_err() && field("a: sec\nret").is_err());
    }
}
