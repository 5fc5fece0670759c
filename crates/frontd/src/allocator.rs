//! mimalloc, called so that it doesn't over-allocate.

#![expect(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{mi_malloc, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;

/// mimalloc's own alignment: of blocks of this size or more, in bytes. Smaller ones are aligned to the word.
const BLOCK_ALIGN: usize = 16;
const WORD: usize = size_of::<usize>();

/// Passes on only unusual alignments. [`MiMalloc`] passes on all of them, and mimalloc 3 then takes a larger block by a
/// slower path for most sizes that aren't a power of two.
#[derive(Debug)]
pub(crate) struct Allocator;

fn is_aligned_anyway(layout: Layout, size: usize) -> bool {
    layout.align() <= WORD || (layout.align() <= BLOCK_ALIGN && size >= BLOCK_ALIGN)
}

// SAFETY: mimalloc's functions keep the contract, with the alignment that the check above relies on.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_aligned_anyway(layout, layout.size()) {
            // SAFETY: any size is allowed.
            true => unsafe { mi_malloc(layout.size()).cast() },
            // SAFETY: the caller's contract is the same.
            false => unsafe { MiMalloc.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_aligned_anyway(layout, layout.size()) {
            // SAFETY: any size is allowed.
            true => unsafe { mi_zalloc(layout.size()).cast() },
            // SAFETY: the caller's contract is the same.
            false => unsafe { MiMalloc.alloc_zeroed(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same, and both kinds of blocks are freed alike.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match is_aligned_anyway(layout, size) {
            // SAFETY: the block is mimalloc's, as the caller promises.
            true => unsafe { mi_realloc(block.cast(), size).cast() },
            // SAFETY: the caller's contract is the same.
            false => unsafe { MiMalloc.realloc(block, layout, size) },
        }
    }
}
