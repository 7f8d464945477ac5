//! All integration tests in one binary, so that one is linked.

mod codec_golden;
mod dialects;
