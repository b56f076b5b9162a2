//! A window that never changes: for teaching, and for a path whose size is known.

use super::{Acked, Controller, Lost};

/// So many packets may be in flight, whatever happens.
#[derive(Debug)]
pub struct Fixed {
    cwnd: u64,
}

impl Fixed {
    /// A window of `packets` packets of this size.
    pub fn new(packets: u16, packet_len: u64) -> Fixed {
        Fixed { cwnd: u64::from(packets.max(1)) * packet_len }
    }
}

impl Controller for Fixed {
    fn on_acked(&mut self, _acked: &Acked<'_>) {}

    fn on_lost(&mut self, _lost: &Lost) {}

    fn on_persistent_congestion(&mut self) {}

    fn cwnd(&self) -> u64 {
        self.cwnd
    }
}
