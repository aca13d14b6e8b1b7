//! `doctor`: a relay from outside, as an Apple client would find it. The report is on stdout.

mod text;

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::{
    credential::{Token, field, fields, read_token},
    identity::{ClientIdentity, Unusable, unpacked},
    report::{Exit, Failure, print},
};
use crate::{
    certs::read_chain,
    doctor::{Finding, Plan, Report, Target, Verdict, examine},
    probe::{Http, Options},
    profile::{self, Profile, lint},
};

/// `doctor`.
#[derive(Args)]
pub struct DoctorArguments {
    /// The relay, `https://HOST[:PORT][/TEMPLATE]`; without it, the development relay of this directory
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// A TCP echo that the relay may reach: tunnels are tried on it
    #[arg(long, value_name = "HOST:PORT", value_parser = Target::parse)]
    target_tcp: Option<Target>,
    /// A UDP echo likewise
    #[arg(long, value_name = "HOST:PORT", value_parser = Target::parse)]
    target_udp: Option<Target>,
    /// Trust these CAs instead of the system's (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    token: Token,
    /// Another field of every request; repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    #[command(flatten)]
    identity: ClientIdentity,
    /// Lint a profile, and examine its relays with its credentials
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "identity", "token_file"])]
    profile: Option<PathBuf>,
    /// Send credentials also where the certificate is not trusted
    #[arg(long)]
    insecure: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where a development relay is, and its echo: in `certs/dev/relay.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Running {
    /// The relay.
    pub url: String,
    /// Its TCP echo.
    pub tcp: String,
    /// Its UDP echo.
    pub udp: String,
    /// It serves HTTP/3.
    pub h3: bool,
    /// It serves HTTP/2.
    pub h2: bool,
}

impl Running {
    fn versions(&self) -> Vec<Http> {
        [(self.h3, Http::H3), (self.h2, Http::H2)].into_iter().filter_map(|(on, http)| on.then_some(http)).collect()
    }
}

/// Examines the relays and prints what was found. Fails if a check did.
pub fn run(arguments: &DoctorArguments, now: SystemTime) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Failure::io("cannot make the runtime", &source))?;
    let reports = match &arguments.profile {
        Some(path) => runtime.block_on(arguments.of_profile(path, now))?,
        None => vec![runtime.block_on(async { Ok::<_, Failure>(Box::pin(examine(&arguments.plan(now)?)).await) })?],
    };
    if arguments.json {
        let json = serde_json::to_string_pretty(&reports).map_err(|error| Failure::new(Exit::Failed, &error, None))?;
        print(&format!("{json}\n"))?;
    } else {
        print(&text::of(&reports))?;
    }
    match reports.iter().map(|report| report.count(Verdict::Fail)).sum() {
        0 => Ok(()),
        1 => Err(Failure::says(Exit::Failed, "a check failed")),
        count => Err(Failure::says(Exit::Failed, format!("{count} checks failed"))),
    }
}

impl DoctorArguments {
    fn plan(&self, now: SystemTime) -> Result<Plan, Failure> {
        let (mut plan, dev) = match &self.url {
            Some(url) => (plan(url, now)?, false),
            None => (dev_plan(now)?, true),
        };
        self.lay_over(&mut plan)?;
        if self.ca.is_some() || !dev {
            plan.roots = roots(self.ca.as_deref())?;
        }
        plan.identity = self.identity.given()?;
        Ok(plan)
    }

    /// What goes for every relay.
    fn lay_over(&self, plan: &mut Plan) -> Result<(), Failure> {
        if let Some(token) = self.token.given()? {
            plan.fields = vec![bearer(&token)?];
        }
        plan.fields.extend(fields(&self.header, "--header")?);
        plan.tcp = self.target_tcp.clone().or(plan.tcp.take());
        plan.udp = self.target_udp.clone().or(plan.udp.take());
        plan.trusting = self.insecure;
        Ok(())
    }

    async fn of_profile(&self, path: &Path, now: SystemTime) -> Result<Vec<Report>, Failure> {
        let bytes = fs::read(path).map_err(|source| Failure::io(format!("cannot read the profile {}", path.display()), &source))?;
        let mut reports = vec![linted(path, &bytes)];
        let Some(profile) = profile::read::read(&bytes) else { return Ok(reports) };
        let identity = profile.identity.as_ref().map(|identity| unpacked(&identity.pkcs12, &identity.password)).transpose();
        let identity = identity.unwrap_or_else(|error| {
            reports[0].findings.push(without_identity(&error));
            None
        });
        for (index, relay) in profile.relays.iter().enumerate() {
            for (url, versions) in urls(relay) {
                // What is wrong with it, the lint has said.
                let Ok(mut plan) = plan(&url, now) else { continue };
                plan.versions = versions;
                plan.fields = relay.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
                plan.roots = trusted(&profile, self.ca.as_deref())?;
                plan.public_keys.clone_from(&relay.public_keys);
                if index == 0 {
                    plan.identity.clone_from(&identity);
                }
                let fields = std::mem::take(&mut plan.fields);
                self.lay_over(&mut plan)?;
                plan.fields.splice(0..0, fields);
                plan.complete = true;
                reports.push(Box::pin(examine(&plan)).await);
            }
        }
        Ok(reports)
    }
}

/// What a development relay finds at itself: one line, whatever it is.
pub async fn checkup(now: SystemTime) -> String {
    match dev_plan(now) {
        Ok(plan) => {
            let report = Box::pin(examine(&plan)).await;
            let well = report.count(Verdict::Fail) + report.count(Verdict::Warn) == 0;
            format!("doctor: {}{}", text::summary(&report), if well { "" } else { "; `doctor` in this directory tells more" })
        }
        Err(failure) => format!("doctor: not run: {failure}"),
    }
}

/// The relay that `serve --dev` runs, with what it made.
fn dev_plan(now: SystemTime) -> Result<Plan, Failure> {
    let dir = Path::new(super::dev::DIRECTORY);
    let text = fs::read_to_string(dir.join(RUNNING)).map_err(|_| {
        Failure::says(Exit::Wrong, "no relay is named, and no development relay was started in this directory")
            .hint("`masque-relay doctor https://relay.example`, or `masque-relay serve --dev` first")
    })?;
    let running: Running = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Exit::Failed, &error, Some(format!("`serve --dev` writes {} anew", dir.join(RUNNING).display()))))?;
    let mut plan = plan(&running.url, now)?;
    plan.roots = read_chain(&dir.join("ca.pem"))?;
    plan.fields = vec![bearer(&read_token(&dir.join("token"))?)?];
    plan.versions = running.versions();
    plan.tcp = Target::parse(&running.tcp).ok();
    plan.udp = Target::parse(&running.udp).ok();
    Ok(plan)
}

/// The URLs of a relay, each with the versions that it is for.
fn urls(relay: &profile::Relay) -> Vec<(String, Vec<Http>)> {
    match (&relay.h3, &relay.h2) {
        (Some(h3), Some(h2)) if h3 == h2 => vec![(h3.clone(), vec![Http::H3, Http::H2])],
        (h3, h2) => {
            let h3 = h3.iter().map(|url| (url.clone(), vec![Http::H3]));
            h3.chain(h2.iter().map(|url| (url.clone(), vec![Http::H2]))).collect()
        }
    }
}

fn plan(url: &str, now: SystemTime) -> Result<Plan, Failure> {
    Plan::new(url, now).map_err(|error| {
        Failure::says(Exit::Wrong, format!("cannot use the URL {}: {error}", url.escape_debug()))
            .hint("write it like `https://relay.example` or `https://[2001:db8::7]:4433`")
    })
}

/// What the profile's lint says, as findings.
fn linted(path: &Path, bytes: &[u8]) -> Report {
    let finding = |verdict, evidence| about_profile("profile.lint", verdict, evidence);
    let complaints = lint::lint(bytes).into_iter().map(|complaint| {
        let verdict = match complaint.severity {
            lint::Severity::Refused => Verdict::Fail,
            lint::Severity::Trap => Verdict::Warn,
        };
        finding(verdict, complaint.to_string())
    });
    let mut findings: Vec<_> = complaints.collect();
    if findings.is_empty() {
        findings.push(finding(Verdict::Ok, "a device takes it, and does what it says".into()));
    }
    Report { relay: path.display().to_string(), findings }
}

/// The relay is examined as it looks to a device that has none.
fn without_identity(error: &Unusable) -> Finding {
    let finding = about_profile("profile.identity", Verdict::Warn, format!("the identity in it is not shown to the relay: {error}"));
    Finding { hint: error.hint().map(str::to_owned), ..finding }
}

fn about_profile(check: &str, verdict: Verdict, evidence: String) -> Finding {
    Finding { check: check.into(), group: "profile".into(), verdict, evidence, hint: None, fault: None, needs: None }
}

fn bearer(token: &str) -> Result<(String, String), Failure> {
    field(&format!("proxy-authorization: Bearer {token}"))
        .map_err(|_| Failure::says(Exit::Wrong, "cannot use the token: it has characters that no field can carry"))
}

/// The CAs of a file, or the system's; where there are none, nobody is trusted, and the report says what that means.
fn roots(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    if let Some(path) = ca {
        return Ok(read_chain(path)?);
    }
    let mut options = Options::new(([0, 0, 0, 0], 0).into(), "system");
    Ok(options.trust_system().map(|()| options.roots).unwrap_or_default())
}

/// A device trusts what the profile brings, and what it trusted before.
fn trusted(profile: &Profile, ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let own = profile.authorities.iter().map(|der| CertificateDer::from(der.clone()));
    Ok(own.chain(roots(ca)?).collect())
}

/// Headers may be credentials as well.
impl std::fmt::Debug for DoctorArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DoctorArguments").field("url", &self.url).field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What `serve --dev` leaves in `certs/dev/`.
pub const RUNNING: &str = "relay.json";

/// Beneath the help of `doctor`.
pub const HELP: &str = "\
Exit status 1: a check failed. Checks that need a target are skipped without one.
Example: masque-relay doctor https://relay.example --token-file token --target-tcp 192.0.2.9:7";
