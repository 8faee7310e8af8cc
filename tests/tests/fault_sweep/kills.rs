//! Either function is killed (SIGKILL) at any moment and at each of its calls: before BigQuery hears of the call, after it took effect,
//! and with the call arriving only after the next run has done the same work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strait_cli::msk;
use strait_cli::runtime_api::InvocationOutcome;
use strait_tests::run;

use super::relay::{Fault, Rule};
use super::shop::{LONG, Random, Shop, all, budget, seed};

/// More calls than a run makes.
const MOST_STEPS: usize = 80;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Ingest,
    Merge,
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// At the n-th call, which arrives before the next run.
    BeforeCall(usize),
    /// At the n-th call, which arrives after the next run.
    CallArrivesLate(usize),
    /// At the n-th call, which took effect.
    AfterCall(usize),
    /// After a time.
    After(Duration),
}

/// Whether the victim still lived then.
async fn killed(shop: &mut Shop, victim: Victim, moment: Moment) -> Result<bool, String> {
    let messages = shop.changes();
    let records = shop.pipeline.produce(&messages);
    if victim == Victim::Merge {
        shop.deliver(&records).await?;
    }
    let armed = match moment {
        Moment::BeforeCall(step) | Moment::CallArrivesLate(step) => Some((step, Fault::Held)),
        Moment::AfterCall(step) => Some((step, Fault::HeldAfter)),
        Moment::After(_) => None,
    };
    if let Some((step, fault)) = armed {
        shop.relay.arm(Rule { method: None, what: None, step, fault });
    }
    let fired = shop.relay.fired();
    let pipeline = &shop.pipeline;
    let function = if victim == Victim::Ingest { &pipeline.ingest } else { &pipeline.merge };
    let payload = if victim == Victim::Ingest { msk::event(&records) } else { b"{}".to_vec() };
    let invocation = function.invoke(payload);
    tokio::pin!(invocation);
    let reached = async {
        match moment {
            Moment::After(time) => tokio::time::sleep(time).await,
            _ => shop.relay.until_fired(fired).await,
        }
    };
    let ended_before = tokio::select! {
        ended = &mut invocation => Some(ended),
        () = reached => None,
    };
    let was_killed = ended_before.is_none();
    if was_killed {
        function.kill().await;
        let outcome = invocation.await.map_err(|error| error.to_string())?.outcome;
        // Its answer may have been on its way.
        if !matches!(outcome, InvocationOutcome::Exited { .. } | InvocationOutcome::Response(_)) {
            return Err(format!("a killed function ended as {outcome:?}"));
        }
    }
    shop.relay.disarm();
    if !matches!(moment, Moment::CallArrivesLate(_)) {
        shop.relay.release();
        shop.relay.until_settled().await;
    }
    shop.deliver(&records).await?;
    shop.merge().await?;
    shop.check().await?;
    if matches!(moment, Moment::CallArrivesLate(_)) {
        shop.relay.release();
        shop.relay.until_settled().await;
        shop.check().await.map_err(|problem| format!("after the late call: {problem}"))?;
        shop.merge().await?;
        shop.check().await.map_err(|problem| format!("merged after the late call: {problem}"))?;
    }
    Ok(was_killed)
}

#[test]
fn a_killed_function_leaves_nothing_that_the_next_does_not_finish() {
    run(async {
        let started = Instant::now();
        let seed = seed();
        let mut random = Random(seed);
        let mut shop = Shop::working(LONG, LONG).await.unwrap();
        let (mut kills, mut missed) = (BTreeMap::<String, usize>::new(), 0_usize);
        let mut note = |victim: Victim, moment: Moment, was_killed: bool| {
            let at = format!("{moment:?}");
            let kind = format!("{victim:?} {}", at.split('(').next().unwrap());
            *kills.entry(kind).or_default() += usize::from(was_killed);
            missed += usize::from(!was_killed);
        };
        if all() {
            for victim in [Victim::Ingest, Victim::Merge] {
                for moment in [Moment::BeforeCall, Moment::CallArrivesLate, Moment::AfterCall] {
                    for step in 0..MOST_STEPS {
                        let moment = moment(step);
                        let was_killed = killed(&mut shop, victim, moment).await;
                        let was_killed =
                            was_killed.unwrap_or_else(|problem| panic!("{victim:?} {moment:?}: {problem}"));
                        note(victim, moment, was_killed);
                        println!("{victim:?} {moment:?}: killed {was_killed}");
                        if !was_killed {
                            break;
                        }
                    }
                }
            }
        }
        // What a run takes here and now.
        let messages = shop.changes();
        shop.send(&messages).await.unwrap();
        shop.relay.take_calls();
        let clock = Instant::now();
        shop.merge().await.unwrap();
        let (length, calls) = (clock.elapsed(), shop.relay.take_calls().len());
        let end = Instant::now() + if all() { budget() * 4 } else { budget() / 3 };
        let mut rounds = 0;
        while Instant::now() < end || rounds < 4 {
            rounds += 1;
            let victim = if random.below(4) == 0 { Victim::Ingest } else { Victim::Merge };
            let (length, calls) = if victim == Victim::Ingest { (length / 10, 1) } else { (length, calls) };
            let moment = match random.below(4) {
                0 => Moment::BeforeCall(random.below(calls)),
                1 => Moment::CallArrivesLate(random.below(calls)),
                2 => Moment::AfterCall(random.below(calls)),
                _ => Moment::After(length.mul_f64(f64::from(u32::try_from(random.below(1000)).unwrap()) / 1000.0)),
            };
            let was_killed = killed(&mut shop, victim, moment).await;
            let was_killed =
                was_killed.unwrap_or_else(|problem| panic!("{victim:?} {moment:?} (seed {seed}): {problem}"));
            note(victim, moment, was_killed);
        }
        println!(
            "kills (seed {seed}): {kills:?}, {missed} came after the end, in {} s; {} folds left to expire",
            started.elapsed().as_secs(),
            shop.folds_left().await.len()
        );
        assert!(kills.values().sum::<usize>() > 0, "nothing was killed");
    });
}
