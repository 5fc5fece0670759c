//! What a build needs of this machine: checked first, so that nothing fails after minutes of compiling.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use super::target::{Emulator, Target};

/// Fails if something is missing, and names all of it.
pub(crate) fn check(target: Target) -> anyhow::Result<()> {
    let missing = missing(target, has_standard_library(target), |program| find(program).is_some());
    ensure!(missing.is_empty(), "a build for {} needs {}", target.triple(), missing.join("; "));
    Ok(())
}

fn missing(target: Target, has_standard_library: bool, has: impl Fn(&str) -> bool) -> Vec<String> {
    let mut missing = Vec::new();
    if !has_standard_library {
        missing.push(format!("Rust's standard library for it: run `rustup target add {}`", target.triple()));
    }
    let objcopy = target.binutils("objcopy");
    if !has(&objcopy) {
        missing.push(format!("{objcopy}: on Debian, install {}", target.binutils_package()));
    }
    if let Some(Emulator { program, loader, libraries, .. }) = target.emulator() {
        if !has(program) {
            missing.push(format!("{program}: on Debian, install qemu-user-static"));
        }
        if !has(loader) {
            missing.push(format!("{loader}: on Debian, install {libraries}"));
        }
    }
    missing
}

/// Whether there is something in the folder where rustc looks for it.
fn has_standard_library(target: Target) -> bool {
    let output =
        Command::new("rustc").args(["--print", "target-libdir", "--target", target.triple()]).output();
    let folder = output.ok().and_then(|it| String::from_utf8(it.stdout).ok()).unwrap_or_default();
    PathBuf::from(folder.trim()).read_dir().is_ok_and(|mut files| files.next().is_some())
}

/// A program in `PATH`, or a file by its whole path.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|it| it.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named() {
        let other = Target::ALL.into_iter().find(|it| *it != Target::HOST).unwrap();
        assert_eq!(missing(other, true, |_| true), Vec::<String>::new());
        assert_eq!(missing(Target::HOST, true, |it| it == "objcopy"), Vec::<String>::new());
        let missing = missing(Target::Aarch64, false, |_| false);
        assert_eq!(
            missing[0],
            "Rust's standard library for it: run `rustup target add aarch64-unknown-linux-gnu`"
        );
        if Target::HOST == Target::X86_64 {
            assert_eq!(
                missing[1..],
                [
                    "aarch64-linux-gnu-objcopy: on Debian, install binutils-aarch64-linux-gnu",
                    "qemu-aarch64-static: on Debian, install qemu-user-static",
                    "/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1: on Debian, install libc6-arm64-cross \
                     libgcc-s1-arm64-cross",
                ]
            );
        }
    }

    #[test]
    fn this_machine_has_its_own_standard_library() {
        assert!(has_standard_library(Target::HOST));
    }
}
