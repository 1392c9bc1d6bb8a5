//! What Emberpost does, seen from outside: the real program, real sockets, real files.
//!
//! One binary, so that there is one link. Each module tells one subject in sentences; `harness` is what they are told with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop at that place")]

mod asynchronous;
mod delivery;
mod harness;
mod lanes;
mod refusals;
mod repeats;
mod replies;
mod responses;
mod smoke;
