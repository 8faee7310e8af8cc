//! The statements of a comparison: the same question in MySQL's, PostgreSQL's and BigQuery's SQL. Plain text building without
//! I/O; every statement reads, takes no lock, and returns text.
//!
//! A row is in the bucket that the first hexadecimal digits of its key's MD5 name, on both sides, so buckets need no common order of
//! keys: a collation of the source and BigQuery's code points order differently. A bucket's checksum is the sum of its rows' hashes,
//! 60 bits each; a sum, because an exclusive or would not see a row that is there twice.

use strait::merge::types::canonical::{Dialect, Form, md5};
use strait::names::{NameError, POSITION_COLUMN, quote_column};

use super::pairing::{Compared, Pairing};

/// One side of a comparison, as its SQL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side<'p> {
    pairing: &'p Pairing,
    dialect: Dialect,
    table: String,
    /// The compared columns' quoted names.
    columns: Vec<String>,
    /// Of the source, the quoted names of those that are only carried.
    carried: Vec<String>,
    condition: Option<String>,
}

/// A key: its columns' canonical texts, NULL as None. Of a table without a key, the row's hash.
pub type Key = Vec<Option<String>>;

/// A condition that finds rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneOf {
    /// By the key's columns, so that an index or a clustering finds them.
    ByKey(String),
    /// By the buckets, where a key is none that can be looked up: it reads the whole table.
    ByBucket(String),
}

/// What is read of a row beside its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its values for a person or for the log, beside what is compared; of the source those of the carried columns at the end.
    pub values: bool,
}

impl<'p> Side<'p> {
    /// The source.
    #[must_use]
    pub fn of_source(pairing: &'p Pairing) -> Self {
        let dialect = Dialect::from(pairing.engine);
        let quoted = |name: &str| match dialect {
            Dialect::PostgreSql => format!("\"{}\"", name.replace('"', "\"\"")),
            _ => format!("`{}`", name.replace('`', "``")),
        };
        Self {
            pairing,
            dialect,
            table: format!("{}.{}", quoted(&pairing.source.schema), quoted(&pairing.source.table)),
            columns: pairing.columns.iter().map(|column| quoted(&column.source)).collect(),
            carried: pairing.carried.iter().map(|column| quoted(&column.source)).collect(),
            condition: None,
        }
    }

    /// The final table.
    ///
    /// # Errors
    /// When a name cannot be quoted.
    pub fn of_final(pairing: &'p Pairing, project: &str) -> Result<Self, NameError> {
        let columns = pairing.columns.iter().map(|column| quote_column(&column.in_final));
        Ok(Self {
            pairing,
            dialect: Dialect::BigQuery,
            table: pairing.final_name.quoted(project)?,
            columns: columns.collect::<Result<_, _>>()?,
            carried: Vec::new(),
            condition: pairing.final_condition.clone(),
        })
    }

    fn compared(&self) -> impl Iterator<Item = (&'p Compared, &String)> {
        self.pairing.columns.iter().zip(&self.columns)
    }

    fn at(&self, places: &[usize]) -> Vec<(&'p Compared, &str)> {
        places
            .iter()
            .filter_map(|place| Some((self.pairing.columns.get(*place)?, self.columns.get(*place)?.as_str())))
            .collect()
    }

    /// The text that a row's, or its key's, hash is of: cells hold no comma, and none is `N`.
    fn joined(&self, cells: impl Iterator<Item = String>) -> String {
        let cells: Vec<String> = cells.map(|cell| format!("COALESCE({cell}, 'N')")).collect();
        match self.dialect {
            // A function of PostgreSQL's takes a hundred arguments.
            Dialect::PostgreSql => format!("({})", cells.join(" || ',' || ")),
            Dialect::MySql => format!("CONCAT_WS(',', {})", cells.join(", ")),
            Dialect::BigQuery => format!("CONCAT({})", cells.join(", ',', ")),
        }
    }

    fn row_hash(&self) -> String {
        let row = self.joined(self.compared().map(|(column, name)| column.canonical.cell(self.dialect, name)));
        md5_of_ascii(self.dialect, &row)
    }

    fn bucket(&self, digits: usize) -> String {
        let hash = if self.pairing.is_keyless() {
            self.row_hash()
        } else {
            let key = self.at(&self.pairing.key);
            let key = key.iter().map(|(column, name)| column.canonical.cell(self.dialect, name));
            md5_of_ascii(self.dialect, &self.joined(key))
        };
        match self.dialect {
            Dialect::MySql | Dialect::PostgreSql => format!("LEFT({hash}, {digits})"),
            Dialect::BigQuery => format!("SUBSTR({hash}, 1, {digits})"),
        }
    }

    fn number_of(&self, hash: &str) -> String {
        match self.dialect {
            Dialect::MySql => format!("CAST(CONV(LEFT({hash}, 15), 16, 10) AS UNSIGNED)"),
            Dialect::PostgreSql => format!("('x' || LEFT({hash}, 15))::bit(60)::bigint"),
            // A sum of INT64 overflows at the ninth row.
            Dialect::BigQuery => format!("CAST(CAST(CONCAT('0x', SUBSTR({hash}, 1, 15)) AS INT64) AS NUMERIC)"),
        }
    }

    fn filter(&self, more: Option<&str>) -> String {
        let conditions: Vec<&str> = self.condition.as_deref().into_iter().chain(more).collect();
        if conditions.is_empty() { String::new() } else { format!("\nWHERE {}", conditions.join(" AND ")) }
    }

    /// Rows and checksum per bucket: `bucket`, `rows`, `checksum`.
    #[must_use]
    pub fn buckets(&self, digits: usize, range: Option<&str>) -> String {
        format!(
            "SELECT bucket, COUNT(*), SUM({number})\nFROM (\nSELECT {bucket} AS bucket, {hash} AS row_hash\nFROM {table}{filter}\n) AS hashed\nGROUP BY bucket",
            number = self.number_of("row_hash"),
            bucket = self.bucket(digits),
            hash = self.row_hash(),
            table = self.table,
            filter = self.filter(range),
        )
    }

    /// The rows of some buckets: `bucket`, `hash`, and the key's texts.
    #[must_use]
    pub fn hashes(&self, digits: usize, buckets: &[String], range: Option<&str>) -> String {
        let key = self.at(&self.pairing.key);
        let texts: String = key
            .iter()
            .enumerate()
            .map(|(place, (column, name))| format!(", {} AS k{place}", column.canonical.text(self.dialect, name)))
            .collect();
        let names: String = (0..key.len()).map(|place| format!(", k{place}")).collect();
        format!(
            "SELECT bucket, row_hash{names}\nFROM (\nSELECT {bucket} AS bucket, {hash} AS row_hash{texts}\nFROM {table}{filter}\n) AS hashed\nWHERE {within}",
            bucket = self.bucket(digits),
            hash = self.row_hash(),
            table = self.table,
            filter = self.filter(range),
            within = within("bucket", buckets),
        )
    }

    /// Whole rows: the hash, the key's texts, each column's cell, and what is wanted beside; of the final table the position at the end.
    ///
    /// A cell is what goes into the checksum; of JSON it is the text.
    #[must_use]
    pub fn rows(&self, condition: &str, wanted: Wanted) -> String {
        let mut items = vec![self.row_hash()];
        items.extend(self.at(&self.pairing.key).iter().map(|(column, name)| column.canonical.text(self.dialect, name)));
        items.extend(self.compared().map(|(column, name)| match column.canonical.form {
            Form::Json => column.canonical.text(self.dialect, name),
            _ => column.canonical.cell(self.dialect, name),
        }));
        if wanted.values {
            let carried = self.pairing.carried.iter().zip(&self.carried);
            items.extend(
                self.compared().chain(carried).map(|(column, name)| column.canonical.shown(self.dialect, name)),
            );
        }
        if self.dialect == Dialect::BigQuery {
            items.push(format!("`{POSITION_COLUMN}`"));
        }
        // BigQuery wants every column of an answer to have a name of its own.
        let items: Vec<String> = items.iter().enumerate().map(|(place, item)| format!("{item} AS v{place}")).collect();
        format!("SELECT {}\nFROM {}{}", items.join(", "), self.table, self.filter(Some(condition)))
    }

    /// The condition that a row is one of these. Other rows may meet it, too.
    #[must_use]
    pub fn one_of<'k>(&self, keys: impl Iterator<Item = (&'k str, &'k Key)> + Clone, digits: usize) -> OneOf {
        let looked_up: Option<Vec<String>> = match self.pairing.is_keyless() {
            true => None,
            false => keys.clone().map(|(_, key)| self.equals(key)).collect(),
        };
        match looked_up {
            Some(conditions) => OneOf::ByKey(format!("({})", conditions.join(" OR "))),
            None => {
                let mut buckets: Vec<String> = keys.map(|(bucket, _)| bucket.to_owned()).collect();
                buckets.sort_unstable();
                buckets.dedup();
                OneOf::ByBucket(within(&self.bucket(digits), &buckets))
            }
        }
    }

    fn equals(&self, key: &Key) -> Option<String> {
        let columns = self.at(&self.pairing.key);
        let conditions: Option<Vec<String>> = columns
            .iter()
            .zip(key)
            .map(|((column, name), text)| match text {
                None => Some(format!("{name} IS NULL")),
                Some(text) => {
                    let literal = column.canonical.literal(self.dialect, &column.source_type, text)?;
                    Some(format!("{name} = {literal}"))
                }
            })
            .collect();
        Some(format!("({})", conditions?.join(" AND ")))
    }

    /// The key of the row that many rows behind `after`, in the order of the source's own primary key: no row, if there are fewer.
    #[must_use]
    pub fn boundary(&self, after: Option<&Key>, rows: usize) -> Option<String> {
        let walk = self.at(&self.pairing.walk);
        let texts: Vec<String> = walk.iter().map(|(column, name)| column.canonical.text(self.dialect, name)).collect();
        let order: Vec<&str> = walk.iter().map(|(_, name)| *name).collect();
        let condition = match after {
            Some(key) => Some(self.compares(">", ">", key)?),
            None => None,
        };
        Some(format!(
            "SELECT {}\nFROM {}{}\nORDER BY {} LIMIT 1 OFFSET {}",
            texts.join(", "),
            self.table,
            self.filter(condition.as_deref()),
            order.join(", "),
            rows.saturating_sub(1)
        ))
    }

    /// The condition that a row lies behind one key and not behind another, in the order of the source's own primary key.
    #[must_use]
    pub fn range(&self, after: Option<&Key>, to: Option<&Key>) -> Option<String> {
        let mut conditions = Vec::new();
        if let Some(key) = after {
            conditions.push(self.compares(">", ">", key)?);
        }
        if let Some(key) = to {
            conditions.push(self.compares("<", "<=", key)?);
        }
        Some(if conditions.is_empty() { "1 = 1".to_owned() } else { conditions.join(" AND ") })
    }

    /// MySQL reads no range for a comparison of rows, PostgreSQL none for its parts.
    fn compares(&self, strictly: &str, at_last: &str, key: &Key) -> Option<String> {
        let walk = self.at(&self.pairing.walk);
        let literals: Option<Vec<String>> = walk
            .iter()
            .zip(key)
            .map(|((column, _), text)| column.canonical.literal(self.dialect, &column.source_type, text.as_deref()?))
            .collect();
        let literals = literals?;
        let names: Vec<&str> = walk.iter().map(|(_, name)| *name).collect();
        if self.dialect == Dialect::PostgreSql {
            return Some(format!("({}) {at_last} ({})", names.join(", "), literals.join(", ")));
        }
        let last = names.len().saturating_sub(1);
        let alternatives: Vec<String> = (0..names.len())
            .map(|place| {
                let mut parts: Vec<String> = names
                    .iter()
                    .zip(&literals)
                    .take(place)
                    .map(|(name, literal)| format!("{name} = {literal}"))
                    .collect();
                let sign = if place == last { at_last } else { strictly };
                parts.extend(
                    names.get(place).zip(literals.get(place)).map(|(name, literal)| format!("{name} {sign} {literal}")),
                );
                format!("({})", parts.join(" AND "))
            })
            .collect();
        Some(format!("({})", alternatives.join(" OR ")))
    }
}

fn within(value: &str, buckets: &[String]) -> String {
    // Hexadecimal digits of this module's own.
    let buckets: Vec<String> = buckets.iter().map(|bucket| format!("'{bucket}'")).collect();
    format!("{value} IN ({})", buckets.join(", "))
}

/// Of a text that is ASCII whatever the columns hold, so that PostgreSQL needs no conversion.
fn md5_of_ascii(dialect: Dialect, text: &str) -> String {
    match dialect {
        Dialect::PostgreSql => format!("md5({text})"),
        _ => md5(dialect, text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use strait::merge::types::ColumnType;
    use strait::merge::types::canonical::{Canonical, SourceKind};
    use strait::merge::types::map::Engine;
    use strait::names::{SourceTable, TableName};

    use super::*;

    fn pairing(engine: Engine) -> Pairing {
        let column = |name: &str, source_type: &str, column_type| Compared {
            source: name.to_owned(),
            source_type: source_type.to_owned(),
            in_final: name.replace('-', "_"),
            canonical: Canonical::of(SourceKind::of(engine, source_type), column_type).unwrap(),
        };
        Pairing {
            source: SourceTable { schema: "shop".into(), table: "orders".into() },
            engine,
            final_name: TableName { dataset: "replica".into(), table: "shop_orders".into() },
            columns: vec![
                column("shop-id", "integer", ColumnType::Int64),
                column("name", "text", ColumnType::String),
                column("amount", "numeric(12,2)", ColumnType::NUMERIC),
            ],
            key: vec![0, 1],
            not_compared: Vec::new(),
            carried: Vec::new(),
            walk: vec![0, 1],
            final_condition: None,
        }
    }

    #[test]
    fn golden_statements() {
        let mysql = Pairing { key: vec![0], walk: vec![0], ..pairing(Engine::MySql) };
        let side = Side::of_source(&mysql);
        assert_eq!(
            side.buckets(2, side.range(Some(&vec![Some("7".into())]), None).as_deref()),
            "SELECT bucket, COUNT(*), SUM(CAST(CONV(LEFT(row_hash, 15), 16, 10) AS UNSIGNED))\n\
             FROM (\n\
             SELECT LEFT(MD5(CONCAT_WS(',', COALESCE(CAST(`shop-id` + 0 AS CHAR), 'N'))), 2) AS bucket, \
             MD5(CONCAT_WS(',', COALESCE(CAST(`shop-id` + 0 AS CHAR), 'N'), COALESCE(MD5(CONVERT(`name` USING utf8mb4)), 'N'), \
             COALESCE(IF(LOCATE('.', CAST(`amount` AS CHAR)) > 0, TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST(`amount` AS CHAR))), CAST(`amount` AS CHAR)), 'N'))) AS row_hash\n\
             FROM `shop`.`orders`\n\
             WHERE ((`shop-id` > 7))\n\
             ) AS hashed\n\
             GROUP BY bucket"
        );
        let postgresql = Pairing { key: vec![0], ..pairing(Engine::PostgreSql) };
        let side = Side::of_source(&postgresql);
        assert_eq!(
            side.hashes(2, &["ab".into(), "cd".into()], None),
            "SELECT bucket, row_hash, k0\n\
             FROM (\n\
             SELECT LEFT(md5((COALESCE(\"shop-id\"::text, 'N'))), 2) AS bucket, \
             md5((COALESCE(\"shop-id\"::text, 'N') || ',' || COALESCE(md5(convert_to(\"name\"::text, 'UTF8')), 'N') || ',' || \
             COALESCE(trim_scale(\"amount\"::numeric)::text, 'N'))) AS row_hash, \"shop-id\"::text AS k0\n\
             FROM \"shop\".\"orders\"\n\
             ) AS hashed\n\
             WHERE bucket IN ('ab', 'cd')"
        );
        let side = Side::of_final(&postgresql, "p").unwrap();
        assert_eq!(
            side.rows("(`shop_id` = 1)", Wanted { values: false }),
            "SELECT TO_HEX(MD5(CONCAT(COALESCE(CAST(`shop_id` AS STRING), 'N'), ',', \
             COALESCE(TO_HEX(MD5(`name`)), 'N'), ',', COALESCE(IF(STRPOS(CAST(`amount` AS STRING), '.') > 0, RTRIM(RTRIM(CAST(`amount` AS STRING), '0'), '.'), CAST(`amount` AS STRING)), 'N')))) AS v0, \
             CAST(`shop_id` AS STRING) AS v1, \
             CAST(`shop_id` AS STRING) AS v2, \
             TO_HEX(MD5(`name`)) AS v3, IF(STRPOS(CAST(`amount` AS STRING), '.') > 0, RTRIM(RTRIM(CAST(`amount` AS STRING), '0'), '.'), CAST(`amount` AS STRING)) AS v4, \
             `_strait_position` AS v5\n\
             FROM `p`.`replica`.`shop_orders`\n\
             WHERE (`shop_id` = 1)"
        );
    }

    #[test]
    fn a_key_of_several_columns_is_walked_in_the_engines_own_way() {
        let key = vec![Some("7".to_owned()), Some("a'b".to_owned())];
        let mysql = pairing(Engine::MySql);
        assert_eq!(
            Side::of_source(&mysql).range(Some(&key), Some(&key)).unwrap(),
            "((`shop-id` > 7) OR (`shop-id` = 7 AND `name` > _utf8mb4 x'612762')) AND \
             ((`shop-id` < 7) OR (`shop-id` = 7 AND `name` <= _utf8mb4 x'612762'))"
        );
        let postgresql = pairing(Engine::PostgreSql);
        assert_eq!(
            Side::of_source(&postgresql).range(Some(&key), Some(&key)).unwrap(),
            "(\"shop-id\", \"name\") > (7, 'a''b'::text) AND (\"shop-id\", \"name\") <= (7, 'a''b'::text)"
        );
    }

    #[test]
    fn a_key_with_null_is_found_and_one_that_is_none_is_looked_for_by_its_bucket() {
        let pairing = pairing(Engine::PostgreSql);
        let side = Side::of_final(&pairing, "p").unwrap();
        let (one, wrong) = (vec![Some("1".to_owned()), None], vec![Some("x".to_owned()), None]);
        let by_key = OneOf::ByKey("((`shop_id` = 1 AND `name` IS NULL))".to_owned());
        assert_eq!(side.one_of([("ab", &one)].into_iter(), 2), by_key);
        let by_bucket = side.one_of([("ab", &one), ("cd", &wrong)].into_iter(), 2);
        assert!(matches!(&by_bucket, OneOf::ByBucket(sql) if sql.ends_with(" IN ('ab', 'cd')")), "{by_bucket:?}");
    }
}
