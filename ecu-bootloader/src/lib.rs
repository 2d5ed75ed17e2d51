//! The ECU's bootloader: slots, journal, download, boot decision and programming server.
