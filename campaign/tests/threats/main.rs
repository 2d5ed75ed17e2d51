//! The attacks of the Uptane Standard's threat list (2.1, clause 4.3), one file each: what the attacker
//! holds, what he does, and what the vehicle does. The vehicle here is its verifier; what the ECUs do
//! beyond it stands in `docs/spec/trust.md`.

mod arbitrary_software;
mod drop_request;
mod eavesdrop;
mod endless_data;
mod freeze;
mod grants;
mod manifests;
mod mix_and_match;
mod mixed_bundles;
mod one_stolen_key;
mod partial_bundle;
mod rollback;
mod slow_retrieval;
mod stolen;
mod two_stolen_keys;
mod vectors;
mod world;
