//! The one door into the core's work: releases the GIL, watches for Ctrl-C, turns a panic into `InternalError`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyvocab_core::pipeline::Cancel;
use pyo3::prelude::*;

use crate::error;

/// How often a long call looks for Ctrl-C.
const POLL: Duration = Duration::from_millis(50);

fn message(panic: Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "panic without a message".to_owned())
}

/// Runs `work` without the GIL on this thread: for calls that end within milliseconds.
pub(crate) fn short<T: Send>(py: Python<'_>, work: impl FnOnce() -> anyvocab_core::Result<T> + Send) -> PyResult<T> {
    let done = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    match done {
        Ok(result) => result.map_err(error::to_py),
        Err(panic) => Err(error::internal(&message(panic))),
    }
}

/// Runs `work` on a thread of its own and polls for signals; on one, `cancel` is set and the work awaited.
pub(crate) fn long<T: Send>(
    py: Python<'_>,
    cancel: &Cancel,
    work: impl FnOnce() -> anyvocab_core::Result<T> + Send,
) -> PyResult<T> {
    let mut signal = Ok(());
    // Not `is_finished`: that comes after the thread has woken this one, which would sleep once more.
    let is_done = &AtomicBool::new(false);
    let done = py.detach(|| {
        std::thread::scope(|scope| {
            let waiter = std::thread::current();
            let worker = scope.spawn(move || {
                let done = catch_unwind(AssertUnwindSafe(work));
                is_done.store(true, Ordering::Release);
                waiter.unpark();
                done
            });
            while !is_done.load(Ordering::Acquire) {
                std::thread::park_timeout(POLL);
                if signal.is_ok() && !is_done.load(Ordering::Acquire) {
                    signal = Python::attach(|py| py.check_signals());
                    if signal.is_err() {
                        cancel.cancel();
                    }
                }
            }
            worker.join()
        })
    });
    signal?;
    match done {
        Ok(Ok(result)) => result.map_err(error::to_py),
        Ok(Err(panic)) | Err(panic) => Err(error::internal(&message(panic))),
    }
}
