//! Parses a Containerfile into instructions.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// The instructions of a Containerfile, in order.
#[derive(Debug)]
pub struct Containerfile(Vec<Instruction>);

/// An instruction, with continued lines joined.
#[derive(Debug)]
pub struct Instruction {
    /// Such as `COPY`.
    pub keyword: String,
    /// The rest of the instruction.
    pub arguments: String,
}

impl Containerfile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let lines: Vec<_> = text.lines().filter(|it| !it.trim_start().starts_with('#')).collect();
        let whole = lines.join("\n").replace("\\\n", " ");
        let instructions = whole.lines().filter_map(|it| it.trim().split_once(' '));
        Ok(Self(
            instructions
                .map(|(keyword, arguments)| Instruction {
                    keyword: keyword.to_owned(),
                    arguments: arguments.trim().to_owned(),
                })
                .collect(),
        ))
    }

    /// All instructions.
    pub fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        self.0.iter()
    }

    /// The arguments of all instructions with a keyword.
    pub fn all<'a>(&'a self, keyword: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |it| it.keyword == keyword).map(|it| it.arguments.as_str())
    }

    /// The arguments of the last instruction with a keyword, which overrides the others.
    ///
    /// # Errors
    /// If there is none.
    pub fn last(&self, keyword: &str) -> anyhow::Result<&str> {
        let last = self.0.iter().rfind(|it| it.keyword == keyword);
        let last = last.with_context(|| format!("find {keyword} in the Containerfile"))?;
        Ok(&last.arguments)
    }

    /// The command that the image runs.
    ///
    /// # Errors
    /// If there is none, or it isn't in exec form.
    pub fn entrypoint(&self) -> anyhow::Result<Vec<String>> {
        exec_form(self.last("ENTRYPOINT")?)
    }

    /// The command of the health check.
    ///
    /// # Errors
    /// Same as `entrypoint`.
    pub fn health_check(&self) -> anyhow::Result<Vec<String>> {
        let (_, command) = self.last("HEALTHCHECK")?.split_once("CMD ").context("find CMD in HEALTHCHECK")?;
        exec_form(command)
    }
}

fn exec_form(text: &str) -> anyhow::Result<Vec<String>> {
    serde_json::from_str(text).with_context(|| format!("read the words of {text}"))
}
