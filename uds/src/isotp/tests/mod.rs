//! Tests of whole endpoints.
