//! The schedule of actions: endless, and determined by the seed.

use std::time::Duration;

use fastrand::Rng;

use super::action::Action;
use super::site::App;

const PAUSE_MILLISECONDS: u64 = 1500;

/// An action and the pause before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) action: Action,
    /// Selects one of the candidate processes, modulo their number.
    pub(crate) which: usize,
}

/// The steps of a soak.
#[derive(Debug)]
pub(crate) struct Schedule(Rng);

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let random = &mut self.0;
        let pause = Duration::from_millis(random.u64(..PAUSE_MILLISECONDS));
        Some(Step { pause, action: action(random), which: random.usize(..) })
    }
}

fn action(random: &mut Rng) -> Action {
    let app = App::ALL[random.usize(..App::ALL.len())];
    let workers = random.u32(1..=4);
    match random.u32(..133) {
        0..12 => Action::Kill(app),
        12..18 => Action::Exit(app),
        18..21 => Action::ExitTwice(app),
        21..25 => Action::Freeze(app),
        25..33 => Action::Nap(app),
        33..43 => Action::Reload(app),
        43..50 => Action::Scale(app, workers),
        50..57 => Action::Edit(app, workers),
        57..63 => Action::Preload(app),
        63..68 => Action::Misspell(app),
        68..75 => Action::KillEmperord,
        75..80 => Action::RestartEmperord,
        80..88 => Action::RestartFrontd,
        88..92 => Action::AbandonReload(app),
        92..95 => Action::SlowClients(app),
        95..98 => Action::VanishingClients(app),
        98..101 => Action::FillLog(app),
        101..103 => Action::EmptyFolder,
        103..105 => Action::ReplaceFolder,
        105..107 => Action::LoseWorkers,
        107..109 => Action::DamageWorkers,
        109..112 => Action::SlowSockets,
        112..115 => Action::VanishingSockets,
        115..118 => Action::FloodingSockets,
        118..121 => Action::KillFrontd,
        _ => Action::Settle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_depends_only_on_the_seed() {
        let steps = |seed| Schedule::new(seed).take(50).collect::<Vec<_>>();
        assert_eq!(steps(4), steps(4));
        assert_ne!(steps(4), steps(5));
    }

    #[test]
    fn everything_happens_to_every_app() {
        let actions: Vec<_> = Schedule::new(1).take(3000).map(|step| step.action).collect();
        for app in App::ALL {
            for action in [
                Action::Kill(app),
                Action::Exit(app),
                Action::ExitTwice(app),
                Action::Freeze(app),
                Action::Nap(app),
                Action::Reload(app),
                Action::Scale(app, 1),
                Action::Edit(app, 4),
                Action::Preload(app),
                Action::Misspell(app),
                Action::AbandonReload(app),
                Action::SlowClients(app),
                Action::VanishingClients(app),
                Action::FillLog(app),
            ] {
                assert!(actions.contains(&action), "{action}");
            }
        }
        let rest = [
            Action::KillEmperord,
            Action::RestartEmperord,
            Action::KillFrontd,
            Action::RestartFrontd,
            Action::SlowSockets,
            Action::VanishingSockets,
            Action::FloodingSockets,
            Action::EmptyFolder,
            Action::ReplaceFolder,
            Action::LoseWorkers,
            Action::DamageWorkers,
            Action::Settle,
        ];
        assert!(rest.iter().all(|action| actions.contains(action)));
    }
}
