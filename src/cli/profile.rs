//! `profile`: what devices are told about a relay, and what is wrong with it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use super::{
    credential::{fields, read_token},
    identity::{self, is_pem, key_file, read_password},
    report::{Exit, Failure, print_bytes, say},
};
use crate::{
    certs::{
        cms,
        files::{Access, Existing, NewFile, write},
        issue::{self, Authority},
        p12, read_chain,
    },
    config::user_name,
    profile::{
        Identity, Matches, Profile, Relay,
        declaration::PLACE,
        lint::{Severity, lint},
    },
};

/// What to write, or to look at.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Write a configuration profile, for any device: install it, or push it by MDM
    #[command(after_help = MOBILECONFIG)]
    Mobileconfig(SignedArguments),
    /// Write the same as declarations, for MDM and systems of version 27 and later
    #[command(after_help = DECLARATION)]
    Declaration(ProfileArguments),
    /// Write the same as Swift: `NERelayManager`, and `RelayHop` for one app
    #[command(after_help = SWIFT)]
    Swift(ProfileArguments),
    /// Say what a device would refuse about a profile, and where it is a trap
    #[command(after_help = "Exit code 1: a device would refuse it.\nExample: masque-relay profile lint relay.mobileconfig")]
    Lint(LintArguments),
}

/// `profile mobileconfig`.
#[derive(Args)]
pub struct SignedArguments {
    #[command(flatten)]
    profile: ProfileArguments,
    /// Sign it with the CA in DIR (`ca.pem` and `ca.key`)
    #[arg(long, value_name = "DIR")]
    sign: Option<PathBuf>,
}

/// What all three forms are made from. What is hidden is told beneath the help, where a line says more than a row of a table.
#[derive(Args)]
pub struct ProfileArguments {
    /// The relay, `https://HOST[:PORT][/TEMPLATE]`
    #[arg(value_name = "URL", hide = true)]
    url: String,
    /// The credential, as `Proxy-Authorization: Bearer`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Whose it is: sent as Basic then
    #[arg(long, value_name = "NAME", requires = "token_file", value_parser = user_name)]
    user: Option<String>,
    /// Another field of every request; repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A CA that devices do not know, to be trusted (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust the key in FILE, or that of a certificate, instead of a CA
    #[arg(long, value_name = "FILE")]
    raw_public_key: Vec<PathBuf>,
    /// The client's certificate: PKCS#12, or PEM with its key or `.key`
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// What opens that PKCS#12
    #[arg(long, value_name = "FILE", requires = "identity", alias = "identity-password-file")]
    password_file: Option<PathBuf>,
    /// Relay only DOMAIN and below it, or `=NAME` alone; repeatable
    #[arg(long = "match", value_name = "DOMAIN")]
    matches: Vec<String>,
    /// But not these, written alike; repeatable
    #[arg(long, value_name = "DOMAIN")]
    exclude: Vec<String>,
    /// What the device shows [default: the relay's host]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Where to write, mode 0600; stdout without it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace what is there
    #[arg(long, requires = "out", hide = true)]
    force: bool,
    /// Only this version
    #[arg(long, value_name = "2|3", hide = true, value_parser = ["2", "3"])]
    http: Option<String>,
    /// HTTP/2 at another URL
    #[arg(long, value_name = "URL", hide = true, conflicts_with = "http")]
    h2_url: Option<String>,
    /// A second relay
    #[arg(long, value_name = "URL", hide = true)]
    second: Option<String>,
    /// The second relay's fields
    #[arg(long, value_name = "NAME: VALUE", hide = true, requires = "second")]
    second_header: Vec<String>,
    /// Whose profile it is
    #[arg(long, value_name = "TEXT", hide = true)]
    organization: Option<String>,
    /// No switch on the device
    #[arg(long, hide = true)]
    locked: bool,
    /// Names are resolved without the relay if need be
    #[arg(long, hide = true)]
    dns_failover: bool,
}

/// `profile lint`.
#[derive(Debug, Args)]
pub struct LintArguments {
    /// A `.mobileconfig`, signed or not
    file: PathBuf,
}

/// Runs one of the commands.
pub fn run(command: &ProfileCommand, now: SystemTime) -> Result<(), Failure> {
    match command {
        ProfileCommand::Mobileconfig(arguments) => {
            let profile = arguments.profile.checked()?;
            let xml = profile.mobileconfig();
            let bytes = match &arguments.sign {
                Some(dir) => cms::sign(&xml, &Authority::load(&dir.join("ca.pem"), &dir.join("ca.key"))?, now)?,
                None => xml,
            };
            arguments.profile.write(&bytes, &profile.secrets())
        }
        ProfileCommand::Declaration(arguments) => {
            let profile = arguments.checked()?;
            let text = profile.declarations();
            // The identity itself stays where it is.
            let secrets: Vec<_> = Profile { identity: None, ..profile }.secrets();
            arguments.write(text.as_bytes(), &secrets)?;
            if text.contains(PLACE) {
                say(format_args!("devices fetch what is at {PLACE}…: put those files on a server of yours, and its URLs in their place"));
            }
            Ok(())
        }
        ProfileCommand::Swift(arguments) => {
            let profile = arguments.checked()?;
            arguments.write(profile.swift().as_bytes(), &profile.secrets())
        }
        ProfileCommand::Lint(arguments) => check(&arguments.file),
    }
}

fn check(file: &Path) -> Result<(), Failure> {
    let bytes = read(file, "profile")?;
    let complaints = lint(&bytes);
    let mut out = String::new();
    for complaint in &complaints {
        let word = match complaint.severity {
            Severity::Refused => "refused",
            Severity::Trap => "trap   ",
        };
        out += &format!("{word}  {complaint}\n");
    }
    let refused = complaints.iter().filter(|complaint| complaint.severity == Severity::Refused).count();
    if complaints.is_empty() {
        out += "nothing to complain of\n";
    }
    print_bytes(out.as_bytes())?;
    if refused > 0 {
        return Err(Failure::says(Exit::Failed, format!("a device would refuse {}", file.display())));
    }
    Ok(())
}

impl ProfileArguments {
    /// The profile; not one that a device would refuse. Traps are told.
    fn checked(&self) -> Result<Profile, Failure> {
        let profile = self.profile()?;
        let complaints = lint(&profile.mobileconfig());
        let mut refused: Vec<_> = complaints.iter().filter(|complaint| complaint.severity == Severity::Refused).collect();
        // One wrong URL is wrong for both versions.
        refused.dedup_by(|next, before| next.says == before.says);
        if let [first, more @ ..] = &refused[..] {
            let more: String = more.iter().map(|complaint| format!("\n  {complaint}")).collect();
            return Err(Failure::says(Exit::Wrong, format!("a device would refuse it: {first}{more}")));
        }
        for complaint in complaints {
            say(format_args!("warning: {complaint}"));
        }
        Ok(profile)
    }

    fn profile(&self) -> Result<Profile, Failure> {
        let only = self.http.as_deref();
        let urls = |url: &str, h2: Option<&str>| Relay {
            h3: (only != Some("2")).then(|| url.to_owned()),
            h2: (only != Some("3")).then(|| h2.unwrap_or(url).to_owned()),
            ..Relay::default()
        };
        let mut relay = urls(&self.url, self.h2_url.as_deref());
        relay.headers = self.headers()?;
        for file in &self.raw_public_key {
            relay.public_keys.push(public_key(file)?);
        }
        let mut profile = Profile::new("", relay);
        if let Some(url) = &self.second {
            let headers = fields(&self.second_header, "--second-header")?;
            profile.relays.push(Relay { headers, ..urls(url, None) });
        }
        let host = profile.identifier();
        let host = host.strip_prefix("masque-relay.").unwrap_or_default();
        profile.name = self.name.clone().unwrap_or_else(|| format!("Relay {host}"));
        profile.organization.clone_from(&self.organization);
        if let Some(ca) = &self.ca {
            profile.authorities = read_chain(ca)?.iter().map(|der| der.to_vec()).collect();
        }
        profile.identity = self.identity()?;
        profile.matches = self.matches();
        profile.switchable = self.locked.then_some(false);
        profile.dns_failover = self.dns_failover.then_some(true);
        Ok(profile)
    }

    fn headers(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut headers = Vec::new();
        if let Some(file) = &self.token_file {
            let token = read_token(file)?;
            if token.is_empty() {
                return Err(Failure::says(Exit::Wrong, format!("cannot use {}: it is empty", file.display())));
            }
            let value = match &self.user {
                Some(user) => format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", *token))),
                None => format!("Bearer {}", *token),
            };
            headers.push(("Proxy-Authorization".into(), value));
        }
        headers.extend(fields(&self.header, "--header")?);
        Ok(headers)
    }

    fn identity(&self) -> Result<Option<Identity>, Failure> {
        let Some(file) = &self.identity else { return Ok(None) };
        let bytes = identity::read(file)?;
        let password = self.password_file.as_deref().map(read_password).transpose()?;
        if !is_pem(&bytes) {
            let password = password.ok_or_else(|| {
                Failure::says(Exit::Wrong, format!("cannot use {} without its password", file.display()))
                    .hint("`--password-file FILE` names a file with it")
            })?;
            return Ok(Some(Identity { pkcs12: bytes.to_vec(), password }));
        }
        let key_file = key_file(file, &bytes);
        let unusable = |path: &Path, says: &str| Failure::says(Exit::Wrong, format!("cannot use {}: {says}", path.display()));
        let chain = read_chain(file)?;
        let text = Zeroizing::new(read_text(&key_file, "private key")?);
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| unusable(&key_file, "there is no private key in it"))?;
        let PrivateKeyDer::Pkcs8(key) = key else {
            return Err(unusable(&key_file, "it is not PKCS#8").hint("`openssl pkcs8 -topk8 -nodes` makes it PKCS#8"));
        };
        // Nobody types it: whoever has the profile has the password too.
        let password = password.unwrap_or_else(issue::token);
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let chain: Vec<_> = chain.iter().map(AsRef::as_ref).collect();
        Ok(Some(Identity { pkcs12: p12::write(&chain, key.secret_pkcs8_der(), &name, &password), password }))
    }

    fn matches(&self) -> Matches {
        let split = |names: &[String]| {
            let (alone, below): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| name.starts_with('='));
            (below, alone.iter().map(|name| name[1..].to_owned()).collect())
        };
        let ((domains, names), (excluded_domains, excluded_names)) = (split(&self.matches), split(&self.exclude));
        Matches { domains, names, excluded_domains, excluded_names }
    }

    /// To the file, or to stdout, and says what in it is secret.
    fn write(&self, bytes: &[u8], secrets: &[&str]) -> Result<(), Failure> {
        let holds = match secrets {
            [] => "nothing in it is secret".to_owned(),
            secrets => format!("it holds {}: keep it among those it is for", secrets.join(" and ")),
        };
        let Some(path) = &self.out else {
            print_bytes(bytes)?;
            say(holds);
            return Ok(());
        };
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        write(&[NewFile { path, text: bytes, access: Access::Owner }], existing)?;
        say(format_args!("wrote {}, readable for you alone (0600); {holds}", path.display()));
        Ok(())
    }
}

/// The SubjectPublicKeyInfo of a public key or of a certificate, PEM.
fn public_key(file: &Path) -> Result<Vec<u8>, Failure> {
    let text = read(file, "public key")?;
    if let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(&text) {
        return Ok(key.to_vec());
    }
    let unusable = || {
        Failure::says(Exit::Wrong, format!("cannot use {}: there is neither a public key nor a certificate in it", file.display()))
            .hint("give the relay's `cert.pem`, or what `openssl pkey -pubout` prints")
    };
    let der = CertificateDer::from_pem_slice(&text).map_err(|_| unusable())?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| unusable())?;
    Ok(certificate.public_key().raw.to_vec())
}

fn read(file: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|source| Failure::io(format!("cannot read the {what} {}", file.display()), &source))
}

fn read_text(file: &Path, what: &str) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|source| Failure::io(format!("cannot read the {what} {}", file.display()), &source))
}

/// Fields may be credentials.
impl std::fmt::Debug for ProfileArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProfileArguments").field("url", &self.url).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SignedArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedArguments").field("profile", &self.profile).field("sign", &self.sign).finish()
    }
}

/// Beneath the help of `profile`.
pub const HELP: &str = "Example: masque-relay profile mobileconfig https://relay.example --token-file token";

macro_rules! seldom {
    ($example:literal) => {
        concat!(
            "Seldom: --http 2|3 (one version), --h2-url URL, --second URL and --second-header (a chain of two),\n",
            "--organization TEXT, --locked (no switch on the device), --dns-failover, --force (replace).\n",
            "Example: masque-relay profile ",
            $example
        )
    };
}

const MOBILECONFIG: &str = seldom!(
    "mobileconfig https://relay.example --token-file token \\\n           --ca certs/ca.pem --match corp.example --out relay.mobileconfig"
);
const DECLARATION: &str = seldom!("declaration https://relay.example --token-file token");
const SWIFT: &str = seldom!("swift https://relay.example --token-file token --match corp.example");
