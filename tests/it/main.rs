//! The integration tests, all in one binary so that one is linked: whatever needs more than one module, a socket, a
//! file or another program.

mod codec_golden;
mod dialects;
mod provisioning;
mod source;
mod tidy;
