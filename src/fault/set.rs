//! The faults that are switched on: shared by all workers, asked often, changed seldom.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{Chance, Fault, MILLION};

/// The faults of one relay. With none on, every question costs one atomic load.
#[derive(Debug)]
pub struct Faults {
    any: AtomicBool,
    on: ArcSwap<Vec<Fault>>,
    /// Changes are made one at a time.
    changing: Mutex<()>,
    seed: u64,
    /// Random numbers drawn so far.
    drawn: AtomicU64,
}

impl Faults {
    /// With `on` switched on; of two of one name the last counts. `seed` decides about all that is random.
    pub fn new(on: impl IntoIterator<Item = Fault>, seed: u64) -> Self {
        let faults =
            Self { any: AtomicBool::new(false), on: ArcSwap::default(), changing: Mutex::default(), seed, drawn: AtomicU64::new(0) };
        on.into_iter().for_each(|fault| faults.set(fault));
        faults
    }

    /// Switches one on, in place of one of the same name. What it alters from the next handshake, request or packet on, each at its place.
    pub fn set(&self, fault: Fault) {
        self.change(|on| {
            on.retain(|other| other.name() != fault.name());
            on.push(fault);
        });
    }

    /// Switches the one of this name off; whether it was on.
    pub fn clear(&self, name: &str) -> bool {
        let mut was_on = false;
        self.change(|on| {
            was_on = on.iter().any(|fault| fault.name() == name);
            on.retain(|fault| fault.name() != name);
        });
        was_on
    }

    /// Switches all off that can be switched while the relay runs.
    pub fn clear_all(&self) {
        self.change(|on| on.retain(|fault| !fault.about().live));
    }

    /// Those that are on, in the order they were switched on.
    pub fn list(&self) -> Vec<Fault> {
        self.on.load().to_vec()
    }

    /// Whether one without argument is on.
    pub fn on(&self, fault: Fault) -> bool {
        self.find(|on| (*on == fault).then_some(())).is_some()
    }

    /// How long SETTINGS are held back.
    pub fn settings_late(&self) -> Option<Duration> {
        self.find(|fault| if let Fault::SettingsLate(time) = fault { Some(*time) } else { None })
    }

    /// The status that answers every request, and whether Proxy-Status goes with it.
    pub fn status(&self) -> Option<(u16, bool)> {
        self.find(|fault| match fault {
            Fault::Status(code) => Some((*code, true)),
            Fault::BareStatus(code) => Some((*code, false)),
            _ => None,
        })
    }

    /// How many bytes a TCP tunnel carries each way.
    pub fn stall(&self) -> Option<u64> {
        self.find(|fault| if let Fault::Stall(bytes) = fault { Some(*bytes) } else { None })
    }

    /// The code that closes the connection at its first request.
    pub fn close(&self) -> Option<u32> {
        self.find(|fault| if let Fault::Close(code) = fault { Some(*code) } else { None })
    }

    /// How long what comes back in a UDP tunnel is held.
    pub fn datagram_delay(&self) -> Option<Duration> {
        self.find(|fault| if let Fault::DatagramDelay(time) = fault { Some(*time) } else { None })
    }

    /// How often a payload of a UDP tunnel is lost.
    pub fn datagram_drop(&self) -> Option<Chance> {
        self.find(|fault| if let Fault::DatagramDrop(chance) = fault { Some(*chance) } else { None })
    }

    /// The length of connection IDs.
    pub fn cid(&self) -> Option<u8> {
        self.find(|fault| if let Fault::Cid(length) = fault { Some(*length) } else { None })
    }

    /// What is wrong with the certificate; of several the last switched on.
    pub fn certificate(&self) -> Option<Fault> {
        self.find(|fault| fault.of_certificate().then_some(*fault))
    }

    /// Draws once: whether what happens with this chance happens now. The same seed gives the same sequence.
    pub fn happens(&self, chance: Chance) -> bool {
        let number = self.drawn.fetch_add(1, Relaxed);
        scrambled(self.seed, number) % u64::from(MILLION) < u64::from(chance.0)
    }

    fn find<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        if !self.any.load(Relaxed) {
            return None;
        }
        self.on.load().iter().rev().find_map(pick)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Fault>)) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut on = self.list();
        change(&mut on);
        let any = !on.is_empty();
        self.on.store(on.into());
        self.any.store(any, Relaxed);
    }
}

impl Default for Faults {
    /// A healthy relay.
    fn default() -> Self {
        Self::new([], 0)
    }
}

/// The `number`th of the random numbers of this seed: SplitMix64, which is even enough and takes no state but the count.
fn scrambled(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_on_from_set_to_clear() {
        let faults = Faults::default();
        assert!(!faults.on(Fault::Goaway));
        faults.set(Fault::Goaway);
        faults.set(Fault::Stall(5));
        faults.set(Fault::Stall(7));
        assert!(faults.on(Fault::Goaway));
        assert_eq!(faults.stall(), Some(7), "of one name the last counts");
        assert_eq!(faults.list(), [Fault::Goaway, Fault::Stall(7)]);
        assert!(faults.clear("goaway") && !faults.clear("goaway"));
        assert!(!faults.on(Fault::Goaway));
        faults.set(Fault::Cid(19));
        faults.clear_all();
        assert_eq!(faults.list(), [Fault::Cid(19)], "what was decided at the start stays");
    }

    #[test]
    fn each_question_finds_its_own_fault() {
        let ms = Duration::from_millis(20);
        let all = |fault| Faults::new([Fault::Retry, fault], 0);
        assert_eq!(all(Fault::SettingsLate(ms)).settings_late(), Some(ms));
        assert_eq!(all(Fault::DatagramDelay(ms)).datagram_delay(), Some(ms));
        assert_eq!(all(Fault::Status(503)).status(), Some((503, true)));
        assert_eq!(all(Fault::BareStatus(502)).status(), Some((502, false)));
        assert_eq!(all(Fault::Close(9)).close(), Some(9));
        assert_eq!(all(Fault::Cid(19)).cid(), Some(19));
        assert_eq!(all(Fault::CertLong).certificate(), Some(Fault::CertLong));
        assert_eq!(all(Fault::DatagramDrop(Chance(5))).datagram_drop(), Some(Chance(5)));
        let none = Faults::new([Fault::Retry], 0);
        assert_eq!((none.settings_late(), none.datagram_delay(), none.status(), none.stall()), (None, None, None, None));
        assert_eq!((none.close(), none.cid(), none.certificate(), none.datagram_drop()), (None, None, None, None));
    }

    #[test]
    fn chance_is_the_seeds_and_near_what_was_asked() {
        let draws = |seed| {
            let faults = Faults::new([], seed);
            (0..10_000).map(|_| faults.happens(Chance(300_000))).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        for seed in 0..20 {
            let hits = draws(seed).into_iter().filter(|hit| *hit).count();
            assert!((2_700..3_300).contains(&hits), "{hits} of 10,000 with seed {seed}");
        }
        let faults = Faults::default();
        assert!((0..1000).all(|_| faults.happens(Chance(MILLION))));
    }
}
