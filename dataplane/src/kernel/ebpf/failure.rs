//! What went wrong, as `reconcile` knows it.

use std::io;

use super::map::MapError;
use super::maps::WriteError;
use super::model::{Capacities, Model};
use super::service::destinations;
use super::sizes;
use super::words;
use super::write::Destination;
use crate::kernel::DataplaneError;
use crate::plan::{Frontend, FrontendAddress};

impl From<MapError> for DataplaneError {
    fn from(error: MapError) -> Self {
        failed("use a map", &error)
    }
}

/// Says which map is full, and what helps.
pub(super) fn full(map: &str, capacities: &Capacities) -> String {
    let capacity = capacities.of(map);
    let setting = sizes::setting_of(map);
    format!("map {map} is full ({capacity} elements): set {setting} of ShuntConfiguration higher")
}

pub(super) fn unsupported(feature: &str) -> impl Fn(io::Error) -> DataplaneError + '_ {
    move |source| DataplaneError::Unsupported { feature: feature.to_owned(), source }
}

pub(super) fn failed(operation: &str, error: &dyn std::error::Error) -> DataplaneError {
    let source = io::Error::other(words(error));
    DataplaneError::Transaction { operation: operation.to_owned(), source }
}

/// The frontend that was being written is left out, if it is known.
pub(super) fn refusal(model: &Model, error: &WriteError) -> DataplaneError {
    let source = io::Error::other(words(&error.source));
    let operation = "write the maps".to_owned();
    match error.destination.and_then(|destination| frontend_of(model, destination)) {
        Some(frontend) => DataplaneError::FrontendRefused { frontend, operation, source },
        None => DataplaneError::Transaction { operation, source },
    }
}

fn frontend_of(model: &Model, wanted: Destination) -> Option<Frontend> {
    let leads = |frontend: &&Frontend| match frontend.address {
        // The whole address goes with any of its ports.
        FrontendAddress::Ip(address) if wanted.port == 0 => address == wanted.address,
        _ => destinations(**frontend, &model.around).any(|destination| destination == wanted),
    };
    model.services.values().flat_map(|service| service.frontends.keys()).find(leads).copied()
}
