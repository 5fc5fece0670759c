//! Checks the requirements of a program.

use std::path::Path;

use anyhow::{Context as _, ensure};
use object::Endianness;
use object::elf::DT_NEEDED;
use object::read::elf::{Dyn as _, ElfFile64};
use object::{Architecture, Object as _};

use super::glibc::{Glibc, OLDEST_GLIBC};
use super::target::Target;

/// Libraries that are available on every system with glibc.
const LIBRARIES: [&str; 8] = [
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
];

/// Returns the newest glibc version that a file requires, according to its symbols.
///
/// # Errors
/// If it is newer than `OLDEST_GLIBC`, if the file needs another library that may not be installed, or if it
/// is for another processor.
pub(crate) fn check(path: &Path, target: Target) -> anyhow::Result<Glibc> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let architecture = object::File::parse(bytes.as_slice())?.architecture();
    let expected = match target {
        Target::X86_64 => Architecture::X86_64,
        Target::Aarch64 => Architecture::Aarch64,
    };
    ensure!(architecture == expected, "{} is for {architecture:?}, not {expected:?}", path.display());
    let newest = newest_glibc(&bytes).with_context(|| format!("check {}", path.display()))?;
    ensure!(
        newest <= OLDEST_GLIBC,
        "{} needs glibc {newest}, and must run with {OLDEST_GLIBC}",
        path.display()
    );
    Ok(newest)
}

fn newest_glibc(bytes: &[u8]) -> anyhow::Result<Glibc> {
    let file = ElfFile64::<Endianness>::parse(bytes)?;
    for library in libraries(&file)? {
        ensure!(LIBRARIES.contains(&library.as_str()), "it needs {library}, which not every machine has");
    }
    let versions = symbol_versions(&file)?;
    versions.iter().filter_map(|it| Glibc::of_symbol(it)).max().context("it names no version of glibc")
}

/// The libraries that the loader has to find (`DT_NEEDED`).
fn libraries(file: &ElfFile64<'_>) -> anyhow::Result<Vec<String>> {
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let (entries, strings) = sections.dynamic(endian, file.data())?.context("it has no dynamic section")?;
    let strings = sections.strings(endian, file.data(), strings)?;
    let needed = entries.iter().filter(|it| it.tag(endian) == DT_NEEDED);
    needed.map(|it| text(it.string(endian, strings)?)).collect()
}

/// The required symbol versions (`SHT_GNU_verneed`).
fn symbol_versions(file: &ElfFile64<'_>) -> anyhow::Result<Vec<String>> {
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let Some((mut needs, strings)) = sections.gnu_verneed(endian, file.data())? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, file.data(), strings)?;
    let mut versions = Vec::new();
    while let Some((_, mut symbols)) = needs.next()? {
        while let Some(symbol) = symbols.next()? {
            versions.push(text(symbol.name(endian, strings)?)?);
        }
    }
    Ok(versions)
}

fn text(bytes: &[u8]) -> anyhow::Result<String> {
    Ok(String::from_utf8(bytes.to_vec())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requirements_of_this_program() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(newest_glibc(&bytes).unwrap() >= Glibc(2, 2));
        assert!(newest_glibc(b"no program").is_err());
    }
}
