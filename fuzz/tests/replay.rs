//! Every target on stable: its corpus, then for a few seconds inputs made of it. `FUZZ_SECONDS` says for how long (5 unless told),
//! `FUZZ_SEED` repeats a run to the letter as far as it comes in its time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stderr, reason = "the seed is printed, so that a failure can be repeated")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use strait_fuzz::Target;

/// A few thousand bytes are enough for all that a target reads.
const LONGEST: usize = 4096;

/// Bytes that mean something to some target.
const BYTES: &[u8] = b"\0 \"'`\\{}[],:-+.eE019~#*?!/\n\x1e\x1f\xff\xc3";

/// The numbers of SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): the same for a seed on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} holds {} files", folder.display(), files.len());
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// One to six small changes: bytes, words, pieces of another input.
fn mutated(inputs: &[Vec<u8>], words: &[&str], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = inputs[numbers.below(inputs.len())].clone();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(input.len() + 1);
        let to = (at + numbers.below(16)).min(input.len());
        match numbers.below(7) {
            0 if at < input.len() => input[at] ^= 1 << numbers.below(8),
            1 if at < input.len() => input[at] = BYTES[numbers.below(BYTES.len())],
            2 => drop(input.drain(at..to)),
            3 => drop(input.splice(at..to, words[numbers.below(words.len())].bytes())),
            4 => drop(input.splice(at..at, words[numbers.below(words.len())].bytes())),
            5 => {
                let piece = input[at..to].to_vec();
                drop(input.splice(at..at, piece));
            }
            _ => {
                let other = &inputs[numbers.below(inputs.len())];
                let from = numbers.below(other.len() + 1);
                let until = (from + numbers.below(200)).min(other.len());
                drop(input.splice(at..to, other[from..until].iter().copied()));
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn replay(name: &str) {
    let target = strait_fuzz::target(name).unwrap();
    let mut inputs = corpus(&target);
    for input in &inputs {
        (target.check)(input);
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seconds = number("FUZZ_SECONDS").unwrap_or(5);
    let seed = number("FUZZ_SEED").unwrap_or_else(|| {
        let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap();
        since_1970.as_secs() ^ u64::from(since_1970.subsec_nanos())
    });
    let mut numbers = Numbers(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0_u64;
    let own = inputs.len();
    while Instant::now() < end {
        let input = mutated(&inputs, target.words, &mut numbers);
        if catch_unwind(AssertUnwindSafe(|| (target.check)(&input))).is_err() {
            panic!("{name}, FUZZ_SEED={seed}, input {count}: {:?}", String::from_utf8_lossy(&input));
        }
        count += 1;
        // Changes of changes: now and then one stays, in the place of an older one.
        if count.is_multiple_of(50) {
            match inputs.len() {
                length if length < own * 4 => inputs.push(input),
                length => inputs[own + numbers.below(length - own)] = input,
            }
        }
    }
    eprintln!("{name}: {own} inputs of the corpus and {count} made of them, FUZZ_SEED={seed}");
}

#[test]
fn event() {
    replay("event");
}

#[test]
fn message() {
    replay("message");
}

#[test]
fn mask() {
    replay("mask");
}

#[test]
fn position() {
    replay("position");
}

#[test]
fn configuration() {
    replay("configuration");
}

#[test]
fn names() {
    replay("names");
}

#[test]
fn debezium() {
    replay("debezium");
}

#[test]
fn definition() {
    replay("definition");
}

#[test]
fn every_target_is_replayed() {
    let replayed = ["event", "message", "mask", "position", "configuration", "names", "debezium", "definition"];
    assert_eq!(strait_fuzz::names(), replayed);
}
