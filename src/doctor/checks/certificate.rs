//! The certificate, as Apple's clients judge it: every rule by itself.

use std::time::Duration;

use super::{Check, Found};
use crate::{
    certs::facts::{Facts, Key, LONGEST, hex, utc},
    doctor::{Evidence, Plan, chain::Chain},
};

pub(super) const CHECKS: &[Check] = &[
    Check::relay("certificate.shown", "certificate", &["reach.name"], shown),
    Check::relay("certificate.issued", "certificate", SHOWN, |_, e| of(e, issued)),
    Check::relay("certificate.trust", "certificate", &["certificate.shown", "certificate.issued"], |p, e| of(e, |chain| trust(p, chain))),
    Check::relay("certificate.san", "certificate", SHOWN, |_, e| of(e, san)),
    Check::relay("certificate.name", "certificate", &["certificate.shown", "certificate.san"], |p, e| of(e, |chain| name(p, chain))),
    Check::relay("certificate.expiry", "certificate", SHOWN, |p, e| of(e, |chain| expiry(p, chain))),
    Check::relay("certificate.start", "certificate", SHOWN, |p, e| of(e, |chain| start(p, chain))),
    Check::relay("certificate.lifetime", "certificate", SHOWN, |_, e| of(e, lifetime)),
    Check::relay("certificate.usage", "certificate", SHOWN, |_, e| of(e, usage)),
    Check::relay("certificate.signature", "certificate", SHOWN, |_, e| of(e, signature)),
    Check::relay("certificate.key", "certificate", SHOWN, |_, e| of(e, key)),
    Check::relay("certificate.same", "certificate", SHOWN, |_, e| same(e)),
];

const SHOWN: &[&str] = &["certificate.shown"];

fn of(evidence: &Evidence, judge: impl FnOnce(&Chain) -> Found) -> Found {
    match &evidence.chain {
        Some(Ok(chain)) => judge(chain),
        _ => Found::skip("no certificate was shown"),
    }
}

fn shown(_: &Plan, evidence: &Evidence) -> Found {
    match &evidence.chain {
        Some(Ok(chain)) => {
            let more = match chain.rest.len() {
                0 => "nothing else".to_owned(),
                1 => "one certificate more".to_owned(),
                more => format!("{more} certificates more"),
            };
            Found::ok(format!("a leaf with {}, issued by {}, and {more}", chain.leaf.key, chain.leaf.issuer))
        }
        Some(Err(error)) => Found::fail(format!("it does not parse: {error}")).hint("issue a new one: `masque-relay cert server NAME`"),
        None => Found::skip("no handshake came so far"),
    }
}

fn issued(chain: &Chain) -> Found {
    if !chain.leaf.self_issued {
        return Found::ok("it is issued by a CA, not by itself");
    }
    Found::fail("it is self-signed")
        .hint("make a CA and let it issue the leaf: `masque-relay cert ca`, then `cert server NAME`; install the CA on the devices")
        .fault("cert-self-signed")
}

fn trust(plan: &Plan, chain: &Chain) -> Found {
    if !plan.public_keys.is_empty() {
        return if plan.public_keys.contains(&chain.key) {
            Found::ok("its public key is one of those in the profile")
        } else {
            Found::fail("its public key is none of those in the profile")
                .hint("`RawPublicKeys` replaces all other trust: put this key into the profile")
        };
    }
    let says = match &chain.leads {
        Ok(()) => return Found::ok("the chain leads to a trusted authority"),
        Err(says) => says,
    };
    let wanted = chain.wanted();
    let among = if plan.roots.is_empty() { "no authority is trusted here" } else { "it is not among the trusted ones" };
    let found = Found::fail(format!("{says}: the chain ends at `{wanted}`, {among}"));
    // A root at the end of the chain is there: it is only not trusted.
    if chain.rest.iter().any(|facts| facts.self_issued) {
        return found.hint("install and trust this CA on the devices; here name it with `--ca FILE`");
    }
    found
        .hint(format!("if `{wanted}` is an intermediate, append it to the relay's chain file; if it is the root, name it with `--ca FILE`"))
        .fault("cert-no-chain")
}

fn san(chain: &Chain) -> Found {
    if chain.leaf.names.is_empty() {
        return Found::fail(format!("no subject alternative name, only the subject {}", chain.leaf.subject))
            .hint("Apple's clients ignore the common name: put the name of the URL into the SAN")
            .fault("cert-no-san");
    }
    Found::ok(format!("it names {}", chain.leaf.names.join(", ")))
}

fn name(plan: &Plan, chain: &Chain) -> Found {
    let host = &plan.url.host;
    if chain.named {
        return Found::ok(format!("{host} is among them"));
    }
    Found::fail(format!("{host} is not among {}", chain.leaf.names.join(", ")))
        .hint("put the host of the URL into the SAN, an address as an address; or use one of these names in the URL")
        .fault("cert-name")
}

fn expiry(plan: &Plan, chain: &Chain) -> Found {
    let until = utc(chain.leaf.not_after);
    if chain.leaf.not_after < plan.now {
        return Found::fail(format!("it expired on {until}")).hint("renew it").fault("cert-expired");
    }
    if chain.leaf.expires_within(SOON, plan.now) {
        return Found::warn(format!("it expires on {until}")).hint("renew it soon");
    }
    Found::ok(format!("it is valid until {until}"))
}

fn start(plan: &Plan, chain: &Chain) -> Found {
    let from = utc(chain.leaf.not_before);
    if plan.now < chain.leaf.not_before {
        return Found::fail(format!("it is valid only from {from}"))
            .hint("check the clock of who issued it, and the one here")
            .fault("cert-future");
    }
    Found::ok(format!("it is valid since {from}"))
}

fn lifetime(chain: &Chain) -> Found {
    let lasts = chain.leaf.not_after.duration_since(chain.leaf.not_before).unwrap_or_default();
    let days = lasts.as_secs() / 86_400;
    if lasts > LONGEST {
        return Found::fail(format!("it is valid for {days} days")).hint("Apple's clients take 825 days at most").fault("cert-long");
    }
    Found::ok(format!("it is valid for {days} days"))
}

fn usage(chain: &Chain) -> Found {
    if chain.leaf.usage.serves_apple() {
        return Found::ok("its extended key usage has serverAuth");
    }
    let what = if chain.leaf.usage.stated { "its extended key usage lacks serverAuth" } else { "it has no extended key usage" };
    Found::fail(what).hint("Apple's clients want serverAuth (1.3.6.1.5.5.7.3.1)").fault("cert-no-eku")
}

fn signature(chain: &Chain) -> Found {
    let weak = |facts: &&Facts| facts.sha1 && !facts.self_issued;
    match [&chain.leaf].into_iter().chain(&chain.rest).find(weak) {
        Some(facts) => Found::fail(format!("{} is signed with SHA-1", facts.subject)).hint("Apple's clients want SHA-2"),
        None => Found::ok("no signature uses SHA-1"),
    }
}

fn key(chain: &Chain) -> Found {
    match chain.leaf.key {
        key @ (Key::Curve(256 | 384) | Key::Rsa(2048..)) => Found::ok(format!("its key is {key}")),
        key => Found::fail(format!("its key is {key}")).hint("Apple's clients take RSA from 2048 bits on, P-256 and P-384"),
    }
}

fn same(evidence: &Evidence) -> Found {
    let mut leaves: Vec<_> = evidence.visits.iter().filter_map(|visit| visit.seen.chain.first()).collect();
    if leaves.len() < 2 {
        return Found::skip("it was seen over one version alone");
    }
    leaves.dedup();
    if leaves.len() == 1 {
        return Found::ok("both versions show the same");
    }
    let shown: Vec<_> = leaves.iter().map(|leaf| hex(&leaf[leaf.len().saturating_sub(4)..])).collect();
    Found::warn(format!("HTTP/3 and HTTP/2 show different ones (they end in {})", shown.join(" and ")))
        .hint("what is said here is of the one over HTTP/3")
}

/// Two weeks are enough to renew a certificate by hand.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
