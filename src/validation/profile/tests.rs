//! Behaviour of profiles, by our own definitions.
