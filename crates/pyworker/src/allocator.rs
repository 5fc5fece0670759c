//! Keeps the C allocator from returning memory to the kernel after each request, only to ask for it again.
//!
//! A request with a body of 100 KiB allocates and frees a few hundred KiB. With its defaults, glibc unmaps or trims that
//! at once, and the next request pays for page faults: half of the worker's CPU time for such a request.
#![expect(unsafe_code, reason = "the allocator is C's")]

use std::ffi::OsStr;

use libc::c_int;

/// Free memory at the end of the heap that isn't returned to the kernel, in bytes.
const TRIM_THRESHOLD: c_int = 8 << 20;
/// Blocks of this size, in bytes, are mapped on their own, and unmapped when they are freed.
const MMAP_THRESHOLD: c_int = 1 << 20;
/// How an operator sets the same (mallopt(3)).
const SET_BY_OPERATOR: [&str; 5] = [
    "GLIBC_TUNABLES",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
];

/// Sets the thresholds, unless the environment this process was started with sets any of them.
pub(crate) fn keep_freed_memory() {
    if is_set_by_operator(|name| std::env::var_os(name)) {
        return;
    }
    for (parameter, value) in
        [(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD), (libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD)]
    {
        // SAFETY: `mallopt` takes two integers, and locks what it changes. It only fails for values out of range.
        unsafe { libc::mallopt(parameter, value) };
    }
}

fn is_set_by_operator<T: AsRef<OsStr>>(variable: impl Fn(&str) -> Option<T>) -> bool {
    SET_BY_OPERATOR.iter().any(|name| {
        let value = variable(name);
        let value = value.as_ref().map(|it| it.as_ref().as_encoded_bytes());
        // GLIBC_TUNABLES sets other things than malloc, too.
        value.is_some_and(|it| {
            *name != "GLIBC_TUNABLES" || memchr::memmem::find(it, b"glibc.malloc.").is_some()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_own_thresholds_are_kept() {
        let environment = |set: &'static [(&str, &str)]| {
            is_set_by_operator(|name| set.iter().find(|it| it.0 == name).map(|it| it.1))
        };
        assert!(!environment(&[]));
        assert!(!environment(&[("GLIBC_TUNABLES", "glibc.pthread.rseq=0")]));
        assert!(environment(&[("GLIBC_TUNABLES", "glibc.pthread.rseq=0:glibc.malloc.trim_threshold=1")]));
        assert!(environment(&[("MALLOC_TRIM_THRESHOLD_", "65536")]));
    }
}
