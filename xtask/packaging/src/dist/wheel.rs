//! Creates wheels: one with only the Python package, for code that imports an app outside of a worker (tests,
//! type checkers, `manage.py`), and one with all of Imperium, for `pip install`.
//!
//! <https://packaging.python.org/en/latest/specifications/binary-distribution-format/>

use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::layout::{COMMAND, DOC, PRIVATE};
use super::target::Target;
use super::tree::{File, Kind, Tree, files_of};
use super::version::Version;

#[derive(Debug)]
pub(crate) struct Wheel {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// A file of a wheel, by its path in it.
type Entry = (String, File);

/// The package `imperium` only: for any Python version, and identical for all builds of a version.
pub(crate) fn package() -> anyhow::Result<Wheel> {
    let version = env!("CARGO_PKG_VERSION");
    let tag = "py3-none-any";
    let about =
        About { version, tag, summary: "What an app can ask of Imperium, which runs it", is_pure: true };
    Ok(Wheel { name: format!("imperium-{version}-{tag}.whl"), bytes: about.pack(modules()?)? })
}

/// The file name of the complete wheel.
pub(crate) fn name(version: &Version, target: Target) -> String {
    format!("imperium-{}-{}.whl", version.text, target.wheel_tag())
}

/// The complete wheel: the package, the command in `bin`, and the daemons with the extension in the
/// environment's `lib/imperium`, where the command finds them.
pub(crate) fn whole(installed: &Tree, version: &Version, target: Target) -> anyhow::Result<Vec<u8>> {
    let (version, tag) = (version.text.as_str(), target.wheel_tag());
    let summary = "Front server and supervisor for Python web apps";
    let about = About { version, tag: &tag, summary, is_pure: false };
    let mut files = modules()?;
    for (path, file) in installed.files() {
        files.extend(place(path, version).map(|name| (name, file.clone())));
    }
    about.pack(files)
}

/// The path of an installed file in the wheel, if it is included.
fn place(path: &Path, version: &str) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent()?.to_str()?;
    match folder {
        "bin" if name == COMMAND => Some(format!("imperium-{version}.data/scripts/{name}")),
        PRIVATE => Some(format!("imperium-{version}.data/data/{PRIVATE}/{name}")),
        DOC if name.contains("LICENSE") => Some(format!("imperium-{version}.dist-info/licenses/{name}")),
        _ => None,
    }
}

/// The modules of the package.
fn modules() -> anyhow::Result<Vec<Entry>> {
    let mut files = Vec::new();
    for path in files_of(&xtask::root().join("crates/pyworker/python/imperium"))? {
        let name = path.file_name().and_then(|it| it.to_str()).context("a file whose name is not UTF-8")?;
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        files.push((format!("imperium/{name}"), File { kind: Kind::Plain, bytes }));
    }
    Ok(files)
}

/// A wheel's metadata.
struct About<'a> {
    version: &'a str,
    tag: &'a str,
    summary: &'a str,
    is_pure: bool,
}

impl About<'_> {
    /// Adds the metadata to the files, and packs everything.
    fn pack(&self, mut files: Vec<Entry>) -> anyhow::Result<Vec<u8>> {
        let folder = format!("imperium-{}.dist-info", self.version);
        let mut put = |name: &str, text: String| {
            files.push((format!("{folder}/{name}"), File { kind: Kind::Plain, bytes: text.into_bytes() }));
        };
        put("METADATA", self.metadata());
        put("WHEEL", self.wheel());
        let record = record(&files, &folder)?;
        files.push((format!("{folder}/RECORD"), File { kind: Kind::Plain, bytes: record.into_bytes() }));
        pack(&files)
    }

    fn metadata(&self) -> String {
        let Self { version, summary, .. } = self;
        format!(
            "Metadata-Version: 2.1\nName: imperium\nVersion: {version}\nSummary: {summary}\n\
             License: Apache-2.0 OR MIT\nRequires-Python: >=3.10\n"
        )
    }

    fn wheel(&self) -> String {
        let pure = if self.is_pure { "true" } else { "false" };
        format!("Wheel-Version: 1.0\nGenerator: imperium\nRoot-Is-Purelib: {pure}\nTag: {}\n", self.tag)
    }
}

/// Lists each file with its hash, except the list itself.
fn record(files: &[Entry], about: &str) -> anyhow::Result<String> {
    let mut record = String::new();
    for (name, File { bytes, .. }) in files {
        writeln!(record, "{name},sha256={},{}", base64url(&Sha256::digest(bytes)), bytes.len())?;
    }
    writeln!(record, "{about}/RECORD,,")?;
    Ok(record)
}

/// Without padding (RFC 4648, section 5).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        let characters =
            (0..=chunk.len()).map(|at| char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]));
        text.extend(characters);
    }
    text
}

/// Packs without timestamps, so that the result is reproducible. Installers keep executable bits.
fn pack(files: &[Entry]) -> anyhow::Result<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, File { kind, bytes }) in files {
        zip.start_file(name.as_str(), options.unix_permissions(kind.mode()))?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests;
