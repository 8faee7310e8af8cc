//! The shop: the same tables on both engines, with every common type of each, what BigQuery's columns have to be, and how the tables are
//! altered while they are in use. The BigQuery types are written by hand; Strait is not asked.

use fastrand::Rng;

/// Where the shop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// MariaDB, read as MySQL.
    MariaDb,
    /// PostgreSQL.
    PostgreSql,
}

impl Engine {
    /// The shop's schema there.
    #[must_use]
    pub const fn schema(self) -> &'static str {
        match self {
            Self::MariaDb => "shop",
            Self::PostgreSql => "store",
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::PostgreSql => "PostgreSQL",
        }
    }
}

/// A table.
#[derive(Debug, Clone)]
pub struct ShopTable {
    /// Its name.
    pub name: &'static str,
    /// Its columns, the key's first.
    pub columns: Vec<ShopColumn>,
    /// How many of them are the key's.
    pub keys: usize,
}

/// A column.
#[derive(Debug, Clone)]
pub struct ShopColumn {
    /// Its name.
    pub name: String,
    /// Its type at the source.
    pub source: String,
    /// What it has to be in BigQuery.
    pub bigquery: &'static str,
    /// What is put into it.
    pub generator: Generator,
    /// Whether it may be NULL.
    pub nullable: bool,
}

/// How values of a column are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generator {
    /// Of a key: the row's number.
    Id,
    /// Of a key: a text that differs only by case for numbers that differ in their last bit.
    Code,
    /// Of a key of two parts: the number's upper part.
    Upper,
    /// Of a key of two parts: the number's last two bits.
    Lower,
    /// A whole number up to this, of both signs.
    Integer(i64),
    /// A whole number from 0 to 2⁶⁴−1.
    Unsigned,
    /// A decimal of so many digits, of which the second are behind the point.
    Decimal(usize, usize),
    /// A double, in PostgreSQL sometimes none that is a number.
    Double,
    /// A number of single precision.
    Single,
    /// True or false.
    Truth,
    /// A string of so many bits.
    Bits(usize),
    /// Text that somebody might take for something else.
    Text,
    /// Text that PostgreSQL moves out of the row.
    LongText,
    /// A short word.
    Word,
    /// One of the labels of [`LABELS`].
    Label,
    /// Some of them.
    Labels,
    /// Up to so many bytes.
    Bytes(usize),
    /// Exactly so many.
    FixedBytes(usize),
    /// A day.
    Day,
    /// A day and a time, to the microsecond.
    DayTime,
    /// A moment between 1970 and 2038.
    Moment,
    /// A time of day.
    Time,
    /// A year.
    Year,
    /// A JSON document.
    Json,
    /// What only PostgreSQL has.
    Uuid,
    /// Likewise.
    Interval,
    /// Likewise.
    Array,
    /// Likewise.
    Network,
    /// Likewise.
    Range,
}

/// Labels of the enumeration.
pub const LABELS: [&str; 3] = ["open", "paid", "ver''sandt ß"];

const TEXTS: [&str; 14] = [
    "",
    "plain",
    "O'Brien",
    "Zürich",
    "이름 😀",
    "a \"b\" c\\d",
    "two\nlines\tand a tab",
    "null",
    "NaN",
    "${x} {{y}}",
    "{\"a\": [1.50, null]}",
    "  spaces around  ",
    "'; DROP TABLE orders; --",
    "\u{1}\u{7f}",
];

impl Generator {
    /// A literal of the engine's.
    pub fn literal(self, engine: Engine, row: u64, rng: &mut Rng) -> String {
        let mysql = engine == Engine::MariaDb;
        match self {
            Self::Id => row.to_string(),
            Self::Code => format!("'{}-{}'", if row.is_multiple_of(2) { "sku-ä" } else { "SKU-Ä" }, row / 2),
            Self::Upper => (row / 4).to_string(),
            Self::Lower => (row % 4).to_string(),
            Self::Integer(limit) => match rng.u8(0..8) {
                0 => limit.to_string(),
                1 => (-limit).to_string(),
                2 => "0".to_owned(),
                _ => rng.i64(-limit..=limit).to_string(),
            },
            Self::Unsigned => if rng.u8(0..8) == 0 { u64::MAX } else { rng.u64(..) }.to_string(),
            Self::Decimal(digits, scale) => {
                let length = rng.usize(1..=digits);
                let number: String = (0..length).map(|_| rng.digit(10)).collect();
                let padded = format!("{number:0>width$}", width = scale + 1);
                let (whole, fraction) = padded.split_at(padded.len() - scale);
                let sign = if rng.u8(0..3) == 0 { "-" } else { "" };
                format!("{sign}{whole}.{fraction}")
            }
            Self::Double => match rng.u8(0..10) {
                0 if !mysql => "'NaN'".to_owned(),
                1 if !mysql => "'-Infinity'".to_owned(),
                2 => "1.7976931348623157e308".to_owned(),
                3 => "55".to_owned(),
                // From 10¹⁵ to 10¹⁷ the embedded BigQuery takes exact values for rounded ones (docs/embedded-bigquery.md).
                4 => {
                    let sign = if rng.bool() { 1.0 } else { -1.0 };
                    format!("{:e}", sign * (0.1 + rng.f64()) * 10_f64.powi(rng.i32(20..30)))
                }
                _ => format!("{:e}", (rng.f64() - 0.5) * 10_f64.powi(rng.i32(-20..15))),
            },
            Self::Single => format!("{:e}", (rng.f32() - 0.5) * 10_f32.powi(rng.i32(-10..10))),
            Self::Truth if mysql => rng.u8(0..2).to_string(),
            Self::Truth => rng.bool().to_string(),
            Self::Bits(count) => {
                let bits: String = (0..count).map(|_| if rng.bool() { '1' } else { '0' }).collect();
                format!("B'{bits}'")
            }
            Self::Text => {
                let text = TEXTS[rng.usize(..TEXTS.len())];
                let more = if text.is_empty() || rng.bool() { String::new() } else { rng.u32(..).to_string() };
                quoted(&format!("{text}{more}"), engine)
            }
            // Random, so that it cannot be compressed into the row.
            Self::LongText => {
                let length = if rng.u8(0..4) == 0 { rng.usize(3000..6000) } else { rng.usize(0..40) };
                quoted(&(0..length).map(|_| rng.alphanumeric()).collect::<String>(), engine)
            }
            Self::Word => format!("'{}'", (0..rng.usize(1..8)).map(|_| rng.lowercase()).collect::<String>()),
            Self::Label => format!("'{}'", LABELS[rng.usize(..LABELS.len())]),
            Self::Labels => format!("'{}'", ["", "new", "new,sale", "sale"][rng.usize(..4)]),
            Self::Bytes(most) => bytes(rng.usize(0..=most), engine, rng),
            Self::FixedBytes(count) => bytes(count, engine, rng),
            Self::Day => format!("'{}'", day(rng)),
            Self::DayTime => format!("'{} {}'", day(rng), time(rng)),
            Self::Moment => {
                let (year, month, day) = (rng.u16(1971..2038), rng.u8(1..=12), rng.u8(1..=28));
                let zone = if mysql { "" } else { "+00" };
                format!("'{year:04}-{month:02}-{day:02} {}{zone}'", time(rng))
            }
            Self::Time => format!("'{}'", time(rng)),
            Self::Year => rng.u16(1901..=2155).to_string(),
            Self::Json => {
                let number = rng.i32(..);
                let documents = ["null", "[]", "{}", "[null, 1.5]", "{\"k\": \"O'Brien 😀\"}"];
                let document = match rng.usize(..=documents.len()) {
                    place if place < documents.len() => documents[place].to_owned(),
                    _ => format!("{{\"n\": {number}, \"deep\": {{\"list\": [true, \"{number}\"]}}}}"),
                };
                quoted(&document, engine)
            }
            Self::Uuid => {
                let [a, b] = [rng.u64(..), rng.u64(..)];
                let digits = format!("{a:016x}{b:016x}");
                let part = |from: usize, to: usize| &digits[from..to];
                format!("'{}-{}-{}-{}-{}'", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
            }
            Self::Interval => {
                format!("'{} days {}'", rng.i16(-400..400), time(rng))
            }
            Self::Array => {
                ["'{}'", "'{NULL}'", "'{a,\"b c\"}'", "'{\"x,y\",\"\",NULL,\"q\\\"\"}'"][rng.usize(..4)].to_owned()
            }
            Self::Network => format!("'10.{}.0.0/{}'", rng.u8(..), rng.u8(16..=32)),
            Self::Range => {
                ["'empty'".to_owned(), format!("'[{},{})'", rng.u8(..), rng.u16(256..))][rng.usize(..2)].clone()
            }
        }
    }
}

fn quoted(text: &str, engine: Engine) -> String {
    let text = text.replace('\'', "''");
    if engine == Engine::MariaDb { format!("'{}'", text.replace('\\', "\\\\")) } else { format!("'{text}'") }
}

fn bytes(count: usize, engine: Engine, rng: &mut Rng) -> String {
    // Zeros at the end are what MySQL's log leaves out of a BINARY.
    let zeros = rng.usize(0..=count);
    let digits: String =
        (0..count).map(|place| format!("{:02x}", if place < zeros { rng.u8(..) } else { 0 })).collect();
    match engine {
        Engine::MariaDb => format!("x'{digits}'"),
        Engine::PostgreSql => format!("'\\x{digits}'"),
    }
}

fn day(rng: &mut Rng) -> String {
    match rng.u8(0..10) {
        0 => "1754-08-30".to_owned(),
        1 => "1500-03-10".to_owned(),
        // The comparison's times end two days before the calendar's.
        2 => "9999-12-29".to_owned(),
        3 => "2024-02-29".to_owned(),
        _ => format!("{:04}-{:02}-{:02}", rng.u16(1000..9999), rng.u8(1..=12), rng.u8(1..=28)),
    }
}

fn time(rng: &mut Rng) -> String {
    let (hour, minute, second) = (rng.u8(0..24), rng.u8(0..60), rng.u8(0..60));
    let fraction = match rng.u8(0..3) {
        0 => String::new(),
        1 => format!(".{}", rng.u8(1..10)),
        _ => format!(".{:06}", rng.u32(0..1_000_000)),
    };
    format!("{hour:02}:{minute:02}:{second:02}{fraction}")
}

impl ShopColumn {
    fn new(name: &str, source: &str, bigquery: &'static str, generator: Generator) -> Self {
        Self { name: name.to_owned(), source: source.to_owned(), bigquery, generator, nullable: true }
    }

    /// As in CREATE TABLE.
    #[must_use]
    pub fn definition(&self) -> String {
        format!("{} {}{}", self.name, self.source, if self.nullable { " NULL" } else { " NOT NULL" })
    }
}

impl ShopTable {
    fn new(name: &'static str, keys: &[(&str, &str, &'static str, Generator)], columns: Vec<ShopColumn>) -> Self {
        let key = keys.iter().map(|(name, source, bigquery, generator)| ShopColumn {
            nullable: false,
            ..ShopColumn::new(name, source, bigquery, *generator)
        });
        Self { name, keys: keys.len(), columns: key.chain(columns).collect() }
    }

    /// The key's columns.
    #[must_use]
    pub fn key(&self) -> &[ShopColumn] {
        &self.columns[..self.keys]
    }

    /// Those beside it.
    #[must_use]
    pub fn values(&self) -> &[ShopColumn] {
        &self.columns[self.keys..]
    }

    /// CREATE TABLE at the source.
    #[must_use]
    pub fn create(&self, engine: Engine) -> String {
        let mut parts: Vec<String> = self.columns.iter().map(ShopColumn::definition).collect();
        if self.keys > 0 {
            parts.push(format!("PRIMARY KEY ({})", self.key_names().join(", ")));
        }
        format!("CREATE TABLE {}.{} ({})", engine.schema(), self.name, parts.join(", "))
    }

    /// CREATE TABLE in BigQuery, as an operator would write it where DMS sends no definitions.
    #[must_use]
    pub fn create_final(&self, final_table: &str) -> String {
        let columns = self.columns.iter().map(|column| format!("`{}` {}", column.name, column.bigquery));
        let mut parts: Vec<String> = columns.collect();
        let names: Vec<String> = self.key().iter().map(|column| format!("`{}`", column.name)).collect();
        // docs/keyless.md: that rows are only ever added has to be said.
        let mut options = " OPTIONS (labels = [('strait_key', 'none')])".to_owned();
        if !names.is_empty() {
            parts.push(format!("PRIMARY KEY ({}) NOT ENFORCED", names.join(", ")));
            options = format!(" CLUSTER BY {}", names.join(", "));
        }
        format!("CREATE TABLE `{final_table}` ({}){options}", parts.join(", "))
    }

    /// The key's names.
    #[must_use]
    pub fn key_names(&self) -> Vec<&str> {
        self.key().iter().map(|column| column.name.as_str()).collect()
    }
}

/// The table whose rows tell how fresh the final tables are.
pub const FRESHNESS: &str = "freshness";

/// The shop's tables. Without `exact`, nothing is put into them of which DMS's defaults are known to lose a part.
#[must_use]
pub fn tables(engine: Engine, exact: bool) -> Vec<ShopTable> {
    use Generator as G;
    let column = ShopColumn::new;
    // What a double's fifteen digits hold.
    let long = G::Integer(if exact { i64::MAX } else { 999_999_999_999_999 });
    let id: &[(&str, &str, &'static str, Generator)] = &[("id", "BIGINT", "INT64", G::Id)];
    let mysql = engine == Engine::MariaDb;
    let (moment, wall, wall_type) = if mysql {
        ("TIMESTAMP(6)", "DATETIME(6)", "DATETIME")
    } else {
        // DMS's control records call both of PostgreSQL's TIMESTAMP.
        ("TIMESTAMPTZ", "TIMESTAMP", "TIMESTAMP")
    };
    let double = if mysql { "DOUBLE" } else { "DOUBLE PRECISION" };
    let text = if mysql { "MEDIUMTEXT" } else { "TEXT" };
    let code: &[(&str, &str, &'static str, Generator)] = &[("sku", "VARCHAR(40)", "STRING", G::Code)];
    let line: &[(&str, &str, &'static str, Generator)] =
        &[("order_id", "BIGINT", "INT64", G::Upper), ("line", "INT", "INT64", G::Lower)];
    let at: &[(&str, &str, &'static str, Generator)] = &[("id", "BIGINT", "INT64", G::Id)];
    let mut everything = vec![
        column("small", "SMALLINT", "INT64", G::Integer(32_767)),
        column("whole", "INT", "INT64", G::Integer(2_147_483_647)),
        column("long_number", "BIGINT", "INT64", long),
        column("price", "DECIMAL(12,2)", "NUMERIC(12, 2)", G::Decimal(12, 2)),
        column("exact", "DECIMAL(38,9)", "NUMERIC", G::Decimal(38, 9)),
        column("fine", "DECIMAL(30,15)", "BIGNUMERIC(30, 15)", G::Decimal(30, 15)),
        column("ratio", "REAL", "FLOAT64", G::Single),
        column("score", double, "FLOAT64", G::Double),
        column("title", "VARCHAR(100)", "STRING", G::Text),
        column("body", text, "STRING", G::LongText),
        column("day", "DATE", "DATE", G::Day),
        column("wall", wall, wall_type, G::DayTime),
        column("moment", moment, "TIMESTAMP", G::Moment),
        column("clock", "TIME(6)", "STRING", G::Time),
    ];
    if mysql {
        // What a REAL is to MySQL is a double.
        "FLOAT".clone_into(&mut everything[6].source);
        everything.extend([
            column("tiny", "TINYINT", "INT64", G::Integer(127)),
            column("medium", "MEDIUMINT", "INT64", G::Integer(8_388_607)),
            column("flag", "TINYINT(1)", "INT64", G::Truth),
            column("year_of", "YEAR", "INT64", G::Year),
            column("bit_of", "BIT(1)", "BOOL", G::Bits(1)),
            column("bits", "BIT(10)", "BYTES", G::Bits(10)),
            column("state", "ENUM('open','paid','ver''sandt ß')", "STRING", G::Label),
            column("tags", "SET('new','sale')", "STRING", G::Labels),
            column("fixed", "BINARY(8)", "BYTES", G::FixedBytes(8)),
            column("raw", "VARBINARY(20)", "BYTES", G::Bytes(20)),
            column("picture", "LONGBLOB", "BYTES", G::Bytes(60)),
            column("short_text", "TINYTEXT", "STRING", G::Text),
            column("doc", "JSON", "STRING", G::Json),
        ]);
        if exact {
            everything.push(column("unsigned_number", "BIGINT UNSIGNED", "NUMERIC(20)", G::Unsigned));
        }
    } else {
        everything.extend([
            column("flag", "BOOLEAN", "BOOL", G::Truth),
            column("bits", "BIT(5)", "STRING", G::Bits(5)),
            column("state", "store.state", "STRING", G::Label),
            column("raw", "BYTEA", "BYTES", G::Bytes(20)),
            column("token", "UUID", "STRING", G::Uuid),
            column("span", "INTERVAL", "STRING", G::Interval),
            column("words", "TEXT[]", "STRING", G::Array),
            column("network", "INET", "STRING", G::Network),
            column("places", "INT4RANGE", "STRING", G::Range),
            column("doc", "JSONB", "STRING", G::Json),
        ]);
    }
    vec![
        ShopTable::new(
            "customers",
            id,
            vec![
                column("email", "VARCHAR(190)", "STRING", G::Text),
                column("name", "VARCHAR(100)", "STRING", G::Text),
                column("balance", "DECIMAL(12,2)", "NUMERIC(12, 2)", G::Decimal(12, 2)),
                column("visits", "INT", "INT64", G::Integer(100_000)),
                column("born", "DATE", "DATE", G::Day),
                column("note", text, "STRING", G::LongText),
                column("since", moment, "TIMESTAMP", G::Moment),
            ],
        ),
        ShopTable::new(
            "products",
            code,
            vec![
                column("label", "VARCHAR(100)", "STRING", G::Text),
                column("price", "DECIMAL(10,2)", "NUMERIC(10, 2)", G::Decimal(10, 2)),
                column("weight", double, "FLOAT64", G::Double),
            ],
        ),
        ShopTable::new(
            "orders",
            id,
            vec![
                column("customer", "BIGINT", "INT64", G::Integer(1_000_000)),
                column("reference", "INT", "INT64", G::Integer(2_000_000_000)),
                column("total", "DECIMAL(14,4)", "NUMERIC(14, 4)", G::Decimal(14, 4)),
                column("ordered", wall, wall_type, G::DayTime),
            ],
        ),
        ShopTable::new(
            "order_lines",
            line,
            vec![
                column("sku", "VARCHAR(40)", "STRING", G::Word),
                column("quantity", "INT", "INT64", G::Integer(1_000)),
                column("amount", "DECIMAL(12,2)", "NUMERIC(12, 2)", G::Decimal(12, 2)),
            ],
        ),
        ShopTable::new("everything", id, everything),
        ShopTable::new("payments", &[], vec![column("amount", "DECIMAL(12,2)", "NUMERIC(12, 2)", G::Decimal(12, 2))]),
        ShopTable::new(FRESHNESS, at, vec![column("at_ms", "BIGINT", "INT64", G::Integer(0))]),
    ]
}

/// What is done to the tables while they are in use.
#[derive(Debug, Clone)]
pub enum Alteration {
    /// A new column.
    Add(&'static str, ShopColumn),
    /// A column goes.
    Drop(&'static str, &'static str),
    /// A column's new name.
    Rename(&'static str, &'static str, &'static str),
    /// A column's new type.
    Retype(&'static str, ShopColumn),
}

/// Every kind of alteration, in the order in which they are made.
#[must_use]
pub fn alterations(engine: Engine) -> Vec<Alteration> {
    use Generator as G;
    let long_text = if engine == Engine::MariaDb { "VARCHAR(30)" } else { "VARCHAR" };
    vec![
        Alteration::Add("customers", ShopColumn::new("points", "DECIMAL(8,3)", "NUMERIC(8, 3)", G::Decimal(8, 3))),
        Alteration::Rename("products", "label", "title"),
        Alteration::Retype("orders", ShopColumn::new("reference", long_text, "STRING", G::Word)),
        Alteration::Drop("customers", "note"),
        Alteration::Add("order_lines", ShopColumn::new("gift", "VARCHAR(60)", "STRING", G::Text)),
        Alteration::Retype("order_lines", ShopColumn::new("quantity", "BIGINT", "INT64", G::Integer(1_000_000))),
    ]
}

impl Alteration {
    /// The statement.
    #[must_use]
    pub fn sql(&self, engine: Engine) -> String {
        let schema = engine.schema();
        match self {
            Self::Add(table, column) => format!("ALTER TABLE {schema}.{table} ADD COLUMN {}", column.definition()),
            Self::Drop(table, column) => format!("ALTER TABLE {schema}.{table} DROP COLUMN {column}"),
            Self::Rename(table, from, to) => format!("ALTER TABLE {schema}.{table} RENAME COLUMN {from} TO {to}"),
            Self::Retype(table, column) if engine == Engine::MariaDb => {
                format!("ALTER TABLE {schema}.{table} MODIFY COLUMN {}", column.definition())
            }
            Self::Retype(table, column) => format!(
                "ALTER TABLE {schema}.{table} ALTER COLUMN {0} TYPE {1} USING {0}::{1}",
                column.name, column.source
            ),
        }
    }

    /// The tables since then.
    pub fn apply(&self, tables: &mut [ShopTable]) {
        let (Self::Add(name, _) | Self::Drop(name, _) | Self::Rename(name, _, _) | Self::Retype(name, _)) = self;
        let table = tables.iter_mut().find(|table| table.name == *name).unwrap();
        let place =
            |table: &ShopTable, name: &str| table.columns.iter().position(|column| column.name == name).unwrap();
        match self {
            Self::Add(_, column) => table.columns.push(column.clone()),
            Self::Drop(_, column) => drop(table.columns.remove(place(table, column))),
            Self::Rename(_, from, to) => {
                let place = place(table, from);
                (*to).clone_into(&mut table.columns[place].name);
            }
            Self::Retype(_, column) => {
                let place = place(table, &column.name);
                table.columns[place] = column.clone();
            }
        }
    }
}
