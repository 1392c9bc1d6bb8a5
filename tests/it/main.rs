//! What Emberpost does, seen from outside: the real program, real sockets, real files.
//!
//! One binary, so that there is one link. Each module tells one subject in sentences; `harness` is what they are told with.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop at that place")]

mod addresses;
mod amqp_broker_faults;
mod amqp_corpus;
mod amqp_crossing;
mod amqp_deleted;
mod amqp_examples;
mod amqp_faults;
mod amqp_figures;
mod amqp_harness;
mod amqp_hub;
mod amqp_missing;
mod amqp_network_faults;
mod amqp_overload;
mod amqp_poison;
mod amqp_properties;
mod amqp_repeats;
mod amqp_replies;
mod amqp_security;
mod amqp_store_away;
mod amqp_topology;
mod answers;
mod asynchronous;
mod bad_input;
mod clock;
mod commands;
mod compose;
mod config;
mod corpus;
mod crash;
mod delivery;
mod forms;
mod further_answers;
mod harness;
mod header_limits;
mod http_clients;
mod lanes;
mod limits;
mod mutations;
mod operations;
mod readme;
mod receiver_connections;
mod receiver_replies;
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
mod shutdown;
mod smoke;
mod store_backup;
mod store_files;
mod store_readiness;
mod supervision;
mod validate;
mod validation;
mod validation_report;
