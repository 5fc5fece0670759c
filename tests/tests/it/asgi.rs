//! Whether an app is called as WSGI or as ASGI says, whatever it is made of.

use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::Stack;
use tests::vassal::Vassal;

/// The beginning of each ASGI app. It doesn't support lifespan: it sends a wrong message.
const RESPOND: &str = "async def respond(scope, receive, send):
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': b'ok'})

";

/// Apps of ASGI, as frameworks and their users make them.
const ASGI: [(&str, &str); 10] = [
    ("function", "async def app(scope, receive, send): await respond(scope, receive, send)"),
    // FastAPI, Starlette, Quart, Litestar.
    (
        "object",
        "class App:\n    async def __call__(self, scope, receive, send): await respond(scope, receive, send)\n\napp = App()",
    ),
    // A middleware that is no coroutine itself.
    (
        "forwards",
        "class App:\n    def __call__(self, scope, receive, send): return respond(scope, receive, send)\n\napp = App()",
    ),
    (
        "method",
        "class App:\n    async def handle(self, scope, receive, send): await respond(scope, receive, send)\n\napp = App().handle",
    ),
    (
        "partial",
        "import functools\nasync def serve(site, scope, receive, send): await respond(scope, receive, send)\n\n\
         app = functools.partial(serve, 'site')",
    ),
    (
        "decorated",
        "import functools\ndef log(f):\n    @functools.wraps(f)\n    def wrapper(*args, **kwargs): return f(*args, **kwargs)\n    \
         return wrapper\n\n@log\nasync def app(scope, receive, send): await respond(scope, receive, send)",
    ),
    (
        "class",
        "class app:\n    def __init__(self, scope, receive, send): self.call = respond(scope, receive, send)\n    \
         def __await__(self): return self.call.__await__()",
    ),
    (
        "double",
        "def app(scope):\n    async def instance(receive, send): await respond(scope, receive, send)\n    return instance",
    ),
    (
        "double-class",
        "class app:\n    def __init__(self, scope): self.scope = scope\n    \
         async def __call__(self, receive, send): await respond(self.scope, receive, send)",
    ),
    // As with annotations that only a type checker can evaluate.
    (
        "no-signature",
        "async def app(scope, receive, send): await respond(scope, receive, send)\n\napp.__signature__ = 'unknown'",
    ),
];

/// Apps of WSGI that resemble them.
const WSGI: [(&str, &str); 5] = [
    (
        "wsgi-no-signature",
        "def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']\n\napp.__signature__ = 'unknown'",
    ),
    (
        "wsgi-partial",
        "import functools\ndef serve(site, environ, start):\n    start('200 OK', [])\n    return [site]\n\napp = functools.partial(serve, b'ok')",
    ),
    (
        "wsgi-decorated",
        "import functools\ndef log(f):\n    @functools.wraps(f)\n    def wrapper(*args, **kwargs): return f(*args, **kwargs)\n    \
         return wrapper\n\n@log\ndef app(environ, start):\n    start('200 OK', [])\n    return [b'ok']",
    ),
    (
        "wsgi-runs-a-coroutine",
        "import asyncio, functools\ndef run(f):\n    @functools.wraps(f)\n    def wrapper(*args): return asyncio.run(f(*args))\n    \
         return wrapper\n\n@run\nasync def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']",
    ),
    (
        "wsgi-class",
        "class app:\n    def __init__(self, environ, start):\n        start('200 OK', [])\n    def __iter__(self): yield b'ok'",
    ),
];

#[tokio::test]
async fn the_interface_of_an_app_is_detected() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let module = |name: &str| name.replace('-', "_");
    for (name, text) in ASGI {
        fs::write(folder.path().join(module(name)).with_extension("py"), format!("{RESPOND}{text}"))?;
    }
    for (name, text) in WSGI {
        fs::write(folder.path().join(module(name)).with_extension("py"), text)?;
    }
    let vassal = |name: &str| Vassal::new(name, folder.path(), &format!("{}:app", module(name)));
    let names = ASGI.iter().chain(&WSGI).map(|(name, _)| *name);
    let stack = Stack::start(Place::of_tests()?, names.clone().map(vassal))?;
    let outcome = Box::pin(async {
        for name in names {
            stack.ready(name, 1).await?;
            let text = stack.client(name, Protocol::Http1)?.get("/").await?.expect(200)?.text();
            ensure!(text == "ok", "{name} says {text}");
            let app = stack.until(name, "it runs", |it| !it.workers.is_empty()).await?;
            let shown = (app.workers[0].interface.as_str(), app.workers[0].r#loop.is_empty());
            let expected = if name.starts_with("wsgi-") { ("wsgi", true) } else { ("asgi", false) };
            ensure!(shown == expected, "{name}: {:?}", app.workers[0]);
        }
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}

#[tokio::test]
async fn what_the_file_says_of_the_interface_is_never_ignored() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("site.py"), format!("{RESPOND}app = respond"))?;
    let vassal = |name: &str, line: &str| Vassal::new(name, folder.path(), "site.py:app").key(line);
    fs::write(folder.path().join("plain.py"), WSGI[3].1)?;
    let plain = |name: &str, line: &str| Vassal::new(name, folder.path(), "plain.py:app").key(line);
    let vassals = [
        vassal("as-wsgi", "interface = \"wsgi\""),
        vassal("with-threads", "threads = 2"),
        plain("with-concurrency", "concurrency = 100"),
        plain("with-loop", "loop = \"asyncio\""),
    ];
    let stack = Stack::start(Place::of_tests()?, vassals)?;
    let outcome = Box::pin(async {
        for (name, expected) in [
            (
                "as-wsgi",
                "this is an ASGI app, and the app's file says `interface = \"wsgi\"`: remove that line",
            ),
            ("with-threads", "the app's file says `threads = 2`: write `concurrency = 2` instead"),
            ("with-concurrency", "the app's file sets `concurrency`, which is for ASGI apps: remove it"),
            ("with-loop", "the app's file sets `loop`, which is for ASGI apps: remove it"),
        ] {
            let app = stack.until(name, "it was refused", |app| !app.error().is_empty()).await?;
            ensure!(app.error().contains(expected), "{name}: {:?} should contain {expected:?}", app.error());
        }
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}
