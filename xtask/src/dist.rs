//! Makes what is released: an archive, a Debian package, the debug information of both, and their checksums.

mod build;
mod deb;
mod debug_info;
mod elf;
mod installed;
mod licences;
mod packages;
mod sbom;
mod tree;
mod version;
mod wheel;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use self::build::{EXTENSION, PROGRAMS};
use self::debug_info::Split;
use self::tree::{Kind, Tree};
use self::version::Version;
use crate::step::step;

/// What `cargo xtask dist` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Marks a later build of the same version: 0.1.0+N
    #[arg(long, value_name = "N")]
    build: Option<u32>,
}

/// Makes everything in `target/dist`, and prints what it is.
#[expect(clippy::print_stdout, reason = "it is what was asked for")]
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    for file in release(arguments.build)? {
        println!("{}", file.display());
    }
    Ok(())
}

/// Makes everything; returns the paths.
fn release(build: Option<u32>) -> anyhow::Result<Vec<PathBuf>> {
    let version = Version::new(build)?;
    let target = crate::root().join("target/dist");
    let scratch = target.join("scratch");
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let tools = step("tools", "cargo-zigbuild and zig, target/dist/tools", || build::tools(&target))?;
    let programs = step("build", "what is released, target/dist", || {
        build::build(&tools, &target.join("build"), version.epoch)
    })?;
    step("check", "that all of it runs with glibc 2.31", || check(&programs))?;
    let packed = step("pack", &format!("imperium {}", version.text), || pack(&programs, &scratch, &version))?;
    write(&target, packed)
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    PROGRAMS.into_iter().chain([EXTENSION]).map(|name| folder.join(name))
}

fn check(programs: &Path) -> anyhow::Result<()> {
    files(programs).try_for_each(|file| elf::check(&file).map(drop))
}

/// The names of the files, and what is in them.
fn pack(programs: &Path, scratch: &Path, version: &Version) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let split =
        files(programs).map(|file| debug_info::split(&file, scratch)).collect::<anyhow::Result<Vec<_>>>()?;
    let installed = installed::tree(&scratch.join("stripped"), scratch, &packages::packages()?, version)?;
    let debug = debug_tree(&split)?;
    let (text, archive) = (&version.text, format!("imperium-{}-x86_64-linux", version.text));
    Ok(vec![
        (format!("{archive}.tar.zst"), zstd(&installed, &archive, version)?),
        (format!("{archive}-debug.tar.zst"), zstd(&debug, &format!("{archive}-debug"), version)?),
        (format!("imperium_{text}_amd64.deb"), deb::imperium(&installed, version)?),
        (format!("imperium-dbgsym_{text}_amd64.deb"), deb::debug_symbols(&debug, version)?),
    ])
}

/// Where gdb looks for it below `/usr`, by the id of each build.
fn debug_tree(split: &[Split]) -> anyhow::Result<Tree> {
    let mut tree = Tree::default();
    for Split { debug, debug_path } in split {
        tree.put_file(Path::new("lib/debug").join(debug_path), Kind::Plain, debug)?;
    }
    Ok(tree)
}

fn zstd(tree: &Tree, prefix: &str, version: &Version) -> anyhow::Result<Vec<u8>> {
    let tar = tree.write_tar(prefix, version.epoch, Vec::new())?;
    Ok(zstd::encode_all(tar.as_slice(), 19)?)
}

/// As `gzip -9n` does.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Writes the files, and `SHA256SUMS` beside them, which `sha256sum --check` reads.
fn write(target: &Path, packed: Vec<(String, Vec<u8>)>) -> anyhow::Result<Vec<PathBuf>> {
    let sums: String =
        packed.iter().map(|(name, bytes)| format!("{:x}  {name}\n", Sha256::digest(bytes))).collect();
    let mut files = Vec::new();
    for (name, bytes) in packed.into_iter().chain([("SHA256SUMS".to_owned(), sums.into_bytes())]) {
        let path = target.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
        files.push(path);
    }
    Ok(files)
}
