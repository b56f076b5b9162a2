//! Makes the README's picture from a real session: server and client run, bob sits at a pseudo-terminal, alice talks from
//! a second connection, and what bob's screen shows at the end becomes an SVG. `scripts/record-demo` runs it.

#[path = "../tests/common/pty.rs"]
mod pty;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use vt100::{Color, Screen};

/// The screen of the picture.
const COLUMNS: u16 = 88;
const ROWS: u16 = 25;

/// The size of a character, and the room around all of them, in the units of the picture.
const CELL: (u32, u32) = (9, 20);
const MARGIN: u32 = 16;

fn main() {
    let file = std::env::args().nth(1).expect("record-demo FILE.svg");
    let programs = std::env::current_exe().expect("a path");
    let programs = programs.parent().and_then(|examples| examples.parent()).expect("target/PROFILE/examples");
    let mut server = Command::new(programs.join("server"))
        .args(["--listen", "127.0.0.1:0", "--workers", "1", "--no-rate-limit", "--files", "files"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut greeting = String::new();
    BufReader::new(server.stdout.take().expect("piped")).read_line(&mut greeting).expect("a line");
    let address = greeting.split(' ').nth(4).expect("an address").to_owned();
    let screen = play(&address, programs);
    server.kill().expect("it runs");
    server.wait().expect("it ends");
    std::fs::write(&file, svg(&screen)).expect("the picture can be written");
}

/// The session; each step waits for what the step before it has brought to the screen.
fn play(address: &str, programs: &std::path::Path) -> Screen {
    let mut alice = TcpStream::connect(address).expect("connected");
    let mut say = |line: &str| alice.write_all(format!("{line}\n").as_bytes()).expect("written");
    say("HELLO_alice");
    let bob = pty::Terminal::start(COLUMNS, ROWS, programs.join("client"), &[address, "bob"], &[]);
    bob.wait_for("* 2 here: ");
    bob.wait_for_last("bob>");
    say("ALL_hello bob, the video of our voyage is on the shelf");
    bob.wait_for("<alice> hello bob");
    bob.press("ali\tgreat, I fetch it at once\r");
    bob.wait_for("bob> alice: great");
    say("PM_bob meet me at five? 🎉");
    bob.wait_for("[alice whispers]");
    bob.press("/r agreed, at the harbour\r");
    bob.wait_for("[to alice] agreed");
    bob.press("/files\r");
    bob.wait_for("waves.gif");
    bob.press("/get voyage.avi\r");
    bob.wait_for("Go on? /yes or /no");
    say("ALL_no snake_case was harmed, 你好");
    bob.wait_for("snake_case");
    bob.press("/yes\r");
    bob.wait_for("fetched voyage.avi");
    bob.press("/query alice\r");
    bob.wait_for_last("bob->alice>");
    bob.press("what I type here is torn by nobody");
    bob.wait_for_last("bob->alice> what I type here is torn by nobody");
    say("ALL_even while others talk, bob");
    bob.wait_for("<alice> even while");
    bob.wait_for_last("bob->alice> what I type here is torn by nobody");
    bob.screen()
}

/// The sixteen colours, on a dark ground.
const PALETTE: [&str; 16] = [
    "#1d2021", "#fb4934", "#b8bb26", "#fabd2f", "#83a598", "#d3869b", "#8ec07c", "#d5c4a1", "#928374",
    "#fb4934", "#b8bb26", "#fabd2f", "#83a598", "#d3869b", "#8ec07c", "#fbf1c7",
];

fn svg(screen: &Screen) -> String {
    let (width, height) = (u32::from(COLUMNS) * CELL.0 + 2 * MARGIN, u32::from(ROWS) * CELL.1 + 2 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-size=\"15\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" xml:space=\"preserve\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1d2021\"/>\n"
    );
    for row in 0..ROWS {
        runs(screen, row).iter().for_each(|run| out.push_str(run));
    }
    let (row, column) = screen.cursor_position();
    let (x, y) = place(row, column);
    let _ = writeln!(out, "<rect x=\"{x}\" y=\"{}\" width=\"9\" height=\"18\" fill=\"#ebdbb2\"/>", y - 14);
    out + "</svg>\n"
}

/// Where a character begins, on its base line.
fn place(row: u16, column: u16) -> (u32, u32) {
    (MARGIN + u32::from(column) * CELL.0, MARGIN + u32::from(row) * CELL.1 + 15)
}

/// The pieces of a row that look the same, each held in its columns whatever the font is.
fn runs(screen: &Screen, row: u16) -> Vec<String> {
    let mut runs: Vec<(u16, u16, String, String)> = Vec::new();
    for column in 0..COLUMNS {
        let Some(cell) = screen.cell(row, column).filter(|cell| !cell.is_wide_continuation()) else {
            continue;
        };
        let fill = match cell.fgcolor() {
            Color::Idx(index) => PALETTE[usize::from(index % 16)],
            _ => "#ebdbb2",
        };
        let weight = if cell.bold() { " font-weight=\"bold\"" } else { "" };
        let opacity = if cell.dim() { " opacity=\"0.6\"" } else { "" };
        let look = format!("fill=\"{fill}\"{weight}{opacity}");
        let text = if cell.has_contents() { cell.contents() } else { " " };
        let columns = if cell.is_wide() { 2 } else { 1 };
        match runs.last_mut() {
            Some((_, len, old, run)) if *old == look && columns == 1 && text.is_ascii() && run.is_ascii() => {
                run.push_str(text);
                *len += 1;
            }
            _ => runs.push((column, columns, look, text.to_owned())),
        }
    }
    let shown = runs.into_iter().filter(|(.., text)| !text.trim().is_empty());
    shown
        .map(|(column, len, look, text)| {
            let (x, y) = place(row, column);
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let width = u32::from(len) * CELL.0;
            format!("<text x=\"{x}\" y=\"{y}\" textLength=\"{width}\" {look}>{text}</text>\n")
        })
        .collect()
}
