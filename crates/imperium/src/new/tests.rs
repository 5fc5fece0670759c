//! Snapshot tests: from a project's folder to its file.

use super::*;

/// Writes these files into a temporary folder, and runs `imperium new` on it. `ROOT` in the output stands for
/// that folder.
fn new(files: &[(&str, &str)], arguments: &[&str]) -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let error = run_in(root.path(), arguments);
    (root, error)
}

fn run_in(root: &Path, arguments: &[&str]) -> String {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let project = root.join("My_Shop");
    let line = ["new".as_ref(), "--root".as_ref(), root.as_os_str(), project.as_os_str()];
    let line = line.into_iter().chain(arguments.iter().map(std::ffi::OsStr::new));
    let ended = run(&<Line as clap::Parser>::parse_from(line).args);
    let root = fs::canonicalize(root).unwrap();
    ended.map_or_else(|error| error.to_string().replace(root.to_str().unwrap(), "ROOT"), |_| String::new())
}

const FLASK: (&str, &str) = ("My_Shop/app.py", "from flask import Flask\n\napp = Flask(__name__)\n");

#[test]
fn each_setting_is_explained() {
    let venv = [
        ("My_Shop/.venv/bin/python", ""),
        ("My_Shop/.venv/pyvenv.cfg", "version = 3.11.2"),
        ("My_Shop/static/a.css", ""),
    ];
    let (root, error) = new(&[&[FLASK], &venv[..]].concat(), &["--domain", "shop.example", "--dry-run"]);
    assert_eq!(error, "");
    assert!(!root.path().join("vassals").exists());
    assert_eq!(run_in(root.path(), &["--domain", "shop.example"]), "");
    let written = fs::read_to_string(root.path().join("vassals/my_shop.toml")).unwrap();
    let written = written.replace(fs::canonicalize(root.path()).unwrap().to_str().unwrap(), "ROOT");
    let expected = "# The app my_shop, in ROOT/My_Shop.

# The hosts of the app, as given by --domain.
domains = [\"shop.example\"]

# Flask: app.py, line 3: app = Flask(__name__)
app = \"app:app\"
directory = \"ROOT/My_Shop\"

# A virtualenv with Python 3.11.2.
python = \"ROOT/My_Shop/.venv\"

# Worker processes. `imperium scale my_shop N` changes the number while the app runs.
workers = 2

# Files that frontd sends from disk, without the app.
[static]
# The folder static next to app.py, which is Flask's default
\"/static/\" = \"ROOT/My_Shop/static\"
";
    assert_eq!(written, expected);
}

#[test]
fn an_app_whose_socket_path_is_too_long_is_not_written() {
    let run = format!("run = '/{}'", "r".repeat(85));
    let (root, error) = new(&[FLASK, ("emperord.toml", &run)], &[]);
    assert!(error.contains("my_shop.toml"), "{error}");
    assert!(!root.path().join("vassals/my_shop.toml").exists());
}

#[test]
fn existing_files_are_not_overwritten() {
    let (root, error) = new(&[FLASK], &["--name", "shop"]);
    assert_eq!(error, "");
    let file = root.path().join("vassals/shop.toml");
    Vassal::load(&file).unwrap();
    let before = fs::read(&file).unwrap();
    assert_eq!(
        run_in(root.path(), &["--name", "shop", "--domain", "b.example"]),
        "write ROOT/vassals/shop.toml: the file already exists"
    );
    assert_eq!(
        run_in(root.path(), &["--name", "other", "--domain", "shop.localhost"]),
        "the file that would be written, ROOT/vassals/other.toml, has mistakes"
    );
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(fs::read_dir(root.path().join("vassals")).unwrap().count(), 1);
}

#[test]
fn django_static_files_that_are_not_collected_yet() {
    let settings =
        "ALLOWED_HOSTS = [\"shop.example\"]\nSTATIC_URL = \"static/\"\nSTATIC_ROOT = BASE_DIR / \"public\"\n";
    let files = [
        ("My_Shop/manage.py", "    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')"),
        ("My_Shop/shop/settings.py", settings),
        ("My_Shop/shop/wsgi.py", ""),
    ];
    let (root, error) = new(&files, &[]);
    assert_eq!(error, "");
    let vassal = Vassal::load(&root.path().join("vassals/my_shop.toml")).unwrap();
    assert_eq!(
        (vassal.app.to_string().as_str(), vassal.domains[0].as_str()),
        ("shop.wsgi:application", "shop.example")
    );
    assert!(vassal.static_folders.is_empty());
    fs::create_dir(root.path().join("My_Shop/public")).unwrap();
    assert_eq!(run_in(root.path(), &["--name", "b", "--domain", "b.example"]), "");
    let vassal = Vassal::load(&root.path().join("vassals/b.toml")).unwrap();
    assert_eq!(vassal.static_folders.len(), 1);
}

#[test]
fn a_folder_without_an_app_is_refused() {
    let (_root, error) = new(&[("My_Shop/notes.txt", "")], &[]);
    assert!(error.starts_with("inspect ROOT/My_Shop: ROOT/My_Shop has no Django project"), "{error}");
}
