//! Tests of whole endpoints: transfers between two ends, timers, and the table of states and events.

mod corpus;
mod faults;
mod flow;
mod pair;
mod table;
mod transfer;
