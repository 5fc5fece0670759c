//! What is printed about the one app of `up APP`: its URL once it serves, and what happens next if it can't start.

use api::routes::watch_response::Update;
use api::routes::{App, app};

use super::{Announcer, OnFailure, real_path};

/// What was printed.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) has_served: bool,
    knows_how_to_stop: bool,
    /// The failure that is shown now, or empty.
    failure: String,
}

impl Told {
    /// Whether clients are shown why the app can't start.
    pub(super) fn is_failing(&self) -> bool {
        !self.failure.is_empty()
    }
}

impl Announcer {
    /// Whether an update reports a failure that ends the run. emperord has already logged the cause.
    pub(super) fn is_end(&self, update: Option<&Update>) -> bool {
        let has_failed = |it: &App| !it.failure.is_empty() && it.state() != app::State::Serving;
        self.on_failure == OnFailure::End && apps(update).iter().any(has_failed)
    }

    /// Returns the lines to print for an update: the app's URLs once, and what follows each failure.
    pub(super) fn one_app(&self, told: &mut Told, update: Option<&Update>) -> String {
        let Some(app) = apps(update).first() else { return String::new() };
        let mut lines = String::new();
        if app.failure != told.failure {
            told.failure.clone_from(&app.failure);
            if !app.failure.is_empty() && self.on_failure == OnFailure::Wait {
                if !told.has_served && !told.knows_how_to_stop {
                    lines +=
                        &format!("Until the app starts, this error is shown at {}\n", self.shown_urls(app));
                }
                lines += &format!("{}\n", app.failure_next);
                lines += how_to_stop(told);
            }
        }
        if app.state() == app::State::Serving && !told.has_served {
            told.has_served = true;
            let authority = self.authority.as_deref().map(|it| format!(" (CA {})", real_path(it)));
            lines += &format!("Serving {}{}\n", self.shown_urls(app), authority.unwrap_or_default());
            lines += how_to_stop(told);
        }
        lines
    }

    fn shown_urls(&self, app: &App) -> String {
        let mut urls = self.addresses.urls(&app.domains, &app.path);
        // Put HTTP first: it works without trusting a CA.
        urls.reverse();
        urls.join(" and ")
    }
}

fn apps(update: Option<&Update>) -> &[App] {
    match update {
        Some(Update::Snapshot(snapshot)) => &snapshot.apps,
        Some(Update::Change(change)) => &change.changed,
        None => &[],
    }
}

fn how_to_stop(told: &mut Told) -> &'static str {
    match std::mem::replace(&mut told.knows_how_to_stop, true) {
        true => "",
        false => "Press Ctrl-C to stop, again to force quit\n",
    }
}

#[cfg(test)]
mod tests {
    use api::routes::Snapshot;

    use super::super::Style;
    use super::*;
    use crate::addresses::Addresses;

    fn announcer(on_failure: OnFailure) -> Announcer {
        let addresses = Addresses {
            http: vec!["127.0.0.1:8000".parse().unwrap()],
            https: vec!["127.0.0.1:8443".parse().unwrap()],
            admin: Some("127.0.0.1:9180".parse().unwrap()),
        };
        let authority = Some("/no/such/ca.pem".into());
        Announcer {
            addresses,
            socket: "".into(),
            authority,
            style: Style::OneApp,
            on_failure,
            late_virtualenv: None,
        }
    }

    fn with(state: app::State, failure: &str) -> Update {
        let app = App {
            name: "shop".to_owned(),
            domains: vec!["*".to_owned()],
            path: "/".to_owned(),
            state: state.into(),
            failure: failure.to_owned(),
            failure_next: "Imperium tries again".to_owned(),
            ..App::default()
        };
        Update::Snapshot(Snapshot { apps: vec![app] })
    }

    const SERVING: &str = "Serving http://127.0.0.1:8000/ and https://localhost:8443/ (CA /no/such/ca.pem)\n";
    const STOP: &str = "Press Ctrl-C to stop, again to force quit\n";

    #[test]
    fn the_app_is_printed_once_it_serves() {
        let (announcer, mut told) = (announcer(OnFailure::Wait), Told::default());
        let mut printed = |state| announcer.one_app(&mut told, Some(&with(state, "")));
        assert_eq!(printed(app::State::Starting), "");
        assert_eq!(printed(app::State::Failed), "");
        assert_eq!(printed(app::State::Serving), format!("{SERVING}{STOP}"));
        assert_eq!(printed(app::State::Serving), "");
    }

    #[test]
    fn a_failed_first_start_has_a_url_what_happens_next_and_how_to_stop() {
        use app::State::{Failed, Serving, Starting};
        let (announcer, mut told) = (announcer(OnFailure::Wait), Told::default());
        let mut printed = |state, failure: &str| announcer.one_app(&mut told, Some(&with(state, failure)));
        assert_eq!(printed(Starting, ""), "");
        let urls = "http://127.0.0.1:8000/ and https://localhost:8443/";
        assert_eq!(
            printed(Failed, "oh no"),
            format!("Until the app starts, this error is shown at {urls}\nImperium tries again\n{STOP}")
        );
        assert_eq!(printed(Failed, "oh no"), "");
        assert_eq!(printed(Starting, ""), "");
        assert_eq!(printed(Failed, "another"), "Imperium tries again\n");
        assert_eq!(printed(Serving, ""), SERVING);
        // Old workers stay, although clients are shown the error.
        assert_eq!(printed(Serving, "oh no"), "Imperium tries again\n");
    }

    #[test]
    fn nothing_is_awaited_without_reloading() {
        let announcer = announcer(OnFailure::End);
        let failed = with(app::State::Failed, "oh no");
        assert!(announcer.is_end(Some(&failed)));
        assert_eq!(announcer.one_app(&mut Told::default(), Some(&failed)), "");
        assert!(!announcer.is_end(Some(&with(app::State::Serving, "oh no"))));
    }
}
