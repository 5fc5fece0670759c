//! ASGI apps are refused when they start, whatever they are made of; WSGI apps that look like one are not.

use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::Stack;
use tests::vassal::Vassal;

/// Apps of ASGI, as frameworks and their users make them.
const ASGI: [(&str, &str); 9] = [
    ("function", "async def app(scope, receive, send): pass"),
    // FastAPI, Starlette, Quart, Litestar.
    ("object", "class App:\n    async def __call__(self, scope, receive, send): pass\n\napp = App()"),
    // A middleware that is no coroutine itself.
    ("forwards", "class App:\n    def __call__(self, scope, receive, send): return None\n\napp = App()"),
    ("method", "class App:\n    async def handle(self, scope, receive, send): pass\n\napp = App().handle"),
    (
        "partial",
        "import functools\nasync def serve(site, scope, receive, send): pass\n\napp = functools.partial(serve, 'site')",
    ),
    (
        "decorated",
        "import functools\ndef log(f):\n    @functools.wraps(f)\n    def wrapper(*args, **kwargs): return f(*args, **kwargs)\n    \
         return wrapper\n\n@log\nasync def app(scope, receive, send): pass",
    ),
    ("class", "class app:\n    async def __call__(self, scope, receive, send): pass"),
    ("double", "def app(scope):\n    async def instance(receive, send): pass\n    return instance"),
    (
        "double-class",
        "class app:\n    def __init__(self, scope): pass\n    async def __call__(self, receive, send): pass",
    ),
];

/// Apps of WSGI that resemble them.
const WSGI: [(&str, &str); 4] = [
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
async fn each_kind_of_asgi_app_is_refused_and_no_wsgi_app_is() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let module = |name: &str| name.replace('-', "_");
    for (name, text) in ASGI.iter().chain(&WSGI) {
        fs::write(folder.path().join(module(name)).with_extension("py"), text)?;
    }
    let names = ASGI.iter().chain(&WSGI).map(|(name, _)| name);
    let vassals = names.map(|it| Vassal::new(it, folder.path(), &format!("{}:app", module(it))));
    let stack = Stack::start(Place::of_tests()?, vassals)?;
    let outcome = Box::pin(async {
        for (name, _) in ASGI {
            let settled = |app: &tests::status::App| !app.error().is_empty() || app.is_whole();
            let app = stack.until(name, "it has started, or not", settled).await?;
            let told = app.error();
            let class = match name {
                "object" | "forwards" => " (MODULE.App)",
                "class" | "double-class" => " (MODULE.app)",
                "partial" => " (functools.partial)",
                _ => "",
            };
            let class = class.replace("MODULE", &module(name));
            let expected = format!("this is an ASGI app{class}, and ASGI isn't supported");
            ensure!(told.contains(&expected), "{name}: {told:?} should contain {expected:?}");
        }
        for (name, _) in WSGI {
            stack.ready(name, 1).await?;
            let text = stack.client(name, Protocol::Http1)?.get("/").await?.expect(200)?.text();
            ensure!(text == "ok", "{name} says {text}");
        }
        Ok(())
    })
    .await;
    if outcome.is_err() {
        stack.show_log();
    }
    outcome.and(stack.stop_with_clients().await)
}
