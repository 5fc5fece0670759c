//! Keeps the C allocator from returning memory to the kernel after each request, only to ask for it again.
//!
//! A request with a body of 100 KiB allocates and frees a few hundred KiB. With its initial thresholds, glibc returns them
//! when they are freed, and the next request pays for page faults: half of the worker's CPU time for such a request.
#![expect(unsafe_code, reason = "the allocator is C's")]

use std::hint::black_box;

/// The size of a block whose release raises the thresholds, in bytes.
const BLOCK: usize = 4 << 20;

/// Raises glibc's thresholds: smaller blocks than 4 MiB aren't mapped on their own, and up to 8 MiB of free memory at the
/// end of a heap are kept. (There is one heap for all threads or for some of them, see `M_ARENA_MAX` in mallopt(3).)
///
/// glibc does this itself when it frees a mapped block. Then the thresholds keep following the app, which they no longer
/// do once they are set with `mallopt`. If an operator has set them, with `MALLOC_TRIM_THRESHOLD_` or
/// `GLIBC_TUNABLES`, this has no effect.
pub(crate) fn keep_freed_memory() {
    // SAFETY: the block isn't used, and is freed once. `free` accepts the null pointer of a failed `malloc`.
    unsafe { libc::free(black_box(libc::malloc(BLOCK))) };
}
