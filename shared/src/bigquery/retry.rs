//! The one retry policy: from what went wrong to what is done about it, and how long to wait in between.
//! It must never wait past the caller's deadline, and no loop that uses it is without one.

use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::auth::TokenSource;
use super::error::{Error, ErrorKind};

/// What is done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The same call again, after a wait.
    Retry,
    /// The same call again with a new token; only once, a second refusal stops.
    RetryAfterFreshToken,
    /// Create what is missing if it is Strait's own, then the same call again; else it stops.
    CreateThenRetry,
    /// Attach to what exists already (a job), or be content with it (a table, an offset).
    AcceptExisting,
    /// Leave it to the next invocation: nothing is wrong but the time is up.
    GiveBack,
    /// Set the refused rows aside, do the rest.
    Quarantine,
    /// A person is needed, or the next attempt gets another job id.
    Stop,
}

/// From kind to what is done.
///
/// | kind | gRPC | HTTP | disposition |
/// |---|---|---|---|
/// | Unreachable | transport loss, UNKNOWN, ABORTED | no connection | Retry |
/// | Timeout | DEADLINE_EXCEEDED | 408, no answer | Retry |
/// | Unavailable | UNAVAILABLE | 502, 503, 504 | Retry |
/// | Internal | INTERNAL, DATA_LOSS | 500 | Retry |
/// | Cancelled | CANCELLED | 499 | Retry |
/// | RateLimited | RESOURCE_EXHAUSTED | 429, 403 `rateLimitExceeded` | Retry |
/// | QuotaExceeded | | 403 `quotaExceeded` | Retry |
/// | UnexpectedAnswer | an answer without content | HTML, undecodable | Retry |
/// | Unauthenticated | UNAUTHENTICATED | 401 | RetryAfterFreshToken |
/// | NotFound | NOT_FOUND | 404 | CreateThenRetry |
/// | AlreadyExists | ALREADY_EXISTS | 409 | AcceptExisting |
/// | RowErrors, TooLarge | row errors | 413 | Quarantine |
/// | DeadlinePassed, JobRunning | | | GiveBack |
/// | PermissionDenied | PERMISSION_DENIED | 403 | Stop |
/// | InvalidRequest | INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED | other 4xx | Stop |
/// | Credentials, JobFailed | | | Stop |
#[must_use]
pub const fn disposition(kind: ErrorKind) -> Disposition {
    match kind {
        ErrorKind::Unreachable
        | ErrorKind::Timeout
        | ErrorKind::Unavailable
        | ErrorKind::Internal
        | ErrorKind::Cancelled
        | ErrorKind::RateLimited
        | ErrorKind::QuotaExceeded
        | ErrorKind::UnexpectedAnswer => Disposition::Retry,
        ErrorKind::Unauthenticated => Disposition::RetryAfterFreshToken,
        ErrorKind::NotFound => Disposition::CreateThenRetry,
        ErrorKind::AlreadyExists => Disposition::AcceptExisting,
        ErrorKind::RowErrors | ErrorKind::TooLarge => Disposition::Quarantine,
        ErrorKind::DeadlinePassed | ErrorKind::JobRunning => Disposition::GiveBack,
        ErrorKind::PermissionDenied | ErrorKind::InvalidRequest | ErrorKind::Credentials | ErrorKind::JobFailed => {
            Disposition::Stop
        }
    }
}

/// The first wait's upper bound. Short: most of BigQuery's UNAVAILABLE pass at once.
const BASE: Duration = Duration::from_millis(100);
/// The longest wait. Long enough to take load off BigQuery, short against an invocation's time.
const CAP: Duration = Duration::from_secs(5);

/// Waits between attempts: exponential with full jitter, so that many functions that fail together do not come back
/// together (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
#[derive(Debug, Clone)]
pub struct Backoff {
    state: u64,
    attempt: u32,
}

impl Backoff {
    /// With a seed of the process's own.
    #[must_use]
    pub fn new() -> Self {
        Self::with_seed(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }

    /// With a given seed: the same waits every time.
    #[must_use]
    pub const fn with_seed(seed: u64) -> Self {
        Self { state: seed, attempt: 0 }
    }

    /// The next wait: between nothing and the bound, which doubles from 100 ms to 5 s.
    pub fn next_delay(&mut self) -> Duration {
        let bound = BASE.saturating_mul(1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(CAP);
        self.attempt = self.attempt.saturating_add(1).min(16);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.next_random() % micros.saturating_add(1))
    }

    /// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>): enough for a jitter, and no dependency.
    fn next_random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// One call's retries, up to its deadline.
#[derive(Debug)]
pub(crate) struct Retries {
    deadline: Instant,
    backoff: Backoff,
    fresh_token_taken: bool,
    unread_answer_seen: bool,
}

impl Retries {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { deadline, backoff: Backoff::new(), fresh_token_taken: false, unread_answer_seen: false }
    }

    /// Waits as the policy says and returns, when the call is to be made again; otherwise gives the error back.
    pub(crate) async fn wait_after(&mut self, error: Error, tokens: &dyn TokenSource) -> Result<(), Error> {
        match disposition(error.kind()) {
            Disposition::Retry => {
                // gcp_bigquery_client loses the status of an answer it cannot read: it may have been a 401.
                if error.kind() == ErrorKind::UnexpectedAnswer && !self.unread_answer_seen {
                    self.unread_answer_seen = true;
                    tokens.invalidate();
                }
            }
            Disposition::RetryAfterFreshToken if !self.fresh_token_taken => {
                self.fresh_token_taken = true;
                tokens.invalidate();
                return if Instant::now() < self.deadline { Ok(()) } else { Err(error.past_deadline()) };
            }
            _ => return Err(error),
        }
        self.pause(error).await
    }

    /// Waits, whatever the error was; gives it back when the wait would pass the deadline.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        let wake = Instant::now() + self.backoff.next_delay();
        if wake >= self.deadline {
            return Err(error.past_deadline());
        }
        tracing::debug!(error = %error, "retrying");
        tokio::time::sleep_until(wake).await;
        Ok(())
    }
}

/// Makes `call` until it succeeds, until its error is not worth a retry, or until `deadline`.
pub(crate) async fn with_retries<T, F, Fut>(
    deadline: Instant,
    tokens: &dyn TokenSource,
    what: (&'static str, &str),
    mut call: F,
) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let mut retries = Retries::until(deadline);
    loop {
        let error = match tokio::time::timeout_at(deadline, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => return Err(Error::new(ErrorKind::Timeout, what.0, what.1).past_deadline()),
        };
        retries.wait_after(error, tokens).await?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may fail by panicking.
mod tests {
    use super::*;
    use crate::bigquery::auth::NoToken;

    #[test]
    fn waits_stay_in_their_bounds_and_grow_to_the_cap() {
        for seed in 0..200 {
            let mut backoff = Backoff::with_seed(seed);
            for attempt in 0..40_u32 {
                let bound = Duration::from_millis(100 * 2_u64.pow(attempt.min(6))).min(CAP);
                assert!(backoff.next_delay() <= bound, "seed {seed}, attempt {attempt}");
            }
        }
        let longest = (0..200)
            .map(|seed| {
                let mut backoff = Backoff::with_seed(seed);
                (0..10).map(|_| backoff.next_delay()).max().unwrap()
            })
            .max()
            .unwrap();
        assert!(longest > Duration::from_secs(4), "full jitter reaches towards the cap: {longest:?}");
    }

    #[test]
    fn a_seed_replays() {
        let (mut one, mut two) = (Backoff::with_seed(7), Backoff::with_seed(7));
        assert!((0..20).all(|_| one.next_delay() == two.next_delay()));
    }

    #[tokio::test]
    async fn a_call_that_always_fails_ends_at_the_deadline_with_its_last_error() {
        let deadline = Instant::now() + Duration::from_millis(300);
        let mut calls = 0_u32;
        let result: Result<(), Error> = with_retries(deadline, &NoToken, ("tables.get", "cdc.log"), || {
            calls += 1;
            async { Err(Error::new(ErrorKind::Unavailable, "tables.get", "cdc.log")) }
        })
        .await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::DeadlinePassed);
        assert!(calls >= 1 && Instant::now() < deadline + Duration::from_millis(200));
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_only_once() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut calls = 0_u32;
        let result: Result<(), Error> = with_retries(deadline, &NoToken, ("tables.get", "cdc.log"), || {
            calls += 1;
            async { Err(Error::new(ErrorKind::Unauthenticated, "tables.get", "cdc.log")) }
        })
        .await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unauthenticated);
        assert_eq!(calls, 2);
    }
}
