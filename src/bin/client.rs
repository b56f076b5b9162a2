//! The client's command line: arguments, logger, exit code; the rest is in `packetboat::client`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};
use packetboat::chat::command;
use packetboat::chat::legacy::Obeyed;
use packetboat::client::address::{Address, SERVER_VARIABLE};
use packetboat::client::error::ClientError;
use packetboat::client::show::{ColorWhen, log_to_stderr};
use packetboat::client::{self, Action, Options, ask};
use packetboat::transfer::tuning::TuningArgs;
use packetboat::wire::message::Transport;
use packetboat::wire::text::sanitise;

/// Names the person where the command line does not, and others see the name.
const NICK_VARIABLE: &str = "PACKETBOAT_NICK";

/// Talk in a chat room and fetch files from its shelf.
#[derive(Debug, Parser)]
#[command(
    name = "client",
    version,
    disable_help_subcommand = true,
    override_usage = "client HOST[:PORT] [NICK] [OPTIONS] [COMMAND]",
    help_template = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}",
    before_help = "\
Examples:
  client                                    asks for server and nickname, then you talk
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
    // Brackets in a doc comment would be links.
    #[arg(
        value_name = "HOST",
        help = "The server: HOST[:PORT], [IPV6]:PORT or chat://NICK@HOST [env: PACKETBOAT_SERVER]"
    )]
    address: Option<Address>,

    /// Your nickname; one-shot commands come as guest-xxxx without it [env: PACKETBOAT_NICK]
    nick: Option<String>,

    #[command(subcommand)]
    command: Option<Errand>,

    /// One JSON object per event on stdout, and nothing else (docs/JSON.md)
    #[arg(long, global = true)]
    json: bool,

    #[command(flatten)]
    tuning: TuningArgs,

    /// Plain lines at a terminal: no editing, no colours, no moving cursor
    #[arg(long, global = true)]
    plain: bool,

    /// Colours: auto (unless NO_COLOR is set), always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    color: ColorWhen,

    /// Never ask anything: downloads go on, pastes are said
    #[arg(long, global = true)]
    no_input: bool,

    /// Answer every question with yes
    #[arg(short, long, global = true)]
    yes: bool,

    /// Say the Python projects' code words instead of obeying them
    #[arg(long, global = true)]
    no_legacy: bool,

    /// Say every line as it is, also one that looks like a command: for logs
    #[arg(long, global = true)]
    verbatim: bool,

    /// Come back so long when cut off [default: 300; 60 in scripts]
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
    #[command(override_usage = "client HOST[:PORT] [NICK] msg TEXT [OPTIONS]")]
    Msg {
        /// What to say
        text: String,
        /// Whisper it to one person
        #[arg(long, value_name = "NICK")]
        to: Option<String>,
    },
    /// List who is here
    #[command(override_usage = "client HOST[:PORT] [NICK] who [OPTIONS]")]
    Who,
    /// List what can be fetched
    #[command(override_usage = "client HOST[:PORT] [NICK] files [OPTIONS]")]
    Files,
    /// Fetch one file
    #[command(override_usage = "client HOST[:PORT] [NICK] get NAME [OPTIONS]")]
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
    #[command(override_usage = "client HOST[:PORT] [NICK] put PATH [OPTIONS]")]
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
    #[command(override_usage = "client HOST[:PORT] [NICK] listen [OPTIONS]")]
    Listen,
    /// Test TCP, UDP both ways, packet size, loss and clock; say what to do
    #[command(override_usage = "client HOST[:PORT] [NICK] doctor [OPTIONS]")]
    Doctor,
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
            Errand::Doctor => Action::Doctor,
            Errand::Get { name, output, udp, tcp } => {
                Action::Get { name, output, transport: transport(udp, tcp) }
            }
            Errand::Put { path, save_as, udp, tcp } => {
                Action::Put { path, save_as, transport: transport(udp, tcp) }
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => log::LevelFilter::Error,
        (_, 0) => log::LevelFilter::Warn,
        (_, 1) => log::LevelFilter::Info,
        (_, 2) => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    log_to_stderr(level);
    let tuning = match cli.tuning.open() {
        Ok(tuning) => tuning,
        Err(source) => {
            let error = ClientError::System { what: "start".into(), source };
            return ExitCode::from(client::fail(cli.json, &error));
        }
    };
    if let (Some(nick), None, false) = (&cli.nick, &cli.command, cli.quiet)
        && let Some(meant) = command::meant_word(nick, &COMMAND_WORDS)
    {
        // Nick or not is for the server to say; what is shown of it here moves no cursor.
        let nick = sanitise(nick);
        let _ = writeln!(io::stderr(), "client: you are `{nick}`; did you mean the command `{meant}`?");
    }
    let action = cli.command.map_or(Action::Talk, Action::from);
    let address = match cli.address.map_or_else(|| find_server(&action, cli.no_input), Ok) {
        Ok(address) => address,
        Err(error) => return ExitCode::from(client::fail(cli.json, &error)),
    };
    let nick =
        cli.nick.or_else(|| variable(NICK_VARIABLE).filter(|_| address.nick.is_none() && action.is_seen()));
    ExitCode::from(client::run(&Options {
        address,
        nick,
        action,
        json: cli.json,
        quiet: cli.quiet,
        plain: cli.plain,
        color: cli.color,
        no_input: cli.no_input,
        yes: cli.yes,
        obeyed: match (cli.verbatim, cli.no_legacy) {
            (true, _) => Obeyed::Nothing,
            (_, true) => Obeyed::Commands,
            _ => Obeyed::Both,
        },
        reconnect_for: cli.reconnect_for.map(|seconds| Duration::from_secs(seconds.into())),
        tuning,
    }))
}

/// The server where the command line names none: from the environment, or from the person who wants to talk.
fn find_server(action: &Action, no_input: bool) -> Result<Address, ClientError> {
    let wrong = |kind, words: String| -> ! { Cli::command().error(kind, words).exit() };
    if let Some(server) = variable(SERVER_VARIABLE) {
        let unusable = |why| wrong(ErrorKind::ValueValidation, format!("{SERVER_VARIABLE}={server}: {why}"));
        return Ok(server.parse().unwrap_or_else(|why: String| unusable(why)));
    }
    let may_ask =
        *action == Action::Talk && !no_input && io::stdin().is_terminal() && io::stderr().is_terminal();
    if !may_ask {
        let words =
            format!("no server is named: write it first, as in `client 127.0.0.1`, or set {SERVER_VARIABLE}");
        wrong(ErrorKind::MissingRequiredArgument, words);
    }
    ask::server(io::stdin().lock(), io::stderr())
}

/// A variable of the environment, where it is not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
