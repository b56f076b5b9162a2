//! What a person who has named no server is asked first.

use std::io::{self, BufRead, Write};

use super::address::{Address, PORT_DEFAULT};
use super::error::ClientError;

/// The server on this machine: what Enter alone means.
const HOST_DEFAULT: &str = "127.0.0.1";

/// Asks for the server until the answer is one.
pub fn server(mut input: impl BufRead, mut out: impl Write) -> Result<Address, ClientError> {
    let failed = |source: io::Error| ClientError::System { what: "ask for the server".into(), source };
    loop {
        let question = format!("server (Enter for {HOST_DEFAULT}:{PORT_DEFAULT}): ");
        write!(out, "{question}").and_then(|()| out.flush()).map_err(failed)?;
        let mut answer = String::new();
        if input.read_line(&mut answer).map_err(failed)? == 0 {
            // The question's line ends.
            let _ = writeln!(out);
            return Err(ClientError::Usage("no server was named".into()));
        }
        let answer = answer.trim();
        match if answer.is_empty() { HOST_DEFAULT } else { answer }.parse() {
            Ok(address) => return Ok(address),
            Err(why) => writeln!(out, "! {why}").map_err(failed)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(answers: &str) -> (Result<String, ClientError>, String) {
        let mut out = Vec::new();
        let answer = server(answers.as_bytes(), &mut out).map(|address| address.to_string());
        (answer, String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn the_server_is_asked_for_until_it_is_one() {
        assert_eq!(ask("\n").0.expect("the default"), "127.0.0.1:55000");
        assert_eq!(ask(" [::1]:7 \n").0.expect("an address"), "[::1]:7");
        let (answer, told) = ask("a b\nhost:7\n");
        assert_eq!(answer.expect("the second"), "host:7");
        assert_eq!(told.matches("server (Enter for").count(), 2, "{told}");
        assert!(told.contains("! this is not a host"), "{told}");
        assert!(matches!(ask("").0, Err(ClientError::Usage(_))));
    }
}
