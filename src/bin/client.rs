//! The client's command line: arguments, logger, exit code; the rest is in `packetboat::client`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};
use packetboat::chat::command;
use packetboat::client::address::Address;
use packetboat::chat::legacy::Obeyed;
use packetboat::client::{self, Action, Options};
use packetboat::transfer::tuning::TuningArgs;
use packetboat::wire::message::Transport;
use packetboat::wire::text::sanitise;

/// Talk in a chat room and fetch files from its shelf.
#[derive(Debug, Parser)]
#[command(
    name = "client",
    version,
    disable_help_subcommand = true,
    override_usage = "client HOST[:PORT] [NICK] [OPTIONS] [COMMAND]",
    before_help = "\
Examples:
  client 127.0.0.1 alice                    talk (/help lists what you can type)
  client 127.0.0.1 alice msg 'hi' --to bob  whisper and leave
  client 127.0.0.1 files                    list what can be fetched
  client 127.0.0.1 get lore.txt             fetch it into downloads/
  client 127.0.0.1 alice put report.pdf     put it on the shelf
  tail -f LOG | client HOST log --verbatim  say each line of a pipe, as it is
  client 127.0.0.1 doctor                   does everything work, UDP too? if not, what to do",
    after_help = "\
Exit codes:
  0 done, 1 other failure, 2 usage, 3 cannot connect, or lost and not regained, 4 nickname refused,
  5 no such file or user, 6 transfer incomplete, 7 digest mismatch, 8 declined,
  9 target exists, 10 kicked, 130 SIGINT, 143 SIGTERM"
)]
struct Cli {
    /// The server
    #[arg(
        value_name = "HOST",
        help = "The server: HOST, HOST:PORT (55000), [IPV6]:PORT or chat://NICK@HOST:PORT"
    )]
    address: Address,

    /// Your nickname; one-shot commands log in as guest-xxxx without it
    nick: Option<String>,

    #[command(subcommand)]
    command: Option<Errand>,

    /// Print one JSON object per event on stdout, and nothing else (docs/JSON.md)
    #[arg(long, global = true)]
    json: bool,

    #[command(flatten)]
    tuning: TuningArgs,

    /// Never ask anything
    #[arg(long, global = true)]
    no_input: bool,

    /// Answer every question with yes
    #[arg(short, long, global = true)]
    yes: bool,

    /// Say the Python projects' code words (get_users ...) instead of obeying them
    #[arg(long, global = true)]
    no_legacy: bool,

    /// Say every line as it is, also one that looks like a command: for logs
    #[arg(long, global = true)]
    verbatim: bool,

    /// Come back so long when the connection is lost [default: 300; 60 in scripts]
    #[arg(long, global = true, value_name = "SEC")]
    reconnect_for: Option<u32>,

    /// Tell less: no comings and goings, no progress
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Log more on stderr; twice for even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Errand {
    /// Say one thing and leave
    Msg {
        /// What to say
        text: String,
        /// Whisper it to one person
        #[arg(long, value_name = "NICK")]
        to: Option<String>,
    },
    /// List who is here
    Who,
    /// List what can be fetched
    Files,
    /// Fetch one file
    Get {
        /// Its name on the shelf
        name: String,
        /// Where it shall lie instead of downloads/; it must not exist; - is stdout
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Over UDP, even if no packet comes through
        #[arg(long, conflicts_with = "tcp")]
        udp: bool,
        /// Over TCP
        #[arg(long)]
        tcp: bool,
    },
    /// Put one file on the shelf
    Put {
        /// The file
        path: PathBuf,
        /// Its name on the shelf, instead of its own
        #[arg(long = "as", value_name = "NAME")]
        save_as: Option<String>,
        /// Over UDP, even if no packet comes through
        #[arg(long, conflicts_with = "tcp")]
        udp: bool,
        /// Over TCP
        #[arg(long)]
        tcp: bool,
    },
    /// Print what happens until ended
    Listen,
}

/// The words of [`Errand`], for whoever mistypes one.
const COMMAND_WORDS: [&str; 7] = ["msg", "who", "files", "get", "put", "listen", "doctor"];

impl From<Errand> for Action {
    fn from(errand: Errand) -> Action {
        match errand {
            Errand::Msg { text, to } => Action::Msg { text, to },
            Errand::Who => Action::Who,
            Errand::Files => Action::Files,
            Errand::Listen => Action::Listen,
            Errand::Get { name, output, udp, tcp } => {
                Action::Get { name, output, transport: transport(udp, tcp) }
            }
            Errand::Put { path, save_as, udp, tcp } => {
                Action::Put { path, save_as, transport: transport(udp, tcp) }
    /// Test TCP, UDP both ways, packet size, loss and clock; say what to do
    Doctor,
            }
        }
    }
}

fn transport(udp: bool, tcp: bool) -> Option<Transport> {
    match (udp, tcp) {
        (true, _) => Some(Transport::Udp),
        (_, true) => Some(Transport::Tcp),
        _ => None,
    }
}
            Errand::Doctor => Action::Doctor,

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => log::LevelFilter::Error,
        (_, 0) => log::LevelFilter::Warn,
        (_, 1) => log::LevelFilter::Info,
        (_, 2) => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    env_logger::Builder::new().filter_module("packetboat", level).parse_default_env().init();
    let tuning = match cli.tuning.open() {
        Ok(tuning) => tuning,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "client: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let (Some(nick), None, false) = (&cli.nick, &cli.command, cli.quiet)
        && let Some(meant) = command::meant_word(nick, &COMMAND_WORDS)
    {
        // Nick or not is for the server to say; what is shown of it here moves no cursor.
        let nick = sanitise(nick);
        let _ = writeln!(std::io::stderr(), "client: you are `{nick}`; did you mean the command `{meant}`?");
    }
    ExitCode::from(client::run(&Options {
        address: cli.address,
        nick: cli.nick,
        action: cli.command.map_or(Action::Talk, Action::from),
        json: cli.json,
        quiet: cli.quiet,
        no_input: cli.no_input,
        yes: cli.yes,
        reconnect_for: cli.reconnect_for.map(|seconds| Duration::from_secs(seconds.into())),
        tuning,
    }))
}
        obeyed: match (cli.verbatim, cli.no_legacy) {
            (true, _) => Obeyed::Nothing,
            (_, true) => Obeyed::Commands,
            _ => Obeyed::Both,
        },
