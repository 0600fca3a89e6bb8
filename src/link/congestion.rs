//! How much may be under way: as much as CUBIC says, and without a bound for the word that all is over.
//!
//! A connection that is closed takes no acknowledgements any more. Were its window full at that time, the close would never
//! be sent, and the peer would not know why the link is gone; were it paced, the peer would hear of it late.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// What a connection and its congestion control tell each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    /// The connection is to be closed.
    closing: AtomicBool,
    /// When the last of the packets was sent that were acknowledged.
    acked: Mutex<Option<Instant>>,
}

impl Traffic {
    /// Nothing holds back what is sent from now on. Only for what comes right before a close: nothing else is sent then.
    pub(super) fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
    }

    fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Relaxed)
    }

    /// When the last of the packets was sent that the peer has acknowledged.
    pub(super) fn acked(&self) -> Option<Instant> {
        *self.lock()
    }

    fn was_acked(&self, sent: Instant) {
        let mut acked = self.lock();
        *acked = (*acked).max(Some(sent));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.acked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// CUBIC, until the connection is closing.
pub(super) struct UntilClosing {
    pub(super) cubic: Arc<CubicConfig>,
    pub(super) traffic: Traffic,
}

impl ControllerFactory for UntilClosing {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = self.cubic.clone().build(now, current_mtu);
        Box::new(Window { cubic, traffic: self.traffic.clone() })
    }
}

impl fmt::Debug for UntilClosing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UntilClosing")
    }
}

struct Window {
    cubic: Box<dyn Controller>,
    traffic: Traffic,
}

impl Controller for Window {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.traffic.was_acked(sent);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.cubic.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    /// So large a window is not paced either.
    fn window(&self) -> u64 {
        if self.traffic.is_closing() { u64::MAX } else { self.cubic.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), traffic: self.traffic.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
