//! The machines that what is released runs on.

use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::bail;

use super::glibc::OLDEST_GLIBC;

/// A processor; the system is Linux with glibc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    X86_64,
    Aarch64,
}

impl Target {
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// This machine.
    pub(crate) const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// As Rust calls it.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As the kernel calls it, in the names of archives.
    pub(crate) fn machine(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian calls it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// The tag of a wheel: any Python 3, as the extension keeps to the stable ABI, and the oldest glibc.
    pub(crate) fn wheel_tag(self) -> String {
        format!("py3-none-manylinux_{}_{}_{}", OLDEST_GLIBC.0, OLDEST_GLIBC.1, self.machine())
    }

    /// binutils' program of this name that knows its files: this machine's own, or that of Debian's cross-compilers.
    pub(crate) fn binutils(self, name: &str) -> String {
        if self == Self::HOST { name.to_owned() } else { format!("{}-linux-gnu-{name}", self.machine()) }
    }

    /// Debian's package of these programs.
    pub(crate) fn binutils_package(self) -> &'static str {
        match self {
            _ if self == Self::HOST => "binutils",
            Self::X86_64 => "binutils-x86-64-linux-gnu",
            Self::Aarch64 => "binutils-aarch64-linux-gnu",
        }
    }

    /// What runs its programs here, if this machine can't.
    pub(crate) fn emulator(self) -> Option<Emulator> {
        match self {
            _ if self == Self::HOST => None,
            Self::X86_64 => Some(Emulator {
                program: "qemu-x86_64-static",
                root: "/usr/x86_64-linux-gnu",
                loader: "/usr/x86_64-linux-gnu/lib/ld-linux-x86-64.so.2",
                libraries: "libc6-amd64-cross libgcc-s1-amd64-cross",
            }),
            Self::Aarch64 => Some(Emulator {
                program: "qemu-aarch64-static",
                root: "/usr/aarch64-linux-gnu",
                loader: "/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1",
                libraries: "libc6-arm64-cross libgcc-s1-arm64-cross",
            }),
        }
    }
}

/// Runs programs of another processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Emulator {
    pub(crate) program: &'static str,
    /// The folder where it looks for the loader and the libraries of that processor.
    pub(crate) root: &'static str,
    pub(crate) loader: &'static str,
    /// Debian's packages of these libraries.
    pub(crate) libraries: &'static str,
}

impl Emulator {
    /// A command that runs `program`.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(self.program);
        command.args(["-L", self.root]).arg(program);
        command
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match Self::ALL.into_iter().find(|it| it.triple() == text) {
            Some(target) => Ok(target),
            None => bail!("it is {}", Self::ALL.map(Self::triple).join(" or ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_called_as_each_tool_calls_it() {
        let target: Target = "aarch64-unknown-linux-gnu".parse().unwrap();
        assert_eq!((target.machine(), target.debian()), ("aarch64", "arm64"));
        assert_eq!(target.wheel_tag(), "py3-none-manylinux_2_31_aarch64");
        let error = "riscv64gc-unknown-linux-gnu".parse::<Target>().unwrap_err().to_string();
        assert_eq!(error, "it is x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu");
    }
}
