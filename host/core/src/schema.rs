//! JSON Schema 2020-12, bounded: no remote references, patterns in linear time, limited size and depth.
