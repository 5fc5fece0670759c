//! Starts that wait for a lookup.

use std::path::Path;
use std::sync::Arc;

use api::WorkerName;
use vassal::Vassal;

use super::emperor::{Root, caller};
use super::manager::Manager;
use crate::driver::app::{App, NewWorkers};
use crate::launch::Prepared;

fn vassal() -> Arc<Vassal> {
    let text = "domains = ['a']\napp = 'a:a'\ndirectory = '/'\nuser = 'nobody'\nworkers = 1";
    Arc::new(Vassal::parse(Path::new("/v/blog.toml"), text).unwrap())
}

#[tokio::test]
async fn an_answer_for_a_deleted_app_is_none_for_a_new_one_of_its_name() {
    let (root, vassal) = (Root::new(), vassal());
    let mut driver = root.driver(Arc::new(Manager::default()));
    let mut lookups = Vec::new();
    for _ in ["deleted", "new"] {
        driver.apps.insert(vassal.name.clone(), App::new(vassal.name.clone(), vassal.file.clone()));
        lookups.push(driver.prepare(&vassal.name, 1, &vassal).unwrap().lookup);
    }
    driver.prepared(&vassal.name, lookups[0], 1, &Ok(Prepared::default()));
    assert!(driver.apps[&vassal.name].preparations.contains_key(&1), "it is still awaited");
    driver.prepared(&vassal.name, lookups[1], 1, &Ok(Prepared::default()));
    assert!(driver.apps[&vassal.name].preparations.is_empty());
}

/// With `systemctl start`.
#[tokio::test]
async fn a_worker_that_the_operator_starts_meanwhile_is_not_started_again() {
    let (root, manager, vassal) = (Root::new(), Manager::default(), vassal());
    let mut driver = root.driver(Arc::new(manager.clone()));
    driver.apps.insert(vassal.name.clone(), App::new(vassal.name.clone(), vassal.file.clone()));
    driver.follow(&vassal.name, Arc::clone(&vassal), NewWorkers::IfNeeded);
    driver.settle();
    let lookup = driver.apps[&vassal.name].preparations[&1].lookup;
    driver.accept_process(&WorkerName::parse("blog-1").unwrap(), caller(std::process::id()));
    driver.prepared(&vassal.name, lookup, 1, &Ok(Prepared::default()));
    // Its unit is configured like one that emperord starts.
    manager.asked(&["change blog-1"]).await;
    assert!(driver.apps[&vassal.name].worker_process(1).is_some());
}
