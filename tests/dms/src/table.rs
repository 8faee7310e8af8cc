//! A source table as DMS describes it, and values as they stand in its rows. Nothing here knows an engine.

/// A table's definition at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The schema; MySQL's database.
    pub schema: String,
    /// The name.
    pub name: String,
    /// In the source's order.
    pub columns: Vec<Column>,
    /// The key's columns, in its order. Empty: none.
    pub primary_key: Vec<String>,
}

impl Table {
    /// The places of the key's columns.
    pub fn key_places(&self) -> impl Iterator<Item = usize> {
        self.primary_key.iter().filter_map(|name| self.place(name))
    }

    /// The place of a column.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// DMS's type.
    pub kind: ColumnType,
    /// Whether it may be NULL.
    pub nullable: bool,
}

/// DMS's type of a column, as a control record says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnType {
    /// `INT32`, `WSTRING`, …
    pub name: &'static str,
    /// Of text and bytes.
    pub length: Option<u32>,
    /// Of NUMERIC.
    pub precision: Option<u32>,
    /// Of NUMERIC.
    pub scale: Option<u32>,
}

impl ColumnType {
    /// A type without parameters.
    #[must_use]
    pub const fn plain(name: &'static str) -> Self {
        Self { name, length: None, precision: None, scale: None }
    }

    /// Text or bytes of a length.
    #[must_use]
    pub const fn sized(name: &'static str, length: u32) -> Self {
        Self { name, length: Some(length), precision: None, scale: None }
    }

    /// A decimal.
    #[must_use]
    pub const fn numeric(precision: u32, scale: u32) -> Self {
        Self { name: "NUMERIC", length: None, precision: Some(precision), scale: Some(scale) }
    }
}

/// A value of a row, before the endpoint's settings decide how it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// The log does not say.
    Absent,
    /// A whole number.
    Integer(i128),
    /// A decimal, as the source prints it.
    Decimal(String),
    /// A double.
    Double(f64),
    /// A number of single precision.
    Single(f32),
    /// True or false.
    Boolean(bool),
    /// Text, and whatever else DMS writes as text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A row, as long as its table's columns.
pub type Row = Vec<Value>;
