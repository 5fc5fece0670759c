//! Identifies a call of the app to the executor that makes it.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// What calls the app for one request. The executor chooses it, and it alone knows what it stands for: a thread if
/// each call has one, a task if they share an event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallToken(NonZeroU64);

impl CallToken {
    /// A token with this number. No other call that is running at the same time may have it.
    pub(crate) fn new(number: NonZeroU64) -> Self {
        Self(number)
    }
}

/// A token that is set once.
#[derive(Debug, Default)]
pub(super) struct TokenCell(AtomicU64);

impl TokenCell {
    pub(super) fn set(&self, CallToken(number): CallToken) {
        self.0.store(number.get(), Ordering::Release);
    }

    pub(super) fn get(&self) -> Option<CallToken> {
        NonZeroU64::new(self.0.load(Ordering::Acquire)).map(CallToken)
    }
}
