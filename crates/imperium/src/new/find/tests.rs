//! Projects as their authors write them, and what is found in each.

use std::path::PathBuf;

use super::*;

#[track_caller]
fn check(files: &[(&str, &str)], expected: &str) {
    let modules: Vec<_> = files
        .iter()
        .map(|(path, text)| Module { path: PathBuf::from(path), text: (*text).to_owned() })
        .collect();
    let told = match find(Path::new("/srv/shop"), &modules) {
        Ok(found) => format!("{} {}", found.framework, found.app),
        Err(wrong) => wrong.to_string(),
    };
    assert_eq!(told, expected);
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
    let wsgi = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()";
    check(&[("shop/wsgi.py", wsgi)], "Django shop.wsgi:application");
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
        "shop.py, line 2: create_app needs arguments, and a factory is called without any: \
         write a wsgi.py with `application = create_app(…)`",
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
    check(&[("tool.py", "window = App()"), ("z.py", "application = 1")], "WSGI z:application");
}

#[test]
fn what_cannot_be_served() {
    check(
        &[("main.py", "from fastapi import FastAPI\napp = FastAPI()")],
        "main.py, line 2: FastAPI makes an ASGI app, and WSGI is what is served: \
         serve it by another server, or name its WSGI app in a vassal file of your own",
    );
    check(
        &[("setup.py", "name = 'shop'")],
        "/srv/shop has no Django project, no Flask or Pyramid app and no WSGI callable: \
         name the folder that has wsgi.py, app.py or manage.py in it",
    );
}
