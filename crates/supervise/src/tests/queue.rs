//! Many apps that start at once.

use std::collections::BTreeMap;

use super::*;
use crate::{Running, StartQueue};

/// Several apps on a machine with few cores, where concurrent imports slow each other down.
struct Machine {
    apps: BTreeMap<usize, Supervisor>,
    queue: StartQueue<usize>,
    /// The remaining work of each start, in milliseconds of one core.
    left: BTreeMap<(usize, u16), u64>,
    cores: u64,
    killed: usize,
    most_at_once: usize,
    /// In the order of their first ready worker.
    first_ready: Vec<usize>,
}

impl Machine {
    fn new(cores: u64, apps: usize, workers: u16, limits: Limits, now: Instant) -> Self {
        let limit = usize::try_from(2 * cores).unwrap();
        let mut machine = Self {
            apps: (0..apps).map(|app| (app, Supervisor::new(limits))).collect(),
            queue: StartQueue::new(limit),
            left: BTreeMap::new(),
            cores,
            killed: 0,
            most_at_once: 0,
            first_ready: Vec::new(),
        };
        for app in 0..apps {
            machine.handle(app, Event::Wanted { generation: 1, workers, limits }, 1500, now);
        }
        machine
    }

    fn handle(&mut self, app: usize, event: Event, work: u64, now: Instant) {
        for action in self.apps.get_mut(&app).unwrap().handle(event, now) {
            match action {
                Action::Spawn { number, .. } => drop(self.left.insert((app, number), work)),
                Action::Kill { number, .. } => {
                    self.killed += 1;
                    self.left.remove(&(app, number));
                }
                _ => {}
            }
        }
    }

    fn running(&self) -> Running {
        let count =
            |proven| self.apps.values().filter(|it| it.is_proven() == proven).map(Supervisor::starting).sum();
        Running { proven: count(true), unproven: count(false) }
    }

    fn start_more(&mut self, work: impl Fn(usize) -> u64, now: Instant) {
        loop {
            let demand: Vec<_> =
                self.apps.iter().filter_map(|(app, it)| Some((*app, it.demand(now)?))).collect();
            let Some(app) = self.queue.next(self.running(), demand) else { break };
            self.handle(app, Event::MayStart, work(app), now);
        }
        self.most_at_once = self.most_at_once.max(self.left.len());
    }

    /// Simulates 100 ms.
    fn step(&mut self, work: impl Fn(usize) -> u64, now: Instant) {
        self.start_more(work, now);
        let at_once = u64::try_from(self.left.len()).unwrap().max(1);
        let done = 100 * self.cores.min(at_once) / at_once;
        self.left.values_mut().for_each(|left| *left = left.saturating_sub(done));
        for (app, number) in
            self.left.extract_if(.., |_, left| *left == 0).map(|(who, _)| who).collect::<Vec<_>>()
        {
            if !self.first_ready.contains(&app) {
                self.first_ready.push(app);
            }
            self.handle(app, Event::Ready { number }, 0, now);
        }
        for app in 0..self.apps.len() {
            self.handle(app, Event::Tick, 0, now);
        }
    }
}

/// 200 imports of 1.5 s on 2 cores take 150 s, more than twice the start limit.
#[test]
fn a_hundred_apps_start_on_two_cores_within_their_limits() {
    let began = Instant::now();
    let mut machine = Machine::new(2, 100, 2, LIMITS, began);
    for step in 0..2000_u64 {
        machine.step(|_| 1500, began + Duration::from_millis(100 * step));
    }
    assert_eq!(machine.killed, 0, "starts were killed");
    assert_eq!(machine.most_at_once, 4);
    assert!(machine.apps.values().all(|it| it.ready().count() == 2), "some apps have too few workers");
    let mut first: Vec<_> = machine.first_ready.clone();
    first.sort_unstable();
    assert_eq!(first, (0..100).collect::<Vec<_>>());
}

/// Three of four slots go to apps without a worker, in turn: no app waits because another one wants many
/// workers.
#[test]
fn turns_are_fair() {
    let began = Instant::now();
    let mut machine = Machine::new(2, 12, 4, LIMITS, began);
    let mut step = 0_u64;
    while machine.first_ready.len() < 12 {
        machine.step(|_| 1500, began + Duration::from_millis(100 * step));
        step += 1;
    }
    let served: usize = machine.apps.values().map(|it| it.ready().count()).sum();
    assert!(served <= 16, "{served} were started before the last app had its first");
}

/// Half of the apps hang during import. The others start, and replace workers at once.
#[test]
fn hanging_apps_do_not_prevent_others_from_replacing_a_worker() {
    let began = Instant::now();
    let mut machine = Machine::new(2, 10, 1, LIMITS, began);
    let work = |app: usize| if app.is_multiple_of(2) { u64::MAX } else { 500 };
    let at = |step: u64| began + Duration::from_millis(100 * step);
    let mut step = 0;
    while machine.first_ready.len() < 5 {
        machine.step(work, at(step));
        step += 1;
        assert!(step < 10_000, "the apps that work never came up");
    }
    machine.step(work, at(step));
    machine.handle(1, Event::Exited { number: 1, exit: Exit::Crashed }, 0, at(step));
    machine.step(work, at(step));
    assert!(machine.left.contains_key(&(1, 1)), "it waits for those that hang");
}

#[test]
fn the_order_of_turns() {
    let mut queue = StartQueue::new(2);
    let demand = |is_proven, is_serving| crate::Demand { is_proven, is_serving, has_failed: false };
    let running = |proven, unproven| Running { proven, unproven };
    let waiting = [("a", demand(true, true)), ("b", demand(false, false)), ("c", demand(true, true))];
    // An app without a worker goes first, unless only the slot for known code is left.
    assert_eq!(queue.next(running(0, 0), waiting), Some("b"));
    assert_eq!(queue.next(running(0, 1), waiting), Some("a"));
    assert_eq!(queue.next(running(0, 1), waiting), Some("c"));
    assert_eq!(queue.next(running(0, 1), waiting), Some("a"));
    assert_eq!(queue.next(running(1, 1), waiting), None);
    assert_eq!(StartQueue::new(0).next(running(0, 0), [("b", demand(false, false))]), Some("b"));
}

/// Eight apps hang in turn, 60 s in a slot and 60 s in their backoff. A serving app can still be reloaded.
#[test]
fn hanging_apps_do_not_delay_a_reload() {
    let began = Instant::now();
    let mut machine = Machine::new(2, 9, 1, LIMITS, began);
    let work = |app: usize| if app == 0 { 500 } else { u64::MAX };
    let at = |step: u64| began + Duration::from_millis(100 * step);
    let mut step = 0;
    // Until each of them has failed often enough to have a delay of a minute.
    while machine.killed < 8 * 8 {
        machine.step(work, at(step));
        step += 1;
    }
    let killed = machine.killed;
    machine.handle(0, Event::Wanted { generation: 2, workers: 1, limits: LIMITS }, 0, at(step));
    while !machine.apps[&0].is_proven() {
        machine.step(work, at(step));
        step += 1;
        assert!(machine.killed <= killed + 3, "the reload waits for those that hang");
    }
}

#[test]
fn each_app_gets_its_turn_eventually() {
    let mut queue = StartQueue::new(1);
    let demand = |is_serving, has_failed| crate::Demand { is_proven: false, is_serving, has_failed };
    // There is always another app without a worker, which goes first.
    let mut turns = |waiting: [(u32, crate::Demand); 2]| {
        let next = |turn: u32| {
            queue.next(Running::default(), [(100 + turn, demand(false, false))].into_iter().chain(waiting))
        };
        let order: Vec<_> = (0..12_u32).filter_map(next).collect();
        waiting.map(|(app, _)| order.iter().position(|it| *it == app))
    };
    assert_eq!(turns([(1, demand(true, false)), (2, demand(false, true))]), [Some(8), Some(9)]);
}

#[test]
fn failed_apps_come_after_others() {
    let mut queue = StartQueue::new(1);
    let demand = |is_serving, has_failed| crate::Demand { is_proven: false, is_serving, has_failed };
    let waiting = [("a", demand(false, true)), ("b", demand(true, false))];
    assert_eq!(queue.next(Running::default(), waiting), Some("b"));
    assert_eq!(queue.next(Running::default(), [waiting[0]]), Some("a"));
}
