//! The Python package as a wheel, for whatever imports an app outside of a worker: tests, type checkers, `manage.py`.
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

use super::tree::files_of;

const WHEEL: &str = "Wheel-Version: 1.0\nGenerator: imperium\nRoot-Is-Purelib: true\nTag: py3-none-any\n";

/// A wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Packs the package `imperium` of the folder that its pyproject.toml is in.
pub(crate) fn build(folder: &Path) -> anyhow::Result<Wheel> {
    let version = env!("CARGO_PKG_VERSION");
    let about = format!("imperium-{version}.dist-info");
    let mut files = Vec::new();
    for path in files_of(&folder.join("imperium"))? {
        let name = path.file_name().and_then(|it| it.to_str()).context("a file whose name is not UTF-8")?;
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        files.push((format!("imperium/{name}"), bytes));
    }
    files.push((format!("{about}/METADATA"), metadata(version).into_bytes()));
    files.push((format!("{about}/WHEEL"), WHEEL.into()));
    files.push((format!("{about}/RECORD"), record(&files, &about)?.into_bytes()));
    Ok(Wheel { name: format!("imperium-{version}-py3-none-any.whl"), bytes: pack(&files)? })
}

fn metadata(version: &str) -> String {
    format!(
        "Metadata-Version: 2.1\nName: imperium\nVersion: {version}\n\
         Summary: What an app can ask of Imperium, which runs it\nLicense: Apache-2.0 OR MIT\nRequires-Python: >=3.10\n"
    )
}

/// Each file with its hash, and the record itself without one.
fn record(files: &[(String, Vec<u8>)], about: &str) -> anyhow::Result<String> {
    let mut record = String::new();
    for (name, bytes) in files {
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

/// Not compressed, and of no time: the same bytes on every machine.
fn pack(files: &[(String, Vec<u8>)]) -> anyhow::Result<Vec<u8>> {
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(0o644);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(name.as_str(), options)?;
        zip.write_all(bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        for (bytes, expected) in
            [(&b""[..], ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (&[0xfb, 0xff], "-_8")]
        {
            assert_eq!(base64url(bytes), expected);
        }
    }

    /// Its version is also in pyproject.toml, for who installs from source.
    #[test]
    fn one_version() {
        let folder = xtask::root().join("crates/pyworker/python");
        let pyproject = fs::read_to_string(folder.join("pyproject.toml")).unwrap();
        assert!(pyproject.contains(&format!("version = \"{}\"", env!("CARGO_PKG_VERSION"))), "{pyproject}");
        assert_eq!(build(&folder).unwrap().bytes, build(&folder).unwrap().bytes);
    }
}
