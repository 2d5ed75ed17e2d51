//! Test ECUs that speak the profile at the level of PDUs, and a world in virtual time around them.

pub(crate) mod ecu;
pub(crate) mod world;
