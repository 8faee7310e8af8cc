//! What a source's table holds, as the source itself prints it, in the texts in which a final table's rows are compared.

use mysql_async::prelude::Queryable;
use strait_cli::compare::{ExpectedColumn, ExpectedTable, Row};
use tokio_postgres::SimpleQueryMessage;

use crate::shop::{Engine, Generator, ShopColumn, ShopTable};
use crate::workload::Session;

/// Reads a whole table. Where DMS leaves empty texts out (`keeps_empty` is false) NULL is what can be expected of them.
pub async fn of(session: &mut Session, table: &ShopTable, final_table: &str, keeps_empty: bool) -> ExpectedTable {
    let engine = session.engine();
    let cells: Vec<String> = table.columns.iter().map(|column| printed(column, engine)).collect();
    let sql = format!("SELECT {} FROM {}.{}", cells.join(", "), engine.schema(), table.name);
    let mut rows: Vec<Row> = match session {
        Session::MariaDb(connection) => {
            let rows: Vec<mysql_async::Row> = connection.query(sql).await.unwrap();
            rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
        }
        Session::PostgreSql(client) => {
            let messages = client.simple_query(&sql).await.unwrap();
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            rows.map(|row| (0..row.len()).map(|place| row.get(place).map(str::to_owned)).collect()).collect()
        }
    };
    for row in &mut rows {
        for (cell, column) in row.iter_mut().zip(&table.columns) {
            let Some(text) = cell.take() else {
                continue;
            };
            let is_left_out = text.is_empty() && column.bigquery == "STRING" && !keeps_empty;
            *cell = (!is_left_out).then(|| canonical(column, text));
        }
    }
    ExpectedTable {
        source: format!("{}.{}", engine.schema(), table.name),
        final_table: final_table.to_owned(),
        key: table.key_names().into_iter().map(str::to_owned).collect(),
        columns: table
            .columns
            .iter()
            .map(|column| ExpectedColumn { name: column.name.clone(), column_type: column.bigquery.to_owned() })
            .collect(),
        rows,
    }
}

fn text(value: mysql_async::Value) -> Option<String> {
    match value {
        mysql_async::Value::NULL => None,
        mysql_async::Value::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap()),
        other => panic!("no text: {other:?}"),
    }
}

/// How the source prints the column.
fn printed(column: &ShopColumn, engine: Engine) -> String {
    let name = &column.name;
    match (engine, column.bigquery, column.generator) {
        (Engine::MariaDb, "BYTES", Generator::Bits(count)) => {
            format!("LOWER(LPAD(HEX({name}), {}, '0'))", count.div_ceil(8) * 2)
        }
        (Engine::MariaDb, "BYTES", _) => format!("LOWER(HEX({name}))"),
        (Engine::MariaDb, "BOOL", _) => format!("CASE {name} WHEN b'1' THEN 'true' WHEN b'0' THEN 'false' END"),
        (Engine::MariaDb, _, Generator::Single) => format!("CAST({name} AS DOUBLE)"),
        (Engine::MariaDb, "TIMESTAMP", _) => format!("CONCAT({name}, 'Z')"),
        (Engine::MariaDb, _, _) => name.clone(),
        (Engine::PostgreSql, "BYTES", _) => format!("encode({name}, 'hex')"),
        (Engine::PostgreSql, "TIMESTAMP", generator) => {
            let zone = if generator == Generator::Moment { " AT TIME ZONE 'UTC'" } else { "" };
            format!("to_char({name}{zone}, 'YYYY-MM-DD HH24:MI:SS.US') || 'Z'")
        }
        (Engine::PostgreSql, "BOOL", _) => format!("{name}::text"),
        // A cast to text prints some types otherwise than a query does: an address's /32.
        (Engine::PostgreSql, _, _) => name.clone(),
    }
}

/// Of single precision BigQuery holds the number of nine digits that DMS prints (docs/types.md).
fn canonical(column: &ShopColumn, text: String) -> String {
    if column.generator != Generator::Single {
        return text;
    }
    let number: f32 = text.parse::<f64>().map(|number| number as f32).unwrap();
    format!("{number:.8e}").parse::<f64>().unwrap().to_string()
}
