//! Whether a connection has anything left to send. quinn knows and tells nobody but the congestion controller; so one stands in front of the real
//! one and keeps it.
//!
//! A packet pays two indirect calls for it, a send of one or several a load and a store.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// What the controller of one path was told. Each field has one writer, the connection.
#[derive(Debug, Default)]
pub struct Spare {
    sent: AtomicU64,
    sated: AtomicU64,
    losses: AtomicU64,
}

impl Spare {
    /// Bytes sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// How many of them there had been when the connection was last known to have had room to send and nothing to send.
    pub fn sated(&self) -> u64 {
        self.sated.load(Relaxed)
    }

    /// How often packets were lost so far: what they carried on streams is to be sent again.
    pub fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }
}

/// A path's congestion window in bytes, and what its controller was told. `None` for a controller that was not built by [`Telling`].
pub fn look(connection: &quinn::Connection) -> Option<(u64, Arc<Spare>)> {
    let told = connection.congestion_state().into_any().downcast::<Told>().ok()?;
    Some((told.real.window(), told.spare))
}

/// Builds what another factory builds, with a [`Spare`] each.
pub struct Telling<F: ?Sized>(pub Arc<F>);

impl<F: ControllerFactory + Send + Sync + ?Sized + 'static> ControllerFactory for Telling<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Told { real: Arc::clone(&self.0).build(now, current_mtu), spare: Arc::default() })
    }
}

struct Told {
    real: Box<dyn Controller>,
    spare: Arc<Spare>,
}

impl Controller for Told {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.spare.sent.store(self.spare.sent() + bytes, Relaxed);
        self.real.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.real.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        if app_limited {
            self.spare.sated.store(self.spare.sent(), Relaxed);
        }
        self.real.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.spare.losses.store(self.spare.losses() + 1, Relaxed);
        self.real.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.real.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.real.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.real.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { real: self.real.clone_box(), spare: Arc::clone(&self.spare) })
    }

    fn initial_window(&self) -> u64 {
        self.real.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use quinn::congestion::CubicConfig;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any time does: nothing is measured")]
    fn what_is_told_is_kept_and_passed_on() {
        let now = Instant::now();
        let mut controller = Arc::new(Telling(Arc::new(CubicConfig::default()))).build(now, 1200);
        let spare = controller.clone_box().into_any().downcast::<Told>().unwrap().spare;
        controller.on_sent(now, 1200, 1);
        controller.on_end_acks(now, 0, false, Some(1));
        assert_eq!((spare.sent(), spare.sated(), spare.losses()), (1200, 0, 0));
        controller.on_sent(now, 2400, 3);
        controller.on_end_acks(now, 0, true, Some(3));
        assert_eq!((spare.sent(), spare.sated(), spare.losses()), (3600, 3600, 0));

        let window = controller.window();
        controller.on_congestion_event(now, now, false, 1200);
        assert_eq!(spare.losses(), 1);
        assert!(controller.window() < window, "the real one hears of it too");
    }
}
