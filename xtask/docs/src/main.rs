//! `cargo xtask docs`: the documentation as a website, in `target/docs`.

mod mdbook;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::Parser;
use xtask::setup;
use xtask::step::{self, step};

/// Pages and files outside of `docs` that are part of the site, at the same relative path.
const OTHERS: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "SPECIFICATION.md",
    "deploy",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
];

#[derive(Parser)]
#[command(name = "cargo xtask docs", about = "Builds the documentation as a website, in `target/docs`")]
struct Arguments {
    /// Update the generated pages, schemas and examples from the code
    #[arg(long)]
    write: bool,
    /// Only check that generated files are up to date and that no link is broken
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Record the pictures in `docs/images` again, from a real run; needs Chromium
    #[arg(long, conflicts_with_all = ["write", "check"])]
    images: bool,
}

fn main() -> ExitCode {
    step::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.images {
        return images();
    }
    if arguments.write || arguments.check {
        step("references", "compare the generated files with the code", || references(arguments.write))?;
    }
    if arguments.check {
        return Ok(());
    }
    let folder = xtask::root().join("target/docs");
    step("pages", "copy the pages", || stage(&folder))?;
    let mdbook = mdbook::find()?;
    step("mdbook", "build the site", || mdbook::build(&mdbook, &folder))?;
    let broken = broken_links(&folder.join("site"))?;
    ensure!(broken.is_empty(), "the site has broken links:\n{}", broken.join("\n"));
    step::print_line("site", &folder.join("site/index.html").display().to_string());
    Ok(())
}

/// They are tests, so that `cargo xtask test` checks them too.
fn references(write: bool) -> anyhow::Result<()> {
    let mut cargo = step::cargo();
    cargo.args(["test", "--quiet", "--workspace", "reference"]);
    if write {
        cargo.env("IMPERIUM_DOCS", "write");
    }
    ensure!(cargo.status().context("run cargo")?.success(), "the generated files are out of date");
    Ok(())
}

/// Records the pictures with the programs of this checkout.
fn images() -> anyhow::Result<()> {
    setup::programs(&[])?;
    step("images", "record the pictures, docs/images", || {
        let mut record = Command::new("python3");
        record.arg(xtask::root().join("docs/images/record.py")).arg(setup::place().binaries);
        let status = record.status().context("run python3")?;
        ensure!(status.success(), "docs/images/record.py failed");
        Ok(())
    })
}

/// Copies the pages. Their relative paths stay the same, so that links between them work.
fn stage(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    let source = folder.join("src");
    copy(&xtask::root().join("docs"), &source.join("docs"))?;
    for name in OTHERS {
        copy(&xtask::root().join(name), &source.join(name))?;
    }
    for name in ["SUMMARY.md", "introduction.md"] {
        raise(&source, name).with_context(|| format!("move docs/{name}"))?;
    }
    fs::write(folder.join("book.toml"), BOOK).context("write book.toml")
}

/// Moves a page from `docs` to its parent: mdBook expects the summary there, and copies the first page there.
fn raise(source: &Path, name: &str) -> std::io::Result<()> {
    let page = source.join("docs").join(name);
    let text = fs::read_to_string(&page)?
        .replace("](", "](docs/")
        .replace("](docs/../", "](")
        .replace("](docs/https:", "](https:");
    fs::write(source.join(name), text.replace("](docs/introduction.md)", "](introduction.md)"))?;
    fs::remove_file(page)
}

const BOOK: &str = r#"[book]
title = "Imperium"
language = "en"
src = "src"

[build]
build-dir = "site"
create-missing = false
# Links to a README.md stay as they are.
use-default-preprocessors = false

[output.html]
no-section-label = true
"#;

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        let copied = fs::copy(from, to).map(drop);
        return copied.with_context(|| format!("copy {} to {}", from.display(), to.display()));
    }
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Lists broken links in the site's pages.
fn broken_links(site: &Path) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for page in pages(site)? {
        // The print version, which joins all pages, and the 404 page, whose address is arbitrary.
        if page.ends_with("print.html") || page.ends_with("404.html") {
            continue;
        }
        let text = fs::read_to_string(&page).with_context(|| format!("read {}", page.display()))?;
        let targets = ["href=\"", "src=\""].into_iter().flat_map(|it| text.split(it).skip(1));
        for target in targets.filter_map(|it| it.split('"').next()) {
            let path = target.split(['#', '?']).next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains(':');
            if !is_elsewhere && !page.parent().unwrap_or(site).join(path).exists() {
                broken.push(format!("{}: {target}", page.strip_prefix(site).unwrap_or(&page).display()));
            }
        }
    }
    Ok(broken)
}

fn pages(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            pages.extend(self::pages(&path)?);
        } else if path.extension().is_some_and(|it| it == "html") {
            pages.push(path);
        }
    }
    Ok(pages)
}
