//! What the tests, the demo and the benchmark of shunt run against: an API server of their own.

pub mod apiserver;
