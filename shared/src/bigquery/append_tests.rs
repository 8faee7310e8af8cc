#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may fail by panicking.

use super::*;
use crate::bigquery::auth::NoToken;
use crate::bigquery::fakes::{AppendFault, CountingTokens, FakeWrite, far, soon};

fn stream() -> WriteStream {
    let table = TableName { dataset: "cdc".into(), table: "log".into() };
    WriteStream::default_of("p", table, DescriptorProto::default())
}

fn rows(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn client(server: &FakeWrite) -> AppendClient {
    AppendClient::new(&server.url, Arc::new(NoToken)).unwrap()
}

#[tokio::test]
async fn rows_arrive_in_order_with_their_schema_and_routing() {
    let server = FakeWrite::start([]).await;
    let outcome = client(&server).append(&stream(), &rows(&["a", "b", "c"]), far()).await;
    assert!(outcome.failure.is_none());
    assert_eq!(outcome.rows, [RowOutcome::Written; 3]);
    assert_eq!(server.written(), ["a", "b", "c"]);
    let seen = &server.seen()[0];
    assert_eq!(seen.stream, "projects/p/datasets/cdc/tables/log/streams/_default");
    assert_eq!(
        seen.routing.as_deref(),
        Some("write_stream=projects%2Fp%2Fdatasets%2Fcdc%2Ftables%2Flog%2Fstreams%2F_default")
    );
    assert!(seen.has_schema);
    assert_eq!((seen.authorization.as_deref(), seen.encoding.as_deref()), (None, None));
}

#[tokio::test]
async fn transient_failures_are_retried_until_the_rows_are_there() {
    for fault in [
        AppendFault::Status(Code::Unavailable, "try again"),
        AppendFault::Status(Code::Aborted, "moved"),
        AppendFault::Status(Code::Internal, "oops"),
        AppendFault::Status(Code::Cancelled, "cancelled"),
        AppendFault::Status(Code::DeadlineExceeded, "slow"),
        AppendFault::Status(Code::ResourceExhausted, "too much"),
        AppendFault::Status(Code::Unknown, "lost"),
        AppendFault::Inner(Code::Internal, StorageErrorCode::Unspecified),
        AppendFault::Close,
        AppendFault::Empty,
    ] {
        let server = FakeWrite::start([fault, fault]).await;
        let outcome = client(&server).append(&stream(), &rows(&["a", "b"]), far()).await;
        assert!(outcome.failure.is_none(), "{fault:?}: {:?}", outcome.failure);
        assert_eq!(server.written(), ["a", "b"], "{fault:?}");
        assert_eq!(outcome.requests, 3, "{fault:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_sent_again_rather_than_lost() {
    let server = FakeWrite::start([AppendFault::WriteThenLose]).await;
    let outcome = client(&server).append(&stream(), &rows(&["a"]), far()).await;
    assert_eq!(outcome.rows, [RowOutcome::Written]);
    // At least once: the log's readers know a record by its Kafka identity.
    assert_eq!(server.written(), ["a", "a"]);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up_and_asked_for_again() {
    let server = FakeWrite::start([AppendFault::Hang]).await;
    let settings = AppendSettings { attempt_timeout: Some(Duration::from_millis(200)), ..AppendSettings::default() };
    let client = AppendClient::with_settings(&server.url, Arc::new(NoToken), settings).unwrap();
    let outcome = client.append(&stream(), &rows(&["a"]), far()).await;
    assert_eq!(outcome.rows, [RowOutcome::Written]);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn the_deadline_is_kept_and_nothing_unacknowledged_counts_as_written() {
    let server = FakeWrite::start([AppendFault::Hang]).await;
    let deadline = soon();
    let outcome = client(&server).append(&stream(), &rows(&["a"]), deadline).await;
    assert!(Instant::now() < deadline + Duration::from_millis(500));
    assert_eq!(outcome.rows, [RowOutcome::NotWritten]);
    assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::DeadlinePassed);

    let refusing = FakeWrite::start([AppendFault::Status(Code::Unavailable, "x"); 200]).await;
    let deadline = soon();
    let outcome = client(&refusing).append(&stream(), &rows(&["a"]), deadline).await;
    assert!(Instant::now() < deadline + Duration::from_millis(500));
    assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::DeadlinePassed);
}

#[tokio::test]
async fn no_server_at_all_is_unreachable_until_the_deadline() {
    let gone = FakeWrite::start([]).await.url.clone();
    let client = AppendClient::new(&gone, Arc::new(NoToken)).unwrap();
    let outcome = client.append(&stream(), &rows(&["a"]), soon()).await;
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.kind(), ErrorKind::DeadlinePassed);
    let cause = std::error::Error::source(&failure).unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(cause.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn refused_rows_are_named_and_the_others_written() {
    let server = FakeWrite::start([]).await;
    let outcome = client(&server).append(&stream(), &rows(&["a", "BAD1", "b", "BAD2"]), far()).await;
    let refused = RowOutcome::Refused(RefusalCode::FieldsError);
    assert_eq!(outcome.rows, [RowOutcome::Written, refused, RowOutcome::Written, refused]);
    assert!(outcome.failure.is_none());
    assert_eq!(server.written(), ["a", "b"]);

    let nothing_left = client(&server).append(&stream(), &rows(&["BAD"]), far()).await;
    assert_eq!(nothing_left.rows, [refused]);
    let error = nothing_left.into_result(&stream().table).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::RowErrors, Some("FIELDS_ERROR")));
}

#[tokio::test]
async fn row_errors_that_name_no_row_do_not_go_on_forever() {
    let server = FakeWrite::start([AppendFault::NamelessRowErrors]).await;
    let outcome = client(&server).append(&stream(), &rows(&["a"]), far()).await;
    assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::InvalidRequest);
    assert_eq!(outcome.rows, [RowOutcome::NotWritten]);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let refused = AppendFault::Status(Code::Unauthenticated, "expired");
    let server = FakeWrite::start([refused]).await;
    let client = AppendClient::new(&server.url, Arc::new(CountingTokens::default())).unwrap();
    let outcome = client.append(&stream(), &rows(&["a"]), far()).await;
    assert_eq!(outcome.rows, [RowOutcome::Written]);
    let tokens: Vec<_> = server.seen().into_iter().filter_map(|seen| seen.authorization).collect();
    assert_eq!(tokens, ["Bearer t0", "Bearer t1"]);

    let server = FakeWrite::start([refused; 10]).await;
    let client = AppendClient::new(&server.url, Arc::new(CountingTokens::default())).unwrap();
    let outcome = client.append(&stream(), &rows(&["a"]), far()).await;
    assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::Unauthenticated);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn what_waiting_cannot_mend_stops_at_once_and_never_quotes_a_row() {
    for (fault, kind, reason) in [
        (
            AppendFault::Status(Code::InvalidArgument, "Bad value: 4111111111111111"),
            ErrorKind::InvalidRequest,
            "InvalidArgument",
        ),
        (
            AppendFault::Status(Code::PermissionDenied, "Permission 'X' denied on resource 't' (or it may not exist)."),
            ErrorKind::PermissionDenied,
            MAY_NOT_EXIST,
        ),
        (AppendFault::Status(Code::NotFound, "no table"), ErrorKind::NotFound, "NotFound"),
        (
            AppendFault::Inner(Code::InvalidArgument, StorageErrorCode::TableNotFound),
            ErrorKind::NotFound,
            "TABLE_NOT_FOUND",
        ),
        (
            AppendFault::Inner(Code::InvalidArgument, StorageErrorCode::SchemaMismatchExtraFields),
            ErrorKind::InvalidRequest,
            "SCHEMA_MISMATCH_EXTRA_FIELDS",
        ),
    ] {
        let server = FakeWrite::start([fault]).await;
        let outcome = client(&server).append(&stream(), &rows(&["a"]), far()).await;
        let failure = outcome.failure.unwrap();
        assert_eq!((failure.kind(), failure.reason()), (kind, Some(reason)));
        assert!(!format!("{failure} {failure:?}").contains("4111"), "{failure:?}");
        assert_eq!(server.seen().len(), 1);
        assert!(server.written().is_empty());
    }
}

#[tokio::test]
async fn a_failed_request_keeps_what_is_behind_it_from_being_sent() {
    let big = "x".repeat(5_000_000);
    let texts = ["first", big.as_str(), big.as_str(), "last"];
    let server = FakeWrite::start([]).await;
    let outcome = client(&server).append(&stream(), &rows(&texts), far()).await;
    assert_eq!(outcome.rows, [RowOutcome::Written; 4]);
    assert_eq!(server.seen().iter().map(|seen| seen.rows).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(server.written().last().unwrap(), "last");

    let server = FakeWrite::start([AppendFault::Status(Code::InvalidArgument, "no")]).await;
    let outcome = client(&server).append(&stream(), &rows(&texts), far()).await;
    assert_eq!(outcome.rows, [RowOutcome::NotWritten; 4]);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_row_that_no_request_can_hold_is_refused_alone() {
    let huge = "x".repeat(MAX_ROW_BYTES + 1);
    let server = FakeWrite::start([]).await;
    let outcome = client(&server).append(&stream(), &rows(&["a", &huge, "b"]), far()).await;
    let too_large = RowOutcome::Refused(RefusalCode::TooLarge);
    assert_eq!(outcome.rows, [RowOutcome::Written, too_large, RowOutcome::Written]);
    assert_eq!(server.written(), ["a", "b"]);
}

#[tokio::test]
async fn compression_is_a_setting_and_the_rows_are_the_same() {
    let server = FakeWrite::start([]).await;
    let settings = AppendSettings { gzip: Some(true), ..AppendSettings::default() };
    let client = AppendClient::with_settings(&server.url, Arc::new(NoToken), settings).unwrap();
    client.append(&stream(), &rows(&["a", "b"]), far()).await;
    assert_eq!(server.seen()[0].encoding.as_deref(), Some("gzip"));
    assert_eq!(server.written(), ["a", "b"]);
}

#[tokio::test]
async fn an_offset_that_is_there_already_was_written_by_the_lost_attempt() {
    let mut stream = stream();
    stream.offset = Some(7);
    let exists = AppendFault::Inner(Code::AlreadyExists, StorageErrorCode::OffsetAlreadyExists);
    let server = FakeWrite::start([AppendFault::WriteThenLose, exists]).await;
    let outcome = client(&server).append(&stream, &rows(&["a"]), far()).await;
    assert_eq!(outcome.rows, [RowOutcome::Written]);
    assert_eq!(server.written(), ["a"]);
    assert!(server.seen().iter().all(|seen| seen.offset == Some(7)));
}

#[tokio::test]
async fn only_http_urls_are_endpoints() {
    for url in ["", "bigquery", "ftp://x", "https://", "http://a b"] {
        let error = AppendClient::new(url, Arc::new(NoToken)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{url}");
    }
}

#[test]
fn requests_hold_the_rows_in_order_and_stay_below_the_limit() {
    let rows: Vec<Vec<u8>> = (0..100).map(|n| vec![0; n * 7 % 50]).collect();
    let slices: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    let cut = requests(&slices, 120);
    let order: Vec<usize> = cut.iter().flatten().map(|(index, _)| *index).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    for request in &cut {
        let bytes: usize = request.iter().map(|(_, row)| row.len() + ROW_OVERHEAD).sum();
        assert!(!request.is_empty() && (bytes <= 120 || request.len() == 1));
    }
    assert!(requests(&[], 120).is_empty());
}
