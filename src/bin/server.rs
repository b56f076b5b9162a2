//! The server's command line: arguments, logger, signals, exit codes.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;
use packetboat::server::options::LimitArgs;
use packetboat::server::{Server, ServerConfig, raise_descriptor_limit};
use packetboat::transfer::tuning::TuningArgs;
use packetboat::wire::text::sanitise;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A chat room and a file shelf.
///
/// Talk to it with `client ADDR NICK`, or by hand: `nc ADDR PORT`, then `HELLO_yourname`.
#[derive(Debug, Parser)]
#[command(name = "server", version)]
struct Args {
    /// Where clients connect to; port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:55000")]
    listen: SocketAddr,
    /// The first worker's UDP port, the others follow; 0 lets the system choose [default: the TCP port + 1]
    #[arg(long, value_name = "BASE")]
    udp_port: Option<u16>,
    /// Transfer workers, each with its own UDP port [default: one per core, at most 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: Option<u8>,
    /// The folder whose files are offered
    #[arg(long, value_name = "DIR", default_value = "files")]
    files: PathBuf,
    #[command(flatten)]
    tuning: TuningArgs,
    /// Tell more on stderr
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Tell only warnings on stderr
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    limits: LimitArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let level = match (args.verbose, args.quiet) {
        (true, _) => LevelFilter::Debug,
        (_, true) => LevelFilter::Warn,
        _ => LevelFilter::Info,
    };
    let mut logger = env_logger::Builder::new();
    logger.filter_module("packetboat", level).parse_default_env().format(|out, record| {
        // Whatever a peer chose: one event is one line, and moves no cursor.
        let (time, words) = (out.timestamp(), sanitise(&record.args().to_string()));
        writeln!(out, "[{time} {:<5} {}] {words}", record.level(), record.target())
    });
    logger.init();
    let Err(error) = run(args);
    // Nobody is left to tell when stderr is closed; the exit code tells it too.
    let _ = writeln!(io::stderr(), "server: {error}");
    ExitCode::FAILURE
}

/// Serves until a signal ends it; returns only when it cannot begin.
fn run(args: Args) -> Result<Infallible, Box<dyn std::error::Error>> {
    raise_descriptor_limit();
    // Before anybody may connect, so that no signal finds the default action.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let mut config = ServerConfig {
        listen: args.listen,
        udp_port: args.udp_port,
        files: args.files.clone(),
        limits: args.limits.into(),
        tuning: args.tuning.open()?,
        ..ServerConfig::default()
    };
    config.workers = args.workers.map_or(config.workers, usize::from);
    let is_fixed = args.udp_port.map_or(args.listen.port() != 0, |port| port != 0);
    let mut server = Server::start(config)?;
    if !args.listen.ip().is_loopback() {
        let _ = writeln!(io::stderr(), "{OPEN_NETWORK_NOTE}");
    }
    // A contract with scripts. A closed stdout must not end the server.
    let _ = writeln!(
        io::stdout(),
        "packetboat {} listening on {} (udp {}), {} files in {}",
        env!("CARGO_PKG_VERSION"),
        server.local_addr(),
        ports(server.udp_ports(), is_fixed),
        server.file_count(),
        args.files.display(),
    );
    let _ = io::stdout().flush();
    signals.forever().next();
    server.shutdown();
    // Whoever may be told has been told. What still reads (the digest of a large file) is not waited for.
    std::process::exit(0)
}

const OPEN_NETWORK_NOTE: &str = "\
note: everybody who reaches this address can come in, read the room and fetch the files.
note: UDP transfers are sealed against anyone who cannot read the control connection; chat, whispers, TCP
note: transfers and the keys travel in clear text: use it on networks that you trust.";

/// `55001-55002` for ports that follow each other by order, `40211,51002` for those that the system chose.
fn ports(ports: &[u16], is_fixed: bool) -> String {
    match ports {
        [first, .., last] if is_fixed => format!("{first}-{last}"),
        _ => ports.iter().map(u16::to_string).collect::<Vec<_>>().join(","),
    }
}
