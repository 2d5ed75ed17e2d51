//! The machine in virtual time, and documents good and bad.

mod documents;
mod hostile;
mod table;
mod world;
