//! A whole ECU as a machine in virtual time and as a Linux process.
