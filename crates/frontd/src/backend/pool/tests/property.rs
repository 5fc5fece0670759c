//! Random histories of a pool: after each step, no request waits that could be granted, and all counts are
//! right.
//!
//! A failure prints the seed of its history. `POOL_SEED=…` replays it.

use std::collections::HashSet;
use std::{fmt, mem};

use tokio::runtime;
use tokio::time::advance;

use super::*;

const HISTORIES: u32 = 300;
const STEPS: u32 = 250;
const SHARDS: usize = 3;
/// Fixed seeds, in addition to the random ones.
const SEEDS: std::ops::Range<u64> = 0..100;
/// Maximum number of requests in a pool at once, so that workers are often idle and queues often empty.
const REQUESTS: usize = 12;
const QUEUE: usize = 8;

type Link = (usize, u64);

#[test]
fn nothing_waits_while_a_linked_worker_has_room_for_it() {
    if let Ok(seed) = std::env::var("POOL_SEED") {
        return run(seed.parse().expect("POOL_SEED is a number"));
    }
    SEEDS.for_each(run);
    (0..HISTORIES).for_each(|_| run(fastrand::u64(..)));
}

fn run(seed: u64) {
    // Time passes only where a history says so.
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let mut history = runtime.block_on(async { History::new(seed) });
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            for _ in 0..STEPS {
                history.step().await;
            }
            history.end();
        });
    }));
    if let Err(failure) = ended {
        eprintln!("POOL_SEED={seed} fails after: {:#?}", history.log);
        std::panic::resume_unwind(failure);
    }
}

struct History {
    random: fastrand::Rng,
    pool: Arc<Pool<Link>>,
    waiting: Vec<(Request, Wait<Link>)>,
    running: Vec<(Request, Lease<Link>)>,
    /// Requests that came back and are to be tried again.
    returned: Vec<Request>,
    linked: HashSet<Link>,
    /// The links over which a worker has reported that its event loop is blocked.
    blocked: HashSet<Link>,
    lost: HashSet<u64>,
    next_instance: u64,
    requests: u32,
    /// Whether a reservation took too long in this step.
    overdue: bool,
    log: Vec<String>,
}

struct Request {
    id: u32,
    shard: usize,
    isolation: Isolation,
    attempts: Attempts,
    answered: bool,
    /// It was exclusive for too long, and now shares its worker.
    given_up: bool,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} ({:?}, by shard {})", self.id, self.isolation, self.shard)
    }
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            pool: Pool::new(Admission::Queue(QUEUE)),
            waiting: Vec::new(),
            running: Vec::new(),
            returned: Vec::new(),
            linked: HashSet::new(),
            blocked: HashSet::new(),
            lost: HashSet::new(),
            next_instance: 1,
            requests: 0,
            overdue: false,
            log: Vec::new(),
        }
    }

    async fn step(&mut self) {
        self.overdue = false;
        match self.random.u32(..100) {
            0..30 => self.arrive(),
            30..37 => self.retry(),
            37..42 => self.cancel(),
            42..62 => self.serve(),
            62..66 => self.answer(),
            66..70 => self.hand_back(),
            70..82 => self.link(),
            82..88 => self.unlink(),
            88..92 => self.lose(),
            92..95 => self.pass_time().await,
            95..98 => self.block(),
            _ => self.fail_and_recover(),
        }
        self.collect();
        self.check();
    }

    /// All workers stay and serve their requests: nothing may be left.
    fn end(&mut self) {
        self.note("end");
        for (shard, instance) in mem::take(&mut self.blocked) {
            self.pool.set_blocked(shard, instance, false);
        }
        let instance = self.next_instance;
        for shard in 0..SHARDS {
            self.pool.link(shard, instance, 1, (shard, instance));
            self.linked.insert((shard, instance));
        }
        self.collect();
        while let Some((_, lease)) = self.running.pop() {
            drop(lease);
            self.collect();
            self.check();
        }
        assert!(self.waiting.is_empty(), "left in the queue: {:?}", self.pool.stats());
        assert_eq!(self.pool.stats().in_flight, 0);
    }

    fn arrive(&mut self) {
        if self.waiting.len() + self.running.len() < REQUESTS {
            let shard = self.random.usize(..SHARDS);
            let isolation = if self.random.u32(..4) == 0 { Isolation::Exclusive } else { Isolation::Shared };
            self.requests += 1;
            let limit = self.limit();
            self.begin(Request {
                id: self.requests,
                shard,
                isolation,
                attempts: Attempts::new(limit),
                answered: false,
                given_up: false,
            });
        }
    }

    /// How long a request may wait.
    fn limit(&mut self) -> Duration {
        match self.random.u32(..3) {
            0 => Duration::from_millis(self.random.u64(..3000)),
            _ => Duration::MAX,
        }
    }

    fn retry(&mut self) {
        if let Some(request) = self.returned.pop() {
            self.begin(request);
        }
    }

    fn begin(&mut self, mut request: Request) {
        self.note(format_args!("begin {request}"));
        let (full, is_new) = (self.waiting.len() >= QUEUE, request.attempts.is_new());
        match self.pool.begin(request.shard, request.isolation, &mut request.attempts) {
            Ok(Begin::Leased(lease)) => self.run(request, lease),
            Ok(Begin::Wait(wait)) => self.waiting.push((request, wait)),
            Err(Refused::TimedOut) => {
                assert!(request.attempts.deadline().is_some_and(|it| it < Instant::now()));
            }
            Err(refused) => assert!(refused == Refused::Full && full && is_new, "{refused}"),
        }
    }

    fn run(&mut self, mut request: Request, lease: Lease<Link>) {
        assert!(!self.is_blocked(lease.instance()), "{request} is sent to a blocked worker");
        request.isolation = if lease.is_exclusive() { Isolation::Exclusive } else { Isolation::Shared };
        self.running.push((request, lease));
    }

    fn cancel(&mut self) {
        if let Some((request, wait)) = pick(&mut self.random, &mut self.waiting) {
            self.note(format_args!("cancel {request}"));
            drop(wait);
        }
    }

    fn serve(&mut self) {
        if let Some((request, lease)) = pick(&mut self.random, &mut self.running) {
            self.note(format_args!("served at {}: {request}", lease.instance()));
            drop(lease);
        }
    }

    /// Starts a response, whose body may be endless.
    fn answer(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let at = self.random.usize(..self.running.len());
        let (request, lease) = &mut self.running[at];
        request.answered = true;
        let instance = lease.instance();
        lease.response_started();
        self.note(format_args!("answered at {instance}"));
    }

    fn hand_back(&mut self) {
        let Some((mut request, lease)) = pick(&mut self.random, &mut self.running) else { return };
        self.note(format_args!("handed back by {}: {request}", lease.instance()));
        match self.random.u32(..3) {
            0 => lease.declined(),
            1 => lease.recalled(),
            _ => lease.cancelled(),
        }
        if self.random.bool() {
            request.isolation = Isolation::Exclusive;
        }
        (request.answered, request.given_up) = (false, false);
        self.returned.push(request);
    }

    /// Links a known worker, or a new one.
    fn link(&mut self) {
        let known: Vec<_> = self.pool.state.lock().members.iter().map(|it| it.instance).collect();
        let instance = match known.get(self.random.usize(..4)) {
            Some(known) => *known,
            None => {
                self.next_instance += 1;
                self.next_instance
            }
        };
        let shard = self.random.usize(..SHARDS);
        let capacity = self.random.usize(1..4);
        self.note(format_args!("link {shard} to {instance}, which has {capacity}"));
        self.lost.remove(&instance);
        self.linked.insert((shard, instance));
        self.pool.link(shard, instance, capacity, (shard, instance));
    }

    fn unlink(&mut self) {
        let Some((shard, instance)) = self.any_link() else { return };
        self.note(format_args!("unlink {shard} from {instance}"));
        self.linked.remove(&(shard, instance));
        self.blocked.remove(&(shard, instance));
        self.pool.unlink(shard, instance);
    }

    /// A worker dies, and one shard notices first. Its requests are tried again.
    fn lose(&mut self) {
        let Some((shard, instance)) = self.any_link() else { return };
        self.note(format_args!("{shard} loses {instance}"));
        self.linked.remove(&(shard, instance));
        self.blocked.remove(&(shard, instance));
        self.lost.insert(instance);
        self.pool.lose(shard, instance);
        let gone = |it: &mut (Request, Lease<Link>)| *it.1.link() == (shard, instance);
        for (mut request, lease) in self.running.extract_if(.., gone) {
            drop(lease);
            request.isolation = Isolation::Exclusive;
            (request.answered, request.given_up) = (false, false);
            self.returned.push(request);
        }
    }

    /// The event loop of a worker is blocked, or goes on.
    fn block(&mut self) {
        let Some(link) = self.any_link() else { return };
        let blocked = !self.blocked.remove(&link);
        if blocked {
            self.blocked.insert(link);
        }
        self.note(format_args!("{link:?} is blocked: {blocked}"));
        self.pool.set_blocked(link.0, link.1, blocked);
    }

    fn is_blocked(&self, instance: u64) -> bool {
        self.blocked.iter().any(|it| it.1 == instance)
    }

    async fn pass_time(&mut self) {
        let most = if self.random.u32(..4) == 0 { 1500 } else { 60 };
        let time = Duration::from_millis(self.random.u64(1..most));
        self.note(format_args!("{time:?} pass"));
        advance(time).await;
        self.overdue = self.pool.state.lock().reservation.is_over(Instant::now());
        for (request, _) in &mut self.running {
            request.given_up |= self.overdue;
        }
        self.pool.expire_reservation();
        self.collect();
        let now = Instant::now();
        self.waiting.retain(|(it, _)| it.attempts.deadline().is_none_or(|it| it > now));
    }

    fn fail_and_recover(&mut self) {
        self.note("fail and recover");
        self.pool.admit(Admission::Refuse(QUEUE));
        let has_workers = self.pool.state.lock().has_workers();
        self.collect();
        assert!(has_workers || self.waiting.is_empty());
        self.pool.admit(Admission::Queue(QUEUE));
    }

    fn any_link(&mut self) -> Option<Link> {
        let mut linked: Vec<_> = self.linked.iter().copied().collect();
        linked.sort_unstable();
        self.random.choice(linked)
    }

    /// Collects granted leases, and drops refused requests.
    fn collect(&mut self) {
        use tokio::sync::oneshot::error::TryRecvError;
        for (request, mut wait) in mem::take(&mut self.waiting) {
            match wait.granted.try_recv() {
                Ok(lease) => self.run(request, lease),
                Err(TryRecvError::Empty) => self.waiting.push((request, wait)),
                Err(TryRecvError::Closed) => {}
            }
        }
        // All requests that wait exclusively lose that isolation together.
        if self.pool.state.lock().queue.first(Isolation::Exclusive).is_none() {
            for (request, _) in self.waiting.iter_mut().filter(|(it, _)| it.isolation == Isolation::Exclusive)
            {
                assert!(self.overdue, "{request} lost its exclusive isolation too early");
                request.isolation = Isolation::Shared;
            }
        }
    }

    fn check(&self) {
        let state = self.pool.state.lock();
        assert_eq!(state.queue.len(), self.waiting.len(), "waiting");
        let waits_exclusive =
            self.waiting.iter().filter(|(it, _)| it.isolation == Isolation::Exclusive).count();
        assert_eq!(state.queue.shards(Isolation::Exclusive).count(), waits_exclusive, "waiting exclusively");
        let by_itself = |it: &&(Request, Lease<Link>)| it.1.is_exclusive() && !it.0.given_up;
        let mut by_itself = self.running.iter().filter(by_itself).map(|(_, it)| it.instance());
        let owner = by_itself.next();
        assert!(by_itself.next().is_none(), "two requests are exclusive at once");
        let draining = match state.reservation {
            Reservation::Draining(instance, _) => Some(instance),
            Reservation::Serving(instance, _) => {
                assert_eq!(owner, Some(instance), "reserved for nobody");
                None
            }
            Reservation::None => None,
        };
        assert!(owner.is_none() || matches!(state.reservation, Reservation::Serving(..)), "not reserved");
        assert!(draining.is_none() || waits_exclusive > 0, "reserved for nobody");
        assert!(!state.reservation.is_over(Instant::now()), "reserved for too long");
        for member in &state.members {
            let running = self.running.iter().filter(|(_, it)| it.instance() == member.instance).count();
            assert_eq!(member.in_flight, running, "in flight at {}", member.instance);
            let answered = |it: &&(Request, _)| it.0.answered;
            let here = self.running.iter().filter(|(_, it)| it.instance() == member.instance);
            assert_eq!(member.answered, here.filter(answered).count(), "answered at {}", member.instance);
            assert!(
                owner != Some(member.instance) || member.unanswered() == 1,
                "next to an exclusive request"
            );
            let links = |shard| member.is_linked(shard);
            assert!((0..SHARDS).all(|it| links(it) == self.linked.contains(&(it, member.instance))), "links");
            assert!(running > 0 || (0..SHARDS).any(links), "{} is gone", member.instance);
            assert_eq!(member.is_blocked(), self.is_blocked(member.instance), "blocked {}", member.instance);
        }
        let now = Instant::now();
        for (request, _) in &self.waiting {
            let linked = state.members.iter().filter(|it| {
                it.is_linked(request.shard)
                    && !self.lost.contains(&it.instance)
                    && !self.is_blocked(it.instance)
                    && owner != Some(it.instance)
            });
            let with_room = linked.filter(|it| match request.isolation {
                Isolation::Exclusive => {
                    owner.is_none() && it.in_flight == it.answered && it.in_flight < it.capacity
                }
                Isolation::Shared => Some(it.instance) != draining && it.has_room(state.pace, now),
            });
            let with_room: Vec<_> = with_room.map(|it| it.instance).collect();
            assert!(with_room.is_empty(), "{request} waits although there is room at {with_room:?}");
        }
    }

    fn note(&mut self, step: impl fmt::Display) {
        self.log.push(step.to_string());
    }
}

fn pick<T>(random: &mut fastrand::Rng, from: &mut Vec<T>) -> Option<T> {
    if from.is_empty() {
        return None;
    }
    Some(from.swap_remove(random.usize(..from.len())))
}
