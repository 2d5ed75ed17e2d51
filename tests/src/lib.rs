//! End-to-end tests through public surfaces and built binaries.

#![forbid(unsafe_code)]
