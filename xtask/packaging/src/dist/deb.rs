//! Creates a Debian package (deb(5)) reproducibly.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use liblzma::write::XzEncoder;
use md5::{Digest as _, Md5};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::gzip;
use super::target::Target;
use super::tree::{File, Kind, Tree};
use super::version::Version;

const MAINTAINER: &str = "Imperium <packages@imperium.example>";
/// Documentation files larger than this are compressed (Debian policy, section 12.3).
const LARGE: usize = 4096;

/// A Debian package.
#[derive(Clone, Debug)]
pub(crate) struct Package<'a> {
    /// The template of its control file, without version and size.
    pub(crate) control: &'a str,
    /// Its maintainer scripts, by name.
    pub(crate) scripts: &'a [(&'static str, Vec<u8>)],
    /// The installed files, relative to `/`.
    pub(crate) data: &'a Tree,
}

/// The file name of a package.
pub(crate) fn name(package: &str, version: &Version, target: Target) -> String {
    format!("{package}_{}_{}.deb", version.text, target.debian())
}

/// Returns the content of the package.
pub(crate) fn build(package: &Package<'_>, version: &Version) -> anyhow::Result<Vec<u8>> {
    let control = control_tree(package, version)?.write_tar(".", version.epoch, Vec::new())?;
    let data = package.data.write_tar(".", version.epoch, Vec::new())?;
    let mut deb = b"!<arch>\n".to_vec();
    member(&mut deb, "debian-binary", b"2.0\n", version.epoch)?;
    member(&mut deb, "control.tar.xz", &xz(&control)?, version.epoch)?;
    // dpkg of Debian 11 doesn't support zstd.
    member(&mut deb, "data.tar.xz", &xz(&data)?, version.epoch)?;
    Ok(deb)
}

fn control_tree(package: &Package<'_>, version: &Version) -> anyhow::Result<Tree> {
    let mut tree = Tree::default();
    let kib: usize = package.data.files().map(|(_, file)| file.bytes.len().div_ceil(1024)).sum();
    let control = package.control.replace("@VERSION@", &version.text);
    tree.put("control", Kind::Plain, format!("{}\nInstalled-Size: {kib}\n", control.trim_end()));
    tree.put("md5sums", Kind::Plain, md5sums(package.data)?);
    for (name, bytes) in package.scripts {
        tree.put(*name, Kind::Program, bytes.clone());
    }
    let in_etc = package.data.files().filter(|(path, _)| path.starts_with("etc"));
    let conffiles: String = in_etc.map(|(path, _)| format!("/{}\n", path.display())).collect();
    if !conffiles.is_empty() {
        tree.put("conffiles", Kind::Plain, conffiles);
    }
    Ok(tree)
}

/// The checksums for `dpkg --verify`. Configuration files are excluded, since operators edit them.
fn md5sums(data: &Tree) -> anyhow::Result<String> {
    let mut sums = String::new();
    let is_summed = |path: &Path, file: &File| !path.starts_with("etc") && file.kind != Kind::Link;
    for (path, file) in data.files().filter(|(path, file)| is_summed(path, file)) {
        let sum = Md5::digest(&file.bytes);
        sum.iter().try_for_each(|byte| write!(sums, "{byte:02x}"))?;
        writeln!(sums, "  {}", path.display())?;
    }
    Ok(sums)
}

/// A member of an ar archive, in the only format that deb(5) allows.
fn member(ar: &mut Vec<u8>, name: &str, bytes: &[u8], epoch: u64) -> io::Result<()> {
    writeln!(ar, "{name:<16}{epoch:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, "100644", bytes.len())?;
    ar.write_all(bytes)?;
    if bytes.len() % 2 == 1 {
        ar.push(b'\n');
    }
    Ok(())
}

fn xz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = XzEncoder::new(Vec::new(), 6);
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The main package: the programs below `/usr`, and the daemons' files in `/etc`.
pub(crate) fn imperium(installed: &Tree, version: &Version, target: Target) -> anyhow::Result<Vec<u8>> {
    let mut data = below_usr(installed)?;
    for name in ["emperord.toml", "frontd.toml"] {
        let example = xtask::root().join("deploy/examples").join(name);
        data.put_file(format!("etc/imperium/{name}"), Kind::Plain, &example)?;
    }
    data.put("usr/share/doc/imperium/copyright", Kind::Plain, read("copyright")?);
    data.put("usr/share/doc/imperium/changelog.gz", Kind::Plain, gzip(changelog(version)?.as_bytes())?);
    data.put("usr/share/lintian/overrides/imperium", Kind::Plain, read("lintian-overrides")?);
    let scripts = ["postinst", "postrm", "prerm"].map(|name| Ok((name, read(name)?)));
    let scripts = scripts.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let control = control("control", target)?;
    build(&Package { control: &control, scripts: &scripts, data: &data }, version)
}

/// The package of debug symbols, with the layout of Debian's own. It uses the main package's documentation.
pub(crate) fn debug_symbols(debug: &Tree, version: &Version, target: Target) -> anyhow::Result<Vec<u8>> {
    let control = control("dbgsym.control", target)?;
    let mut data = below_usr(debug)?;
    data.put("usr/share/doc/imperium-dbgsym", Kind::Link, "imperium");
    build(&Package { control: &control, scripts: &[], data: &data }, version)
}

fn control(name: &str, target: Target) -> anyhow::Result<String> {
    Ok(String::from_utf8(read(name)?)?.replace("@ARCHITECTURE@", target.debian()))
}

fn read(name: &str) -> anyhow::Result<Vec<u8>> {
    let path = xtask::root().join("deploy/debian").join(name);
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

/// The layout required by Debian: below `/usr`, with large texts compressed.
fn below_usr(tree: &Tree) -> anyhow::Result<Tree> {
    let mut data = Tree::default();
    for (path, file) in tree.files().filter(|(path, _)| !is_a_licence_of_ours(path)) {
        let path = Path::new("usr").join(path);
        let is_text = path.starts_with("usr/share/doc") && path.extension().is_none_or(|it| it == "md");
        match is_text && file.bytes.len() > LARGE {
            true => data.put(format!("{}.gz", path.display()), file.kind, gzip(&file.bytes)?),
            false => data.put(path, file.kind, file.bytes.clone()),
        }
    }
    Ok(data)
}

/// Imperium's own license is in the package's `copyright` file.
fn is_a_licence_of_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"LICENSE"))
}

/// One entry, since the actual changelog is elsewhere.
fn changelog(version: &Version) -> anyhow::Result<String> {
    let date = date(version.epoch)?;
    let text = &version.text;
    Ok(format!(
        "imperium ({text}) stable; urgency=medium\n\n  * Release {text}.\n\n -- {MAINTAINER}  {date}\n"
    ))
}

fn date(epoch: u64) -> anyhow::Result<String> {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(epoch)?)?;
    Ok(time.format(&Rfc2822)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_padded_to_an_even_length() {
        let mut ar = Vec::new();
        member(&mut ar, "debian-binary", b"2.0", 7).unwrap();
        let header = "debian-binary   7           0     0     100644  3         `\n";
        assert_eq!(String::from_utf8(ar).unwrap(), format!("{header}2.0\n"));
        assert_eq!(header.len(), 60);
    }

    #[test]
    fn files_in_etc_are_conffiles() {
        let version = Version { text: "1.2.3".to_owned(), epoch: 7 };
        let mut data = Tree::default();
        data.put("etc/a.toml", Kind::Plain, "a");
        data.put("usr/bin/b", Kind::Program, "b");
        let package = Package { control: "Package: x\nVersion: @VERSION@\n", scripts: &[], data: &data };
        let control = control_tree(&package, &version).unwrap();
        let text = |name: &str| {
            let (_, file) = control.files().find(|(path, _)| *path == Path::new(name)).unwrap();
            String::from_utf8(file.bytes.clone()).unwrap()
        };
        assert_eq!(text("control"), "Package: x\nVersion: 1.2.3\nInstalled-Size: 2\n");
        assert_eq!(text("conffiles"), "/etc/a.toml\n");
        assert_eq!(text("md5sums"), "92eb5ffee6ae2fec3ad71c777531578f  usr/bin/b\n");
        assert_eq!(build(&package, &version).unwrap(), build(&package, &version).unwrap());
    }
}
