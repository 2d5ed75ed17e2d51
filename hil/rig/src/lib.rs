//! The bench: bus hubs, virtual ECUs, backend and TCU of one vehicle, and its scenarios.
