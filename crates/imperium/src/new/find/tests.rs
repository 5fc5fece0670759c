//! Projects in the styles of real ones, and what is found in each. Whole projects are in `tests/corpus`.

use std::fs;

use super::*;

#[track_caller]
fn check(files: &[(&str, &str)], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let actual = match find(&Project::look(folder.path()), None) {
        Ok(found) => {
            let directory = found.directory.strip_prefix(folder.path()).unwrap().display().to_string();
            let directory = if directory.is_empty() { directory } else { format!(" in {directory}") };
            format!("{} {}{directory}", found.framework, found.app)
        }
        Err(wrong) => wrong.to_string().replace(folder.path().to_str().unwrap(), "/srv/shop"),
    };
    assert_eq!(actual, expected);
}

#[test]
fn django_projects() {
    let manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')";
    check(&[("manage.py", manage), ("shop/wsgi.py", "")], "Django shop.wsgi:application");
    let nested = "    os.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"config.settings.local\")";
    check(&[("manage.py", nested), ("config/wsgi.py", "")], "Django config.wsgi:application");
    check(
        &[("manage.py", manage), ("shop/celery.py", "app = Celery('shop')"), ("shop/wsgi.py", "")],
        "Django shop.wsgi:application",
    );
    check(
        &[("manage.py", manage), ("shop/settings.py", "")],
        "Django django.core.wsgi:get_wsgi_application()",
    );
    check(&[("a/b/manage.py", manage), ("a/b/shop/wsgi.py", "")], "Django shop.wsgi:application in a/b");
    let wsgi = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()";
    check(&[("shop/wsgi.py", wsgi), ("shop/__init__.py", "")], "Django shop.wsgi:application");
    check(
        &[("a/manage.py", manage), ("b/manage.py", manage)],
        "there are several Django projects: a/manage.py and b/manage.py: pass the folder of one of them",
    );
}

#[test]
fn flask_apps() {
    check(&[("app.py", "from flask import Flask\napp = Flask(__name__)")], "Flask app:app");
    check(&[("hello.py", "import flask\nweb = flask.Flask('x')")], "Flask hello:web");
    check(&[("my-site.py", "from flask import Flask\napp = Flask(__name__)")], "Flask my-site.py:app");
    check(
        &[("shop/__init__.py", "from flask import Flask\n\ndef create_app(test=None):")],
        "Flask shop:create_app()",
    );
    check(
        &[
            ("shop/__init__.py", "from flask import Flask\ndef create_app():"),
            ("wsgi.py", "from shop import create_app\napp = create_app()"),
        ],
        "Flask wsgi:app",
    );
    check(
        &[("shop.py", "from flask import Flask\ndef create_app(config, debug=False):")],
        "shop.py, line 2: create_app needs arguments: \
         pass literals, such as `--app 'module:create_app(\"prod\")'`",
    );
    check(
        &[("app.py", "from flask import Flask\napp = Flask(__name__)\napp.run(debug=True)")],
        "app.py, line 3: `app.run(debug=True)` starts its own server when the file is imported: \
         move it under `if __name__ == \"__main__\":`",
    );
}

#[test]
fn pyramid_and_others() {
    let pyramid = "from pyramid.config import Configurator\nwith Configurator() as config:\n    pass\n\
                   app = config.make_wsgi_app()";
    check(&[("hello.py", pyramid)], "Pyramid hello:app");
    check(
        &[("wsgi.py", "from pyramid.paster import get_app\napplication = get_app('production.ini')")],
        "Pyramid wsgi:application",
    );
    check(&[("wsgi.py", "from shop.site import app as application")], "WSGI wsgi:application");
    check(&[("hello.py", "def application(environ, start_response):")], "WSGI hello:application");
    check(&[("api.py", "import falcon\napi = falcon.App()")], "Falcon api:api");
    check(&[("tool.py", "window = App()"), ("z.py", "application = make()")], "WSGI z:application");
}

#[test]
fn apps_that_cannot_be_served_are_refused() {
    check(
        &[("app.py", "from aiohttp import web\napp = web.Application()")],
        "app.py, line 2: aiohttp creates an app that is neither a WSGI nor an ASGI app: serve it with its own server, or \
         name another app with `--app module:callable`",
    );
    check(
        &[("setup.py", "name = 'shop'")],
        "/srv/shop has no Django project, and no WSGI or ASGI app was found in it: pass the folder or the file that has \
         the app; for an app that was installed with pip, pass the callable from its documentation for WSGI or ASGI servers, \
         such as `--app module:callable`",
    );
}
