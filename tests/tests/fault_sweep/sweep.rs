//! Each call × each fault × each step. *Rows*: every call of a run meets a fault, each another one, and from row to row the faults move
//! on by a call, until every call has met each. *Singles*: one fault in a run; how many calls of a kind a run makes, the sweep finds out
//! by itself: it goes on until a run no longer meets the fault. A *sample* is rows and random groups within a budget of time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use strait_tests::run;

use super::relay::{Call, Fault, Rule};
use super::shop::{Course, LONG, Random, Shop, all, budget, part, seed};

/// Pipelines side by side; the embedded BigQuery is one process, so that more only fill each other's waits.
const LANES: u64 = 2;
/// Tables made by one pipeline: each makes every statement of the embedded BigQuery slower.
const MOST_TABLES: u32 = 12;
/// Faults that one run of the sample meets at most.
const MOST_AT_ONCE: usize = 8;
/// Faults that pass, of any kind of call: after so many rows every call has met each.
const ROWS: usize = 21;
/// More calls of one kind than any run makes.
const MOST_STEPS: usize = 40;

/// What the calls of BigQuery's REST API meet, and whether the invocation itself gets over it.
const REST: [(Fault, bool); 20] = [
    (Fault::Refused, true),
    (Fault::Closed, true),
    (Fault::AnswerLost, true),
    (Fault::AnswerCut, true),
    (Fault::Slow, true),
    (Fault::Status(401, "authError"), true),
    (Fault::Status(403, "rateLimitExceeded"), true),
    (Fault::Status(403, "quotaExceeded"), true),
    (Fault::Status(403, "accessDenied"), false),
    (Fault::Status(404, "notFound"), false),
    (Fault::Status(409, "duplicate"), false),
    (Fault::Status(429, "rateLimitExceeded"), true),
    (Fault::Status(500, "internalError"), true),
    (Fault::Status(503, "backendError"), true),
    (Fault::Page(502), true),
    (Fault::Page(401), true),
    (Fault::StatusAfter(503, "backendError"), true),
    (Fault::StatusAfter(500, "internalError"), true),
    (Fault::StatusAfter(403, "rateLimitExceeded"), true),
    (Fault::PageAfter(502), true),
];

/// What `jobs.insert` meets as well: how the job ends that it started. One that somebody has stopped is not started again at once.
const JOBS: [(Fault, bool); 5] = [
    (Fault::JobEnds("backendError"), true),
    (Fault::JobEnds("internalError"), true),
    (Fault::JobEnds("rateLimitExceeded"), true),
    (Fault::JobEnds("jobRateLimitExceeded"), true),
    (Fault::JobEnds("stopped"), false),
];

/// gRPC's codes by their numbers: CANCELLED 1, UNKNOWN 2, DEADLINE_EXCEEDED 4, NOT_FOUND 5, PERMISSION_DENIED 7, RESOURCE_EXHAUSTED 8,
/// FAILED_PRECONDITION 9, ABORTED 10, INTERNAL 13, UNAVAILABLE 14, UNAUTHENTICATED 16.
const GRPC: [(Fault, bool); 21] = [
    (Fault::Refused, true),
    (Fault::Closed, true),
    (Fault::AnswerLost, true),
    (Fault::AnswerCut, true),
    (Fault::Slow, true),
    (Fault::Grpc(1), true),
    (Fault::Grpc(2), true),
    (Fault::Grpc(4), true),
    (Fault::Grpc(5), true),
    (Fault::Grpc(7), false),
    (Fault::Grpc(8), true),
    (Fault::Grpc(9), false),
    (Fault::Grpc(10), true),
    (Fault::Grpc(13), true),
    (Fault::Grpc(14), true),
    (Fault::Grpc(16), true),
    (Fault::GrpcAfter(1), true),
    (Fault::GrpcAfter(4), true),
    (Fault::GrpcAfter(13), true),
    (Fault::GrpcAfter(14), true),
    (Fault::GrpcAfter(7), false),
];

/// What a call meets.
fn faults_of(method: &str) -> Vec<(Fault, bool)> {
    match method {
        "AppendRows" => GRPC.to_vec(),
        "jobs.insert" => [REST.as_slice(), JOBS.as_slice()].concat(),
        _ => REST.to_vec(),
    }
}

/// Which run meets the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scene {
    /// `ingest` with new changes of a table that is known.
    Ingest,
    /// `merge` of those.
    Merge,
    /// `merge` of a table without a final table.
    MergeNewTable,
    /// `ingest` without a log.
    FirstIngest,
    /// `merge` without a ledger.
    FirstMerge,
}

/// One call of a scene, and what is swept over it.
#[derive(Debug, Clone)]
struct Item {
    scene: Scene,
    method: String,
    what: Option<String>,
    fault: Fault,
    survives: bool,
}

impl Item {
    fn kind(&self) -> String {
        format!("{} {}", self.method, self.what.as_deref().unwrap_or("")).trim_end().to_owned()
    }
}

/// What a lane does next.
enum Task {
    Row(Scene, usize),
    Steps(Item),
}

/// What has been swept.
#[derive(Default)]
struct Tally {
    combinations: usize,
    /// Which call of which kind met which fault, in a run of which scene.
    met: BTreeSet<(Scene, String, usize, Fault)>,
    /// Faults that took place, in all.
    times: usize,
    /// Invocations that failed or left work, by what they said.
    failures: BTreeMap<String, usize>,
    /// Combinations that needed no second invocation.
    survived: usize,
    /// Calls of a kind in one run, at most.
    steps: BTreeMap<(Scene, String), usize>,
    folds_left: usize,
    problems: Vec<String>,
}

impl Tally {
    fn note(&mut self, course: &Course, met: &[(&Item, usize)]) {
        self.combinations += 1;
        self.times += met.len();
        self.met.extend(met.iter().map(|(item, step)| (item.scene, item.kind(), *step, item.fault)));
        self.survived += usize::from(course.failures.is_empty());
        for (kind, _) in &course.failures {
            *self.failures.entry(kind.clone()).or_default() += 1;
        }
    }

    fn report(&self, name: &str, started: Instant) {
        let mut text = format!(
            "{name}: {} runs met {} faults, {} combinations of scene, call, step and fault, {} kinds of fault, in {} s; {} runs got over \
             them in the same invocation; {} folds left to expire; {} problems\n  failed invocations: {:?}\n  calls in a run:",
            self.combinations,
            self.times,
            self.met.len(),
            self.met.iter().map(|(_, _, _, fault)| fault).collect::<BTreeSet<_>>().len(),
            started.elapsed().as_secs(),
            self.survived,
            self.folds_left,
            self.problems.len(),
            self.failures,
        );
        for ((scene, method), steps) in &self.steps {
            let _ = write!(text, " {scene:?}/{method} {steps},");
        }
        println!("{text}");
    }
}

/// A pipeline with its table, replaced when it has done its share.
struct Lane {
    shop: Option<Shop>,
    tables: u32,
}

impl Lane {
    /// A shop as the scene needs it.
    async fn shop(&mut self, scene: Scene) -> Result<&mut Shop, String> {
        let is_first = matches!(scene, Scene::FirstIngest | Scene::FirstMerge);
        if is_first || self.tables >= MOST_TABLES {
            self.shop = None;
        }
        if self.shop.is_none() {
            self.tables = 1;
            self.shop = Some(if is_first { Shop::start(LONG, LONG).await } else { Shop::working(LONG, LONG).await? });
        }
        let shop = self.shop.as_mut().unwrap();
        if is_first {
            // What comes next needs a shop that works, or another first one.
            self.tables = MOST_TABLES;
        } else if scene == Scene::MergeNewTable {
            self.tables += 1;
        }
        Ok(shop)
    }

    /// Plays a scene with faults. Which of them did not take place, and how the scene's own function fared.
    async fn play(&mut self, scene: Scene, rules: &[Rule]) -> Result<(Vec<Rule>, Course), String> {
        let shop = self.shop(scene).await?;
        let messages = match scene {
            Scene::Ingest | Scene::Merge => shop.changes(),
            _ => shop.new_table(),
        };
        let records = shop.pipeline.produce(&messages);
        let meets_ingest = matches!(scene, Scene::Ingest | Scene::FirstIngest);
        let mut met = (Vec::new(), Course::default());
        for is_ingest in [true, false] {
            let is_met = is_ingest == meets_ingest;
            if is_met {
                rules.iter().for_each(|rule| shop.relay.arm(rule.clone()));
                shop.relay.take_calls();
            }
            let course = if is_ingest { shop.deliver(&records).await } else { shop.merge().await };
            if is_met {
                met.0 = shop.relay.disarm();
                met.1 = course?;
            } else if let Some((kind, text)) = course?.failures.first() {
                return Err(format!("an invocation without a fault failed: {kind}: {text}"));
            }
        }
        shop.check().await?;
        Ok(met)
    }

    /// One combination, or two at once.
    async fn combine(&mut self, items: &[(&Item, usize)], tally: &Mutex<Tally>, seed: &str) -> bool {
        let scene = items[0].0.scene;
        let rules: Vec<Rule> = items
            .iter()
            .map(|(item, step)| Rule {
                method: Some(item.method.clone()),
                what: item.what.clone(),
                step: *step,
                fault: item.fault,
            })
            .collect();
        let told = format!("{scene:?} {rules:?}{seed}");
        let played = self.play(scene, &rules).await;
        let mut tally = tally.lock().unwrap();
        let (mut missed, course) = match played {
            Ok(played) => played,
            Err(problem) => {
                println!("{told}: {problem}");
                tally.problems.push(format!("{told}: {problem}"));
                drop(tally);
                self.shop = None;
                return false;
            }
        };
        let mut met = Vec::new();
        for (&item, rule) in items.iter().zip(&rules) {
            let is_same =
                |other: &Rule| (&other.method, &other.what, other.fault) == (&rule.method, &rule.what, rule.fault);
            match missed.iter().position(is_same) {
                Some(place) => drop(missed.remove(place)),
                None => met.push(item),
            }
        }
        if met.is_empty() {
            return false;
        }
        tally.note(&course, &met);
        let survives = items.iter().all(|(item, _)| item.survives);
        if survives && !course.failures.is_empty() {
            tally.problems.push(format!("{told}: a passing fault failed the invocation: {:?}", course.failures));
        }
        if course.failures.len() > rules.len() {
            tally.problems.push(format!("{told}: {} invocations failed: {:?}", course.failures.len(), course.failures));
        }
        for (kind, text) in &course.failures {
            if let Some(problem) = unclear(kind, text) {
                tally.problems.push(format!("{told}: {problem}: {kind}: {text}"));
            }
        }
        true
    }
}

/// What is wrong with how a failure is said; a person reads it and has to know what to do.
fn unclear(kind: &str, text: &str) -> Option<&'static str> {
    if kind == "running" {
        return None;
    }
    if !kind.starts_with("BigQuery") && kind != "TablesFailed" {
        return Some("an errorType that nobody expects");
    }
    if (text.contains("denied permission") || text.contains("does not have it")) && !text.contains("What to do: ") {
        return Some("it does not say what to do");
    }
    text.contains("injected fault:").then_some("it quotes BigQuery beyond its first words")
}

/// The calls of a run of each scene, in their order.
type Calls = BTreeMap<Scene, Vec<Call>>;

/// The scenes' items, from the calls that each run makes without a fault.
async fn items() -> Result<(Vec<Item>, Calls, Shop), String> {
    let mut shop = Shop::start(LONG, LONG).await;
    let mut calls = Vec::new();
    for (ingest, merge) in [
        (Some(Scene::FirstIngest), Scene::FirstMerge),
        (Some(Scene::Ingest), Scene::Merge),
        (None, Scene::MergeNewTable),
    ] {
        let messages = if merge == Scene::Merge { shop.changes() } else { shop.new_table() };
        let records = shop.pipeline.produce(&messages);
        shop.deliver(&records).await?;
        let of_ingest = shop.relay.take_calls();
        calls.extend(ingest.map(|scene| (scene, of_ingest)));
        shop.merge().await?;
        calls.push((merge, shop.relay.take_calls()));
    }
    let mut items = Vec::new();
    let all_calls: Calls = calls.iter().cloned().collect();
    for (scene, calls) in calls {
        let mut kinds = BTreeSet::new();
        for call in calls {
            let is_job = call.method.starts_with("jobs.");
            // What a run does in every scene is swept in one.
            let is_swept = match scene {
                Scene::MergeNewTable => {
                    matches!(call.method.as_str(), "tables.get" | "tables.insert" | "datasets.insert")
                        || call.what == "definitions"
                }
                Scene::FirstMerge => {
                    matches!(call.method.as_str(), "AppendRows" | "tables.insert" | "datasets.insert")
                        || call.what.ends_with("state")
                }
                _ => true,
            };
            if is_swept && call.method != "other" {
                let is_any = is_job && scene == Scene::Merge;
                kinds.insert((call.method, (!is_any && !call.what.is_empty()).then_some(call.what)));
            }
        }
        for (method, what) in kinds {
            for (fault, survives) in faults_of(&method) {
                items.push(Item { scene, method: method.clone(), what: what.clone(), fault, survives });
            }
        }
    }
    Ok((items, all_calls, shop))
}

/// One row: every call of a run meets a fault that passes.
async fn every_call(lane: &mut Lane, calls: &Calls, scene: Scene, row: usize, tally: &Mutex<Tally>, seed: &str) {
    let mut steps: BTreeMap<&Call, usize> = BTreeMap::new();
    let mut items = Vec::new();
    for (place, call) in calls[&scene].iter().enumerate() {
        let faults = faults_of(&call.method);
        let faults: Vec<Fault> = faults.into_iter().filter(|(_, survives)| *survives).map(|(fault, _)| fault).collect();
        let step = steps.entry(call).or_default();
        let fault = faults[(place + row) % faults.len()];
        let item = Item { scene, method: call.method.clone(), what: Some(call.what.clone()), fault, survives: true };
        items.push((item, *step));
        *step += 1;
    }
    let items: Vec<(&Item, usize)> = items.iter().map(|(item, step)| (item, *step)).collect();
    lane.combine(&items, tally, seed).await;
}

/// One item at each step, until a run no longer meets it: the first fault of a kind of call finds out how many steps there are.
async fn every_step(lane: &mut Lane, item: &Item, tally: &Mutex<Tally>) {
    let key = (item.scene, item.kind());
    let known = tally.lock().unwrap().steps.get(&key).copied();
    for step in 0..known.unwrap_or(MOST_STEPS) {
        if !lane.combine(&[(item, step)], tally, "").await {
            let mut tally = tally.lock().unwrap();
            if known.is_some() {
                // A fault that ended an earlier call kept the run from this one, or the run failed, which has been noted.
                continue;
            }
            tally.steps.insert(key, step);
            return;
        }
    }
    if known.is_none() {
        tally.lock().unwrap().problems.push(format!("{item:?}: still met after {MOST_STEPS} steps"));
    }
}

#[test]
fn every_call_meets_every_fault() {
    run(async {
        let started = Instant::now();
        let (items, calls, shop) = items().await.unwrap();
        let (items, calls) = (Arc::new(items), Arc::new(calls));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let seed = seed();
        let end = Instant::now() + budget();
        if !all() {
            println!("STRAIT_FAULTS_SEED={seed}: a sample of {} s; STRAIT_FAULTS=all sweeps all", budget().as_secs());
        }
        let mut tasks: Vec<Task> = calls.keys().flat_map(|scene| (0..ROWS).map(|row| Task::Row(*scene, row))).collect();
        let (passing, lasting): (Vec<&Item>, Vec<&Item>) = items.iter().partition(|item| item.survives);
        tasks.extend(lasting.into_iter().chain(passing).cloned().map(Task::Steps));
        if let Some((part, of)) = part() {
            let mut place = 0..;
            tasks.retain(|_| place.next().is_some_and(|place: usize| place % of == part - 1));
        }
        let number_of_tasks = tasks.len();
        let tasks = Arc::new(Mutex::new((1_usize.., tasks.into_iter())));
        // The first lane goes on with the shop that is there; the others begin with a first scene.
        let mut first = Some(Lane { shop: Some(shop), tables: 2 });
        let lanes = (0..if all() { LANES } else { 1 }).map(|number| {
            let (items, calls, tally, tasks) =
                (Arc::clone(&items), Arc::clone(&calls), Arc::clone(&tally), Arc::clone(&tasks));
            let mut lane = first.take().unwrap_or(Lane { shop: None, tables: MOST_TABLES });
            tokio::spawn(async move {
                if all() {
                    loop {
                        let (place, task) = {
                            let mut tasks = tasks.lock().unwrap();
                            let Some(task) = tasks.1.next() else { break };
                            (tasks.0.next().unwrap(), task)
                        };
                        match task {
                            Task::Row(scene, row) => every_call(&mut lane, &calls, scene, row, &tally, "").await,
                            Task::Steps(item) => every_step(&mut lane, &item, &tally).await,
                        }
                        if place % 20 == 0 {
                            println!("{place} of {number_of_tasks}");
                            tally.lock().unwrap().report("so far", started);
                        }
                    }
                } else {
                    let random = Random(seed.wrapping_add(number));
                    sample(&mut lane, &items, &calls, &tally, random, end).await;
                }
                if let Some(shop) = &lane.shop {
                    let left = shop.folds_left().await.len();
                    tally.lock().unwrap().folds_left += left;
                }
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.unwrap();
        }
        let tally = tally.lock().unwrap();
        tally.report("faults", started);
        assert!(tally.problems.is_empty(), "{} problems:\n{}", tally.problems.len(), tally.problems.join("\n"));
        assert!(tally.combinations > 0, "nothing was swept");
    });
}

/// Rows and random groups until the time is up.
async fn sample(
    lane: &mut Lane,
    items: &[Item],
    calls: &Calls,
    tally: &Mutex<Tally>,
    mut random: Random,
    end: Instant,
) {
    let seed = format!(" (seed {})", random.0);
    let first_row = random.below(ROWS);
    for turn in 0.. {
        if turn > 0 && Instant::now() > end {
            break;
        }
        let scene = match random.below(8) {
            0 => Scene::Ingest,
            1 => Scene::MergeNewTable,
            2 => *random.pick(&[Scene::FirstIngest, Scene::FirstMerge]),
            _ => Scene::Merge,
        };
        if turn % 2 == 0 {
            every_call(lane, calls, scene, first_row + turn, tally, &seed).await;
            continue;
        }
        let of_scene: Vec<&Item> = items.iter().filter(|item| item.scene == scene).collect();
        let at_once = 1 + random.below(MOST_AT_ONCE);
        let mut chosen: Vec<(&Item, usize)> = Vec::new();
        while chosen.len() < at_once {
            let item = *random.pick(&of_scene);
            // A token is asked for anew once; and one fault that ends a run hides those behind it.
            // And three jobs of one statement that end with an error are the statement's own.
            let ends = |item: &Item| {
                !item.survives || matches!(item.fault, Fault::Status(401, _) | Fault::Grpc(16) | Fault::JobEnds(_))
            };
            if chosen.is_empty() || !ends(item) {
                let many = item.what.is_none() && item.method.starts_with("jobs.");
                chosen.push((item, random.below(if many { 5 } else { 1 })));
            }
        }
        lane.combine(&chosen, tally, &seed).await;
    }
}

/// A job is accepted and then ends with an error: by kind of job, so that none is left out.
#[test]
fn a_job_that_is_accepted_and_ends_with_an_error_is_run_again_or_said() {
    run(async {
        let started = Instant::now();
        let mut shop = Shop::working(LONG, LONG).await.unwrap();
        let messages = shop.changes();
        shop.send(&messages).await.unwrap();
        shop.relay.take_calls();
        shop.merge().await.unwrap();
        shop.check().await.unwrap();
        let jobs: BTreeSet<String> = shop
            .relay
            .take_calls()
            .into_iter()
            .filter(|call| call.method == "jobs.insert")
            .map(|call| call.what)
            .collect();
        assert!(jobs.contains("merge") && jobs.contains("fold"), "{jobs:?}");
        // Each kind of job with an error that passes, another one from job to job, and a MERGE that somebody stopped.
        let mut wanted: Vec<(&str, (Fault, bool))> = Vec::new();
        for (place, what) in jobs.iter().enumerate() {
            let of_job =
                JOBS.into_iter().cycle().skip(place % (JOBS.len() - 1)).take(if all() { JOBS.len() } else { 1 });
            wanted.extend(of_job.map(|fault| (what.as_str(), fault)));
        }
        wanted.push(("merge", JOBS[JOBS.len() - 1]));
        let (mut met, mut problems) = (0, Vec::new());
        for (what, (fault, survives)) in &wanted {
            let rule =
                Rule { method: Some("jobs.insert".to_owned()), what: Some((*what).to_owned()), step: 0, fault: *fault };
            let messages = shop.changes();
            shop.send(&messages).await.unwrap();
            shop.relay.arm(rule);
            let course = shop.merge().await.unwrap();
            met += usize::from(shop.relay.disarm().is_empty());
            // A person has to see which job was stopped.
            let is_said = course.failures.iter().all(|(_, text)| text.contains("stopped, injected fault, job strait_"));
            if course.failures.is_empty() != *survives || !is_said {
                problems.push(format!("{what} {fault:?}: {:?}", course.failures));
            }
            if let Err(problem) = shop.check().await {
                problems.push(format!("{what} {fault:?}: {problem}"));
            }
        }
        println!("jobs that end with an error: {met} of {} in {} s", wanted.len(), started.elapsed().as_secs());
        assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
        assert_eq!(met, wanted.len());
    });
}

/// A refusal that lasts is said by its name, with what to do about it.
#[test]
fn what_does_not_pass_is_said_with_what_to_do() {
    run(async {
        let mut shop = Shop::working(LONG, LONG).await.unwrap();
        let forever = |shop: &Shop, method: &str, fault| {
            for _ in 0..200 {
                shop.relay.arm(Rule { method: Some(method.to_owned()), what: None, step: 0, fault });
            }
        };
        for (method, fault, error_type, parts) in [
            ("AppendRows", Fault::Grpc(7), "BigQueryPermissionDenied", ["denied permission", "What to do: grant"]),
            ("AppendRows", Fault::Grpc(16), "BigQueryUnauthenticated", ["refused the access token", "What to do: "]),
        ] {
            let messages = shop.changes();
            let records = shop.pipeline.produce(&messages);
            forever(&shop, method, fault);
            let outcome = shop.pipeline.invoke_ingest(strait_cli::msk::event(&records)).await;
            let (kind, text) = super::shop::in_short(&outcome);
            assert_eq!(kind, error_type, "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            shop.relay.disarm();
            shop.deliver(&records).await.unwrap();
            shop.merge().await.unwrap();
            shop.check().await.unwrap();
        }
        for (method, fault, error_type, parts) in [
            ("jobs.insert", Fault::Status(403, "accessDenied"), "BigQueryPermissionDenied", "What to do: grant"),
            ("jobs.insert", Fault::Status(401, "authError"), "BigQueryUnauthenticated", "STRAIT_CREDENTIALS"),
            ("jobs.insert", Fault::Status(404, "notFound"), "BigQueryNotFound", "What to do: check STRAIT_PROJECT"),
            ("jobs.get", Fault::Status(403, "accessDenied"), "BigQueryPermissionDenied", "What to do: grant"),
            ("tables.get", Fault::Status(403, "accessDenied"), "TablesFailed", "What to do: grant"),
            ("AppendRows", Fault::Grpc(7), "BigQueryPermissionDenied", "What to do: grant"),
        ] {
            let messages = shop.changes();
            let records = shop.pipeline.produce(&messages);
            shop.deliver(&records).await.unwrap();
            forever(&shop, method, fault);
            for _ in 0..2 {
                let (kind, text) = super::shop::in_short(&shop.pipeline.invoke_merge("{}").await);
                assert_eq!(kind, error_type, "{method} {fault:?}: {text}");
                assert!(text.contains(parts), "{method} {fault:?}: {text}");
            }
            shop.relay.disarm();
            shop.merge().await.unwrap();
            shop.check().await.unwrap();
        }
    });
}
