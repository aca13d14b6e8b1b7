//! Happy Eyeballs (RFC 8305): both families are looked up side by side, and attempts are staggered, so that a broken family or a dead address
//! costs a client little.
//!
//! ```text
//! AAAA ──┐ 50 ms for AAAA once A is there      attempt, 250 ms, attempt, 250 ms, … ──▶ the first that connects
//! A ─────┴──▶ vet ──▶ v6, v4, v6, v4, … ───────┘ a failure starts the next at once
//! ```
//!
//! What a name resolved to is vetted before it is queued: a forbidden address is never tried, and the address vetted is the address dialled.
//! Nothing is spawned, so dropping the future cancels lookups and attempts alike.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::refusal::Refusal;

/// Connects to the first address that answers. `lookups` are those of AAAA and A; `budget` runs from the first attempt on.
pub(super) async fn race<S, L, C>(
    lookups: [L; 2],
    vet: impl Fn(IpAddr) -> Result<(), Refusal>,
    connect: impl Fn(IpAddr) -> C,
    budget: Duration,
) -> Result<S, Refusal>
where
    L: Future<Output = Result<Vec<IpAddr>, Refusal>>,
    C: Future<Output = Result<S, Refusal>>,
{
    let [v6, v4] = lookups;
    let mut lookups: FuturesUnordered<_> = [tagged(Family::V6, v6), tagged(Family::V4, v4)].into_iter().collect();
    let mut attempts = FuturesUnordered::new();
    let mut queue = Queue::default();
    let mut failures = Failures::default();
    let mut clock = Clock::default();

    loop {
        let now = Instant::now();
        if clock.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refusal::ConnectTimedOut { after: budget });
        }
        if clock.may_start(now)
            && let Some(address) = queue.pop()
        {
            clock.started(now, budget);
            attempts.push(connect(address));
            continue;
        }
        if lookups.is_empty() && attempts.is_empty() {
            return Err(failures.reason());
        }

        let wake = clock.wake(&queue);
        tokio::select! {
            // A connection that is there is worth more than anything else that has happened.
            biased;
            Some(result) = attempts.next() => match result {
                Ok(connected) => return Ok(connected),
                Err(refusal) => {
                    failures.attempt = Some(refusal);
                    clock.next = None;
                }
            },
            Some((family, found)) = lookups.next() => {
                match found {
                    Ok(addresses) => queue.push(addresses, &vet, &mut failures),
                    Err(refusal) => failures.lookup(refusal),
                }
                let alone = family == Family::V4 && !lookups.is_empty() && attempts.is_empty();
                clock.hold = alone.then(|| Instant::now() + RESOLUTION_DELAY);
            }
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V6,
    V4,
}

async fn tagged<T>(family: Family, lookup: impl Future<Output = T>) -> (Family, T) {
    (family, lookup.await)
}

/// When what may happen.
#[derive(Debug, Default)]
struct Clock {
    /// A is there, and AAAA gets a little longer.
    hold: Option<Instant>,
    /// The last attempt gets a little longer before another is made beside it.
    next: Option<Instant>,
    deadline: Option<Instant>,
}

impl Clock {
    fn may_start(&self, now: Instant) -> bool {
        self.start_at().is_none_or(|at| at <= now)
    }

    fn start_at(&self) -> Option<Instant> {
        self.hold.max(self.next)
    }

    fn started(&mut self, now: Instant, budget: Duration) {
        self.next = Some(now + ATTEMPT_DELAY);
        self.deadline.get_or_insert(now + budget);
    }

    /// When to look again if nothing else happens.
    fn wake(&self, queue: &Queue) -> Option<Instant> {
        let start = self.start_at().filter(|_| !queue.is_empty());
        start.into_iter().chain(self.deadline).min()
    }
}

/// Addresses not tried yet. They leave by turns, IPv6 first (RFC 8305 §4).
#[derive(Debug, Default)]
struct Queue {
    v6: VecDeque<IpAddr>,
    v4: VecDeque<IpAddr>,
    turn_of_v4: bool,
}

impl Queue {
    fn push(&mut self, addresses: Vec<IpAddr>, vet: impl Fn(IpAddr) -> Result<(), Refusal>, failures: &mut Failures) {
        for address in addresses {
            // An IPv4-mapped address is dialled as what it is.
            let address = address.to_canonical();
            let family = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
            match vet(address) {
                Ok(()) if family.len() < MOST_OF_A_FAMILY => family.push_back(address),
                Ok(()) => {}
                Err(refusal) => failures.forbidden = failures.forbidden.take().or(Some(refusal)),
            }
        }
    }

    fn pop(&mut self) -> Option<IpAddr> {
        let (first, second) = if self.turn_of_v4 { (&mut self.v4, &mut self.v6) } else { (&mut self.v6, &mut self.v4) };
        let address = first.pop_front().or_else(|| second.pop_front())?;
        self.turn_of_v4 = address.is_ipv6();
        Some(address)
    }

    fn is_empty(&self) -> bool {
        self.v6.is_empty() && self.v4.is_empty()
    }
}

/// Why it may come to nothing.
#[derive(Debug, Default)]
struct Failures {
    /// The last attempt's.
    attempt: Option<Refusal>,
    /// The first address's that is not to be tried.
    forbidden: Option<Refusal>,
    /// The worst lookup's.
    lookup: Option<Refusal>,
}

impl Failures {
    fn lookup(&mut self, refusal: Refusal) {
        if self.lookup.as_ref().is_none_or(|known| weight(known) < weight(&refusal)) {
            self.lookup = Some(refusal);
        }
    }

    /// The reason that came furthest: an attempt, an address, a lookup.
    fn reason(self) -> Refusal {
        self.attempt.or(self.forbidden).or(self.lookup).unwrap_or(Refusal::Unresolvable { rcode: None, info_code: None })
    }
}

/// Of two lookups' failures the heavier one is told: one without any records says least, an extended error says more.
fn weight(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::Unresolvable { info_code: Some(_), .. } => 2,
        Refusal::Unresolvable { rcode, .. } if rcode.as_deref() == Some("NOERROR") => 0,
        Refusal::Unresolvable { .. } => 1,
        Refusal::DnsTimedOut { .. } => 3,
        _ => 4,
    }
}

/// RFC 8305 §3: long enough for an AAAA answer that is just behind, too short to be noticed.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// RFC 8305 §5: most connections are there by then, and a dead address costs no more.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A name can have hundreds of addresses; nobody waits for more than a few of them.
const MOST_OF_A_FAMILY: usize = 8;

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, io, net::SocketAddr};

    use tokio::time::sleep;

    use super::*;

    /// A lookup that answers after some milliseconds, and an address that connects, refuses or stays silent after some.
    type Answer<'a> = (u64, Result<&'a [&'a str], Refusal>);
    type Reply = (u64, Option<bool>);

    struct Outcome {
        result: Result<IpAddr, Refusal>,
        /// Every attempt: when, and to where.
        tried: Vec<(u128, String)>,
        /// All of it, milliseconds.
        took: u128,
    }

    /// Runs a race. Addresses in 10.0.0.0/8 are forbidden.
    async fn run(aaaa: Answer<'_>, a: Answer<'_>, reply: impl Fn(&str) -> Reply) -> Outcome {
        let start = Instant::now();
        let tried = RefCell::new(Vec::new());
        let lookup = |(after, answer): Answer<'_>| {
            let answer = answer.map(|list| list.iter().map(|text| text.parse().unwrap()).collect());
            async move {
                sleep(Duration::from_millis(after)).await;
                answer
            }
        };
        let vet = |address: IpAddr| match address {
            IpAddr::V4(v4) if v4.octets()[0] == 10 => Err(Refusal::ProhibitedAddress),
            _ => Ok(()),
        };
        let connect = |address: IpAddr| {
            tried.borrow_mut().push((start.elapsed().as_millis(), address.to_string()));
            let (after, reply) = reply(&address.to_string());
            async move {
                sleep(Duration::from_millis(after)).await;
                match reply {
                    Some(true) => Ok(address),
                    Some(false) => Err(Refusal::Unreachable {
                        address: SocketAddr::new(address, 443),
                        source: io::ErrorKind::ConnectionRefused.into(),
                    }),
                    None => std::future::pending().await,
                }
            }
        };
        let result = race([lookup(aaaa), lookup(a)], vet, connect, Duration::from_secs(10)).await;
        Outcome { result, took: start.elapsed().as_millis(), tried: tried.into_inner() }
    }

    fn tried(list: &[(u128, &str)]) -> Vec<(u128, String)> {
        list.iter().map(|(at, address)| (*at, address.to_string())).collect()
    }

    const CONNECTS: Reply = (20, Some(true));
    const REFUSES: Reply = (20, Some(false));
    const SILENT: Reply = (0, None);

    fn nxdomain() -> Refusal {
        Refusal::Unresolvable { rcode: Some("NXDOMAIN".into()), info_code: None }
    }

    fn nodata() -> Refusal {
        Refusal::Unresolvable { rcode: Some("NOERROR".into()), info_code: None }
    }

    #[tokio::test(start_paused = true)]
    async fn aaaa_starts_at_once_and_a_waits_for_it_a_little() {
        let v6_first = run((10, Ok(&["2001:db8::1"])), (30, Ok(&["192.0.2.1"])), |_| CONNECTS).await;
        assert_eq!(v6_first.tried, tried(&[(10, "2001:db8::1")]));

        let v6_close_behind = run((59, Ok(&["2001:db8::1"])), (10, Ok(&["192.0.2.1"])), |_| CONNECTS).await;
        assert_eq!(v6_close_behind.tried, tried(&[(59, "2001:db8::1")]));

        let v6_late = run((100, Ok(&["2001:db8::1"])), (10, Ok(&["192.0.2.1"])), |_| CONNECTS).await;
        assert_eq!(v6_late.tried, tried(&[(60, "192.0.2.1")]));

        let v6_says_no = run((20, Err(nodata())), (10, Ok(&["192.0.2.1"])), |_| CONNECTS).await;
        assert_eq!(v6_says_no.tried, tried(&[(20, "192.0.2.1")]));
    }

    #[tokio::test(start_paused = true)]
    async fn families_take_turns_every_250_ms_while_nothing_answers() {
        let outcome = run((0, Ok(&["2001:db8::1", "2001:db8::2"])), (0, Ok(&["192.0.2.1", "192.0.2.2"])), |_| SILENT).await;
        let want = [(0, "2001:db8::1"), (250, "192.0.2.1"), (500, "2001:db8::2"), (750, "192.0.2.2")];
        assert_eq!(outcome.tried, tried(&want));
        assert!(matches!(outcome.result, Err(Refusal::ConnectTimedOut { after }) if after.as_secs() == 10));
        assert_eq!(outcome.took, 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn c34_a_black_hole_costs_one_delay_and_a_refusal_none() {
        let reply = |address: &str| if address == "2001:db8::1" { SILENT } else { CONNECTS };
        let black_hole = run((0, Ok(&["2001:db8::1"])), (0, Ok(&["192.0.2.1"])), reply).await;
        assert_eq!(black_hole.result.unwrap().to_string(), "192.0.2.1");
        assert_eq!(black_hole.took, 270);

        let reply = |address: &str| if address == "2001:db8::1" { REFUSES } else { CONNECTS };
        let refused = run((0, Ok(&["2001:db8::1"])), (0, Ok(&["192.0.2.1"])), reply).await;
        assert_eq!(refused.tried, tried(&[(0, "2001:db8::1"), (20, "192.0.2.1")]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_attempt_that_answers_late_still_wins() {
        let reply = |address: &str| if address == "2001:db8::1" { (400, Some(true)) } else { SILENT };
        let outcome = run((0, Ok(&["2001:db8::1"])), (0, Ok(&["192.0.2.1"])), reply).await;
        assert_eq!((outcome.result.unwrap().to_string(), outcome.took), ("2001:db8::1".into(), 400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_family_joins_a_race_under_way() {
        let outcome = run((290, Ok(&["2001:db8::1"])), (0, Ok(&["192.0.2.1", "192.0.2.2", "192.0.2.3"])), |_| SILENT).await;
        assert_eq!(outcome.tried, tried(&[(50, "192.0.2.1"), (300, "2001:db8::1"), (550, "192.0.2.2"), (800, "192.0.2.3")]));
    }

    #[tokio::test(start_paused = true)]
    async fn forbidden_addresses_are_never_tried() {
        let some = run((0, Ok(&["::ffff:10.0.0.1"])), (0, Ok(&["10.0.0.1", "192.0.2.1"])), |_| CONNECTS).await;
        assert_eq!(some.tried, tried(&[(0, "192.0.2.1")]));

        let all = run((0, Err(nodata())), (0, Ok(&["10.0.0.1"])), |_| CONNECTS).await;
        assert!(all.tried.is_empty() && matches!(all.result, Err(Refusal::ProhibitedAddress)), "{:?}", all.result);

        let mapped = run((0, Ok(&["::ffff:192.0.2.1"])), (0, Err(nodata())), |_| CONNECTS).await;
        assert_eq!(mapped.tried, tried(&[(0, "192.0.2.1")]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_reason_that_came_furthest_is_told() {
        let timed_out = || Refusal::DnsTimedOut { after: Duration::from_secs(5) };
        let reason = async |aaaa: Answer<'_>, a: Answer<'_>| run(aaaa, a, |_| REFUSES).await.result.unwrap_err();
        assert!(
            matches!(reason((0, Err(nxdomain())), (9, Err(nxdomain()))).await, Refusal::Unresolvable { rcode: Some(r), .. } if r == "NXDOMAIN")
        );
        assert!(
            matches!(reason((9, Err(nxdomain())), (0, Err(nodata()))).await, Refusal::Unresolvable { rcode: Some(r), .. } if r == "NXDOMAIN")
        );
        assert!(matches!(reason((9, Err(timed_out())), (0, Err(nodata()))).await, Refusal::DnsTimedOut { .. }));
        assert!(matches!(reason((0, Err(timed_out())), (9, Err(nodata()))).await, Refusal::DnsTimedOut { .. }));
        assert!(matches!(reason((9, Err(timed_out())), (0, Ok(&["10.0.0.1"]))).await, Refusal::ProhibitedAddress));
        assert!(matches!(reason((9, Err(timed_out())), (0, Ok(&["10.0.0.1", "192.0.2.1"]))).await, Refusal::Unreachable { .. }));
        assert!(matches!(reason((0, Ok(&[])), (0, Ok(&[]))).await, Refusal::Unresolvable { rcode: None, .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_with_hundreds_of_addresses_costs_few_attempts() {
        let many: Vec<String> = (0..300).map(|n| format!("192.0.2.{}", n % 256)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let outcome = run((0, Err(nodata())), (0, Ok(&many)), |_| REFUSES).await;
        assert_eq!(outcome.tried.len(), MOST_OF_A_FAMILY);
    }
}
