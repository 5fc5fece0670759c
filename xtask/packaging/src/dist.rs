//! Creates a release: an archive, a Debian package, a wheel, debug symbols, and checksums.

mod build;
mod deb;
mod debug_info;
mod elf;
mod glibc;
mod installed;
mod layout;
mod licences;
mod lint;
mod needs;
mod packages;
mod pages;
mod sbom;
mod target;
mod tree;
mod version;
mod wheel;

use std::fs;
use std::io::{self, Write as _};
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

use self::build::{EXTENSION, PROGRAMS};
use self::debug_info::Split;
pub(crate) use self::target::Target;
use self::tree::{Kind, Tree};
use self::version::Version;
use xtask::step::step;

/// The arguments of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Number a later build of the same version: 0.1.0+N
    #[arg(long, value_name = "N")]
    build: Option<u32>,
    /// Run lintian on the packages, and fail if it reports errors
    #[arg(long)]
    lint: bool,
    /// Build for another processor: x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu
    #[arg(long, value_name = "TRIPLE", default_value = Target::HOST.triple())]
    target: Target,
}

/// Creates everything in `target/dist`, and prints the files.
#[expect(clippy::print_stdout, reason = "it is what was asked for")]
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let version = Version::new(arguments.build)?;
    let packed = Built::new(arguments.target)?.pack(&version)?;
    let files = write(&target(), packed)?;
    for file in &files {
        println!("{}", file.display());
    }
    if arguments.lint {
        step("lint", "what lintian says of the packages", || lint::check(&files))?;
    }
    Ok(())
}

fn target() -> PathBuf {
    xtask::root().join("target/dist")
}

/// What was built, ready to be packed.
#[derive(Debug)]
pub(crate) struct Built {
    target: Target,
    scratch: PathBuf,
    split: Vec<Split>,
}

impl Built {
    /// Builds what is missing or out of date, and splits off the debug symbols.
    pub(crate) fn new(machine: Target) -> anyhow::Result<Self> {
        needs::check(machine)?;
        let target = target();
        let scratch = target.join("scratch").join(machine.machine());
        fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
        let tools = step("tools", "cargo-zigbuild and zig, target/dist/tools", || build::tools(&target))?;
        let programs = step("build", "what is released, target/dist", || {
            build::build(&tools, &target.join("build"), machine)
        })?;
        step("check", "that all of it runs with glibc 2.31", || check(&programs, machine))?;
        let objcopy = machine.binutils("objcopy");
        let split = files(&programs).map(|file| debug_info::split(&file, &scratch, &objcopy));
        Ok(Self { target: machine, split: split.collect::<anyhow::Result<_>>()?, scratch })
    }

    /// Returns name and content of the Debian package only.
    pub(crate) fn debian_package(&self, build: Option<u32>) -> anyhow::Result<(String, Vec<u8>)> {
        let version = Version::new(build)?;
        let package = deb::imperium(&self.installed(&version)?, &version, self.target)?;
        Ok((deb::name("imperium", &version, self.target), package))
    }

    /// Returns names and contents of all files.
    fn pack(&self, version: &Version) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        step("pack", &format!("imperium {}", version.text), || {
            let (installed, debug) = (self.installed(version)?, debug_tree(&self.split)?);
            let target = self.target;
            let archive = format!("imperium-{}-{}-linux", version.text, target.machine());
            let debug_archive = format!("{archive}-debug");
            in_parallel([
                (format!("{archive}.tar.zst"), &|| zstd(&installed, &archive, version)),
                (format!("{debug_archive}.tar.zst"), &|| zstd(&debug, &debug_archive, version)),
                (deb::name("imperium", version, target), &|| deb::imperium(&installed, version, target)),
                (deb::name("imperium-dbgsym", version, target), &|| {
                    deb::debug_symbols(&debug, version, target)
                }),
                (wheel::name(version, target), &|| wheel::whole(&installed, version, target)),
            ])
        })
    }

    fn installed(&self, version: &Version) -> anyhow::Result<Tree> {
        let stripped = self.scratch.join("stripped");
        let packages = packages::packages(self.target)?;
        installed::tree(&stripped, &self.scratch, &packages, version, self.target)
    }
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    PROGRAMS.into_iter().chain([EXTENSION]).map(|name| folder.join(name))
}

fn check(programs: &Path, machine: Target) -> anyhow::Result<()> {
    files(programs).try_for_each(|file| elf::check(&file, machine).map(drop))
}

/// Creates the content of a file.
type Packer<'a> = &'a (dyn Fn() -> anyhow::Result<Vec<u8>> + Sync);

/// Packs the files on separate threads, since compression takes long.
fn in_parallel<const N: usize>(files: [(String, Packer<'_>); N]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    thread::scope(|scope| {
        let threads = files.map(|(name, packer)| (name, scope.spawn(packer)));
        let packed = threads.map(|(name, thread)| match thread.join() {
            Ok(bytes) => Ok((name, bytes?)),
            Err(panic) => panic::resume_unwind(panic),
        });
        packed.into_iter().collect()
    })
}

/// The paths below `/usr` where gdb looks for debug symbols, by build id.
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

/// Same as `gzip -9n`.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Writes the files and `SHA256SUMS`, in the format of `sha256sum --check`.
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
