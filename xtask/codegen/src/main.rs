//! Generates the checked-in gRPC code from `proto/`, without protoc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Parser;
use prost::Message as _;

/// The arguments of `cargo xtask codegen`.
#[derive(Parser)]
#[command(
    name = "cargo xtask codegen",
    about = "Writes the gRPC code of `proto/` into `crates/api/src/generated`"
)]
struct Arguments {
    /// Write nothing, and fail if the checked-in code is out of date
    #[arg(long)]
    check: bool,
}

const PROTOS: [&str; 4] = [
    "imperium/admin/v1/admin_service.proto",
    "imperium/routes/v1/routes_service.proto",
    "imperium/runner/v1/runner_service.proto",
    "imperium/worker/v1/worker_service.proto",
];

fn main() -> ExitCode {
    xtask::step::exit(run(&Arguments::parse()))
}

/// Generates the code, or checks it.
fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = xtask::root();
    let checked_in = root.join("crates/api/src/generated");
    let fresh = root.join("target/codegen");
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh).with_context(|| format!("create {}", fresh.display()))?;
    generate(&root.join("proto"), &fresh)?;
    if arguments.check {
        return check(&fresh, &checked_in);
    }
    fs::create_dir_all(&checked_in)?;
    for file in files(&fresh)? {
        fs::copy(fresh.join(&file), checked_in.join(&file))?;
    }
    Ok(())
}

fn generate(protos: &Path, out: &Path) -> anyhow::Result<()> {
    let descriptors = protox::compile(PROTOS, [protos]).context("compile proto/")?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        // Boxed, since they are rare, and large compared with other fields.
        .boxed(".imperium.runner.v1.Response.file")
        .boxed(".imperium.runner.v1.Response.failure")
        .out_dir(out)
        .compile_fds(descriptors)
        .context("generate code from proto/")
}

fn check(fresh: &Path, checked_in: &Path) -> anyhow::Result<()> {
    for file in files(fresh)? {
        let stale = fs::read(fresh.join(&file))? != fs::read(checked_in.join(&file)).unwrap_or_default();
        ensure!(!stale, "{} is stale: run `cargo xtask codegen`", checked_in.join(&file).display());
    }
    Ok(())
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    entries.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect()
}
