//! Two runs of `merge` on the same tables. Lambda's reserved concurrency of 1 is the first lock; the jobs' ids and the ledger are the
//! second: no row is doubled, no deleted row comes back, whichever run is held at whichever call while the other goes through.

use std::time::Instant;

use strait_cli::runtime_api::{Function, InvocationOutcome};
use strait_tests::history::Message;
use strait_tests::run;

use super::relay::{Fault, Relay, Rule};
use super::shop::{LONG, Random, Shop, all, budget, in_short, merge_with, seed};

#[test]
fn two_merges_at_once_double_nothing_and_bring_nothing_back() {
    run(async {
        let (started, seed) = (Instant::now(), seed());
        let mut random = Random(seed);
        let mut shop = Shop::working(LONG, LONG).await.unwrap();
        let (second, _relay) = shop.another("merge", LONG).await;
        let end = Instant::now() + if all() { budget() * 4 } else { budget() / 6 };
        let (mut rounds, mut held_up) = (0, 0);
        while Instant::now() < end || rounds < 2 {
            let messages = if random.below(2) == 0 { shop.changes() } else { shop.take_back() };
            shop.send(&messages).await.unwrap();
            let more = shop.take_back();
            let records = shop.pipeline.produce(&more);
            let (one, other, sent) =
                tokio::join!(merge_with(&shop.pipeline.merge), merge_with(&second), shop.deliver(&records));
            sent.unwrap_or_else(|problem| panic!("round {rounds} (seed {seed}): {problem}"));
            // Two that are invoked again and again at the same moments may hold each other up; they say so, and the next one alone
            // comes to the end.
            held_up += [one, other].iter().filter(|course| course.is_err()).count();
            shop.merge().await.unwrap();
            shop.check().await.unwrap_or_else(|problem| panic!("round {rounds} (seed {seed}): {problem}"));
            rounds += 1;
        }
        println!(
            "two merges at once (seed {seed}): {rounds} rounds, {held_up} held up, in {} s",
            started.elapsed().as_secs()
        );
    });
}

/// What a run finds: changes; or first that a column was renamed, and what comes while it is held says that it was renamed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Changes,
    Renamed,
}

impl News {
    fn of(self, shop: &mut Shop, changes: fn(&mut Shop) -> Vec<Message>) -> Vec<Message> {
        let mut messages: Vec<Message> = (self == Self::Renamed).then(|| shop.rename()).into_iter().collect();
        messages.extend(changes(shop));
        messages
    }
}

/// One run is held at a call, the other one goes through with what came meanwhile, then the first goes on. Whether the first
/// was still at work then.
async fn held(
    shop: &mut Shop,
    first: &Function,
    relay: &Relay,
    news: News,
    (step, fault): (usize, Fault),
) -> Result<bool, String> {
    let messages = news.of(shop, Shop::changes);
    shop.send(&messages).await?;
    relay.arm(Rule { method: None, what: None, step, fault });
    let fired = relay.fired();
    let invocation = first.invoke("{}");
    tokio::pin!(invocation);
    let was_held = tokio::select! {
        _ = &mut invocation => false,
        () = relay.until_fired(fired) => true,
    };
    relay.disarm();
    let messages = news.of(shop, Shop::take_back);
    shop.send(&messages).await?;
    shop.merge().await?;
    if news == News::Renamed {
        // What another began is finished with the columns that it knew; the run after that one alters the table (docs/schema-changes.md).
        shop.merge().await?;
    }
    shop.check().await.map_err(|problem| format!("while the first is held: {problem}"))?;
    relay.release();
    let mut said = None;
    if was_held {
        let outcome = invocation.await.map_err(|error| error.to_string())?.outcome;
        if matches!(outcome, InvocationOutcome::Exited { .. } | InvocationOutcome::TimedOut) {
            return Err(format!("the first ended as {:?}", in_short(&outcome)));
        }
        said = Some(in_short(&outcome));
    }
    shop.rows_are_right().await.map_err(|problem| format!("once the first went on ({said:?}): {problem}"))?;
    shop.merge().await?;
    shop.check().await.map_err(|problem| format!("at the next merge ({said:?}): {problem}"))?;
    Ok(was_held)
}

#[test]
fn a_merge_that_another_overtakes_brings_nothing_back() {
    overtaken(News::Changes);
}

#[test]
fn a_merge_that_another_overtakes_does_not_rename_a_column_that_was_renamed_back() {
    overtaken(News::Renamed);
}

fn overtaken(news: News) {
    run(async {
        let (started, seed) = (Instant::now(), seed());
        let mut random = Random(seed);
        let mut shop = Shop::working(LONG, LONG).await.unwrap();
        let (mut first, mut relay) = shop.another("merge", LONG).await;
        // The calls of one run, here and now.
        let messages = news.of(&mut shop, Shop::changes);
        shop.send(&messages).await.unwrap();
        merge_with(&first).await.unwrap();
        let calls = relay.take_calls();
        let mut moments: Vec<(usize, Fault)> =
            (0..calls.len()).flat_map(|step| [(step, Fault::Held), (step, Fault::HeldAfter)]).collect();
        let end = Instant::now() + budget() / 4;
        if !all() {
            for place in (1..moments.len()).rev() {
                moments.swap(place, random.below(place + 1));
            }
        }
        let (mut held_at, mut problems) = (0, Vec::new());
        for (step, fault) in moments {
            if !all() && held_at > 0 && Instant::now() > end {
                break;
            }
            match held(&mut shop, &first, &relay, news, (step, fault)).await {
                Ok(was_held) => held_at += usize::from(was_held),
                Err(problem) => {
                    problems.push(format!("{fault:?} at call {step}, {:?} (seed {seed}): {problem}", calls[step]));
                    shop = Shop::working(LONG, LONG).await.unwrap();
                    (first, relay) = shop.another("merge", LONG).await;
                }
            }
        }
        println!(
            "overtaken merges, {news:?} (seed {seed}): held at {held_at} calls of {}, in {} s",
            calls.len(),
            started.elapsed().as_secs()
        );
        assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
        assert!(held_at > 0, "nothing was held");
    });
}
