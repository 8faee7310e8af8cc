#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may fail by panicking.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::bigquery::auth::NoToken;
use crate::bigquery::fakes::{FakeRest, JobPlan, RestFault, far, soon};

async fn client(server: &FakeRest) -> BigQuery {
    BigQuery::new(&server.url, "p", "EU", Arc::new(NoToken)).await.unwrap()
}

fn request() -> JobRequest {
    JobRequest::new("SELECT 1", "job")
}

#[tokio::test]
async fn a_query_is_one_job_with_all_its_settings_and_all_its_pages() {
    let server = FakeRest::start([]).await;
    server.rows(["1", "2", "3", "4", "5"]);
    let mut request = request();
    request.labels.insert("strait".into(), "merge".into());
    request.max_bytes_billed = Some(99);
    let answer = client(&server).await.run_query(&request, far()).await.unwrap();
    assert_eq!((answer.columns.as_slice(), answer.total_rows), (["n".to_owned()].as_slice(), 5));
    let numbers: Vec<i64> = (0..5).filter_map(|row| answer.integer(row, "n")).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!((answer.text(5, "n"), answer.text(0, "m")), (None, None));
    assert_eq!(
        answer.stats,
        JobStats {
            bytes_billed: 10_485_760,
            bytes_processed: 123,
            bytes_estimated: 456,
            slot_ms: 77,
            inserted: 3,
            updated: 2,
            deleted: 1,
            start_ms: Some(1000),
            end_ms: Some(1500),
        }
    );
    let jobs = server.jobs();
    let job = &jobs["job_0"];
    assert_eq!((jobs.len(), answer.job_id.as_str()), (1, "job_0"));
    assert_eq!(job["jobReference"], json!({"jobId": "job_0", "location": "EU", "projectId": "p"}));
    assert_eq!(job["configuration"]["labels"], json!({"strait": "merge"}));
    let query = &job["configuration"]["query"];
    assert_eq!(query["useLegacySql"], false);
    assert_eq!(query["maximumBytesBilled"], "99");
    let by_id = |path: &&String| path.contains("/queries/") || path.contains("/jobs/");
    assert!(server.paths().iter().filter(by_id).all(|path| path.contains("location=EU")));
}

#[tokio::test]
async fn rows_are_read_up_to_what_is_wanted() {
    for (wanted, read) in [(0, 0), (1, 1), (3, 3), (9, 5)] {
        let server = FakeRest::start([]).await;
        server.rows(["1", "2", "3", "4", "5"]);
        let mut request = request();
        request.max_results = Some(wanted);
        let answer = client(&server).await.run_query(&request, far()).await.unwrap();
        assert_eq!((answer.rows.len(), answer.total_rows), (read, 5));
    }
}

#[tokio::test]
async fn a_lost_answer_is_attached_to_and_never_run_again() {
    for fault in [
        RestFault::google(Method::POST, "/jobs", 503, "backendError").after_it_took_effect(),
        RestFault::html(Method::POST, "/jobs", 502).after_it_took_effect(),
        RestFault::html(Method::POST, "/jobs", 200).after_it_took_effect(),
        RestFault::html(Method::GET, "/queries/", 502),
        RestFault::html(Method::GET, "/jobs/", 502),
        RestFault::google(Method::GET, "/queries/", 500, "internalError"),
    ] {
        let server = FakeRest::start([fault.clone()]).await;
        server.rows(["1"]);
        let answer = client(&server).await.run_query(&request(), far()).await.unwrap();
        assert_eq!(answer.integer(0, "n"), Some(1), "{fault:?}");
        assert_eq!(server.jobs().into_keys().collect::<Vec<_>>(), ["job_0"], "{fault:?}");
    }
}

#[tokio::test]
async fn a_job_that_another_call_started_is_attached_to() {
    let server = FakeRest::start([]).await;
    server.rows(["1"]);
    server.earlier_job("job_0", JobPlan { polls: 2, ..JobPlan::default() });
    let answer = client(&server).await.run_query(&request(), far()).await.unwrap();
    assert_eq!((answer.job_id.as_str(), answer.integer(0, "n")), ("job_0", Some(1)));
    assert_eq!(server.jobs().len(), 1);
}

#[tokio::test]
async fn a_job_that_outlives_the_deadline_goes_on_and_can_be_picked_up() {
    let server = FakeRest::start([]).await;
    server.plan([JobPlan { polls: 1000, ..JobPlan::default() }]);
    let deadline = soon();
    let error = client(&server).await.run_query(&request(), deadline).await.unwrap_err();
    assert!(Instant::now() < deadline + Duration::from_millis(500));
    assert_eq!((error.kind(), error.job_id()), (ErrorKind::JobRunning, Some("job_0")));
    assert!(!server.paths().iter().any(|path| path.contains("cancel")));
    assert_eq!(server.jobs().len(), 1);
}

#[tokio::test]
async fn a_transient_failure_takes_the_next_id_three_times_at_most() {
    let transient = JobPlan { failure: Some(("backendError", "try again")), ..JobPlan::default() };
    let concurrent = JobPlan {
        failure: Some(("invalidQuery", "Could not serialize access to table p:d.t due to concurrent update")),
        ..JobPlan::default()
    };
    let server = FakeRest::start([]).await;
    server.plan([transient.clone(), concurrent]);
    let answer = client(&server).await.run_query(&request(), far()).await.unwrap();
    assert_eq!(answer.job_id, "job_2");

    let server = FakeRest::start([]).await;
    server.plan(vec![transient; 9]);
    let error = client(&server).await.run_query(&request(), far()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert_eq!(server.jobs().len(), 3);
}

/// BigQuery counts a table's changes by ten seconds: three attempts within one would all meet the same limit.
#[tokio::test]
async fn a_rate_limit_is_waited_out_for_longer_than_a_failure() {
    let limited = |reason| JobPlan { failure: Some((reason, "too many")), ..JobPlan::default() };
    let server = FakeRest::start([]).await;
    server.plan((0..5).map(|number| limited(["rateLimitExceeded", "jobRateLimitExceeded"][number % 2])));
    let answer = client(&server).await.run_query(&request(), far()).await.unwrap();
    assert_eq!(answer.job_id, "job_5");

    server.plan(vec![limited("rateLimitExceeded"); 99]);
    let deadline = soon();
    let error = client(&server).await.run_query(&JobRequest::new("SELECT 1", "more"), deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlinePassed);
    assert!(Instant::now() < deadline + Duration::from_millis(500));
}

#[tokio::test]
async fn a_job_that_somebody_stopped_is_not_started_again_at_once() {
    let server = FakeRest::start([]).await;
    let stopped = JobPlan { failure: Some(("stopped", "Job execution was cancelled")), ..JobPlan::default() };
    server.plan([stopped]);
    let error = client(&server).await.run_query(&request(), far()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::JobFailed, Some("stopped")));
    assert_eq!(server.jobs().len(), 1);
    // The next call is another matter.
    assert_eq!(client(&server).await.run_query(&request(), far()).await.unwrap().job_id, "job_1");
}

#[tokio::test]
async fn a_job_whose_start_was_answered_too_late_and_that_ends_with_an_error_is_run_again() {
    let lost = RestFault::google(Method::POST, "/jobs", 503, "backendError").after_it_took_effect();
    let server = FakeRest::start([lost]).await;
    server.plan([JobPlan { failure: Some(("backendError", "try again")), ..JobPlan::default() }]);
    assert_eq!(client(&server).await.run_query(&request(), far()).await.unwrap().job_id, "job_1");
}

#[tokio::test]
async fn a_wrong_statement_fails_once_with_its_reason_and_job_but_without_its_values() {
    let server = FakeRest::start([]).await;
    server
        .plan([JobPlan { failure: Some(("invalidQuery", "Bad int64 value: 4111111111111111")), ..JobPlan::default() }]);
    let error = client(&server).await.run_query(&request(), far()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JobFailed);
    assert_eq!((error.reason(), error.job_id()), (Some("invalidQuery"), Some("job_0")));
    assert!(!format!("{error} {error:?}").contains("4111"), "{error}");
    assert_eq!(server.jobs().len(), 1);
}

#[tokio::test]
async fn a_failure_of_an_earlier_run_does_not_stand_in_the_way_of_this_one() {
    let server = FakeRest::start([]).await;
    server.rows(["1"]);
    let failed = JobPlan { failure: Some(("accessDenied", "no")), ..JobPlan::default() };
    server.earlier_job("job_0", failed.clone());
    server.earlier_job("job_1", failed);
    let answer = client(&server).await.run_query(&request(), far()).await.unwrap();
    assert_eq!(answer.job_id, "job_2");
}

#[tokio::test]
async fn a_failed_job_whose_start_was_answered_too_late_counts_as_this_calls_own() {
    let lost = RestFault::google(Method::POST, "/jobs", 503, "backendError").after_it_took_effect();
    let server = FakeRest::start([lost]).await;
    server.plan([JobPlan { failure: Some(("invalidQuery", "no")), ..JobPlan::default() }]);
    let error = client(&server).await.run_query(&request(), far()).await.unwrap_err();
    assert_eq!((error.kind(), error.job_id()), (ErrorKind::JobFailed, Some("job_0")));
    assert_eq!(server.jobs().len(), 1);
}
