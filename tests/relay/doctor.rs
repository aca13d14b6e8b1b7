//! `doctor` as a library: against a healthy relay, and against relays that are set up badly.

use std::time::{Duration, SystemTime};

use masque_relay::{
    cli::echo::Echo,
    doctor::{Finding, Limits, Plan, Report, Target, Verdict, examine},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::support::{NAME, Relay, TOKEN};

/// What a person would give `doctor` for this relay.
fn plan(relay: &Relay, echo: Option<&Echo>) -> Plan {
    let mut plan = Plan::new(&format!("https://{NAME}:{}", relay.address().port()), now()).expect("a URL");
    plan.addresses = relay.addresses().to_vec();
    plan.roots = vec![CertificateDer::from_pem_slice(relay.ca().as_bytes()).expect("the CA just made")];
    plan.fields = vec![("proxy-authorization".into(), format!("Bearer {TOKEN}"))];
    plan.tcp = echo.map(|echo| Target::parse(&echo.tcp.to_string()).expect("an address"));
    plan.udp = echo.map(|echo| Target::parse(&echo.udp.to_string()).expect("an address"));
    plan.limits = Limits { bulk: 256 << 10, quiet: Duration::from_millis(500), ..Limits::default() };
    plan
}

#[expect(clippy::disallowed_methods, reason = "certificates made now are judged now")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Those that are not as they should be.
fn complaints(report: &Report) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.verdict > Verdict::Skip).collect()
}

#[tokio::test]
async fn a_healthy_relay_gets_no_warning() {
    let relay = Relay::spawn(|_| {}).await;
    let echo = Echo::start().await.expect("an echo");
    let report = examine(&plan(&relay, Some(&echo))).await;
    for finding in &report.findings {
        println!("{:>6} {:<28} {} {:?}", format!("{:?}", finding.verdict), finding.check, finding.evidence, finding.fault);
    }
    assert_eq!((complaints(&report), report.faults()), (vec![], vec![]));
    echo.finish().await;
    relay.finish().await;
}

#[tokio::test]
async fn without_targets_what_needs_them_is_skipped() {
    let relay = Relay::spawn(|_| {}).await;
    let report = examine(&plan(&relay, None)).await;
    assert_eq!((complaints(&report), report.faults()), (vec![], vec![]));
    relay.finish().await;
}
