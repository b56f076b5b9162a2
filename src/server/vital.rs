//! The threads without which a server lives on deaf: should one of them panic, the process ends, so that whoever
//! watches over it can start it again.

use std::process;
use std::thread;

use log::error;

/// Held by such a thread as long as it runs; with the thread's name.
pub(super) struct Vital(pub(super) &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            error!(
                "the {} thread has panicked, and nobody can be served without it: the server ends",
                self.0
            );
            log::logger().flush();
            // Not an exit, which runs what others have registered for it: after an error of ours that may hang.
            process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use log::{Level, LevelFilter, Log, Metadata, Record};

    use super::super::limits::Limits;
    use super::super::writer::Writer;
    use super::super::{Server, ServerConfig};
    use crate::chat::room::MemberId;

    /// Names the thread that is to panic in a process that the test has started.
    const THREAD: &str = "PACKETBOAT_TEST_PANICS_IN";

    /// Longer than a process needs to end.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Panics wherever the chosen thread says something.
    struct Panicker(String);

    impl Log for Panicker {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            if record.level() == Level::Error {
                eprintln!("{}", record.args());
            } else {
                assert_ne!(thread::current().name(), Some(&*self.0), "injected");
            }
        }

        fn flush(&self) {}
    }

    /// Makes the chosen thread speak, in a process of its own; that returns only if the process lives on.
    fn make_it_speak(thread: &str) {
        log::set_boxed_logger(Box::new(Panicker(thread.to_owned()))).expect("no other logger");
        log::set_max_level(LevelFilter::Debug);
        let folder = tempfile::tempdir().expect("a folder");
        let listen = ([127, 0, 0, 1], 0).into();
        let files = folder.path().into();
        let server =
            Server::start(ServerConfig { listen, files, ..ServerConfig::default() }).expect("started");
        let _client = TcpStream::connect(server.local_addr()).expect("connected");
        // A connection on which nothing can be written any more is one that the writer speaks of.
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let _peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (stream, gauge) = (listener.accept().expect("accepted").0, Arc::default());
        stream.shutdown(Shutdown::Write).expect("a socket");
        let writer = Writer::start(&Limits::default()).expect("a thread");
        writer.add(MemberId(1), Arc::new(stream), Arc::clone(&gauge));
        writer.send_one(MemberId(1), &gauge, Arc::from(&b"BYE_\n"[..]));
        thread::sleep(PATIENCE);
    }

    #[test]
    fn r40_a_panic_of_a_vital_thread_ends_the_process() {
        if let Ok(thread) = env::var(THREAD) {
            return make_it_speak(&thread);
        }
        let start = |thread| -> Child {
            let mut command = Command::new(env::current_exe().expect("this program"));
            let name = "server::vital::tests::r40_a_panic_of_a_vital_thread_ends_the_process";
            command.args(["--exact", name, "--nocapture"]).env(THREAD, thread);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started")
        };
        for (thread, child) in ["accept", "writer"].map(|thread| (thread, start(thread))) {
            let output = child.wait_with_output().expect("ended");
            let log = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.signal(), Some(6), "aborted: {log}");
            assert!(log.contains(&format!("the {thread} thread has panicked")), "{log}");
        }
    }
}
