//! The vehicle transaction in virtual time: TCU, buses and bootloaders as one system.
//!
//! What must hold after every run, whatever fails: once every ECU answers, all run the new image
//! after COMMIT and all run the old one before.

mod failing_image;
mod misbehaving_ecu;
mod one_slot;
mod power_cuts;
mod tcu_kills;
mod update;
