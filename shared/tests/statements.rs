//! Every statement that the merge can generate, as golden text: `tests/golden/*.sql`. The same files are what Google's
//! analyzer checks (see `tests/analyzer` at the repository's root), so a statement cannot change without being checked.
//! `UPDATE_GOLDEN=1` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use strait::bigquery::table_resource::Table;
use strait::bigquery::table_spec::{Column, ColumnType as SpecType, Mode, TableSpec};
use strait::config::{AbsentColumns, Deletes};
use strait::debezium::encoding::Encoded;
use strait::log::{KEPT_OUT, LOG, kept_out_table};
use strait::merge::coverage::{Coverage, OffsetRange};
use strait::merge::definition::SourceDefinition;
use strait::merge::delta::{Delta, Reading, Share};
use strait::merge::epoch::{Epochs, Gone};
use strait::merge::final_table::{
    EncodedSince, Encodings, FinalTable, NewColumn, SelfDescribing, WithoutSchemaRead, new_table,
};
use strait::merge::fold::{self, FoldRequest, LookBack};
use strait::merge::ledger::{LedgerState, MERGES};
use strait::merge::proposal::create_table::{Proposal, ProposedColumn};
use strait::merge::proposal::evidence::{LoggedTable, Member, Survey};
use strait::merge::schema_change::{Added, Conversion, Step};
use strait::merge::statement::{self, MergeRequest, QUARANTINE, TARGET_ALIAS};
use strait::merge::types::ColumnType;
use strait::merge::types::encoded::{ColumnEncoding, PlainForm};
use strait::merge::{offsets, partitions, plan, reload};
use strait::names::{ColumnNames, NameHeld, SourceTable, TableName};

const PROJECT: &str = "project";
const LOG_NAME: &str = "log";

/// The fold of a mode: its columns depend on the mode, so each has a table of its own for the analyzer.
fn fold_of(mode: &str) -> TableName {
    fold::fold_table(&table("cdc", LOG_NAME), mode)
}

fn table(dataset: &str, table: &str) -> TableName {
    TableName { dataset: dataset.into(), table: table.into() }
}

/// One column of every type that a control record can name, under names that need quoting.
const EVERY_TYPE: &str = r#"{"table-def":{"columns":{
 "id":{"type":"INT64"}, "select":{"type":"WSTRING"}, "a.b":{"type":"NUMERIC","precision":12,"scale":2},
 "a`c":{"type":"NUMERIC","precision":38,"scale":20}, "with space":{"type":"DOUBLE"}, "이름":{"type":"BOOL"},
 "Case":{"type":"DATE"}, "case":{"type":"DATETIME"}, "at":{"type":"TIMESTAMP"}, "quote\"d":{"type":"BLOB"},
 "back\\slash":{"type":"UINT64"}, "it's":{"type":"TIME"}, "line":{"type":"INT32"}},
 "primary-key":["id","line"]}}"#;

fn order() -> SourceTable {
    SourceTable { schema: "shop".into(), table: "order".into() }
}

fn every_type(deletes: Deletes) -> FinalTable {
    let definition = SourceDefinition::from_control(EVERY_TYPE).unwrap();
    let name = table("replica", "shop_order");
    let (resource, _) = new_table(PROJECT, &name, &order(), &definition, deletes).unwrap();
    FinalTable::existing(name, &order(), &resource, None, deletes).unwrap()
}

/// Each way in which a connector writes values without a schema, two of them only until a statement or since one.
fn every_encoding() -> Encodings {
    let of = |encoded| ColumnEncoding { encoded, precision: None, scale: None, form: PlainForm::Text };
    let decimal = |precision, scale| ColumnEncoding {
        encoded: Encoded::Decimal,
        precision: Some(precision),
        scale: Some(scale),
        form: PlainForm::Any,
    };
    let always = |encoding| vec![EncodedSince { since_us: None, encoding: Some(encoding) }];
    let since = |encoding| EncodedSince { since_us: Some(1_767_312_000_000_000), encoding };
    let mut at = always(of(Encoded::TimestampMicroseconds));
    at.push(since(Some(of(Encoded::TimestampMilliseconds))));
    let mut hour = always(of(Encoded::TimeMicroseconds));
    hour.push(since(None));
    let bits = ColumnEncoding { encoded: Encoded::Bits, precision: Some(12), scale: None, form: PlainForm::Any };
    let columns = [
        ("id", always(of(Encoded::Unsigned))),
        ("select", always(of(Encoded::Plain))),
        ("a.b", always(decimal(12, 2))),
        ("a`c", always(decimal(38, 20))),
        ("with space", always(of(Encoded::Untold))),
        ("Case", always(of(Encoded::Days))),
        ("case", at),
        ("quote\"d", always(of(Encoded::Bytes))),
        ("back\\slash", always(bits)),
        ("it's", hour),
    ];
    Encodings(columns.into_iter().map(|(name, known)| (name.to_owned(), known)).collect())
}

/// A table as a person may have made it: a text key, the types that no control record names, no columns of Strait's own.
fn made_by_hand() -> FinalTable {
    let resource: Table = serde_json::from_value(json!({
        "schema": {"fields": [
            {"name": "code", "type": "STRING"}, {"name": "doc", "type": "JSON"}, {"name": "t", "type": "TIME"},
            {"name": "price", "type": "NUMERIC", "precision": "10", "scale": "2"},
            {"name": "short", "type": "STRING", "maxLength": "3"}, {"name": "bytes", "type": "BYTES", "maxLength": "16"},
            {"name": "at", "type": "TIMESTAMP", "description": "strait_zone=Europe/Berlin"}]},
        "tableConstraints": {"primaryKey": {"columns": ["code"]}}}))
    .unwrap();
    FinalTable::existing(table("replica", "made_by_hand"), &order(), &resource, None, Deletes::Hard).unwrap()
}

/// A table whose rows have no key.
fn keyless() -> FinalTable {
    let definition =
        r#"{"table-def":{"columns":{"at":{"type":"DATETIME"},"line":{"type":"WSTRING"}},"primary-key":[]}}"#;
    let definition = SourceDefinition::from_control(definition).unwrap();
    let name = table("replica", "keyless");
    let (resource, _) = new_table(PROJECT, &name, &order(), &definition, Deletes::Hard).unwrap();
    FinalTable::existing(name, &order(), &resource, None, Deletes::Hard).unwrap()
}

/// A table that a person partitioned by a part of its key, and of which no statement may read all partitions unsaid.
fn partitioned() -> FinalTable {
    let resource: Table = serde_json::from_value(json!({
        "schema": {"fields": [
            {"name": "id", "type": "INTEGER"}, {"name": "day", "type": "DATE"}, {"name": "v", "type": "STRING"},
            {"name": "_strait_position", "type": "STRING"}, {"name": "_strait_merged_at", "type": "TIMESTAMP"}]},
        "timePartitioning": {"type": "DAY", "field": "day"}, "requirePartitionFilter": true,
        "tableConstraints": {"primaryKey": {"columns": ["id", "day"]}}}))
    .unwrap();
    FinalTable::existing(table("replica", "partitioned"), &order(), &resource, None, Deletes::Hard).unwrap()
}

fn since(name: &str, us: i64) -> String {
    let now = NameHeld { since_us: Some(us), ..NameHeld::always(name) };
    ColumnNames { now, ..ColumnNames::new(name) }.described()
}

fn formerly(name: &str, former: &[&str]) -> String {
    let former = former.iter().map(|former| NameHeld::always(former)).collect();
    ColumnNames { former, ..ColumnNames::new(name) }.described()
}

/// A table of which one column has a name that was another's, and one had that name.
fn names_reused() -> FinalTable {
    let resource: Table = serde_json::from_value(json!({
        "description": "Replica of \"shop.order\"",
        "schema": {"fields": [
            {"name": "id", "type": "INTEGER"},
            {"name": "a", "type": "DATE", "description": since("a", 1_767_322_000_000_000)},
            {"name": "b", "type": "STRING", "description": formerly("b", &["a", "z"])},
            {"name": "_strait_position", "type": "STRING"}, {"name": "_strait_merged_at", "type": "TIMESTAMP"}]},
        "tableConstraints": {"primaryKey": {"columns": ["id"]}}}))
    .unwrap();
    FinalTable::existing(table("replica", "names_reused"), &order(), &resource, None, Deletes::Hard).unwrap()
}

/// Tables that a person partitioned by what is no part of their key, some of which no statement may read unlimited; none has a range of keys.
type Named = (&'static str, FinalTable, Option<(&'static str, &'static str)>);
fn partitioned_beside_the_key() -> Vec<Named> {
    [
        ("by_day", json!({"timePartitioning": {"type": "DAY", "field": "day"}}), false),
        ("by_month", json!({"timePartitioning": {"type": "MONTH", "field": "day"}}), true),
        ("by_hour", json!({"timePartitioning": {"type": "HOUR", "field": "at"}}), true),
        ("by_year", json!({"timePartitioning": {"type": "YEAR", "field": "shown"}}), false),
        (
            "by_range",
            json!({"rangePartitioning": {"field": "n", "range": {"start": "0", "end": "100", "interval": "10"}}}),
            true,
        ),
        ("by_ingestion", json!({"timePartitioning": {"type": "DAY"}}), false),
        ("by_ingested_hour", json!({"timePartitioning": {"type": "HOUR"}}), true),
    ]
    .map(|(name, partitioning, is_required)| {
        let mut resource = json!({
            "schema": {"fields": [
                {"name": "id", "type": "INTEGER"}, {"name": "day", "type": "DATE"}, {"name": "at", "type": "TIMESTAMP"},
                {"name": "shown", "type": "DATETIME"}, {"name": "n", "type": "INTEGER"},
                {"name": "_strait_position", "type": "STRING"}, {"name": "_strait_merged_at", "type": "TIMESTAMP"}]},
            "requirePartitionFilter": is_required,
            "tableConstraints": {"primaryKey": {"columns": ["id"]}}});
        resource.as_object_mut().unwrap().extend(partitioning.as_object().unwrap().clone());
        let resource: Table = serde_json::from_value(resource).unwrap();
        let table = FinalTable::existing(table("replica", name), &order(), &resource, None, Deletes::Hard).unwrap();
        (name, table, None)
    })
    .into()
}

/// Two epochs, one of them of a load that is complete; and a highest change to compare with.
fn epochs() -> Epochs {
    let mut epochs = Epochs::default();
    epochs.begin(1_767_321_000_000_000);
    epochs.begin(1_767_322_000_000_000);
    epochs.completed(1_767_322_000_000_000);
    epochs.raised(Some(1_767_322_000_000_001), Some(1_767_322_000_500_000));
    epochs
}

/// A step of each kind, on the columns of [`every_type`].
fn steps() -> Vec<(&'static str, Step)> {
    let column = |name: &str| name.to_owned();
    let added = |column: &str, to| Added { column: column.to_owned(), to, description: None };
    let description = formerly("it's", &["a.b"]);
    vec![
        ("describe", Step::Describe { column: column("at"), description: description.clone() }),
        ("rename", Step::Rename { renames: vec![(column("at"), column("select2"))], descriptions: Vec::new() }),
        ("drop", Step::Drop { column: column("at") }),
        ("widen", Step::Widen { column: column("line"), to: ColumnType::Float64 }),
        ("add", Step::Add { columns: vec![added("added", ColumnType::Date), added("more", ColumnType::String)] }),
        (
            "add_copy",
            Step::AddCopy {
                copy: Added { description: Some(description), ..added("_strait_copy_1", ColumnType::BIGNUMERIC) },
                conversion: None,
            },
        ),
        (
            "renew",
            Step::Renew {
                column: column("select"),
                copy: column("line"),
                replaced: column("_strait_replaced_1"),
                description: since("it's", 1_767_322_000_000_000),
            },
        ),
        (
            "replace",
            Step::Replace {
                conversion: Conversion {
                    column: column("select"),
                    value: ColumnType::Int64.value_of("CAST(`select` AS STRING)"),
                    is: ColumnType::String,
                    to: ColumnType::Int64,
                    filter: Some("(`Case` IS NULL OR `Case` IS NOT NULL)".to_owned()),
                },
                copy: column("line"),
                replaced: column("_strait_replaced_1"),
            },
        ),
    ]
}

/// The copy of the log's rows of three tables.
fn delta(log: &TableName) -> Delta {
    let readings = ["order", "it's", "`a`"].map(|table| Reading {
        source: SourceTable { schema: "shop".into(), table: table.into() },
        from_us: Some(1_767_300_000_000_000),
        changes: 1,
    });
    Delta::worthwhile(log, "id/1", readings.into(), 1_767_323_045_678_901, 2_592_000_000_000).unwrap()
}

fn statements() -> BTreeMap<String, String> {
    let log = table("cdc", "log");
    let everything_folds = fold_of("hard_null");
    let covered = vec![
        OffsetRange { topic: "cdc".into(), partition: 0, first: 0, last: 41 },
        OffsetRange { topic: "cdc".into(), partition: 0, first: 43, last: 43 },
        OffsetRange { topic: "it's".into(), partition: 7, first: 5, last: 5 },
    ];
    let epochs = epochs();
    let state = LedgerState { newest_us: Some(1_767_323_045_678_901), ..LedgerState::default() };
    let in_turn = state.in_turn(PROJECT, &table("cdc", "merges"), &order(), "id/1").unwrap();
    let mut all = BTreeMap::new();
    let mut add = |name: String, sql: String| assert!(all.insert(name, sql).is_none());

    let merges = table("cdc", "merges");
    add("ledger_state".into(), LedgerState::query(PROJECT, &merges, Some(1_772_409_600_000_000)).unwrap());
    add("ledger_state_whole".into(), LedgerState::query(PROJECT, &merges, None).unwrap());
    add("plan_first".into(), plan::query(PROJECT, &log, &Coverage::default(), None, None).unwrap());
    let coverage = Coverage { to_us: Some(1_767_323_045_678_901), ranges: covered };
    add("plan".into(), plan::query(PROJECT, &log, &coverage, None, None).unwrap());
    let known = LedgerState { read_from_us: Some(1_772_409_600_000_000), entries: 12, ..LedgerState::default() };
    let newest_us = Some(1_772_441_045_678_901);
    for (name, known) in [
        ("plan_of_an_empty_ledger", LedgerState::default()),
        ("plan_of_a_known_ledger", LedgerState { newest_us, ..known }),
    ] {
        let if_moved = known.if_it_moved(PROJECT, &merges).unwrap();
        add(name.into(), plan::query(PROJECT, &log, &coverage, None, Some(&if_moved)).unwrap());
    }
    add("plan_one_table".into(), plan::query(PROJECT, &log, &coverage, Some(&order()), None).unwrap());
    let window_to_us = 1_767_323_045_678_901;
    add("delta".into(), delta(&log).statement(PROJECT, &log, window_to_us).unwrap());
    add("gaps_view".into(), offsets::create_gaps_view(PROJECT, &log, 30).unwrap());
    add("duplicates_view".into(), offsets::create_duplicates_view(PROJECT, &log).unwrap());
    add(
        "quarantine".into(),
        statement::quarantine(PROJECT, &everything_folds, &table("cdc", "quarantine"), &order(), None).unwrap(),
    );
    let kept_out = kept_out_table(&log);
    let quarantine = table("cdc", "quarantine");
    let sql = reload::quarantined_rows(PROJECT, &quarantine, &order(), 1_767_322_000_000_000).unwrap();
    add("reload_quarantined".into(), sql);
    add("reload_progress".into(), reload::progress(PROJECT, &log, &kept_out, &order(), 1_767_322_000_000_000).unwrap());
    for (name, from_us) in [("reload_earlier", Some(1_767_312_000_000_000)), ("reload_earlier_whole", None)] {
        let sql = reload::earlier(PROJECT, &log, &kept_out, 1_767_322_000_000_000, from_us).unwrap();
        add(name.into(), sql);
    }
    let other = SourceTable { schema: "crm".into(), table: "o'brien".into() };
    let (order_, at) = (order(), 1_767_323_045_678_901);
    for (name, sought) in
        [("", [(&order_, None), (&other, Some(at))]), ("_since", [(&order_, Some(at + 1)), (&other, Some(at))])]
    {
        add(format!("definition_hours{name}"), statement::definition_hours(PROJECT, &log, &sought).unwrap());
        let hours = [1_767_322_800_000_000, 1_767_326_400_000_000, 1_767_340_800_000_000].into();
        add(format!("definitions{name}"), statement::definitions(PROJECT, &log, &sought, &hours).unwrap());
    }
    add("highest_position".into(), statement::highest_position(PROJECT, &every_type(Deletes::Hard)).unwrap());
    for (name, sql) in proposals(&log) {
        add(name.to_owned(), sql);
    }
    let by_hand = made_by_hand();
    let mut lacking = by_hand.missing_columns;
    let description = Some(strait::names::renamed_column_description("it's \"b\""));
    lacking.push(NewColumn { name: "it_s_b".into(), sql_type: "BIGNUMERIC(38, 20)".into(), description });
    let with_another = statement::only_in_turn(&in_turn, "SELECT 1");
    add("in_turn".into(), with_another.strip_suffix(";\nSELECT 1").unwrap().to_owned());
    add("add_columns".into(), statement::add_columns(PROJECT, &by_hand.name, &lacking).unwrap());

    for (name, step) in steps() {
        for (place, sql) in step.statements(PROJECT, &table("replica", "shop_order")).unwrap().into_iter().enumerate() {
            add(format!("step_{name}_{place}"), sql);
        }
        if let Some(sql) = step.unconvertible(PROJECT, &table("replica", "shop_order")).unwrap() {
            add(format!("step_{name}_unconvertible"), sql);
        }
        if let Some(sql) = step.unconverted(PROJECT, &table("replica", "shop_order")).unwrap() {
            add(format!("step_{name}_unconverted"), sql);
        }
    }

    for (deletes, deletes_name) in [(Deletes::Hard, "hard"), (Deletes::Soft, "soft")] {
        for (absent, absent_name) in [(AbsentColumns::Null, "null"), (AbsentColumns::Unchanged, "unchanged")] {
            let final_table = every_type(deletes);
            let mode = format!("{deletes_name}_{absent_name}");
            let fold_name = fold_of(&mode);
            for (look_back, name) in [
                (LookBack::None, "in_order"),
                (LookBack::From(1_767_300_000_000_000), "look_back"),
                (LookBack::Everything, "look_back_all"),
            ] {
                let request = FoldRequest {
                    project: PROJECT,
                    log: &log,
                    fold: &fold_name,
                    source: &order(),
                    table: &final_table,
                    window_from_us: Some(1_767_322_000_000_000),
                    window_to_us: 1_767_323_045_678_901,
                    covered: &coverage,
                    look_back,
                    absent,
                    deletes,
                    epochs: &epochs,
                    highest_position: Some("1767322000000000-2-m0000000007-0000000042-00000000000000000001"),
                    expired_before_us: Some(1_764_720_000_000_000),
                    is_again: false,
                    share: None,
                };
                add(format!("fold_{mode}_{name}"), fold::statement(&request).unwrap());
                if (mode.as_str(), look_back) == ("hard_null", LookBack::From(1_767_300_000_000_000)) {
                    let name = delta(&log).name;
                    let share = Some(Share { delta: &name, number: 1 });
                    add("fold_of_delta".into(), fold::statement(&FoldRequest { share, ..request }).unwrap());
                }
                if (mode.as_str(), look_back) == ("hard_null", LookBack::Everything) {
                    add("resolve".into(), statement::resolve(&request, &quarantine, &in_turn).unwrap());
                }
            }
            let request = MergeRequest {
                project: PROJECT,
                fold: &fold_name,
                table: &final_table,
                absent,
                deletes,
                partitions: None,
                is_again: false,
                adds_only: false,
                in_turn: &in_turn,
                key_range: Some(("1", "99")),
            };
            add(format!("merge_{mode}"), statement::merge(&request).unwrap());
            let request_of_new = MergeRequest { adds_only: true, ..request };
            add(format!("merge_{mode}_adding"), statement::merge(&request_of_new).unwrap());
            let request = MergeRequest { is_again: true, ..request };
            add(format!("merge_{mode}_again"), statement::merge(&request).unwrap());
            if absent == AbsentColumns::Null {
                let sql =
                    reload::sweep(PROJECT, &final_table, &Gone::not_loaded(1_767_322_000_000_000), deletes, &in_turn)
                        .unwrap();
                add(format!("sweep_{deletes_name}"), sql);
            }
            if mode == "hard_null" {
                let quarantine = table("cdc", "quarantine");
                let sql =
                    statement::quarantine(PROJECT, &fold_name, &quarantine, &order(), Some(&final_table)).unwrap();
                add("quarantine_beyond_log".into(), sql);
                add("survey".into(), fold::survey(PROJECT, &fold_name, &final_table, true).unwrap());
                add("survey_of_older".into(), fold::survey(PROJECT, &fold_name, &final_table, false).unwrap());
            }
        }
    }

    for (name, final_table, key_range) in [
        ("by_hand", made_by_hand(), Some(("it's", "z"))),
        ("keyless", keyless(), None),
        (
            "partial_images",
            FinalTable {
                has_partial_images: true,
                unsigned_members: vec!["id".to_owned()],
                ..every_type(Deletes::Hard)
            },
            None,
        ),
        (
            "without_schema",
            FinalTable {
                without_schema: WithoutSchemaRead::SelfDescribing(SelfDescribing {
                    bit_members: vec!["flags".to_owned()],
                    time_members: vec!["name".to_owned()],
                    decimal_members: Vec::new(),
                }),
                ..every_type(Deletes::Hard)
            },
            None,
        ),
        (
            "by_definition",
            FinalTable {
                has_partial_images: true,
                without_schema: WithoutSchemaRead::ByDefinition(every_encoding()),
                ..every_type(Deletes::Hard)
            },
            None,
        ),
        ("partitioned", partitioned(), Some(("2026-01-01", "2026-01-31"))),
        ("names_reused", names_reused(), None),
    ]
    .into_iter()
    .chain(partitioned_beside_the_key())
    {
        let fold_name = fold_of(name);
        let request = FoldRequest {
            project: PROJECT,
            log: &log,
            fold: &fold_name,
            source: &order(),
            table: &final_table,
            window_from_us: None,
            window_to_us: 1_767_323_045_678_901,
            covered: &Coverage::default(),
            look_back: LookBack::None,
            absent: AbsentColumns::Null,
            deletes: Deletes::Hard,
            epochs: &Epochs::default(),
            highest_position: None,
            expired_before_us: None,
            is_again: false,
            share: None,
        };
        add(format!("fold_{name}"), fold::statement(&request).unwrap());
        let begins = [Some(1_767_312_000_000_000), Some(1_767_398_400_000_000), Some(20), None];
        let found = partitions::condition(&final_table, TARGET_ALIAS, &begins, 1_767_323_045_678_901).unwrap();
        let request = MergeRequest {
            project: PROJECT,
            fold: &fold_name,
            table: &final_table,
            absent: fold::absent_of(AbsentColumns::Null, &final_table),
            deletes: Deletes::Hard,
            partitions: found.as_deref(),
            is_again: false,
            adds_only: false,
            in_turn: "TRUE",
            key_range,
        };
        if let Some(sql) = partitions::query(PROJECT, &fold_name, &final_table).unwrap() {
            add(format!("partitions_{name}"), sql);
        }
        add(format!("merge_{name}"), statement::merge(&request).unwrap());
        if final_table.is_keyless || final_table.requires_partition_filter {
            let request = MergeRequest { adds_only: true, partitions: None, ..request };
            add(format!("merge_{name}_adding"), statement::merge(&request).unwrap());
        }
        if final_table.requires_partition_filter {
            let sql = statement::quarantine(PROJECT, &fold_name, &quarantine, &order(), Some(&final_table)).unwrap();
            add(format!("quarantine_{name}"), sql);
            add(format!("survey_{name}"), fold::survey(PROJECT, &fold_name, &final_table, true).unwrap());
            add(format!("highest_position_{name}"), statement::highest_position(PROJECT, &final_table).unwrap());
            let sql =
                reload::sweep(PROJECT, &final_table, &Gone::not_loaded(1_767_322_000_000_000), Deletes::Hard, "TRUE")
                    .unwrap();
            add(format!("sweep_{name}"), sql);
        }
    }
    all
}

/// The tables that the statements read and write, for the analyzer.
fn tables() -> serde_json::Value {
    let own = |name: TableName, spec: &TableSpec| {
        let columns: Vec<_> = spec.columns.iter().map(|column| json!([column.name, sql_type(column)])).collect();
        declared(&name, columns)
    };
    let copied = LOG.columns.iter().filter(|column| column.name != "transaction_id");
    let of_delta = copied.map(|column| json!([column.name, sql_type(column)]));
    let of_delta = [json!(["table_number", "INT64"])].into_iter().chain(of_delta).collect();
    let mut tables = vec![
        declared(&delta(&table("cdc", LOG_NAME)).name, of_delta),
        own(table("cdc", LOG_NAME), &LOG),
        own(kept_out_table(&table("cdc", LOG_NAME)), &KEPT_OUT),
        own(table("cdc", "merges"), &MERGES),
        own(table("cdc", "quarantine"), &QUARANTINE),
    ];
    let (hard, soft, by_hand) = (every_type(Deletes::Hard), every_type(Deletes::Soft), made_by_hand());
    let mut columns: Vec<_> =
        soft.columns.iter().map(|column| json!([column.name, column.column_type.name()])).collect();
    columns.extend([json!(["_strait_position", "STRING"]), json!(["_strait_merged_at", "TIMESTAMP"])]);
    columns.push(json!(["_strait_deleted", "BOOL"]));
    // As it is once the step before has added it.
    columns.push(json!(["_strait_copy_1", "BIGNUMERIC"]));
    tables.push(declared(&soft.name, columns));
    // As it is once the ALTER has added what it lacks; under another name, for two tables cannot share one.
    let (keyless, partitioned) = (keyless(), partitioned());
    let (reused, beside) = (names_reused(), partitioned_beside_the_key());
    for final_table in
        [&by_hand, &keyless, &partitioned, &reused].into_iter().chain(beside.iter().map(|named| &named.1))
    {
        let columns = final_table.columns.iter().map(|column| json!([column.name, column.column_type.name()]));
        let own = [json!(["_strait_position", "STRING"]), json!(["_strait_merged_at", "TIMESTAMP"])];
        // As no query of all columns shows it.
        let is_by_ingestion = final_table.partitioning.as_ref().is_some_and(|by| by.is_by("_PARTITIONTIME"));
        let pseudo = is_by_ingestion.then(|| json!(["_PARTITIONTIME", "TIMESTAMP"]));
        tables.push(declared(&final_table.name, columns.chain(own).chain(pseudo).collect()));
    }
    for (mode, final_table, is_partial) in [
        ("hard_null", &hard, false),
        ("soft_null", &soft, false),
        ("hard_unchanged", &hard, true),
        ("soft_unchanged", &soft, true),
        ("by_hand", &by_hand, false),
        ("keyless", &keyless, false),
        ("partitioned", &partitioned, false),
        ("names_reused", &reused, false),
        ("partial_images", &hard, true),
        ("without_schema", &hard, false),
        ("by_definition", &hard, true),
    ]
    .into_iter()
    .chain(beside.iter().map(|(name, final_table, _)| (*name, final_table, false)))
    {
        let mut columns = Vec::new();
        for (place, column) in final_table.columns.iter().enumerate() {
            columns.push(json!([format!("c{place}"), column.column_type.name()]));
            if is_partial && !column.is_key {
                columns.push(json!([format!("known{place}"), "BOOL"]));
            }
        }
        for (name, sql_type) in [
            ("position", "STRING"),
            ("deleted", "BOOL"),
            ("has_image", "BOOL"),
            ("adds", "BOOL"),
            ("records", "INT64"),
            ("newest", "STRING"),
            ("late", "BOOL"),
            ("raised_committed", "TIMESTAMP"),
            ("raised_emitted", "TIMESTAMP"),
            ("anew", "INT64"),
            ("anew_from", "TIMESTAMP"),
            ("beyond_log", "BOOL"),
            ("flaw_column", "STRING"),
            ("flaw_reason", "STRING"),
            ("key_text", "STRING"),
            ("kafka_topic", "STRING"),
            ("kafka_partition", "INT64"),
            ("kafka_offset", "INT64"),
            ("ingested_at", "TIMESTAMP"),
            ("unknown", "STRING"),
            ("unknown_too", "STRING"),
        ] {
            columns.push(json!([name, sql_type]));
        }
        tables.push(declared(&fold_of(mode), columns));
    }
    tables.into()
}

fn declared(name: &TableName, columns: Vec<serde_json::Value>) -> serde_json::Value {
    json!({"name": [PROJECT, name.dataset, name.table], "columns": columns})
}

fn sql_type(column: &Column) -> String {
    let scalar = match column.column_type {
        SpecType::String => "STRING".to_owned(),
        SpecType::Int64 => "INT64".to_owned(),
        SpecType::Timestamp => "TIMESTAMP".to_owned(),
        SpecType::Record(columns) => {
            let fields: Vec<_> = columns.iter().map(|field| format!("`{}` {}", field.name, sql_type(field))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
    };
    if column.mode == Mode::Repeated { format!("ARRAY<{scalar}>") } else { scalar }
}

/// What `strait schema` asks of the log, and what it proposes.
fn proposals(log: &TableName) -> Vec<(&'static str, String)> {
    let source = order();
    let logged = LoggedTable { project: PROJECT, log, source: &source };
    let survey = Survey { loads_from_us: vec![1_767_321_000_000_000, 1_767_322_000_000_000], ..Survey::default() };
    let members = ["id", "a.b", "quote\"d", "it's"].map(|name| Member { name: name.to_owned(), present: 1 });
    let column = |member: &str, column_type| ProposedColumn {
        member: member.to_owned(),
        column_type,
        comments: vec!["it's `one`".to_owned()],
    };
    let script = Proposal {
        project: PROJECT,
        location: "EU",
        name: table("replica", "shop_order"),
        source: &source,
        columns: vec![
            column("id", ColumnType::NUMERIC),
            column("it's", ColumnType::String),
            column("a.b", ColumnType::Json),
            column("select", ColumnType::Numeric { whole: 10, fraction: 2 }),
        ],
        key: vec![1, 0],
        comments: vec!["of the log".to_owned()],
        key_comments: vec!["the key".to_owned()],
        is_keyless: false,
        deletes: Deletes::Soft,
    }
    .script()
    .unwrap();
    let (dataset, table) = script.split_once(";\n").unwrap();
    vec![
        ("proposal_survey", logged.survey().unwrap()),
        ("proposal_loads", logged.loads().unwrap()),
        ("proposal_members", logged.members().unwrap()),
        ("proposal_forms", logged.forms(&members).unwrap()),
        ("proposal_keys", logged.keys(&survey, &members, &[vec![0], vec![1, 3]]).unwrap()),
        ("proposal_dataset", dataset.to_owned()),
        ("proposal_table", table.trim().to_owned()),
    ]
}

#[test]
fn every_statement_is_the_golden_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let statements = statements();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for (name, sql) in &statements {
            std::fs::write(folder.join(format!("{name}.sql")), format!("{sql}\n")).unwrap();
        }
        std::fs::write(folder.join("tables.json"), format!("{:#}\n", tables())).unwrap();
    }
    let declared = std::fs::read_to_string(folder.join("tables.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&declared).unwrap(), tables(), "UPDATE_GOLDEN=1");
    let mut files: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
        .collect();
    files.sort();
    assert_eq!(files, statements.keys().cloned().collect::<Vec<_>>(), "UPDATE_GOLDEN=1 writes them anew");
    for (name, sql) in &statements {
        let golden = std::fs::read_to_string(folder.join(format!("{name}.sql"))).unwrap();
        assert_eq!(golden.trim_end(), sql, "{name}: UPDATE_GOLDEN=1 writes it anew");
    }
}
