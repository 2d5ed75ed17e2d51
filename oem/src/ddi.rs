//! hawkBit's Direct Device Integration API, version 1, as far as a fleet of vehicles needs it: poll,
//! deployment, cancellation, feedback, attributes; besides, `POST /reports`.
//!
//! A deployment is what the director has released for a vehicle, one chunk for each ECU. It tells
//! the vehicle to look, and is trusted by nobody: the signed metadata decide. What vehicles say is
//! stored in `keys/fleet.sqlite` ([`store`]).

pub mod auth;
mod deployment;
mod http;
pub mod store;

pub use deployment::{Deployment, deployment};
pub use http::routes;
