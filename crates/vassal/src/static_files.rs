//! The table `[static]`: files that are served directly from disk.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use config::{Document, Wrong, value};
use toml_edit::{InlineTable, Value};

use crate::{MountPath, StaticPrefix};

/// A folder or a single file that is served without the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticSource {
    /// The absolute path.
    pub path: PathBuf,
    /// How its symlinks are followed.
    pub symlinks: Symlinks,
}

/// How symlinks are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Only within the folder.
    #[default]
    Inside,
    /// To any place.
    Anywhere,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
}

const KEYS: &str = "the keys are `folder`, `file` and `symlinks`";

/// Reads `[static]`. A prefix that ends with a slash belongs to a folder, others to files.
pub(crate) fn read(file: &mut Document, mount: &MountPath) -> BTreeMap<StaticPrefix, StaticSource> {
    let path = value::path(file.folder());
    let entries = file.entries("static", StaticPrefix::parse_any, |it| source(it, &path));
    for (prefix, (_, kind)) in &entries {
        if let Err(wrong) = check(prefix, *kind, mount) {
            file.refuse(&format!("static.{prefix}"), wrong);
        }
    }
    entries.into_iter().map(|(prefix, (source, _))| (prefix, source)).collect()
}

fn check(prefix: &StaticPrefix, kind: Option<Kind>, mount: &MountPath) -> Result<(), Wrong> {
    if !mount.holds(prefix) {
        let wrong = Wrong::new(format!("lies outside of the app's path `{mount}`"));
        return Err(wrong.hint(format!("write \"{mount}{prefix}\"")));
    }
    match (prefix.is_of_folder(), kind) {
        (false, Some(Kind::Folder)) => {
            let wrong = Wrong::new("must end with `/`, as it is the path of a folder");
            Err(wrong.hint(format!("write \"{prefix}/\"")))
        }
        (true, Some(Kind::File)) => {
            let wrong = Wrong::new("must not end with `/`, as it is the path of a file");
            Err(wrong.hint(format!("write \"{}\"", prefix.as_str().trim_end_matches('/'))))
        }
        _ => Ok(()),
    }
}

fn source(
    value: &Value,
    path: impl Fn(&Value) -> Result<PathBuf, Wrong>,
) -> Result<(StaticSource, Option<Kind>), Wrong> {
    let (path, kind, symlinks) = match value {
        Value::InlineTable(table) => of_table(table, path)?,
        other => {
            let path = path(other)?;
            let kind = kind(&path, "must be a folder or a file")?;
            (path, kind, Symlinks::default())
        }
    };
    Ok((StaticSource { path, symlinks }, kind))
}

fn of_table(
    table: &InlineTable,
    path: impl Fn(&Value) -> Result<PathBuf, Wrong>,
) -> Result<(PathBuf, Option<Kind>, Symlinks), Wrong> {
    if let Some((other, _)) = table.iter().find(|(key, _)| !["folder", "file", "symlinks"].contains(key)) {
        return Err(Wrong::new(format!("has an unknown key `{other}`")).hint(KEYS));
    }
    let (named, meant) = match (table.get("folder"), table.get("file")) {
        (Some(folder), None) => (folder, Kind::Folder),
        (None, Some(file)) => (file, Kind::File),
        _ => return Err(Wrong::new("must have either `folder` or `file`").hint(KEYS)),
    };
    let path = path(named)?;
    let must = match meant {
        Kind::Folder => "must name a folder",
        Kind::File => "must name a file",
    };
    if kind(&path, must)?.is_some_and(|it| it != meant) {
        return Err(Wrong::new(format!("{must}, but {} isn't one", path.display())));
    }
    let symlinks = match table.get("symlinks").map(value::boolean).transpose()? {
        Some(true) => Symlinks::Anywhere,
        _ => Symlinks::Inside,
    };
    Ok((path, Some(meant), symlinks))
}

/// Returns `None` for a path that doesn't exist yet. frontd serves it as soon as it does, and an app doesn't
/// have to wait for files that a build or `collectstatic` will create.
fn kind(path: &Path, must: &str) -> Result<Option<Kind>, Wrong> {
    let what = match path.metadata() {
        Ok(it) if it.is_dir() => return Ok(Some(Kind::Folder)),
        Ok(it) if it.is_file() => return Ok(Some(Kind::File)),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(_) => "is neither".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(Wrong::new(format!("{must}, but {} {what}", path.display())).hint("correct the path"))
}
