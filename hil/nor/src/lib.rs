//! NOR flash with physics: erase before write, geometry, timings, power cuts and torn operations.
