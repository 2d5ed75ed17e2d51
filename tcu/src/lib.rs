//! The telematics unit: inventory, verification and the vehicle transaction.
