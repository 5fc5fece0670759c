//! emperord's file: defaults and errors.

use super::*;
use crate::example::uncommented;

fn parse(text: &str) -> Result<EmperordConfig, Diagnostics> {
    let source = Source { path: "/r/emperord.toml".into(), text: text.to_owned() };
    EmperordConfig::parse(source, &Layout::under(Path::new("/r")).unwrap(), Path::new("/bin/workerd"))
}

#[test]
fn nothing_means_the_defaults() {
    let expected = EmperordConfig {
        vassals: "/r/vassals".into(),
        socket: "/r/run/emperord.sock".into(),
        run: "/r/run".into(),
        state: "/r/run/state".into(),
        workerd: "/bin/workerd".into(),
        concurrent_starts: 2 * available_parallelism().unwrap().get(),
        mode: Mode::Production,
        configured_by: ConfiguredBy::Files,
    };
    assert_eq!(parse("").unwrap(), expected);
}

#[test]
fn the_socket_follows_run() {
    let config = parse("run = 'x'\nworkerd = 'w'").unwrap();
    assert_eq!(config.socket, Path::new("/r/x/emperord.sock"));
    assert_eq!(config.workerd, Path::new("/r/w"));
    let worker = WorkerName::parse("blog-2").unwrap();
    assert_eq!(config.worker_socket(&worker).unwrap(), Path::new("/r/x/workers/blog/blog-2.sock"));
}

#[test]
fn errors() {
    let message = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(
        message("vasals = 'x'"),
        "/r/emperord.toml:1:1: unknown key `vasals`: did you mean `vassals`?"
    );
    let long = message(&format!("run = '/{}'", "x".repeat(100)));
    assert!(long.starts_with("/r/emperord.toml:1:7: `run` is too long: the socket path /xx"), "{long}");
}

/// The commented-out values in the example are the defaults.
#[test]
fn the_example() {
    let example = include_str!("../../../../deploy/examples/emperord.toml");
    let layout = Layout::system();
    let parse = |text: String, workerd: &str| {
        let source = Source { path: layout.emperord_toml(), text };
        EmperordConfig::parse(source, &layout, Path::new(workerd)).unwrap()
    };
    let default = |workerd: &str| EmperordConfig::new(&layout, Path::new(workerd));
    assert_eq!(parse(example.to_owned(), "/bin/workerd"), default("/bin/workerd"));
    let uncommented = parse(uncommented(example), "/bin/workerd");
    assert_eq!(uncommented, default("/bin/workerd"));
}
