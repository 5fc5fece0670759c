//! Splits debug symbols into separate files, which debuggers find by build id.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use object::{Object as _, ObjectSection as _};
use sha2::{Digest as _, Sha256};

use xtask::setup::Quietly as _;

const ID_BYTES: usize = 20;
const NO_ID: [u8; ID_BYTES] = [0; ID_BYTES];

/// The debug symbols of a file.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) debug: PathBuf,
    /// Where a debugger looks for them, relative to its debug folder: `.build-id/ab/cdef.debug`.
    pub(crate) debug_path: PathBuf,
}

/// Splits a file into two files of the same name, in `stripped` and `debug` below `to`.
pub(crate) fn split(path: &Path, to: &Path, objcopy: &str) -> anyhow::Result<Split> {
    let name = path.file_name().context("a file without a name")?;
    let (stripped, debug) = (to.join("stripped").join(name), to.join("debug").join(name));
    for folder in ["stripped", "debug"] {
        fs::create_dir_all(to.join(folder))?;
    }
    run(objcopy, &["--only-keep-debug"], path, &debug)?;
    run(objcopy, &["--strip-all", "--remove-section=.comment"], path, &stripped)?;
    // The linker's id also depends on the debug symbols, which contain the path of zig.
    write_id(&stripped, &NO_ID)?;
    let id = &Sha256::digest(fs::read(&stripped)?)[..ID_BYTES];
    write_id(&stripped, id)?;
    write_id(&debug, id)?;
    Ok(Split { debug, debug_path: debug_path(id) })
}

fn run(objcopy: &str, options: &[&str], from: &Path, to: &Path) -> anyhow::Result<()> {
    let done = Command::new(objcopy).args(options).arg(from).arg(to).quietly();
    let package = objcopy
        .strip_suffix("-objcopy")
        .map_or("binutils".to_owned(), |it| format!("binutils-{}", it.replace('_', "-")));
    done.with_context(|| {
        format!("split the debug information off with {objcopy}; on Debian, install {package}")
    })
}

fn write_id(path: &Path, id: &[u8]) -> anyhow::Result<()> {
    let mut bytes = fs::read(path)?;
    let place = place_of_id(&bytes).with_context(|| format!("find the build id of {}", path.display()))?;
    bytes[place].copy_from_slice(id);
    Ok(fs::write(path, bytes)?)
}

/// The id is at the end of the section's only note (elf(5)).
fn place_of_id(bytes: &[u8]) -> anyhow::Result<Range<usize>> {
    let file = object::File::parse(bytes)?;
    let section = file.section_by_name(".note.gnu.build-id").context("it has none")?;
    let (start, size) = section.file_range().context("it has none in the file")?;
    let end = usize::try_from(start + size)?;
    let place = end.checked_sub(ID_BYTES).context("it is too short")?..end;
    let is_whole = file.build_id()?.is_some_and(|id| bytes.get(place.clone()) == Some(id));
    is_whole.then_some(place).context("it has another length than a SHA-1")
}

fn debug_path(id: &[u8]) -> PathBuf {
    let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (first, rest) = text.split_at(2);
    format!(".build-id/{first}/{rest}.debug").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id doesn't depend on a previous id, and therefore not on the debug symbols.
    #[test]
    fn both_files_have_an_id_that_depends_on_the_stripped_program() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let id = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            object::File::parse(bytes.as_slice()).unwrap().build_id().unwrap().unwrap().to_owned()
        };
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let first = split(&program, folder.path(), "objcopy").unwrap();
        let stripped = folder.path().join("stripped/program");
        assert_eq!(first.debug_path, debug_path(&id(&stripped)));
        assert_eq!(id(&first.debug), id(&stripped));
        assert_ne!(id(&program), id(&stripped));
        write_id(&program, &NO_ID).unwrap();
        assert_eq!(split(&program, folder.path(), "objcopy").unwrap().debug_path, first.debug_path);
    }
}
