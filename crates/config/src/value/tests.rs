//! Values in notations for people.

use super::*;

#[track_caller]
fn check<T: std::fmt::Debug>(parsed: Result<T, Wrong>, expected: &str) {
    let message = match parsed {
        Ok(value) => format!("{value:?}"),
        Err(wrong) => wrong.to_string(),
    };
    assert_eq!(message, expected);
}

fn value(toml: &str) -> Value {
    toml.parse().unwrap()
}

#[test]
fn durations() {
    let check = |toml: &str, expected: &str| {
        let bounds = Duration::from_millis(100)..=Duration::from_secs(86_400);
        check(duration(bounds)(&value(toml)), expected);
    };
    for (toml, expected) in [
        ("'30s'", "30s"),
        ("'30 s'", "30s"),
        ("' 500ms '", "500ms"),
        ("'1.5s'", "1.5s"),
        ("'2m'", "120s"),
        ("'2min'", "120s"),
        ("'1h'", "3600s"),
        ("'1d'", "86400s"),
        ("90", "90s"),
        ("0.5", "500ms"),
    ] {
        check(toml, expected);
    }
    let hint = "write for example \"30s\", \"500ms\", \"2m\" or \"1h\"; a number without a unit is seconds";
    for toml in [
        "'x'", "''", "'s'", "'-1s'", "'1e3s'", "'1 2s'", "'30'", "'30S'", "'1..5s'", "true", "-1", "nan",
        "[]",
    ] {
        let shown = if toml == "[]" { "an array" } else { toml };
        check(toml, &format!("must be a duration, not {shown}: {hint}"));
    }
    for toml in ["0", "'99ms'", "'25h'", "1e300", "inf", "9223372036854775807"] {
        check(toml, &format!("must be from 100ms to 1d, not {toml}"));
    }
}

#[test]
fn sizes() {
    let check = |toml: &str, expected: &str| check(size(1000..=1 << 40)(&value(toml)), expected);
    for (toml, expected) in [
        ("'300 MB'", "300000000"),
        ("'300MB'", "300000000"),
        ("'64 KiB'", "65536"),
        ("'1.5 kB'", "1500"),
        ("'1 GiB'", "1073741824"),
        ("'1 TiB'", "1099511627776"),
        ("'2000 B'", "2000"),
        ("4096", "4096"),
    ] {
        check(toml, expected);
    }
    let hint = "write for example \"300 MB\" or \"64 KiB\"; a number without a unit is bytes";
    for toml in ["'10m'", "'10 mb'", "'x'", "'MB'", "'1'", "''", "-1", "false"] {
        check(toml, &format!("must be a size, not {toml}: {hint}"));
    }
    for toml in ["999", "'2 TiB'", "'99999999999999999999999 TB'"] {
        check(toml, &format!("must be from 1 kB to 1 TiB, not {toml}"));
    }
}

#[test]
fn integers() {
    let check = |toml: &str, expected: &str| check(integer::<u16>(1..=1000)(&value(toml)), expected);
    check("1", "1");
    check("1_000", "1000");
    check("0x10", "16");
    check("'4'", "must be a whole number from 1 to 1000, not '4': write 4 without quotes");
    for toml in ["0", "1001", "-1", "2.5", "true", "'four'", "9223372036854775807"] {
        check(toml, &format!("must be a whole number from 1 to 1000, not {toml}"));
    }
    check("[4]", "must be a whole number from 1 to 1000, not an array");
}

#[test]
fn texts() {
    let check = |toml: &str, expected: &str| check(text(&value(toml)), expected);
    check("'x'", "\"x\"");
    check("\"a\\u0000b\"", "must not contain a zero byte");
    check("8", "must be a string, not an integer: write \"8\"");
    check("{ a = 1 }", "must be a string, not a table");
}

#[test]
fn paths() {
    let check = |toml: &str, expected: &str| check(path("/etc/imperium".into())(&value(toml)), expected);
    check("'/srv/blog'", "\"/srv/blog\"");
    check("'/srv/blog/'", "\"/srv/blog\"");
    check("'./blog/.'", "\"/etc/imperium/blog\"");
    check("'../blog'", "\"/etc/imperium/../blog\"");
    check("'.'", "\"/etc/imperium\"");
    check("''", "must not be empty: write \".\" for the folder of this file");
    for home in ["'~'", "'~/site'"] {
        check(home, "begins with `~`, which is only expanded by shells: write the whole path");
    }
    check("1", "must be a string, not an integer: write \"1\"");
}

#[test]
fn addresses() {
    let check = |text: &str, expected: &str| check(address(text), expected);
    check("127.0.0.1:80", "127.0.0.1:80");
    check("[::]:443", "[::]:443");
    for (text, port) in [("localhost:81", 81), (":81", 81), ("81", 81), ("127.0.0.1", 8080), ("*:x", 8080)] {
        let hint = format!(
            "\"[::]:{port}\" to listen on all interfaces, \"127.0.0.1:{port}\" for this machine only"
        );
        check(text, &format!("must be an IP address with a port, not \"{text}\": write {hint}"));
    }
}
