//! What is kept of a run: its trace, and files of packets and of keys.

use std::io::{self, Write};

use super::Network;
use super::state::State;
use crate::capture::{Capture, Sink};
use crate::trace::Trace;

impl Network {
    pub(crate) fn note(&self, text: String) {
        let now = self.clock.now();
        self.lock().trace.note(now, text);
    }

    /// What has happened up to now; files are complete up to now as well.
    pub(crate) fn trace(&self) -> Trace {
        let now = self.clock.now();
        let mut state = self.lock();
        if let Some(Err(error)) = state.capture.as_mut().map(Capture::flush) {
            state.stop_capture(&error);
        }
        if let Some(Err(error)) = state.keys.as_mut().map(Write::flush) {
            state.stop_keys(&error);
        }
        state.trace.trace(now)
    }

    pub(crate) fn set_capture(&self, capture: Capture) {
        self.lock().capture = Some(capture);
    }

    pub(crate) fn set_keys(&self, keys: Sink) {
        self.lock().keys = Some(keys);
    }

    pub(crate) fn wants_secrets(&self) -> bool {
        let state = self.lock();
        state.capture.is_some() || state.keys.is_some()
    }

    /// A line of a key log.
    pub(crate) fn log_secret(&self, line: &str) {
        let mut state = self.lock();
        if let Some(Err(error)) = state.capture.as_mut().map(|capture| capture.secret(line)) {
            state.stop_capture(&error);
        }
        if let Some(Err(error)) = state.keys.as_mut().map(|keys| keys.write_all(line.as_bytes())) {
            state.stop_keys(&error);
        }
    }
}

impl State {
    pub(super) fn stop_capture(&mut self, error: &io::Error) {
        tracing::error!(target: "netsim", %error, "packets are no longer captured");
        self.capture = None;
    }

    fn stop_keys(&mut self, error: &io::Error) {
        tracing::error!(target: "netsim", %error, "keys are no longer logged");
        self.keys = None;
    }
}
