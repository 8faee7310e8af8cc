//! The function's time runs out in the middle: BigQuery does not answer one of its calls, at several limits. The function says so
//! before it is stopped, and the next run finishes what was begun.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strait_cli::msk;
use strait_cli::runtime_api::{Function, InvocationOutcome};
use strait_tests::pipeline::NOTHING_FAILED;
use strait_tests::run;

use super::relay::{Fault, Relay, Rule};
use super::shop::{LONG, Random, Shop, all, budget, in_short, seed};

/// Lambda's own time for an answer is 1.5 s of each.
const LIMITS: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(4), Duration::from_secs(6)];
/// More calls than a run makes.
const MOST_STEPS: usize = 40;
/// About as many as it makes.
const CALLS: usize = 19;

/// What the function said when BigQuery fell silent at a call; None where it came to its end before.
async fn silenced(
    shop: &mut Shop,
    function: &Function,
    relay: &Relay,
    step: usize,
    fault: Fault,
) -> Result<Option<String>, String> {
    let is_ingest = function.name() == "ingest";
    let messages = shop.changes();
    let records = shop.pipeline.produce(&messages);
    if !is_ingest {
        shop.deliver(&records).await?;
    }
    relay.arm(Rule { method: None, what: None, step, fault });
    let payload = if is_ingest { msk::event(&records) } else { b"{}".to_vec() };
    let outcome = function.invoke(payload).await.map_err(|error| error.to_string())?.outcome;
    let was_met = relay.disarm().is_empty();
    let said = match &outcome {
        InvocationOutcome::Response(body) if is_ingest && body == NOTHING_FAILED.as_bytes() => "done".to_owned(),
        InvocationOutcome::Response(body) if !is_ingest => {
            let text = String::from_utf8_lossy(body);
            if text.contains(r#""outcome":"running""#) { "running".to_owned() } else { "done".to_owned() }
        }
        other => {
            let (kind, text) = in_short(other);
            // A machine that stalls for longer than the answer's time stops the function first, as Lambda would.
            if !["BigQueryDeadlinePassed", "BigQueryJobRunning", "timed out"].contains(&kind.as_str()) {
                return Err(format!("{kind}: {text}"));
            }
            kind
        }
    };
    // With time enough.
    shop.deliver(&records).await?;
    shop.merge().await?;
    shop.check().await.map_err(|problem| format!("{said}: {problem}"))?;
    Ok(was_met.then_some(said))
}

/// Functions of one limit, and what they said.
async fn lane(limits: &[Duration], seed: u64) -> BTreeMap<String, usize> {
    let mut random = Random(seed);
    let mut shop = Shop::working(LONG, LONG).await.unwrap();
    let mut said = BTreeMap::<String, usize>::new();
    let mut functions = Vec::new();
    for limit in limits {
        functions.push((*limit, shop.another("merge", *limit).await, shop.another("ingest", *limit).await));
    }
    let end = Instant::now() + budget() / 4;
    for round in 0..=MOST_STEPS {
        if !all() && !said.is_empty() && Instant::now() > end {
            break;
        }
        let (limit, merge, ingest) = random.pick(&functions);
        let is_ingest = if all() { round == MOST_STEPS } else { random.below(6) == 0 };
        let ((function, relay), step) = match (is_ingest, all()) {
            (true, _) => (ingest, 0),
            (false, true) => (merge, round),
            (false, false) => (merge, random.below(CALLS)),
        };
        let fault = *random.pick(&[Fault::Silent, Fault::SilentAfter]);
        match silenced(&mut shop, function, relay, step, fault).await {
            Ok(Some(kind)) => *said.entry(format!("{} {limit:?} {kind}", function.name())).or_default() += 1,
            // The run has fewer calls.
            Ok(None) => {}
            Err(problem) => {
                panic!("{} of {limit:?}, {fault:?} at call {step} (seed {seed}): {problem}", function.name())
            }
        }
    }
    said
}

#[test]
fn a_function_whose_time_runs_out_leaves_its_work_to_the_next_run() {
    run(async {
        let (started, seed) = (Instant::now(), seed());
        let said = if all() {
            let lanes = LIMITS.map(|limit| tokio::spawn(async move { lane(&[limit], seed).await }));
            let mut said = BTreeMap::new();
            for lane in lanes {
                said.extend(lane.await.unwrap());
            }
            said
        } else {
            lane(&LIMITS, seed).await
        };
        println!("time that ran out (seed {seed}): {said:?} in {} s", started.elapsed().as_secs());
        let by_itself = said.iter().filter(|(kind, _)| !kind.ends_with("timed out")).count();
        assert!(by_itself > 0, "no run was silenced, or none said so: {said:?}");
    });
}
