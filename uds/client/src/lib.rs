//! An asynchronous UDS client over our ISO-TP or the kernel's.
