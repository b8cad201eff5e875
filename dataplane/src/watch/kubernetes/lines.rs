//! Lines of a response body, as they arrive.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;

use super::error::WatchError;

/// No object is near this size; a server that sends more without a line end is not an API server.
const LONGEST_LINE: usize = 32 << 20;

/// Splits a body into lines.
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer is known to have no line end.
    scanned: usize,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), scanned: 0 }
    }

    /// Reads more of the body: `false` at its end. An unfinished line at the end is dropped, as it was cut off.
    pub(super) async fn fill(&mut self, patience: Duration) -> Result<bool, WatchError> {
        loop {
            let frame = tokio::time::timeout(patience, self.body.frame());
            let frame = frame.await.map_err(|_elapsed| WatchError::NoAnswer(patience))?;
            let Some(frame) = frame else { return Ok(false) };
            let frame = frame.map_err(|error| WatchError::Body(Box::new(error)))?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
                return Ok(true);
            }
        }
    }

    /// The next complete line that has been read, without its end.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, WatchError> {
        let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(offset) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            if self.buffer.is_empty() {
                // Give the memory of a long initial list back.
                self.buffer = BytesMut::new();
            }
            return if self.scanned > LONGEST_LINE {
                Err(WatchError::LineTooLong(LONGEST_LINE))
            } else {
                Ok(None)
            };
        };
        let mut line = self.buffer.split_to(self.scanned + offset + 1);
        line.truncate(line.len() - 1);
        self.scanned = 0;
        Ok(Some(line.freeze()))
    }
}
