//! Tests of planning, from objects to answers. `build` makes objects, `objects` reads them from the recorded cases.

mod build;
mod endpoints;
mod explain;
mod flows;
mod objects;
mod planner;
mod random;
mod service;
mod topology;
