//! The demo's scenarios, one file each: a vehicle of processes on the user-space bus.

mod downgrade;
mod ecu_power_cut;
mod factory_revert;
mod forged_signature;
mod tampered_page;
mod tcu_kill;
mod trial_crash;
mod trial_hang;
mod update;
mod wrong_hardware;
