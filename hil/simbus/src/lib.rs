//! A CAN bus model: arbitration and exact frame times, without I/O.
