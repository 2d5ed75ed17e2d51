//! The demo's scenarios, and what else the programs do on the bench, one file each: a vehicle of
//! processes on the user-space bus.

mod bundle;
mod clock_set_back;
mod confidential;
mod consented_campaign;
mod control_channel;
mod daemon;
mod downgrade;
mod download_kill;
mod ecu_power_cut;
mod factory_revert;
mod forged_signature;
mod frozen_mirror;
mod inventory;
mod known_ecus;
mod lying_tcu;
mod mix_and_match;
mod replayed_grant;
mod rotated_image_key;
mod rotated_root;
mod second_algorithm;
mod stolen_online_keys;
mod tampered_page;
mod tcu_kill;
mod trial_crash;
mod trial_hang;
mod update;
mod wrong_hardware;
