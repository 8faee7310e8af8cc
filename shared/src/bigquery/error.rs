//! The one error of everything that talks to BigQuery: a kind that callers match on, which call failed and on what,
//! and what is needed to look it up in BigQuery's own history.
//! It must never carry a remote message verbatim: BigQuery quotes row values in them (`Bad int64 value: …`).

use std::error::Error as StdError;
use std::fmt;

/// What went wrong, as far as a caller's decision goes. [`super::retry::disposition`] maps each to what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No connection, or the connection was lost before the answer: the call may have taken effect.
    Unreachable,
    /// BigQuery, or one attempt's own limit, gave up waiting: the call may have taken effect.
    Timeout,
    /// The token was missing, expired or refused.
    Unauthenticated,
    /// No token could be obtained: the credential itself, or the exchange for it, is wrong.
    Credentials,
    /// The caller may not do this.
    PermissionDenied,
    /// The table, dataset, job or stream does not exist.
    NotFound,
    /// It exists already (a table, a dataset, a job id, an offset).
    AlreadyExists,
    /// Too many calls just now.
    RateLimited,
    /// A quota is used up; several of BigQuery's are per minute, so it is worth waiting for within the deadline.
    QuotaExceeded,
    /// BigQuery says that it is not available just now.
    Unavailable,
    /// An error inside BigQuery.
    Internal,
    /// BigQuery does not accept the request as it is; the same request will not be accepted later.
    InvalidRequest,
    /// Rows of the request were refused; see [`super::append::AppendOutcome`].
    RowErrors,
    /// An answer that cannot be read, such as a proxy's HTML page: the call may have taken effect.
    UnexpectedAnswer,
    /// The call was cancelled on the way: it may have taken effect.
    Cancelled,
    /// The request, or one row of it, is larger than BigQuery takes.
    TooLarge,
    /// A job ended with an error; [`Error::reason`] has BigQuery's.
    JobFailed,
    /// The deadline passed while the job was still working; it goes on, and can be attached to by its id.
    JobRunning,
    /// The caller's deadline passed before the call succeeded; the source is the last failure.
    DeadlinePassed,
}

impl ErrorKind {
    /// A stable name, the `errorType` that Lambda shows and that alarms match on.
    #[must_use]
    pub const fn error_type(self) -> &'static str {
        match self {
            Self::Unreachable => "BigQueryUnreachable",
            Self::Timeout => "BigQueryTimeout",
            Self::Unauthenticated => "BigQueryUnauthenticated",
            Self::Credentials => "GoogleCredentials",
            Self::PermissionDenied => "BigQueryPermissionDenied",
            Self::NotFound => "BigQueryNotFound",
            Self::AlreadyExists => "BigQueryAlreadyExists",
            Self::RateLimited => "BigQueryRateLimited",
            Self::QuotaExceeded => "BigQueryQuotaExceeded",
            Self::Unavailable => "BigQueryUnavailable",
            Self::Internal => "BigQueryInternal",
            Self::InvalidRequest => "BigQueryInvalidRequest",
            Self::RowErrors => "BigQueryRowErrors",
            Self::UnexpectedAnswer => "BigQueryUnexpectedAnswer",
            Self::Cancelled => "BigQueryCancelled",
            Self::TooLarge => "BigQueryTooLarge",
            Self::JobFailed => "BigQueryJobFailed",
            Self::JobRunning => "BigQueryJobRunning",
            Self::DeadlinePassed => "BigQueryDeadlinePassed",
        }
    }

    /// What happened, in words that do not depend on the call.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Unreachable => "BigQuery could not be reached, or the connection was lost",
            Self::Timeout => "BigQuery did not answer in time",
            Self::Unauthenticated => "BigQuery refused the access token",
            Self::Credentials => "no access token could be obtained for BigQuery",
            Self::PermissionDenied => "BigQuery denied permission",
            Self::NotFound => "BigQuery does not have it",
            Self::AlreadyExists => "BigQuery has it already",
            Self::RateLimited => "BigQuery asks for fewer calls",
            Self::QuotaExceeded => "a BigQuery quota is used up",
            Self::Unavailable => "BigQuery is not available just now",
            Self::Internal => "BigQuery reports an internal error",
            Self::InvalidRequest => "BigQuery does not accept the request",
            Self::RowErrors => "BigQuery refused rows",
            Self::UnexpectedAnswer => "BigQuery's answer could not be read",
            Self::Cancelled => "the call to BigQuery was cancelled",
            Self::TooLarge => "the request is larger than BigQuery takes",
            Self::JobFailed => "the BigQuery job failed",
            Self::JobRunning => "the BigQuery job is still working",
            Self::DeadlinePassed => "the deadline passed before BigQuery did it",
        }
    }

    /// What a person can do about it; empty when waiting is all there is to do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Unreachable | Self::Timeout => {
                "check the function's way out to Google (NAT or Private Service Connect) if it lasts"
            }
            Self::Unauthenticated | Self::Credentials => {
                "check STRAIT_CREDENTIALS or STRAIT_CREDENTIALS_SECRET and the workload identity pool"
            }
            Self::PermissionDenied => "grant the credential's principal the BigQuery roles that the README lists",
            Self::NotFound => "check STRAIT_PROJECT, STRAIT_LOCATION and the table's name",
            Self::QuotaExceeded => "look at the project's BigQuery quotas",
            Self::InvalidRequest | Self::RowErrors => {
                "compare the table's schema with what Strait creates; look the message up in BigQuery's job history"
            }
            Self::JobFailed => "look the job up in BigQuery's job history",
            _ => "",
        }
    }
}

/// A failed call to BigQuery. Its text holds identifiers only: no row value, no token.
#[derive(Debug)]
pub struct Error {
    /// Boxed, so that a result is not larger for the sake of its rare side.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    call: &'static str,
    target: String,
    reason: Option<String>,
    message: Option<String>,
    job_id: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` from `call` (`tables.get`, `AppendRows`, …) on `target` (a table, a job, a dataset).
    #[must_use]
    pub fn new(kind: ErrorKind, call: &'static str, target: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                call,
                target: target.into(),
                reason: None,
                message: None,
                job_id: None,
                source: None,
            }),
        }
    }

    /// With BigQuery's own reason (`rateLimitExceeded`, `TABLE_NOT_FOUND`, `HTTP 502`).
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.inner.reason = Some(reason.into());
        self
    }

    /// With what may be kept of a remote message; see [`redact`].
    #[must_use]
    pub fn with_remote_message(mut self, message: &str) -> Self {
        let kept = redact(message);
        if !kept.is_empty() {
            self.inner.message = Some(kept);
        }
        self
    }

    /// With a detail that is our own text and holds identifiers only.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.inner.message = Some(detail.into());
        self
    }

    /// With the job's id.
    #[must_use]
    pub fn with_job_id(mut self, job_id: impl Into<String>) -> Self {
        self.inner.job_id = Some(job_id.into());
        self
    }

    /// With the cause. It must be a local error: a remote status has row values in its text.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// The kind, which decides what is done.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The failed call.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.inner.call
    }

    /// What the call was about.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.inner.target
    }

    /// BigQuery's own reason, where it gave one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.inner.reason.as_deref()
    }

    /// The job's id, where a job is concerned.
    #[must_use]
    pub fn job_id(&self) -> Option<&str> {
        self.inner.job_id.as_deref()
    }

    /// A stable name for Lambda's `errorType`.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        self.inner.kind.error_type()
    }

    /// Whether the call may have taken effect although it failed.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(
            self.inner.kind,
            ErrorKind::Unreachable
                | ErrorKind::Timeout
                | ErrorKind::Unavailable
                | ErrorKind::Internal
                | ErrorKind::UnexpectedAnswer
                | ErrorKind::Cancelled
        )
    }

    /// This failure, given up on because the deadline has come.
    #[must_use]
    pub(crate) fn past_deadline(self) -> Self {
        if matches!(self.inner.kind, ErrorKind::DeadlinePassed | ErrorKind::JobRunning) {
            return self;
        }
        let (call, target, job_id) = (self.inner.call, self.inner.target.clone(), self.inner.job_id.clone());
        let mut error = Self::new(ErrorKind::DeadlinePassed, call, target).with_source(self);
        error.inner.job_id = job_id;
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.inner.kind.description(), self.inner.call, self.inner.target)?;
        if let Some(reason) = &self.inner.reason {
            write!(f, ", {reason}")?;
        }
        if let Some(message) = &self.inner.message {
            write!(f, ", {message}")?;
        }
        if let Some(job_id) = &self.inner.job_id {
            write!(f, ", job {job_id}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| {
            let source: &(dyn StdError + 'static) = source;
            source
        })
    }
}

/// The longest remote text that is kept: enough for BigQuery's sentence, too short for a row.
const REDACTED_MAX_CHARS: usize = 120;

/// What may be kept of a message from BigQuery: the part before the first `:`, quote or number, where row values stand,
/// and the `[line:column]` at its end, which helps to find the place in a statement.
#[must_use]
pub fn redact(message: &str) -> String {
    let place = trailing_place(message).unwrap_or_default();
    let sentence = message.rfind(place).and_then(|at| message.get(..at));
    let head = sentence
        .filter(|_| !place.is_empty())
        .unwrap_or(message)
        .split([':', '"', '\'', '`', '\u{201c}', '\u{2018}', '\n'])
        .next()
        .unwrap_or_default();
    // A word with a digit inside is a type (`int64`), one that begins with a digit or a sign is a value.
    let is_value = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit() || "-+.(".contains(first));
    let words: Vec<&str> = head.split_whitespace().take_while(|word| !is_value(word)).collect();
    let head = words.join(" ");
    let room = REDACTED_MAX_CHARS.saturating_sub(place.chars().count() + 1);
    let mut kept: String = head.chars().take(room).collect();
    if !place.is_empty() && !kept.is_empty() {
        kept.push(' ');
    }
    kept.push_str(place);
    kept
}

/// The `[12:34]` at the end of `message`, if that is what stands there.
fn trailing_place(message: &str) -> Option<&str> {
    let message = message.trim_end().trim_end_matches('.');
    let place = message.get(message.rfind('[')?..)?;
    let inside = place.strip_prefix('[')?.strip_suffix(']')?;
    let (line, column) = inside.split_once(':')?;
    // Longer numbers are no place in a statement of at most 1 MB, but could be part of a value.
    let is_number = |text: &str| (1..=7).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(line) && is_number(column)).then_some(place)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may fail by panicking.
mod tests {
    use super::*;

    #[test]
    fn a_row_value_never_survives_redaction() {
        for (message, kept) in [
            ("Bad int64 value: 4111111111111111", "Bad int64 value"),
            ("Invalid timestamp 'secret' at [3:14]", "Invalid timestamp [3:14]"),
            ("Could not parse \"4111\" as INT64", "Could not parse"),
            ("Syntax error at [1:8]", "Syntax error at [1:8]"),
            ("Value `x` [4111111111111111:1]", "Value"),
            ("Invalid date 2024-02-30", "Invalid date"),
            ("Out of range -5.5 for INT64", "Out of range"),
            ("", ""),
            ("'4111'", ""),
        ] {
            assert_eq!(redact(message), kept, "{message}");
        }
        assert!(redact(&"x".repeat(5000)).chars().count() <= REDACTED_MAX_CHARS);
    }

    #[test]
    fn the_text_names_the_call_the_target_the_reason_and_the_job() {
        let text = Error::new(ErrorKind::JobFailed, "jobs.get", "replica.shop_orders")
            .with_reason("invalidQuery")
            .with_remote_message("Bad int64 value: 4111")
            .with_job_id("strait_x_0")
            .to_string();
        assert_eq!(
            text,
            "the BigQuery job failed: jobs.get replica.shop_orders, invalidQuery, Bad int64 value, job strait_x_0"
        );
    }

    #[test]
    fn a_failure_at_the_deadline_keeps_what_failed_last() {
        let error = Error::new(ErrorKind::RateLimited, "tables.get", "cdc.log").past_deadline();
        assert_eq!(error.kind(), ErrorKind::DeadlinePassed);
        assert!(error.source().unwrap().to_string().contains("fewer calls"));
    }
}
