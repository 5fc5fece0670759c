//! The project's own commands, one file each.

mod codegen;

use clap::Parser;

#[derive(Parser)]
#[command(about = "The project's own commands", disable_help_subcommand = true)]
enum Command {
    /// Writes the gRPC code of `proto/` into `crates/api/src/generated`
    Codegen(codegen::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Codegen(arguments) => codegen::run(&arguments),
    }
}

/// The folder of the workspace.
fn root() -> std::path::PathBuf {
    let xtask = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask is a folder of the workspace").to_owned()
}
