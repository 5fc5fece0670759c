//! Tests with ordinary files instead of the kernel's, and with a real cgroup v2 where possible.

use std::process::Command;

use super::*;

/// emperord's cgroup in `/proc/self/cgroup`.
const OWN: &str = "0::/a.slice/emperord.service\n";

/// Creates files like those of the kernel.
fn cgroup2(controllers: &str) -> tempfile::TempDir {
    let mount = tempfile::tempdir().unwrap();
    let own = mount.path().join("a.slice/emperord.service");
    fs::create_dir_all(own.join("imperium-workers")).unwrap();
    fs::write(mount.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
    for folder in [own.clone(), own.join("imperium-workers")] {
        fs::write(folder.join("cgroup.controllers"), controllers).unwrap();
    }
    mount
}

fn cgroups(mount: &Path) -> Cgroups {
    Cgroups { mount: mount.to_owned(), ..Cgroups::default() }
}

#[test]
fn limits_are_written_to_the_cgroup() {
    let mount = cgroup2("cpu memory pids");
    let tree = Tree::of(mount.path(), "1:name=systemd:/x\n0::/a.slice/emperord.service\n").unwrap();
    tree.enable(&CONTROLLERS).unwrap();
    assert_eq!(fs::read_to_string(tree.workers().join("cgroup.subtree_control")).unwrap(), "+memory +cpu");
    let worker = tree.workers().join("blog-1");
    fs::create_dir(&worker).unwrap();
    for file in ["cgroup.procs", "memory.max", "cpu.max"] {
        fs::write(worker.join(file), "").unwrap();
    }
    let cgroups = cgroups(mount.path());
    let make = |limits| cgroups.make(&tree, "blog-1", limits).unwrap();
    let leaf = make(ResourceLimits { memory: Some(300), cpu: Some(150) });
    leaf.enter(4_294_967_295).unwrap();
    let written = |file: &str| fs::read_to_string(worker.join(file)).unwrap();
    assert_eq!(written("memory.max"), "300");
    assert_eq!(written("cpu.max"), "150000 100000");
    assert_eq!(written("cgroup.procs"), "4294967295");
    // Limits of an earlier worker may still be set.
    drop(make(ResourceLimits { memory: None, cpu: Some(50) }));
    assert_eq!((written("memory.max"), written("cpu.max")), ("max".to_owned(), "50000 100000".to_owned()));
}

#[test]
fn limits_that_cannot_be_applied_are_reported() {
    let mount = cgroup2("memory");
    let refused = |mount: &Path, own: &str, controller: &str| {
        let enabled = Tree::of(mount, own).and_then(|tree| {
            fs::write(tree.workers().join("cgroup.subtree_control"), "memory").unwrap();
            tree.enable(&CONTROLLERS)?.has(controller)
        });
        enabled.err()
    };
    assert_eq!(refused(mount.path(), OWN, "memory"), None);
    let error = refused(mount.path(), OWN, "cpu").unwrap();
    assert!(error.starts_with("the cgroup ") && error.ends_with("has no controller `cpu`"), "{error}");
    for (mount, own) in [(Path::new("/proc"), OWN), (mount.path(), "1:name=systemd:/x\n")] {
        assert_eq!(refused(mount, own, "memory").unwrap(), "this system has no cgroup v2");
    }
}

#[test]
fn a_refusal_names_the_key_and_is_checked_again_each_time() {
    let mount = tempfile::tempdir().unwrap();
    let (cgroups, memory) = (cgroups(mount.path()), ResourceLimits { memory: Some(1), cpu: None });
    let error = cgroups.check(memory).unwrap_err();
    assert!(
        error.starts_with("`limits.memory` cannot be applied: this system has no cgroup v2: "),
        "{error}"
    );
    assert!(error.contains("`DelegateSubgroup=emperord` in its unit"), "{error}");
    assert!(cgroups.leaf("blog-1", memory).is_err());
    assert!(cgroups.leaf("blog-1", ResourceLimits { memory: None, cpu: None }).unwrap().is_none());
    // The files that the kernel would have in this process's actual cgroup.
    fs::write(mount.path().join("cgroup.controllers"), "memory").unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let Ok(tree) = Tree::of(mount.path(), &own) else { return };
    fs::create_dir_all(tree.workers()).unwrap();
    for folder in [tree.root(), &tree.workers()] {
        fs::write(folder.join("cgroup.controllers"), "memory").unwrap();
        fs::write(folder.join("cgroup.subtree_control"), "memory").unwrap();
    }
    assert_eq!(cgroups.check(memory), Ok(()));
}

/// Runs itself again in a delegated cgroup, in separate namespaces.
#[test]
fn all_processes_are_in_leaves_of_the_delegated_cgroup() {
    const NAME: &str = "launch::cgroup::tests::all_processes_are_in_leaves_of_the_delegated_cgroup";
    const INSIDE: &str = "TEST_CGROUP_MOUNT";
    const SCRIPT: &str = "mount -t cgroup2 none \"$PLACE\" && cd \"$PLACE\" && mkdir imperium-test-$$ && \
                          echo 0 >imperium-test-$$/cgroup.procs && umount -l \"$PLACE\" && cd / && \
                          exec unshare --cgroup --mount sh -c \"$INNER\"";
    const INNER: &str = "mount -t cgroup2 none \"$PLACE\" && TEST_CGROUP_MOUNT=\"$PLACE\" exec \"$TEST\" --exact \"$NAME\" --nocapture";
    let Some(mount) = std::env::var_os(INSIDE) else {
        skip::needs_root!();
        skip::needs_program!("unshare");
        let place = tempfile::tempdir().unwrap();
        let mut outer = Command::new("unshare");
        outer.args(["--mount", "sh", "-c", SCRIPT]).env("PLACE", place.path()).env("INNER", INNER);
        let inside = outer.env("TEST", std::env::current_exe().unwrap()).env("NAME", NAME).output().unwrap();
        let (out, error) = (String::from_utf8_lossy(&inside.stdout), String::from_utf8_lossy(&inside.stderr));
        let tidy = "mount -t cgroup2 none \"$PLACE\" && find \"$PLACE\"/imperium-test-* -depth -type d -exec rmdir {} +";
        let _left =
            Command::new("unshare").args(["--mount", "sh", "-c", tidy]).env("PLACE", place.path()).output();
        if !out.contains("running 1 test") {
            skip::skip!("needs a cgroup v2 of its own: {}", error.lines().next().unwrap_or_default());
        }
        assert!(inside.status.success(), "{out}{error}");
        return;
    };
    let mount = PathBuf::from(mount);
    let cgroups = cgroups(&mount);
    let procs = |path: &str| fs::read_to_string(mount.join(path).join("cgroup.procs")).unwrap();
    assert_eq!(procs(""), format!("{}\n", std::process::id()), "it hasn't moved yet");
    cgroups.settle();
    assert_eq!(procs(""), "");
    assert_eq!(procs("imperium-emperord"), format!("{}\n", std::process::id()));
    let none = ResourceLimits { memory: None, cpu: None };
    let mut workers = Vec::new();
    for name in ["blog-1", "blog-2"] {
        let leaf = cgroups.leaf(name, none).unwrap().expect("it was delegated");
        // An empty cgroup isn't removed when the next one is created.
        let other = cgroups.leaf("shop-1", none).unwrap().unwrap();
        let worker = Command::new("sleep").arg("1000").spawn().unwrap();
        leaf.enter(worker.id()).unwrap();
        assert_eq!(procs(&format!("imperium-workers/{name}")), format!("{}\n", worker.id()));
        other.enter(worker.id()).unwrap();
        leaf.enter(worker.id()).unwrap();
        workers.push(worker);
    }
    assert_eq!((procs(""), procs("imperium-workers")), (String::new(), String::new()));
    // Limits can be added now, if the kernel has the controllers.
    let has_all = |it: &str| CONTROLLERS.iter().all(|one| it.split_ascii_whitespace().any(|it| it == *one));
    if has_all(&fs::read_to_string(mount.join("cgroup.controllers")).unwrap()) {
        let memory = ResourceLimits { memory: Some(1 << 30), cpu: None };
        assert_eq!(cgroups.check(memory), Ok(()));
        cgroups.leaf("blog-3", memory).unwrap().unwrap();
        assert!(mount.join("imperium-workers/blog-1/memory.max").exists());
    }
    for mut worker in workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    drop(cgroups.leaf("blog-9", none).unwrap());
    assert!(!mount.join("imperium-workers/blog-1").exists(), "its cgroup is removed after its worker");
}

/// Both systemd with `DelegateSubgroup=` and emperord itself create such a leaf.
#[test]
fn the_tree_is_found_from_a_leaf() {
    let mount = cgroup2("memory");
    let root = mount.path().join("a.slice/emperord.service");
    let of = |own: &str| Tree::of(mount.path(), own).unwrap();
    assert_eq!(of(OWN).root(), root);
    assert!(!of(OWN).is_delegated());
    assert_eq!(of("0::/a.slice/emperord.service/imperium-emperord").root(), root);
    fs::create_dir(root.join("emperord")).unwrap();
    assert_eq!(of("0::/a.slice/emperord.service/emperord").root(), root.join("emperord"));
    let mark = rustix::fs::setxattr(&root, "user.delegate", b"1", rustix::fs::XattrFlags::empty());
    if mark.is_ok() {
        assert!(of(OWN).is_delegated());
        assert_eq!(of("0::/a.slice/emperord.service/emperord").root(), root);
    }
}
