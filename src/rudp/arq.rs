//! The three textbook schemes of automatic repeat request, as a table of three answers. There is one sender.

use std::fmt;
use std::str::FromStr;

/// How losses are repaired.
///
/// | | packets outstanding | out of order the receiver | after a timeout |
/// |---|---|---|---|
/// | stop-and-wait | 1 | discards | resends from `snd_una` |
/// | go-back-N | what the window allows | discards | resends from `snd_una` |
/// | selective repeat | what the window allows | keeps, and says so | probes; resends what is lost |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ArqScheme {
    /// One packet, its acknowledgement, the next packet.
    StopAndWait,
    /// A window, and all of it again after a loss.
    GoBackN,
    /// A window, and only what is lost again.
    #[default]
    SelectiveRepeat,
}

/// What a sender does when the probe timer fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    /// Sends two packets to learn what is lost (RFC 9002, 6.2.4).
    Probe,
    /// Takes everything in flight for lost: the receiver has thrown it away.
    GoBack,
}

impl ArqScheme {
    /// Every scheme, simplest first.
    pub const ALL: [ArqScheme; 3] = [Self::StopAndWait, Self::GoBackN, Self::SelectiveRepeat];

    /// How many packets may be outstanding, apart from the window.
    pub fn packets_max(self) -> u64 {
        match self {
            Self::StopAndWait => 1,
            Self::GoBackN | Self::SelectiveRepeat => u64::MAX,
        }
    }

    /// Whether the receiver keeps octets that do not continue what it has.
    pub fn keeps_out_of_order(self) -> bool {
        self == Self::SelectiveRepeat
    }

    /// What the sender does when the probe timer fires.
    pub fn on_timeout(self) -> OnTimeout {
        if self == Self::SelectiveRepeat { OnTimeout::Probe } else { OnTimeout::GoBack }
    }

    /// The number that SYN and SYN-ACK carry.
    pub fn number(self) -> u8 {
        match self {
            Self::StopAndWait => 1,
            Self::GoBackN => 2,
            Self::SelectiveRepeat => 3,
        }
    }

    /// The scheme of this number.
    pub fn from_number(number: u8) -> Option<ArqScheme> {
        Self::ALL.into_iter().find(|scheme| scheme.number() == number)
    }
}

impl fmt::Display for ArqScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StopAndWait => "stop-and-wait",
            Self::GoBackN => "go-back-n",
            Self::SelectiveRepeat => "selective-repeat",
        })
    }
}

impl FromStr for ArqScheme {
    type Err = String;

    fn from_str(text: &str) -> Result<ArqScheme, String> {
        let scheme = Self::ALL.into_iter().find(|scheme| scheme.to_string() == text);
        scheme.ok_or_else(|| format!("'{text}' is none of stop-and-wait, go-back-n, selective-repeat"))
    }
}
