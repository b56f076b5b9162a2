//! Packetboat: a chat room over TCP and a file shelf over readable reliable UDP, with blocking threads.
//!
//! Read the modules from the bottom up; each imports only what stands to its right:
//!
//! ```text
//! bin  ->  server, client  ->  transfer, chat  ->  rudp  ->  wire
//! ```
//!
//! - [`wire`] turns bytes into typed lines and packets, and back.
//! - [`rudp`] is one reliable-UDP connection as a pure state machine: no socket, clock, thread or file.
//! - [`chat`] is the room as pure state, and what a person may type. It does not know `rudp`.
//! - [`transfer`] owns UDP sockets, their worker threads, files on disk and the TCP data streams.
//! - [`server`] and [`client`] own the TCP control connections and never import each other.
//!
//! `docs/PROTOCOL.md` describes both protocols byte by byte.

pub mod chat;
pub mod client;
pub mod rudp;
pub mod server;
pub mod transfer;
pub mod wire;
