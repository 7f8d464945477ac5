//! A card-network switch and Token Service Provider in one daemon.
//!
//! Data falls through the layers, and so do imports (`tests/it/tidy.rs` holds both):
//!
//! ```text
//!  app, cli     wiring and the subcommands
//!  edges        api (HTTP)      config (TOML)      sim (the other side of the wire)
//!  business     switch (the life of a transaction)      clearing (what is owed)
//!  services     link (sockets, sessions)   tsp (tokens, vault)   journal (what happened)
//!  mechanisms   codec (bytes and messages)   crypto (keys, one door)   tls
//!  words        vocab (the field's terms)    stdx (nothing about cards)
//! ```
//!
//! The map with its deliberate absences is `docs/ARCHITECTURE.md`; one payment, step by step and file by
//! file, is `docs/LIFE_OF_A_TRANSACTION.md`.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::too_many_lines,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::cast_lossless
    )
)]

pub mod api;
pub mod app;
pub mod cli;
pub mod codec;
pub mod config;
pub mod crypto;
pub mod journal;
pub mod link;
pub mod sim;
pub mod stdx;
pub mod switch;
pub mod tls;
pub mod tsp;
pub mod vocab;
