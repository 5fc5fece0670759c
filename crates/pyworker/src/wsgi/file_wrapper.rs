//! `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): a file as the response's body.
//! frontd sends files in the app's `sendfile` folders directly from disk.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use api::runner::{File, Part, file};
use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;

/// The wrapper that an app returns according to PEP 3333.
#[pyclass(name = "FileWrapper", module = "imperium", frozen)]
pub(crate) struct FileWrapper {
    file: Py<PyAny>,
    block: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize = 8192))]
    fn new(filelike: Py<PyAny>, blksize: usize) -> Self {
        Self { file: filelike, block: blksize }
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.file.bind(py).call_method1(intern!(py, "read"), (self.block,))?;
        Ok(block.is_truthy()?.then_some(block))
    }

    /// Closes the file, if it has `close`.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.file.bind(py).getattr_opt(intern!(py, "close"))? {
            Some(close) => close.call0().map(drop),
            None => Ok(()),
        }
    }
}

/// A folder whose files frontd sends.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The path in the app's file, which frontd uses too.
    named: PathBuf,
    /// The path without symbolic links, as the kernel reports it for open files.
    real: PathBuf,
}

impl Folder {
    /// The folders of a spec that exist.
    pub(crate) fn all(named: &[String]) -> Vec<Self> {
        let folder = |it: &String| Some(Self { named: it.into(), real: fs::canonicalize(it).ok()? });
        named.iter().filter_map(folder).collect()
    }
}

impl FileWrapper {
    /// Returns what frontd needs to send the rest of the file, or the first `length` bytes of it. None if the
    /// file has to be read here.
    pub(crate) fn left_to_frontd(
        &self,
        py: Python<'_>,
        folders: &[Folder],
        length: Option<u64>,
    ) -> Option<File> {
        if folders.is_empty() {
            return None;
        }
        let file = self.file.bind(py);
        let descriptor = descriptor(file).ok().flatten()?;
        let offset = file.call_method0("tell").ok()?.extract().ok()?;
        file_of(descriptor, offset, length, folders)
    }
}

/// The descriptor of a plain Python file. Other files, such as a `GzipFile`, have one whose content differs
/// from what they read.
fn descriptor(file: &Bound<'_, PyAny>) -> PyResult<Option<i32>> {
    let io = file.py().import("io")?;
    let raw = match file.get_type().is(&io.getattr("BufferedReader")?) {
        true => file.getattr("raw")?,
        false => file.clone(),
    };
    match raw.get_type().is(&io.getattr("FileIO")?) {
        true => raw.call_method0("fileno")?.extract().map(Some),
        false => Ok(None),
    }
}

fn file_of(descriptor: i32, offset: u64, length: Option<u64>, folders: &[Folder]) -> Option<File> {
    let link = format!("/proc/self/fd/{descriptor}");
    let (open, path) = (fs::metadata(&link).ok()?, fs::read_link(&link).ok()?);
    let named = fs::metadata(&path).ok()?;
    let is_same = (open.dev(), open.ino()) == (named.dev(), named.ino());
    if !open.is_file() || !is_same {
        return None;
    }
    let left = open.size().saturating_sub(offset);
    let part = Part { offset, length: length.unwrap_or(left), device: open.dev(), inode: open.ino() };
    // A file that is too short is an error of the app, which is reported when it is read here.
    let path = as_frontd_knows_it(&path, folders).filter(|_| part.length <= left)?;
    let name = file::Name::Path(Bytes::copy_from_slice(path.as_os_str().as_bytes()));
    Some(File { name: Some(name), part: Some(part) })
}

fn as_frontd_knows_it(path: &Path, folders: &[Folder]) -> Option<PathBuf> {
    folders.iter().find_map(|it| Some(it.named.join(path.strip_prefix(&it.real).ok()?)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_passed_to_frontd_with_its_configured_path() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        fs::create_dir(root.join("2026-11")).unwrap();
        symlink("2026-11", root.join("current")).unwrap();
        fs::write(root.join("2026-11/a.bin"), "0123456789").unwrap();
        fs::write(root.join("b.bin"), "0123456789").unwrap();
        let named = root.join("current").display().to_string();
        let folders = Folder::all(&[named.clone(), "/nowhere".to_owned()]);
        assert_eq!(folders.len(), 1);

        let file = fs::File::open(root.join("2026-11/a.bin")).unwrap();
        let offer = |offset, length| file_of(file.as_raw_fd(), offset, length, &folders);
        let found = offer(4, None).unwrap();
        let path = Bytes::from(format!("{named}/a.bin"));
        assert_eq!(found.name, Some(file::Name::Path(path)));
        let lengths = [(4, None), (4, Some(3)), (4, Some(7)), (99, None)]
            .map(|(offset, length)| offer(offset, length).and_then(|it| it.part).map(|it| it.length));
        assert_eq!(lengths, [Some(6), Some(3), None, Some(0)]);

        fs::remove_file(root.join("2026-11/a.bin")).unwrap();
        assert_eq!(offer(0, None), None, "frontd would not find it");
        let other = fs::File::open(root.join("b.bin")).unwrap();
        assert_eq!(file_of(other.as_raw_fd(), 0, None, &folders), None, "outside of the folder");
    }
}
