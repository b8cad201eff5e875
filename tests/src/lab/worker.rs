//! An event loop inside a namespace.
//!
//! A socket belongs to the namespace of the thread that opens it, so one
//! thread per namespace, with a single-threaded runtime, serves any number of
//! conversations there.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Namespace;

/// Longer than any conversation; guards against a stuck test.
const REPLY_PATIENCE: Duration = Duration::from_mins(2);

/// A thread in a namespace that runs futures.
#[derive(Debug)]
pub struct Worker {
    name: String,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread; its sockets close when the worker is dropped.
    pub fn start(namespace: &Arc<Namespace>) -> Result<Self> {
        let name = namespace.name().to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, wait) = mpsc::channel();
        let inside = Arc::clone(namespace);
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let runtime = inside
                    .enter()
                    .and_then(|()| Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?));
                match runtime {
                    Ok(runtime) => {
                        if ready.send(Ok(runtime.handle().clone())).is_ok() {
                            // Either way, a message or a dropped sender: time to end.
                            drop(runtime.block_on(stopped));
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .context("cannot start a worker thread")?;
        let handle = wait.recv().with_context(|| format!("the worker of {name} ended at once"))??;
        Ok(Self { name, handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Starts a future in the namespace; the reply waits for its value.
    pub fn spawn<F>(&self, future: F) -> Reply<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // A dropped reply means that nobody wants to know.
            drop(sender.send(future.await));
        });
        Reply { worker: self.name.clone(), receiver }
    }

    /// Runs a future in the namespace and waits for its value.
    pub fn run<F>(&self, future: F) -> Result<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn(future).wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already reported by the panic hook.
            drop(thread.join());
        }
    }
}

/// A value that a [`Worker`] will produce.
#[derive(Debug)]
pub struct Reply<T> {
    worker: String,
    receiver: mpsc::Receiver<T>,
}

impl<T> Reply<T> {
    /// Waits for the value; fails if the worker ended or hangs.
    pub fn wait(self) -> Result<T> {
        self.receiver
            .recv_timeout(REPLY_PATIENCE)
            .map_err(|error| anyhow!("the worker of {} does not answer: {error}", self.worker))
    }
}
