//! Values as a connector of Debezium's writes them in its default modes, and the text that each stands for by [`strait::debezium::value`], which reads
//! them by a schema: what the merge's SQL has to make of them by a definition. Asked of Google's evaluator and of the embedded BigQuery
//! alike. The edges are written by hand, the rest is drawn.

use base64::Engine as _;
use strait::debezium::encoding::Encoded;
use strait::debezium::value::{Decoded, Encoding, Unit};
use strait::merge::types::encoded::{ColumnEncoding, PlainForm};
use strait::names::string_literal;

/// A value and its text.
#[derive(Debug, Clone)]
pub struct Written {
    /// How it is written.
    pub encoding: ColumnEncoding,
    /// The value, as JSON.
    pub json: String,
    /// Its text; None: it is none of the encoding's, or beyond BigQuery's calendar, or of more digits than the column has.
    pub text: Option<String>,
}

impl Written {
    fn new(encoding: ColumnEncoding, json: &str) -> Self {
        let by_schema = match encoding.encoded {
            Encoded::Days => Encoding::Days,
            Encoded::TimeMilliseconds => Encoding::Time(Unit::Milliseconds),
            Encoded::TimeMicroseconds => Encoding::Time(Unit::Microseconds),
            Encoded::TimestampMilliseconds => Encoding::Timestamp(Unit::Milliseconds),
            Encoded::TimestampMicroseconds => Encoding::Timestamp(Unit::Microseconds),
            Encoded::Decimal => Encoding::Decimal(encoding.scale.unwrap_or(0).into()),
            Encoded::Bytes => Encoding::Bytes,
            Encoded::Bits => Encoding::Bits(encoding.precision.and_then(|bits| usize::try_from(bits).ok())),
            Encoded::Unsigned if json.starts_with('"') => Encoding::Decimal(0),
            Encoded::Unsigned => Encoding::Wrapped,
            Encoded::Interval if json.starts_with('"') => Encoding::Text,
            Encoded::Interval => Encoding::Duration,
            Encoded::Plain if encoding.form == PlainForm::Text => Encoding::Text,
            Encoded::Plain | Encoded::Untold => Encoding::Plain,
        };
        let own = |json: &str| serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
        let text = match by_schema.decode(json, false) {
            Ok(Decoded::Text(text)) => Some(own(&text)),
            Ok(Decoded::AsReceived) => Some(own(json)),
            Ok(Decoded::Unavailable) | Err(_) => None,
        };
        let precision = encoding.precision.map_or(0, |precision| usize::try_from(precision).unwrap());
        let is_held = |text: &String| match encoding.encoded {
            Encoded::Decimal => {
                let digits: String = text.chars().filter(char::is_ascii_digit).collect();
                !json.starts_with('"') || digits.trim_start_matches('0').len() <= precision
            }
            Encoded::Days | Encoded::TimestampMilliseconds | Encoded::TimestampMicroseconds => {
                !text.starts_with(['+', '-']) && !text.starts_with("0000")
            }
            Encoded::Bits => text.len() <= 2 + 2 * precision.div_ceil(8),
            Encoded::Plain if encoding.form == PlainForm::Number => {
                !json.starts_with('"') || ["NaN", "Infinity", "-Infinity"].contains(&text.as_str())
            }
            _ => true,
        };
        Self { encoding, json: json.to_owned(), text: text.filter(is_held) }
    }

    /// A query of the text that the merge makes of it: one row of one STRING.
    #[must_use]
    pub fn query(&self) -> String {
        let text = self.encoding.text_of("`text`", "`is_text`").unwrap_or_else(|| "CAST(NULL AS STRING)".to_owned());
        let is_text = self.json.starts_with('"');
        let own = serde_json::from_str::<String>(&self.json).unwrap_or_else(|_| self.json.clone());
        format!("SELECT {text} FROM (SELECT {} AS `text`, {is_text} AS `is_text`)", string_literal(&own))
    }
}

/// Edges, and so many drawn decimals, times and bytes.
#[must_use]
pub fn written(seed: u64, drawn: usize) -> Vec<Written> {
    let of = |encoded| ColumnEncoding { encoded, precision: None, scale: None, form: PlainForm::Any };
    let plain = |form| ColumnEncoding { encoded: Encoded::Plain, precision: None, scale: None, form };
    let counted = |encoded, precision, scale| ColumnEncoding {
        encoded,
        precision: Some(precision),
        scale: Some(scale),
        form: PlainForm::Any,
    };
    let mut all = Vec::new();
    let edges: &[(ColumnEncoding, &[&str])] = &[
        (
            of(Encoded::Days),
            &[
                "19782",
                "0",
                "-1",
                "-719162",
                "-719163",
                "2932896",
                "2932897",
                "2147483647",
                "\"2024-02-29Z\"",
                "1.5",
                "true",
            ],
        ),
        (of(Encoded::TimeMilliseconds), &["0", "86399999", "45296789", "86400000", "1", "\"12:00:00Z\""]),
        (
            of(Encoded::TimeMicroseconds),
            &[
                "0",
                "-3020399000000",
                "3020399000000",
                "86399123456",
                "1",
                "-1",
                "86400000000",
                "45296000000",
                "\"12:00:00Z\"",
            ],
        ),
        (
            of(Encoded::TimestampMilliseconds),
            &[
                "1709210096789",
                "1709210096000",
                "0",
                "-1",
                "-86400000",
                "-62135596800000",
                "-62135596800001",
                "253402300799999",
                "253402300800000",
                "9223372036854775807",
                "\"2024-02-29T12:34:56Z\"",
            ],
        ),
        (
            of(Encoded::TimestampMicroseconds),
            &[
                "1709210096123456",
                "1709210096000000",
                "1",
                "-1",
                "-62135596800000000",
                "-62135596800000001",
                "253402300799999999",
                "253402300800000000",
                "-9223372036854775808",
            ],
        ),
        (plain(PlainForm::Text), &["\"a\"", "\"\"", "19782", "true", "\"19782\""]),
        (plain(PlainForm::Number), &["1", "-1.5", "1e300", "true", "\"NaN\"", "\"-Infinity\"", "\"1234\"", "\"a\""]),
        (plain(PlainForm::Any), &["1", "\"a\""]),
        (of(Encoded::Interval), &["\"P1Y2M-3DT4H5M6.789S\"", "0", "37091106700000", "-1"]),
        (
            of(Encoded::Unsigned),
            &[
                "-1",
                "-9223372036854775808",
                "-9223372036000000000",
                "0",
                "9223372036854775807",
                "\"AP//////////\"",
                "\"AIAAAAAAAAAA\"",
                "\"AA==\"",
                "\"-1\"",
            ],
        ),
        (of(Encoded::Bytes), &["\"\"", "\"3q2+7w==\"", "\"AP8=\"", "\"AQ==\"", "\"abc\"", "\"====\"", "\"0x00\"", "5"]),
        (counted(Encoded::Bits, 8, 0), &["\"qg==\"", "\"\"", "\"AAE=\"", "true"]),
        (counted(Encoded::Bits, 10, 0), &["\"AQI=\"", "\"AQ==\""]),
        (counted(Encoded::Bits, 64, 0), &["\"//////////8=\"", "\"AQIDBAUGBwg=\"", "\"AQ==\""]),
        (
            counted(Encoded::Decimal, 10, 2),
            &[
                "\"SZYC0g==\"",
                "\"AA==\"",
                "\"/w==\"",
                "\"gA==\"",
                "\"AIA=\"",
                "\"fQ==\"",
                "\"\"",
                "12345678.90",
                "-0.5",
                "\"1.5\"",
            ],
        ),
        (counted(Encoded::Decimal, 1, 1), &["\"CQ==\"", "\"9w==\"", "\"Cg==\""]),
        (counted(Encoded::Decimal, 38, 9), &["\"CUmw9vACMxPESZBQ5NhfFQ==\"", "\"gAAAAAAAAAAAAAAAAAAAAA==\""]),
        (counted(Encoded::Decimal, 65, 30), &["\"DJ8snNBGdO3qQAAAAQ==\""]),
    ];
    for (encoding, values) in edges {
        all.extend(values.iter().map(|json| Written::new(*encoding, json)));
    }
    let mut state = seed;
    let mut next = move || {
        // splitmix64: any seed does.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    for _ in 0..drawn {
        let precision = u32::try_from(next() % 65 + 1).unwrap();
        let scale = u32::try_from(next() % u64::from(precision + 1)).unwrap();
        // The bytes that the precision needs, at most.
        let most = u64::from(precision * 3_322 / 8_000 + 1);
        let length = next() % most + 1;
        let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(next() % 256).unwrap()).collect();
        let base64 = format!("\"{}\"", base64::engine::general_purpose::STANDARD.encode(&bytes));
        all.push(Written::new(counted(Encoded::Decimal, precision, scale), &base64));
        let count = i64::try_from(next() >> 1).unwrap();
        let signed = if next() % 2 == 0 { count } else { -count };
        all.push(Written::new(of(Encoded::Days), &(signed % 800_000).to_string()));
        all.push(Written::new(of(Encoded::TimestampMilliseconds), &(signed % 300_000_000_000_000).to_string()));
        all.push(Written::new(of(Encoded::TimestampMicroseconds), &(signed % 300_000_000_000_000_000).to_string()));
        all.push(Written::new(of(Encoded::TimeMicroseconds), &(signed % 3_020_399_000_000).to_string()));
        all.push(Written::new(of(Encoded::Unsigned), &signed.to_string()));
    }
    all
}
