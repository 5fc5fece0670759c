//! Reads the commands of the deployment guide, `deploy/README.md`, chapter by chapter.

use std::collections::VecDeque;
use std::fs;

use anyhow::{Context as _, ensure};

/// The chapters that haven't been followed yet, in order.
#[derive(Debug)]
pub(crate) struct Guide(VecDeque<Chapter>);

/// The content below a second-level heading.
#[derive(Debug)]
pub(crate) struct Chapter {
    pub(crate) title: String,
    /// The command blocks, each of which is run by a shell.
    pub(crate) blocks: Vec<String>,
}

impl Guide {
    /// Reads the guide.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let path = xtask::root().join("deploy/README.md");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let chapters = text.split("\n## ").map(Chapter::parse);
        Self(chapters.filter(|chapter| !chapter.blocks.is_empty()).collect())
    }

    /// Returns the next chapter with commands, which must have this title.
    pub(crate) fn chapter(&mut self, title: &str) -> anyhow::Result<Chapter> {
        let next = self.0.pop_front().with_context(|| format!("the guide has no chapter \"{title}\""))?;
        ensure!(next.title == title, "the guide's next chapter is \"{}\", not \"{title}\"", next.title);
        Ok(next)
    }

    /// Checks that no chapter is left.
    pub(crate) fn ensure_followed(&self) -> anyhow::Result<()> {
        let left: Vec<_> = self.0.iter().map(|it| it.title.as_str()).collect();
        ensure!(left.is_empty(), "nobody followed these chapters of the guide: {left:?}");
        Ok(())
    }
}

impl Chapter {
    fn parse(text: &str) -> Self {
        let title = text.lines().next().unwrap_or_default();
        let blocks = text.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next());
        Self { title: title.to_owned(), blocks: blocks.map(str::to_owned).collect() }
    }

    /// All its commands, run as root in root's home folder.
    pub(crate) fn script(&self) -> String {
        at_home(&self.blocks.join("\n"))
    }
}

/// Commands that run in root's home folder.
pub(crate) fn at_home(commands: &str) -> String {
    format!("cd /root\n{commands}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The programs to check: Imperium's and systemd's. The text may mention others without running them.
    const PROGRAMS: [&str; 6] = ["imperium ", "systemctl ", "journalctl ", "apt ", "chmod ", "curl "];

    /// Commands that are mentioned but not run, since they need network access or open an editor.
    const NOT_RUN: [&str; 3] =
        ["apt install --yes certbot", "systemctl edit emperord", "systemctl edit workerd@.service"];

    #[test]
    fn chapters_and_their_commands() {
        let text = "# T\n\n```sh\na\nb\n```\n\n## One\n\n```toml\nx = 1\n```\n\n## Two\n### Part\n\n```sh\nc\n```\nand\n\n```sh\nd\n```\n";
        let mut guide = Guide::parse(text);
        assert_eq!(guide.chapter("# T").unwrap().blocks, ["a\nb"]);
        assert!(guide.ensure_followed().is_err());
        assert_eq!(guide.chapter("Two").unwrap().script(), "cd /root\nc\nd");
        guide.ensure_followed().unwrap();
        assert!(guide.chapter("Three").is_err());
    }

    /// Commands mentioned in the text also appear in a command block, so they are tested.
    #[test]
    fn commands_in_the_text_are_also_in_blocks() {
        let text = fs::read_to_string(xtask::root().join("deploy/README.md")).unwrap();
        let commands: Vec<_> = Guide::parse(&text).0.iter().flat_map(|it| it.blocks.clone()).collect();
        let outside = text.split("\n```").step_by(2);
        let mentioned = outside.flat_map(|text| text.split('`').skip(1).step_by(2));
        for command in mentioned.filter(|command| PROGRAMS.iter().any(|it| command.starts_with(it))) {
            let is_run = commands.iter().any(|it| it.contains(command));
            assert!(is_run || NOT_RUN.contains(&command), "`{command}` is mentioned, but never run");
        }
    }
}
