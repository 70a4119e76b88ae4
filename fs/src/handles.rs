//! Open files and directories by the handle that the kernel quotes.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
struct Open<T> {
    last: u64,
    by_handle: HashMap<u64, Arc<T>>,
}

/// A table of open things. A handle is never given out twice.
#[derive(Debug)]
pub(crate) struct Handles<T>(Mutex<Open<T>>);

impl<T> Handles<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Open {
            last: 0,
            by_handle: HashMap::new(),
        }))
    }

    pub(crate) fn insert(&self, thing: T) -> u64 {
        let mut open = self.0.lock();
        open.last += 1;
        let handle = open.last;
        open.by_handle.insert(handle, Arc::new(thing));
        handle
    }

    pub(crate) fn get(&self, handle: u64) -> Option<Arc<T>> {
        self.0.lock().by_handle.get(&handle).cloned()
    }

    pub(crate) fn remove(&self, handle: u64) -> Option<Arc<T>> {
        self.0.lock().by_handle.remove(&handle)
    }
}
