//! The content of a wheel, and that it works when it is installed.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use ::tests::wait::until;
use ::tests::{place::Place, ports, process};
use rustix::process::Signal;
use xtask::setup::Quietly as _;

use super::*;
use crate::dist::{files, installed};

const APP: &str = r#"
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served from a wheel"]
"#;

/// Installs it like a user without a compiler: with pip, into a new virtualenv. The programs are those of a
/// checkout.
#[tokio::test]
async fn an_installation_with_pip_serves_an_app() {
    skip::needs_program!("objcopy");
    let place = Place::of_tests().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for file in files(&place.binaries) {
        let stripped = folder.path().join(file.file_name().unwrap());
        Command::new("objcopy").arg("--strip-all").arg(file).arg(stripped).quietly().unwrap();
    }
    let mut tree = Tree::default();
    installed::programs(&mut tree, folder.path()).unwrap();
    let version = Version { text: env!("CARGO_PKG_VERSION").to_owned(), epoch: 0 };
    let wheel = path(&name(&version, Target::HOST));
    fs::write(&wheel, whole(&tree, &version, Target::HOST).unwrap()).unwrap();
    Command::new("python3").args(["-m", "venv"]).arg(path("venv")).quietly().unwrap();
    let mut pip = Command::new(path("venv/bin/python"));
    pip.args(["-m", "pip", "install", "--no-index"]).arg(&wheel).quietly().unwrap();
    Command::new(path("venv/bin/python")).args(["-c", "import imperium"]).quietly().unwrap();
    assert!(!path("venv/bin/workerd").exists());

    fs::write(path("app.py"), APP).unwrap();
    let [http, https] = ports::free().unwrap();
    let log = fs::File::create(path("log")).unwrap();
    let mut up = Command::new(path("venv/bin/imperium"))
        .args(["up", "app.py", "--http", &http.to_string(), "--https", &https.to_string()])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let answer =
        until("the app is served", async || Ok(get(http).ok().filter(|it| it.contains("200 OK")))).await;
    process::signal(up.id(), Signal::TERM).unwrap();
    let status = up.wait().unwrap();
    let log = fs::read_to_string(path("log")).unwrap();
    assert!(answer.expect(&log).ends_with("served from a wheel"), "{log}");
    assert_eq!(status.code(), Some(0), "{log}");
}

fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn base64() {
    for (bytes, expected) in
        [(&b""[..], ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (&[0xfb, 0xff], "-_8")]
    {
        assert_eq!(base64url(bytes), expected);
    }
}

/// The version is repeated in pyproject.toml, for installations from source.
#[test]
fn the_versions_are_the_same() {
    let pyproject = xtask::root().join("crates/pyworker/python/pyproject.toml");
    let pyproject = fs::read_to_string(pyproject).unwrap();
    assert!(pyproject.contains(&format!("version = \"{}\"", env!("CARGO_PKG_VERSION"))), "{pyproject}");
    assert_eq!(package().unwrap().bytes, package().unwrap().bytes);
}

#[test]
fn only_the_command_is_in_the_path() {
    for (path, expected) in [
        ("bin/imperium", Some("imperium-1.2.3.data/scripts/imperium")),
        ("lib/imperium/frontd", Some("imperium-1.2.3.data/data/lib/imperium/frontd")),
        ("lib/imperium/libpyworker.so", Some("imperium-1.2.3.data/data/lib/imperium/libpyworker.so")),
        (
            "share/doc/imperium/THIRD-PARTY-LICENSES",
            Some("imperium-1.2.3.dist-info/licenses/THIRD-PARTY-LICENSES"),
        ),
        ("lib/systemd/system/frontd@.service", None),
        ("share/imperium/imperium-1.2.3-py3-none-any.whl", None),
    ] {
        assert_eq!(place(Path::new(path), "1.2.3").as_deref(), expected, "{path}");
    }
}
