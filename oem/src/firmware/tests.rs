//! Formats, gaps and hostile bytes.
