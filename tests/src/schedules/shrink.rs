//! From a history that fails to the shortest that still does: operations are switched off, extra deliveries dropped, merges joined, as
//! long as one of the candidates fails. Whoever can play many histories at once gets all candidates at once.

use std::time::{Duration, Instant};

use super::history::{Arrival, History, Timeline};
use super::source::Action;

/// Shrinks. `first_failing` plays candidates, the shortest first, and returns the place of one that fails.
pub fn shrink(
    mut history: History,
    timeline: &Timeline,
    budget: Duration,
    mut first_failing: impl FnMut(&[History]) -> Option<usize>,
) -> History {
    let until = Instant::now() + budget;
    while Instant::now() < until {
        let candidates = candidates(&history, timeline);
        match first_failing(&candidates).and_then(|place| candidates.into_iter().nth(place)) {
            Some(shorter) => history = shorter,
            None => break,
        }
    }
    history
}

/// Each is shorter than the history in some way, so that shrinking ends.
pub fn candidates(history: &History, timeline: &Timeline) -> Vec<History> {
    let mut all = Vec::new();
    // Only what does anything counts; a step that does nothing goes with the first that is taken.
    let is_own = |step: &usize| history.steps[*step].on && history.steps[*step].action != Action::Empty;
    let on: Vec<usize> = (0..history.steps.len()).filter(is_own).collect();
    let mut chunk = on.len();
    while chunk > 0 {
        for steps in on.chunks(chunk) {
            let mut shorter = history.clone();
            for step in steps {
                shorter.steps[*step].on = false;
            }
            all.push(shorter);
        }
        chunk /= 2;
    }
    let is_first = first_arrivals(history);
    let extra = is_first.iter().flatten().filter(|is_first| !**is_first).count();
    if extra > 0 {
        all.push(without_arrivals(history, |window, place| is_first[window][place]));
        for (window, arrivals) in is_first.iter().enumerate() {
            for (place, _) in arrivals.iter().enumerate().filter(|(_, is_first)| !**is_first) {
                all.push(without_arrivals(history, |w, p| (w, p) != (window, place)));
            }
        }
    }
    let again: Vec<usize> = (0..history.sendings.len())
        .filter(|sending| history.sendings[*sending].again && is_delivered(history, *sending))
        .collect();
    if again.len() > 1 {
        all.push(without_arrivals(history, |w, p| !history.sendings[history.windows[w][p].sending].again));
    }
    for sending in &again {
        all.push(without_arrivals(history, |w, p| history.windows[w][p].sending != *sending));
    }
    for window in 0..history.windows.len().saturating_sub(1) {
        if history.windows[window].is_empty() || history.windows[window + 1].is_empty() {
            continue;
        }
        let mut joined = history.clone();
        let moved = std::mem::take(&mut joined.windows[window]);
        joined.windows[window + 1].splice(0..0, moved);
        all.push(joined);
    }
    for window in 0..history.windows.len() {
        for place in 0..history.windows[window].len() {
            if history.windows[window][place].delayed {
                let mut shorter = history.clone();
                shorter.windows[window][place].delayed = false;
                all.push(shorter);
            }
        }
    }
    for step in 0..history.steps.len() {
        if history.steps[step].on && (history.steps[step].nulls != 0 || history.steps[step].bare != 0) {
            let mut shorter = history.clone();
            shorter.steps[step].nulls = 0;
            shorter.steps[step].bare = 0;
            all.push(shorter);
        }
    }
    all.retain(|candidate| candidate.is_sound(timeline));
    all
}

fn is_delivered(history: &History, sending: usize) -> bool {
    history.windows.iter().flatten().any(|arrival| arrival.sending == sending)
}

/// Which arrivals are the first of their sending.
fn first_arrivals(history: &History) -> Vec<Vec<bool>> {
    let mut seen = vec![false; history.sendings.len()];
    let is_first = |arrival: &Arrival, seen: &mut Vec<bool>| !std::mem::replace(&mut seen[arrival.sending], true);
    history.windows.iter().map(|window| window.iter().map(|arrival| is_first(arrival, &mut seen)).collect()).collect()
}

fn without_arrivals(history: &History, keep: impl Fn(usize, usize) -> bool) -> History {
    let mut shorter = history.clone();
    for (number, window) in shorter.windows.iter_mut().enumerate() {
        let mut place = 0;
        window.retain(|_| {
            place += 1;
            keep(number, place - 1)
        });
    }
    shorter
}
