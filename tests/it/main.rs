//! What Emberpost does, seen from outside: the real program, real sockets, real files.
//!
//! One binary, so that there is one link. Each module tells one subject in sentences; `harness` is what they are told with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop at that place")]

mod amqp_broker_faults;
mod amqp_harness;
mod asynchronous;
mod bad_input;
mod commands;
mod config;
mod corpus;
mod crash;
mod delivery;
mod harness;
mod lanes;
mod limits;
mod mutations;
mod operations;
mod readme;
mod receivers;
mod refusals;
mod repeats;
mod replay;
mod replies;
mod responses;
mod retention;
mod samples;
mod security;
mod send_amqp;
mod settling;
mod smoke;
