//! Uptane metadata, vehicle configuration and offline bundle; a verifier without I/O.
