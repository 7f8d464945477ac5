//! What could have been in `std`. A thing belongs here only if a program without cards could use it.

pub mod bounded;
pub mod clock;
pub mod index;
pub mod lock;
pub mod maps;
pub mod random;
pub mod sabotage;
pub mod secret;
pub mod series;
pub mod wipe;
