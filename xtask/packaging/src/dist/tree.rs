//! The files of an archive, in the order of their paths, without information about the build time and user.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Files by path. Folders are added implicitly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, File>);

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
}

/// The kind of a file, which determines its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 0755
    Program,
    /// 0644
    Plain,
    /// A symbolic link. Its bytes are the target.
    Link,
}

impl Kind {
    pub(crate) fn mode(self) -> u32 {
        match self {
            Self::Program => 0o755,
            Self::Plain => 0o644,
            Self::Link => 0o777,
        }
    }
}

impl Tree {
    /// Adds a file at a relative path.
    pub(crate) fn put(&mut self, path: impl Into<PathBuf>, kind: Kind, bytes: impl Into<Vec<u8>>) {
        self.0.insert(path.into(), File { kind, bytes: bytes.into() });
    }

    /// Adds a file from disk.
    pub(crate) fn put_file(
        &mut self,
        path: impl Into<PathBuf>,
        kind: Kind,
        from: &Path,
    ) -> anyhow::Result<()> {
        let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.put(path, kind, bytes);
        Ok(())
    }

    /// Adds the files of a folder on disk, without its subfolders.
    pub(crate) fn put_folder(&mut self, path: &str, from: &Path) -> anyhow::Result<()> {
        for file in files_of(from)? {
            let name = file.file_name().context("a file without a name")?;
            self.put_file(Path::new(path).join(name), Kind::Plain, &file)?;
        }
        Ok(())
    }

    /// Returns the files, in the order of their paths.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, &File)> {
        self.0.iter().map(|(path, file)| (path.as_path(), file))
    }

    /// Writes a tar archive whose paths start with `prefix`. Everything belongs to root, with the time
    /// `epoch` (Unix seconds).
    pub(crate) fn write_tar<W: Write>(&self, prefix: &str, epoch: u64, to: W) -> io::Result<W> {
        let mut tar = tar::Builder::new(to);
        let mut made: Option<PathBuf> = None;
        for (path, file) in self.files() {
            let path = Path::new(prefix).join(path);
            let folder = path.parent().unwrap_or(Path::new(""));
            for folder in new_folders(made.as_deref(), folder) {
                let mut header = header(tar::EntryType::Directory, 0o755, 0, epoch);
                tar.append_data(&mut header, format!("{}/", folder.display()), io::empty())?;
            }
            made = Some(folder.to_owned());
            append(&mut tar, &path, file, epoch)?;
        }
        tar.into_inner()
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &Path, file: &File, epoch: u64) -> io::Result<()> {
    if file.kind == Kind::Link {
        let mut header = header(tar::EntryType::Symlink, file.kind.mode(), 0, epoch);
        return tar.append_link(&mut header, path, Path::new(OsStr::from_bytes(&file.bytes)));
    }
    let size = file.bytes.len() as u64;
    let mut header = header(tar::EntryType::Regular, file.kind.mode(), size, epoch);
    tar.append_data(&mut header, path, file.bytes.as_slice())
}

/// The parents of `folder` that aren't parents of `made`, the previous folder.
fn new_folders<'a>(made: Option<&Path>, folder: &'a Path) -> Vec<&'a Path> {
    let is_new = |it: &&Path| !it.as_os_str().is_empty() && made.is_none_or(|made| !made.starts_with(it));
    let mut folders: Vec<_> = folder.ancestors().filter(is_new).collect();
    folders.reverse();
    folders
}

fn header(kind: tar::EntryType, mode: u32, size: u64, epoch: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Lists the files of a folder by name.
pub(crate) fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read the folder {}", folder.display()))?;
    let mut files = entries.map(|it| it.map(|it| it.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|it| it.is_file());
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(tar: &[u8]) -> Vec<(String, u32, u64)> {
        let mut archive = tar::Archive::new(tar);
        let entry = |it: tar::Entry<'_, _>| {
            let path = String::from_utf8_lossy(&it.path_bytes()).into_owned();
            (path, it.header().mode().unwrap(), it.header().mtime().unwrap())
        };
        archive.entries().unwrap().map(|it| entry(it.unwrap())).collect()
    }

    #[test]
    fn folders_are_added_once_before_their_files() {
        let mut tree = Tree::default();
        tree.put("usr/lib/b", Kind::Plain, "2");
        tree.put("usr/bin/a", Kind::Program, "1");
        tree.put("usr/lib/c", Kind::Link, "b");
        let tar = tree.write_tar("x", 7, Vec::new()).unwrap();
        let expected = [
            ("x/", 0o755),
            ("x/usr/", 0o755),
            ("x/usr/bin/", 0o755),
            ("x/usr/bin/a", 0o755),
            ("x/usr/lib/", 0o755),
            ("x/usr/lib/b", 0o644),
            ("x/usr/lib/c", 0o777),
        ];
        assert_eq!(entries(&tar), expected.map(|(path, mode)| (path.to_owned(), mode, 7)));
        assert_eq!(tar, tree.write_tar("x", 7, Vec::new()).unwrap());
    }
}
