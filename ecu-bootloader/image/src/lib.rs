//! The signed, encrypted image envelope, its page table and the install grant.
