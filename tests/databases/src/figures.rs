//! How fast and how fresh: what a run prints, from what the log and the final tables say themselves.

use std::time::Duration;

use jiff::Timestamp;
use strait_cli::embedded_bigquery::EmbeddedBigQuery;
use strait_kafka_stand_in::invoke::Answered;

use crate::shop::{Engine, FRESHNESS};
use crate::workload::LAST;

/// How long commits took to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// Commits that were looked at.
    pub commits: usize,
    /// The middle one.
    pub p50: Duration,
    /// Of a hundred the slowest but one.
    pub p99: Duration,
}

impl Freshness {
    fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (seconds.len().saturating_sub(1) as f64 * share).round() as usize;
            Duration::from_secs_f64(seconds.get(place).copied().unwrap_or(0.0).max(0.0))
        };
        Self { commits: seconds.len(), p50: at(0.5), p99: at(0.99) }
    }
}

/// Until the log and until the final table held the rows of [`FRESHNESS`]. `answered` are the invocations of the function that wrote them: a
/// row is there when its invocation has answered.
pub async fn freshness(
    bigquery: &EmbeddedBigQuery,
    engine: Engine,
    ingested: &[Answered],
    merged: &[Answered],
) -> (Freshness, Freshness) {
    let (schema, last) = (engine.schema(), LAST);
    let log = format!(
        "SELECT JSON_VALUE(data, '$.at_ms'), CAST(UNIX_MICROS(MIN(ingested_at)) AS STRING) FROM `cdc.log` \
         WHERE source_schema = '{schema}' AND source_table = '{FRESHNESS}' AND operation = 'insert' \
         AND JSON_VALUE(data, '$.id') != '{last}' GROUP BY JSON_VALUE(data, '$.id'), JSON_VALUE(data, '$.at_ms')"
    );
    let finals = format!(
        "SELECT CAST(at_ms AS STRING), CAST(UNIX_MICROS(_strait_merged_at) AS STRING) FROM `replica.{schema}_{FRESHNESS}` \
         WHERE id != {last} AND _strait_position NOT LIKE '%-0-%'"
    );
    (of(bigquery, &log, ingested).await, of(bigquery, &finals, merged).await)
}

async fn of(bigquery: &EmbeddedBigQuery, sql: &str, answered: &[Answered]) -> Freshness {
    let rows = bigquery.query(sql).await.unwrap().rows;
    let micros = |cell: &Option<String>| cell.as_deref().and_then(|cell| cell.parse::<i64>().ok());
    let seconds = rows.iter().filter_map(|row| {
        let (committed, written) = (micros(&row[0])? * 1000, micros(&row[1])?);
        let written = Timestamp::from_microsecond(written).ok()?;
        let seen = answered.iter().find(|it| it.began <= written && written <= it.ended).map_or(written, |it| it.ended);
        Some((seen.as_microsecond() - committed) as f64 / 1e6)
    });
    Freshness::of(seconds.collect())
}
