//! The status as tables.

use std::fmt::Write as _;
use std::time::Duration;

use api::admin::{App, StatusResponse, Worker, app, worker};

use super::{state_name, stdout_has_colors};
use crate::addresses::Addresses;

/// Whether states are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colors {
    Off,
    On,
}

impl Colors {
    /// On if stdout is a terminal and colours aren't disabled.
    pub(super) fn of_stdout() -> Self {
        if stdout_has_colors() { Self::On } else { Self::Off }
    }

    fn paint(self, text: &str, state: app::State) -> String {
        let color = match state {
            app::State::Running => "32",
            app::State::Failed | app::State::BackingOff => "31",
            _ => "33",
        };
        match self {
            Self::Off => text.to_owned(),
            Self::On => format!("\x1b[{color}m{text}\x1b[0m"),
        }
    }
}

/// Renders a block of lines for each app, with an empty line between blocks.
pub(super) fn render(status: &StatusResponse, addresses: &Addresses, colors: Colors) -> String {
    if status.apps.is_empty() {
        return "no apps: `imperium new PATH` writes the file of one\n".to_owned();
    }
    let blocks = status.apps.iter().map(|it| block(it, addresses, colors));
    let metrics = addresses.metrics().map(|it| format!("metrics  {it}\n"));
    blocks.chain(metrics).collect::<Vec<_>>().join("\n")
}

fn block(app: &App, addresses: &Addresses, colors: Colors) -> String {
    let state = colors.paint(&state_name(app.state().as_str_name()).replace('_', " "), app.state());
    let ready = app.workers.iter().filter(|it| it.state() == worker::State::Ready).count();
    let mut text = format!("{}  {state}  {ready} of {} workers ready  {}\n", app.name, app.wanted, app.file);
    for url in addresses.urls(&app.domains, &app.path) {
        let _infallible = writeln!(text, "  {url}");
    }
    if app.app_was_found {
        let _infallible = writeln!(text, "  app, found in its folder: {}", app.app);
    }
    text.push_str(&workers(&app.workers));
    for worker in &app.workers {
        let why = [Some(worker.leaving.clone()).filter(|it| !it.is_empty()), kept_by(worker)];
        let why: Vec<_> = why.into_iter().flatten().collect();
        if !why.is_empty() {
            let _infallible = writeln!(text, "  {}: {}", worker.name, why.join("; "));
        }
    }
    if app.recycled > 0 {
        let _infallible = writeln!(text, "  recycled: {}, last: {}", app.recycled, app.last_recycled);
    }
    for notice in &app.notices {
        let _infallible = writeln!(text, "  {notice}");
    }
    if !app.last_error.is_empty() {
        text.push_str("  last error:\n");
        for line in app.last_error.lines() {
            let _infallible = writeln!(text, "    {line}");
        }
    }
    if app.state() == app::State::Failed && app.wanted > 0 {
        let _infallible = writeln!(text, "  to start it now: imperium reload {}", app.name);
    }
    text
}

/// What keeps a draining worker besides its requests.
fn kept_by(worker: &Worker) -> Option<String> {
    let end = worker.sockets_end_milliseconds.filter(|_| worker.sockets > 0)?;
    let sockets = match worker.sockets {
        1 => "1 WebSocket".to_owned(),
        sockets => format!("{sockets} WebSockets"),
    };
    Some(format!("draining, {sockets} open, up to {}", age(Duration::from_millis(end))))
}

const HEAD: [&str; 10] =
    ["WORKER", "PID", "STATE", "BUSY", "SOCKETS", "LAG", "REQUESTS", "MEMORY", "AGE", "PYTHON"];
/// The columns that only workers with an event loop have.
const OF_LOOPS: [usize; 2] = [4, 5];

fn workers(workers: &[Worker]) -> String {
    if workers.is_empty() {
        return String::new();
    }
    let has_loops = workers.iter().any(|it| !it.r#loop.is_empty());
    let shown = |row: [String; HEAD.len()]| -> Vec<String> {
        let cells = row.into_iter().enumerate();
        cells.filter(|(at, _)| has_loops || !OF_LOOPS.contains(at)).map(|(_, cell)| cell).collect()
    };
    let mut rows = vec![shown(HEAD.map(str::to_owned))];
    rows.extend(workers.iter().map(|it| shown(row(it))));
    let mut widths = vec![0; rows[0].len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    rows.iter().map(|it| line(it, &widths)).collect()
}

fn row(worker: &Worker) -> [String; HEAD.len()] {
    [
        worker.name.clone(),
        worker.pid.to_string(),
        state_name(worker.state().as_str_name()),
        format!("{}/{}", worker.busy, worker.capacity),
        worker.sockets.to_string(),
        format!("{} ms", worker.lag_milliseconds),
        worker.requests.to_string(),
        memory(worker.memory),
        age(Duration::from_millis(worker.age_milliseconds)),
        match worker.r#loop.as_str() {
            "" => worker.python.clone(),
            event_loop => format!("{}, {event_loop}", worker.python),
        },
    ]
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("  {cell:<width$}"));
    format!("{}\n", padded.collect::<String>().trim_end())
}

fn memory(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

/// Formats an age in its two largest units.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn an_app(name: &str, state: app::State, last_error: &str, workers: Vec<Worker>) -> App {
        App {
            name: name.to_owned(),
            state: state.into(),
            file: format!("/r/vassals/{name}.toml"),
            domains: vec![format!("{name}.localhost")],
            path: "/".to_owned(),
            wanted: 2,
            workers,
            last_error: last_error.to_owned(),
            generation: 1,
            app: "app.py".to_owned(),
            app_was_found: name == "shop",
            recycled: 3,
            last_recycled: format!("worker {name}-3 was recycled: it is 60 s old"),
            notices: if name == "shop" {
                vec!["2 of 2 workers missing: the next start is when the app's own files change".to_owned()]
            } else {
                Vec::new()
            },
            file_digest: None,
        }
    }

    fn a_worker(name: &str, pid: u32, state: worker::State, busy: u32, requests: u64) -> Worker {
        Worker {
            name: name.to_owned(),
            state: state.into(),
            pid,
            generation: 1,
            busy,
            capacity: 1,
            requests,
            memory: 34 * 1024 * 1024 + 1,
            age_milliseconds: 125_900,
            python: "CPython 3.11.7".to_owned(),
            leaving: if number_of(name) == 1 {
                "to be recycled: it is 60 s old".to_owned()
            } else {
                String::new()
            },
            interface: "wsgi".to_owned(),
            ..Worker::default()
        }
    }

    fn an_asgi_worker(name: &str, state: worker::State, sockets: u32, end: Option<u64>) -> Worker {
        Worker {
            interface: "asgi".to_owned(),
            r#loop: "uvloop".to_owned(),
            sockets,
            lag_milliseconds: 3,
            capacity: 100,
            sockets_end_milliseconds: end,
            leaving: end.map_or_else(String::new, |_| "replaced by a newer version of the app".to_owned()),
            ..a_worker(name, 7, state, 2, 9)
        }
    }

    fn number_of(name: &str) -> u32 {
        name.rsplit_once('-').unwrap().1.parse().unwrap()
    }

    #[track_caller]
    fn check(apps: Vec<App>, colors: Colors, expected: &str) {
        let addresses = Addresses { admin: Some("127.0.0.1:9180".parse().unwrap()), ..addresses() };
        let status = StatusResponse { apps, ..StatusResponse::default() };
        assert_eq!(render(&status, &addresses, colors), expected);
    }

    fn addresses() -> Addresses {
        Addresses {
            http: vec!["127.0.0.1:8080".parse().unwrap()],
            https: vec!["127.0.0.1:8443".parse().unwrap()],
            admin: None,
        }
    }

    #[test]
    fn metrics_whose_url_is_unknown_are_left_out() {
        let status = StatusResponse {
            apps: vec![an_app("blog", app::State::Running, "", vec![])],
            ..StatusResponse::default()
        };
        let text = render(&status, &addresses(), Colors::Off);
        assert!(!text.contains("metrics"), "{text}");
        assert!(text.ends_with("was recycled: it is 60 s old\n"), "{text}");
    }

    #[test]
    fn blocks() {
        let blog = an_app(
            "blog",
            app::State::Running,
            "",
            vec![
                a_worker("blog-1", 7, worker::State::Ready, 1, 12345),
                a_worker("blog-2", 12345, worker::State::Starting, 0, 0),
            ],
        );
        let shop = an_app("shop", app::State::Failed, "shop-1: import `shop`\nTraceback:\n  line 1", vec![]);
        let blog_text = "\
blog  running  1 of 2 workers ready  /r/vassals/blog.toml
  https://blog.localhost:8443/
  http://blog.localhost:8080/
  WORKER  PID    STATE     BUSY  REQUESTS  MEMORY  AGE    PYTHON
  blog-1  7      ready     1/1   12345     35 MiB  2m 5s  CPython 3.11.7
  blog-2  12345  starting  0/1   0         35 MiB  2m 5s  CPython 3.11.7
  blog-1: to be recycled: it is 60 s old
  recycled: 3, last: worker blog-3 was recycled: it is 60 s old
";
        let shop_text = "\
shop  failed  0 of 2 workers ready  /r/vassals/shop.toml
  https://shop.localhost:8443/
  http://shop.localhost:8080/
  app, found in its folder: app.py
  recycled: 3, last: worker shop-3 was recycled: it is 60 s old
  2 of 2 workers missing: the next start is when the app's own files change
  last error:
    shop-1: import `shop`
    Traceback:
      line 1
  to start it now: imperium reload shop
";
        let metrics = "\nmetrics  http://127.0.0.1:9180/-/metrics\n";
        check(vec![blog.clone()], Colors::Off, &format!("{blog_text}{metrics}"));
        check(vec![shop.clone()], Colors::Off, &format!("{shop_text}{metrics}"));
        check(vec![blog, shop.clone()], Colors::Off, &format!("{blog_text}\n{shop_text}{metrics}"));
        let red = shop_text.replace("failed", "\x1b[31mfailed\x1b[0m");
        check(vec![shop], Colors::On, &format!("{red}{metrics}"));
        check(vec![], Colors::Off, "no apps: `imperium new PATH` writes the file of one\n");
    }

    #[test]
    fn workers_with_event_loops_and_the_sockets_that_keep_them() {
        let chat = an_app(
            "chat",
            app::State::Running,
            "",
            vec![
                an_asgi_worker("chat-1", worker::State::Draining, 12, Some(3_540_000)),
                an_asgi_worker("chat-2", worker::State::Draining, 1, Some(59_000)),
                an_asgi_worker("chat-3", worker::State::Ready, 5, None),
            ],
        );
        let text = block(&chat, &addresses(), Colors::Off);
        let expected = "\
  WORKER  PID  STATE     BUSY   SOCKETS  LAG   REQUESTS  MEMORY  AGE    PYTHON
  chat-1  7    draining  2/100  12       3 ms  9         35 MiB  2m 5s  CPython 3.11.7, uvloop
  chat-2  7    draining  2/100  1        3 ms  9         35 MiB  2m 5s  CPython 3.11.7, uvloop
  chat-3  7    ready     2/100  5        3 ms  9         35 MiB  2m 5s  CPython 3.11.7, uvloop
  chat-1: replaced by a newer version of the app; draining, 12 WebSockets open, up to 59m 0s
  chat-2: replaced by a newer version of the app; draining, 1 WebSocket open, up to 59s
";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn ages() {
        let check = |seconds, expected: &str| assert_eq!(age(Duration::from_secs(seconds)), expected);
        check(0, "0s");
        check(59, "59s");
        check(60, "1m 0s");
        check(3599, "59m 59s");
        check(3600, "1h 0m");
        check(86399, "23h 59m");
        check(86400, "1d 0h");
        check(200_000, "2d 7h");
    }
}
