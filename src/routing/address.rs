//! Addresses: normalised, compared exactly, then by the longest `*` pattern (design 1.4).
