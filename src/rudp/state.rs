//! The states of a connection, with the names of RFC 9293: open in three steps, close in four.

/// Where a connection is in its life (RFC 9293, 3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// An offer waits for its SYN.
    Listen,
    /// Our SYN is out.
    SynSent,
    /// The peer's SYN has come, our SYN-ACK is out. Data may follow it at once (the idea of RFC 7413).
    SynReceived,
    /// Both know of each other.
    Established,
    /// Our FIN is out.
    FinWait1,
    /// Our FIN is acknowledged; the peer's has not come.
    FinWait2,
    /// Both FINs are out and crossed; ours is not acknowledged.
    Closing,
    /// Everything is said; we stay to acknowledge a repeated FIN.
    TimeWait,
    /// The peer's FIN has come; ours is not out.
    CloseWait,
    /// The peer's FIN has come and ours is out.
    LastAck,
    /// Over.
    Closed,
}

/// What may happen to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// An authentic SYN.
    RecvSyn,
    /// The first other authentic packet of the peer: a SYN-ACK, or what follows it when it is lost.
    RecvOther,
    /// We send FIN for the first time.
    SendFin,
    /// The peer's FIN, once all its data are here.
    RecvFin,
    /// The peer acknowledged our FIN.
    RecvAckOfFin,
    /// TIME-WAIT is over.
    TimeWaitOver,
    /// Something failed, or somebody wanted it.
    Abort,
}

impl State {
    /// The state after `input`; `None` when `input` means nothing here (RFC 9293, figure 5).
    pub fn next(self, input: Input) -> Option<State> {
        Some(match (self, input) {
            (State::Closed, _) => return None,
            (_, Input::Abort) => State::Closed,
            (State::Listen, Input::RecvSyn) => State::SynReceived,
            (State::SynSent | State::SynReceived, Input::RecvOther) => State::Established,
            (State::Established, Input::SendFin) => State::FinWait1,
            (State::Established, Input::RecvFin) => State::CloseWait,
            (State::FinWait1, Input::RecvAckOfFin) => State::FinWait2,
            (State::FinWait1, Input::RecvFin) => State::Closing,
            (State::FinWait2, Input::RecvFin) => State::TimeWait,
            (State::Closing, Input::RecvAckOfFin) => State::TimeWait,
            (State::CloseWait, Input::SendFin) => State::LastAck,
            (State::LastAck, Input::RecvAckOfFin) => State::Closed,
            (State::TimeWait, Input::TimeWaitOver) => State::Closed,
            _ => return None,
        })
    }

    /// Whether octets of the file may be sent: also before the client's third leg has come.
    pub fn may_send_data(self) -> bool {
        matches!(self, State::SynReceived | State::Established)
    }

    /// Whether a FIN may be sent, or sent again.
    pub fn may_send_fin(self) -> bool {
        matches!(self, State::Established | State::CloseWait) || self.awaits_ack_of_fin()
    }

    /// Whether our FIN is out and not acknowledged.
    pub fn awaits_ack_of_fin(self) -> bool {
        matches!(self, State::FinWait1 | State::Closing | State::LastAck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 11] = [
        State::Listen,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::Closing,
        State::TimeWait,
        State::CloseWait,
        State::LastAck,
        State::Closed,
    ];
    const INPUTS: [Input; 7] = [
        Input::RecvSyn,
        Input::RecvOther,
        Input::SendFin,
        Input::RecvFin,
        Input::RecvAckOfFin,
        Input::TimeWaitOver,
        Input::Abort,
    ];

    /// Prints the whole table (`cargo test state_table -- --nocapture`).
    #[test]
    fn the_state_table_is_the_documented_one() {
        let mut table = String::new();
        for state in STATES {
            for input in INPUTS.into_iter().filter(|&input| input != Input::Abort) {
                if let Some(next) = state.next(input) {
                    table += &format!("{state:?} {input:?} {next:?}\n");
                }
            }
        }
        println!("{table}");
        let documented = include_str!("../../docs/PROTOCOL.md")
            .split("<!-- state table -->")
            .nth(1)
            .expect("docs/PROTOCOL.md has the table between its marks");
        let documented: String = documented
            .lines()
            .filter(|line| !line.starts_with("```") && !line.is_empty())
            .flat_map(|line| [line, "\n"])
            .collect();
        let squeezed: String = documented
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
            .collect();
        assert_eq!(table, squeezed);
    }

    #[test]
    fn every_state_ends_and_closed_is_the_end() {
        for state in STATES {
            assert_eq!(state.next(Input::Abort), (state != State::Closed).then_some(State::Closed));
        }
        assert!(INPUTS.iter().all(|&input| State::Closed.next(input).is_none()));
    }
}
