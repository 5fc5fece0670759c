//! Ways to name an app: a real worker loads and calls each one.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::status::App;
use tests::vassal::Vassal;

const ANSWERS: &str = "
def answers(text):
    def application(environ, start_response):
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [str(text).encode()]
    return application
";

const SHOP: &str = "
from answers import answers

def create(config, *rest, debug=True, **more):
    return answers((config, rest, debug, more))

class Application:
    def __init__(self, environ, start_response):
        start_response('200 OK', [('Content-Type', 'text/plain')])

    def __iter__(self):
        yield b'a class'
";

/// A file next to a package `app`, and named like a module of the standard library.
const BESIDE: &str = "
import site, sys
from answers import answers
from app.models import NAME
assert sys.modules['app'].__path__ and site.getsitepackages
application = app = answers(NAME)
";

const LOGGING: &str = "
[loggers]
keys = root

[handlers]
keys = file

[formatters]
keys =

[logger_root]
level = INFO
handlers = file

[handler_file]
class = FileHandler
args = ('%(here)s/paste.log',)
";

#[tokio::test]
async fn calls_files_and_classes() -> anyhow::Result<()> {
    let files = [
        ("answers.py", ANSWERS),
        ("shop.py", SHOP),
        ("app.py", BESIDE),
        ("app/__init__.py", ""),
        ("app/models.py", "NAME = 'by its path'"),
        ("site.wsgi", "from answers import answers\napplication = answers(__file__.rpartition('/')[2])"),
        ("old-site.wsgi", "from answers import answers\napplication = answers('a dash')"),
    ];
    in_folder(&files, async |stack, folder| {
        for (number, (app, expected)) in [
            ("shop:create('prod', debug=False)", "('prod', (), False, {})"),
            (
                "shop.py:create('a:b(c)', -1, [None, 1.5], x={'y': (True,)})",
                "('a:b(c)', (-1, [None, 1.5]), True, {'x': {'y': (True,)}})",
            ),
            ("shop:Application", "a class"),
            ("app.py:app", "by its path"),
            ("site.wsgi:application", "site.wsgi"),
            ("site.wsgi", "site.wsgi"),
            ("old-site.wsgi", "a dash"),
        ]
        .into_iter()
        .enumerate()
        {
            let vassal = Vassal::new(&format!("shop{number}"), folder, app);
            answers(stack, &vassal, expected).await.context(app)?;
        }
        let why = "literals only, but a literal is missing";
        stack.put(&Vassal::new("refused", folder, "shop:create(open('/etc/passwd'))"))?;
        stack.until("refused", why, |app: &App| app.error().contains(why)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn paste_files() -> anyhow::Result<()> {
    let plain = format!(
        "[app:main]\npaste.app_factory = plain:main\ntext = main\n\n[app:admin]\npaste.app_factory = plain:main\ntext = admin\n{LOGGING}"
    );
    let files = [
        ("answers.py", ANSWERS),
        ("production.ini", &plain),
        (
            "plain.py",
            "import logging\nfrom answers import answers\ndef main(config, text):\n    logging.getLogger('shop').info('made %s', text)\n    return answers(text)\n",
        ),
        // If Pyramid isn't installed, Paste itself loads the file.
        ("alone/pyramid/__init__.py", "raise ModuleNotFoundError(\"No module named 'pyramid'\")"),
        ("alone/x.ini", "[app:main]\npaste.app_factory = plain:main\ntext = alone\n"),
        ("alone/plain.py", "from answers import answers\ndef main(config, text): return answers(text)\n"),
        ("alone/answers.py", ANSWERS),
    ];
    in_folder(&files, async |stack, folder| {
        let venv = &stack.place.venv;
        for (name, app) in [("main", "production.ini"), ("admin", "production.ini:admin")] {
            answers(stack, &Vassal::new(name, folder, app).python(venv), name).await?;
            let log = fs::read_to_string(folder.join("paste.log"))?;
            ensure!(log.contains(&format!("made {name}")), "its logging was not set up: {log:?}");
        }
        answers(stack, &Vassal::new("alone", &folder.join("alone"), "x.ini").python(venv), "alone").await?;
        let why = "names the file";
        stack.put(&Vassal::new("refused", folder, "nono.ini"))?;
        stack.until("refused", why, |app: &App| app.error().contains(why)).await?;
        Ok(())
    })
    .await
}

async fn answers(stack: &Stack, vassal: &Vassal, expected: &str) -> anyhow::Result<()> {
    stack.put(vassal)?;
    let settled = |app: &App| app.is_whole() || app.state == "failed" || !app.error().is_empty();
    let app = stack.until(vassal.name(), "it has started or failed", settled).await?;
    ensure!(app.is_whole(), "it has failed: {}", app.error());
    let text = stack.client(vassal.name(), Protocol::Plain)?.get("/").await?.expect(200)?.text();
    ensure!(text == expected, "{text:?} was answered, not {expected:?}");
    Ok(())
}

/// A stack, and a folder with files.
async fn in_folder(
    files: &[(&str, &str)],
    test: impl AsyncFnOnce(&Stack, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, text)?;
    }
    stack::with([Vassal::wsgi(&Place::of_tests()?)], async |stack| test(stack, folder.path()).await).await
}
