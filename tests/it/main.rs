//! The integration tests, all in one binary so that one is linked: whatever needs more than one module, a socket, a
//! file or another program.

mod codec_golden;
mod daemon;
mod dialects;
mod leaks;
mod parts;
mod peers;
mod provisioning;
mod source;
mod tidy;
