//! Builds the programs reproducibly, for the oldest supported C library.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::glibc::OLDEST_GLIBC;
use super::target::Target;
use super::version::SOURCE_DATE_EPOCH;
use xtask::setup::Quietly as _;

/// The programs and the extension.
pub(crate) const PROGRAMS: [&str; 4] = ["emperord", "frontd", "imperium", "workerd"];
pub(crate) const EXTENSION: &str = "libpyworker.so";

/// zig is the linker and C compiler, since it contains the symbols of every glibc version. Installed in a
/// separate virtualenv.
const TOOLS: [&str; 2] = ["cargo-zigbuild==0.24.0", "ziglang==0.17.1"];

/// Creates the tools' virtualenv if it is missing or outdated. Returns its `bin` folder.
pub(crate) fn tools(target: &Path) -> anyhow::Result<PathBuf> {
    let venv = target.join("tools");
    let stamp = venv.join("made-for");
    let wanted = TOOLS.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(venv.join("bin"));
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).quietly();
    made.context("make a virtualenv with python3; on Debian, install python3-venv")?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:"]).args(TOOLS);
    pip.quietly()?;
    fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
    Ok(venv.join("bin"))
}

/// The value of C's `__DATE__` and `__TIME__`, which mimalloc prints. It isn't the commit's time, so that the
/// code doesn't have to be recompiled for each commit.
const NO_TIME: &str = "0";

/// Builds the programs and the extension. Returns their folder.
pub(crate) fn build(tools: &Path, target: &Path, machine: Target) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(tools.join("cargo-zigbuild"));
    cargo.current_dir(xtask::root()).args(["zigbuild", "--locked", "--release", "--package", "pyworker"]);
    cargo.args(PROGRAMS.iter().flat_map(|name| ["--package", name]));
    let (triple, (major, minor)) = (machine.triple(), (OLDEST_GLIBC.0, OLDEST_GLIBC.1));
    cargo.arg("--target").arg(format!("{triple}.{major}.{minor}"));
    cargo.arg("--target-dir").arg(target);
    cargo.env("PATH", path_with(tools)?).env(SOURCE_DATE_EPOCH, NO_TIME);
    // The cache in the user's home may contain code that was compiled with another time, so it isn't used.
    cargo.env("ZIG_GLOBAL_CACHE_DIR", target.join("zig"));
    cargo.env("RUSTFLAGS", rust_flags(target)?).env("CFLAGS", c_flags(target)?);
    let status = cargo.status().context("run cargo-zigbuild")?;
    ensure!(status.success(), "the build failed");
    Ok(target.join(triple).join("release"))
}

fn path_with(tools: &Path) -> anyhow::Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([tools.to_owned()].into_iter().chain(env::split_paths(&path)))?)
}

/// Debug symbols and panics don't contain paths of this machine. A build has an id, by which its symbols are
/// found.
fn rust_flags(target: &Path) -> anyhow::Result<String> {
    let remapped = folders(target)?.map(|(from, to)| format!("--remap-path-prefix={from}={to}"));
    Ok(format!("{} -Clink-arg=-Wl,--build-id=sha1", remapped.join(" ")))
}

fn c_flags(target: &Path) -> anyhow::Result<String> {
    Ok(folders(target)?.map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).join(" "))
}

/// This machine's folders and their replacements. If several match, compilers use the last one.
fn folders(target: &Path) -> anyhow::Result<[(String, &'static str); 3]> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(env::home_dir()?.join(".cargo"))).context("find ~/.cargo")?;
    let text = |path: &Path| -> anyhow::Result<String> {
        let text = path.to_str().context("the path of a folder is not UTF-8")?;
        ensure!(
            !text.contains(char::is_whitespace),
            "build in a folder without spaces in its path, not {text}"
        );
        Ok(text.to_owned())
    };
    Ok([(text(xtask::root())?, "/imperium"), (text(&cargo_home)?, "/cargo"), (text(target)?, "/target")])
}
