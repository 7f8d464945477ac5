//! The command `tokenswitch`.

fn main() {}
