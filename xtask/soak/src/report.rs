//! The report of a soak.

use std::collections::BTreeMap;
use std::fmt;

use super::action::Action;
use super::audit::Audit;
use super::memory::{Samples, Trend};

/// The results.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) audit: Audit,
    pub(crate) actions: Vec<Action>,
    pub(crate) memory: Samples,
    /// An error if the expected result of an action didn't occur.
    pub(crate) played: anyhow::Result<()>,
}

impl Report {
    /// Whether all promises were kept.
    pub(crate) fn is_good(&self) -> bool {
        self.audit.broken == 0 && self.audit.right > 0 && self.played.is_ok() && self.is_flat()
    }

    fn is_flat(&self) -> bool {
        self.memory.values().filter_map(|samples| Trend::of(samples)).all(Trend::is_flat)
    }

    fn events(&self) -> String {
        let mut counts: BTreeMap<&'static str, u32> = BTreeMap::new();
        for action in &self.actions {
            *counts.entry(name(*action)).or_default() += 1;
        }
        let counts: Vec<_> = counts.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
        counts.join(", ")
    }
}

fn name(action: Action) -> &'static str {
    match action {
        Action::Kill(_) => "kills",
        Action::Exit(_) | Action::ExitTwice(_) => "exits",
        Action::Freeze(_) | Action::Nap(_) => "stops",
        Action::Reload(_) => "reloads",
        Action::Scale(..) | Action::Edit(..) => "scalings",
        Action::Preload(_) => "turns of preload",
        Action::Misspell(_) => "broken files",
        Action::KillEmperord | Action::RestartEmperord => "ends of emperord",
        Action::KillFrontd => "kills of frontd",
        Action::RestartFrontd => "restarts of frontd",
        Action::AbandonReload(_) => "abandoned reloads",
        Action::SlowClients(_) | Action::VanishingClients(_) => "crowds of bad clients",
        Action::SlowSockets | Action::VanishingSockets | Action::FloodingSockets => {
            "crowds of bad WebSocket clients"
        }
        Action::FillLog(_) => "full log pipes",
        Action::EmptyFolder | Action::ReplaceFolder => "emptied folders",
        Action::LoseWorkers | Action::DamageWorkers => "lost workers.json",
        Action::Settle => "rests",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Audit { asked, right, sockets, messages, excused, broken, samples, pauses, slowest, exits } =
            &self.audit;
        writeln!(f, "seed            {}", self.seed)?;
        writeln!(f, "happened        {}", self.events())?;
        writeln!(f, "requests        {asked}, {right} answered as was due, {exits} workers ended by them")?;
        let (sockets, whole) = sockets;
        writeln!(f, "WebSockets      {sockets}, {whole} undisturbed, {messages} messages")?;
        writeln!(f, "failed          {broken}")?;
        for (excuse, count) in excused {
            writeln!(f, "allowed         {count}: {excuse}")?;
        }
        for (app, pause) in pauses {
            writeln!(f, "longest pause   {app}: {pause}")?;
        }
        writeln!(f, "slowest answer  {slowest:.2?}")?;
        for (owner, samples) in &self.memory {
            if let Some(trend) = Trend::of(samples) {
                let growth = if trend.is_flat() { "" } else { ": IT GROWS" };
                writeln!(f, "memory          {owner}: {trend}{growth}")?;
            }
        }
        for sample in samples {
            writeln!(f, "BROKEN          {sample}")?;
        }
        if let Err(error) = &self.played {
            writeln!(f, "BROKEN          {error:#}")?;
        }
        Ok(())
    }
}
