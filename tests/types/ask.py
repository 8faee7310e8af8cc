"""Asks a database how it prints the values that `tests/tests/types.rs` replicates, and writes them to a fixture.

    python ask.py postgresql psql -h … -d …  > postgresql.json
    python ask.py mysql mysql -h … DATABASE  > mysql.json

What is written by hand here: each column's type at the source, what a control record of DMS says of it, the type that its
column has to get in BigQuery, and for each value its literal at the source and how it stands in a message. What the database
adds is the text that it prints, from which the test knows what BigQuery has to hold: no SQL of Strait's is asked.
"""

import json
import subprocess
import sys

# (type, control record's type, BigQuery's type, how to print, [(literal, in the message)]); in the message None means: the same text.
MYSQL = [
    ("TINYINT", "INT8", "INT64", "c", [("-128", -128), ("127", 127), ("0", 0)]),
    ("BOOL", "INT8", "INT64", "c", [("FALSE", 0), ("TRUE", 1), ("2", 2)]),
    ("TINYINT UNSIGNED", "UINT8", "INT64", "c", [("255", 255), ("0", 0)]),
    ("SMALLINT", "INT16", "INT64", "c", [("-32768", -32768), ("32767", 32767)]),
    ("SMALLINT UNSIGNED", "UINT16", "INT64", "c", [("65535", 65535)]),
    ("MEDIUMINT", "INT32", "INT64", "c", [("-8388608", -8388608), ("8388607", 8388607)]),
    ("INT", "INT32", "INT64", "c", [("-2147483648", -2147483648), ("2147483647", 2147483647), ("0", 0)]),
    ("MEDIUMINT UNSIGNED", "UINT32", "INT64", "c", [("16777215", 16777215), ("0", 0)]),
    ("INT UNSIGNED", "UINT32", "INT64", "c", [("4294967295", 4294967295)]),
    ("BIGINT", "INT64", "INT64", "c", [
        ("-9223372036854775808", None), ("9223372036854775807", None), ("0", None), ("9007199254740993", None)]),
    ("BIGINT UNSIGNED", "UINT64", "NUMERIC(20)", "c", [
        ("18446744073709551615", None), ("0", None), ("9223372036854775808", None)]),
    ("YEAR", "INT16", "INT64", "c", [("1901", 1901), ("2155", 2155), ("0000", 0)]),
    ("DECIMAL(12,2)", ("NUMERIC", 12, 2), "NUMERIC(12, 2)", "c", [
        ("-9999999999.99", None), ("9999999999.99", None), ("0", "0.00"), ("46.57", "46.570000")]),
    ("DECIMAL(2,2)", ("NUMERIC", 2, 2), "NUMERIC(2, 2)", "c", [("0.99", None), ("-0.99", None)]),
    ("DECIMAL(38,9)", ("NUMERIC", 38, 9), "NUMERIC", "c", [
        ("99999999999999999999999999999.999999999", None), ("-99999999999999999999999999999.999999999", None),
        ("0.000000001", None)]),
    # The embedded BIGNUMERIC has 20 digits before the point and 18 after it; Google's evaluator is asked about the others.
    ("DECIMAL(38,18)", ("NUMERIC", 38, 18), "BIGNUMERIC(38, 18)", "c", [
        ("99999999999999999999.999999999999999999", None), ("-0.000000000000000001", None)]),
    ("DECIMAL(65,30)", ("NUMERIC", 65, 30), "BIGNUMERIC(65, 30)", "c", [
        ("12345678901234567890.123456789012345678", None), ("-0.000000000000000001", None), ("0", "0.000000000000000000000000000000")]),
    ("DECIMAL(65,0)", ("NUMERIC", 65, 0), "STRING", "c", [("9" * 65, None), ("-" + "9" * 65, None)]),
    ("FLOAT", "FLOAT", "FLOAT64", "c", [("2.2", "2.20000005"), ("-3.40282e38", "-3.40281993e+38"), ("0", "0")]),
    ("DOUBLE", "DOUBLE", "FLOAT64", "c", [
        ("-1.7976931348623157e308", "-1.7976931348623157e+308"), ("2.2250738585072014e-308", None), ("55", "55"), ("0.1", None)]),
    ("BIT(1)", "BOOL", "BOOL", "c + 0", [("b'1'", '"0x01"'), ("b'0'", "false")]),
    ("BIT(10)", "BYTES", "BYTES", "LPAD(HEX(c), 4, '0')", [("b'1111111111'", '"0x03FF"'), ("0", '"0000"')]),
    ("BIT(64)", "BYTES", "BYTES", "LPAD(HEX(c), 16, '0')", [("~0", '"0xFFFFFFFFFFFFFFFF"'), ("1", '"0000000000000001"')]),
    ("CHAR(10)", "WSTRING", "STRING", "c", [("'Zürich'", '"Zürich"'), ("''", '""'), ("'이름 😀'", '"이름 😀"')]),
    ("VARCHAR(100)", "WSTRING", "STRING", "c", [
        ("'trailing  '", '"trailing  "'), ("''", '""'), ("'null'", '"null"'), ("'NaN \\\\ \"x\" ${y}'", '"NaN \\\\ \\"x\\" ${y}"'),
        ("'ａｂｃ é é'", '"ａｂｃ é é"')]),
    ("VARCHAR(20) COLLATE utf8mb4_bin", "WSTRING", "STRING", "c", [("'ÄBC'", '"ÄBC"'), ("'äbc'", '"äbc"')]),
    ("TINYTEXT", "WSTRING", "STRING", "c", [("'é\\n\\t'", '"é\\n\\t"')]),
    ("TEXT", "TEXT", "STRING", "c", [("'이름'", '"이름"'), ("''", '""')]),
    ("MEDIUMTEXT", "NCLOB", "STRING", "c", [("'{\"a\":1}'", '"{\\"a\\":1}"')]),
    ("LONGTEXT", "NCLOB", "STRING", "c", [("'日本語'", '"\\u65e5\\u672c\\u8a9e"'), ("''", '""')]),
    ("ENUM('a','ß','')", "WSTRING", "STRING", "c", [("'ß'", '"ß"'), ("''", '""')]),
    ("SET('a','b','ü')", "STRING", "STRING", "c", [("'a,ü'", '"a,ü"'), ("''", '""')]),
    ("BINARY(4)", "BYTES", "BYTES", "HEX(c)", [("x'00FF0000'", '"0x00FF0000"'), ("x'80057D94'", '"80057d94"')]),
    ("VARBINARY(4)", "BYTES", "BYTES", "HEX(c)", [("x'FF00'", '"0xFF00"'), ("''", '"0x"')]),
    ("BLOB", "BYTES", "BYTES", "HEX(c)", [("x'C3A9'", '"C3A9"')]),
    ("MEDIUMBLOB", "BLOB", "BYTES", "HEX(c)", [("x'00'", '"0x00"')]),
    ("LONGBLOB", "BLOB", "BYTES", "HEX(c)", [("x'80057D942E'", '"0x80057D942E"'), ("''", '""'), ("x'00'", '"00"')]),
    ("DATE", "DATE32", "DATE", "c", [
        ("'1000-01-01'", '"1000-01-01"'), ("'9999-12-31'", '"9999-12-31"'), ("'2024-02-29'", '"2024-02-29"')]),
    ("DATETIME(6)", "DATETIME", "DATETIME", "c", [
        ("'1000-01-01 00:00:00'", '"1000-01-01T00:00:00Z"'), ("'9999-12-31 23:59:59.999999'", '"9999-12-31T23:59:59.999999Z"'),
        ("'1754-08-30 22:43:41.129'", '"1754-08-30T22:43:41.129000Z"'), ("'2024-03-31 02:30:00.000001'", '"2024-03-31T02:30:00.000001000Z"')]),
    # From no digit of a fraction to nine, which DMS may print; what MySQL keeps are six.
    ("DATETIME(6) DEFAULT NULL", "DATETIME", "DATETIME", "c", [
        ("'2024-02-29 23:59:58'", '"2024-02-29T23:59:58Z"'), ("'2024-02-29 23:59:58.1'", '"2024-02-29T23:59:58.1Z"'),
        ("'2024-02-29 23:59:58.12'", '"2024-02-29T23:59:58.12Z"'), ("'2024-02-29 23:59:58.123'", '"2024-02-29T23:59:58.123Z"'),
        ("'2024-02-29 23:59:58.1234'", '"2024-02-29T23:59:58.1234Z"'), ("'2024-02-29 23:59:58.12345'", '"2024-02-29T23:59:58.12345Z"'),
        ("'2024-02-29 23:59:58.123456'", '"2024-02-29T23:59:58.123456Z"'), ("'2024-02-29 23:59:58.123456'", '"2024-02-29T23:59:58.1234560Z"'),
        ("'2024-02-29 23:59:58.123456'", '"2024-02-29T23:59:58.12345600Z"'), ("'2024-02-29 23:59:58.123456'", '"2024-02-29T23:59:58.123456000Z"')]),
    ("DATETIME", "DATETIME", "DATETIME", "c", [("'1500-03-10'", '"1500-03-10T00:00:00Z"')]),
    ("TIMESTAMP(6) NULL", "TIMESTAMP", "TIMESTAMP", "c", [
        ("'1970-01-01 00:00:01'", '"1970-01-01T00:00:01Z"'), ("'2038-01-19 03:14:07.999999'", '"2038-01-19T03:14:07.999999Z"')]),
    ("TIME(6)", "STRING", "STRING", "c", [
        ("'-838:59:59.000000'", '"-838:59:59.000000"'), ("'838:59:59.000000'", '"838:59:59.000000"'), ("'0:0:0'", '"00:00:00.000000"')]),
    ("TIME", "STRING", "STRING", "c", [("'-00:00:01'", '"-00:00:01"'), ("'100:00:00'", '"100:00:00"')]),
    ("JSON", "NCLOB", "STRING", "c", [
        ("'{}'", '"{}"'), ("'[]'", '"[]"'), ("'[null]'", '"[null]"'), ("'null'", '"null"'),
        ("'{\"a\": 1.50, \"b\": 12345678901234567890123}'", '"{\\"a\\": 1.50, \\"b\\": 12345678901234567890123}"')]),
    ("LINESTRING", "BLOB", "BYTES", "HEX(c)", [
        ("ST_GeomFromText('LINESTRING(0 0, 1 2)')",
         '"0x00000000010200000002000000' + "0" * 32 + '000000000000F03F0000000000000040"')]),
    ("POINT", "BLOB", "BYTES", "HEX(c)", [
        ("ST_GeomFromText('POINT(1 2)')", '"0x000000000101000000000000000000F03F0000000000000040"')]),
]

# Types that a database makes for itself.
POSTGRESQL_OWN = {"mood": "ENUM ('froh', 'größer als 😀', '')", "pair": "(n integer, t text)"}
POSTGRESQL = [
    ("smallint", "INT16", "INT64", "c", [("-32768", -32768), ("32767", 32767)]),
    ("integer", "INT32", "INT64", "c", [("-2147483648", -2147483648), ("2147483647", 2147483647), ("0", 0)]),
    ("bigint", "INT64", "INT64", "c", [("-9223372036854775808", None), ("9223372036854775807", None), ("0", None)]),
    ("numeric(12,2)", ("NUMERIC", 12, 2), "NUMERIC(12, 2)", "c", [("-9999999999.99", None), ("46.57", "46.570000"), ("0", "0.00")]),
    ("numeric(38,9)", ("NUMERIC", 38, 9), "NUMERIC", "c", [
        ("99999999999999999999999999999.999999999", None), ("-0.000000001", None)]),
    ("numeric(3,5)", ("NUMERIC", 3, 5), "NUMERIC(5, 5)", "c", [("0.00999", None)]),
    ("numeric(50,0)", "STRING", "STRING", "c", [("9" * 50, '"' + "9" * 50 + '"')]),
    ("numeric", ("NUMERIC", 28, 6), "NUMERIC", "c", [("0.611111", None), ("1234567890123456789012.654321", None)]),
    ("real", "FLOAT", "FLOAT64", "c", [
        ("2.2", "2.20000005"), ("'NaN'", '"NaN"'), ("'Infinity'", '"Infinity"'), ("'-Infinity'", '"-Infinity"'),
        ("3.4028235e38", "3.40282347e+38"), ("1e-45", "1.40129846e-45")]),
    ("double precision", "DOUBLE", "FLOAT64", "c", [
        ("1.7976931348623157e308", "1.7976931348623157e+308"), ("5e-324", "5e-324"), ("55", "55"), ("0.1", None), ("'NaN'", '"NaN"'),
        ("1234567890.12345678", "1234567890.1234567")]),
    ("boolean", "BOOL", "BOOL", "c", [("true", "true"), ("false", "false"), ("true", '"t"'), ("false", '"f"'), ("true", '"true"'), ("false", "0")]),
    ("char(5)", "STRING", "STRING", "c", [("'ab'", '"ab   "'), ("''", '"     "')]),
    ("varchar(40)", "WSTRING", "STRING", "c", [("'Ångström 😀'", '"Ångström 😀"'), ("''", '""'), ("' '", '" "')]),
    ("text", "NCLOB", "STRING", "c", [("'이름'", '"이름"'), ("''", '""'), ("'NULL'", '"NULL"')]),
    ("bytea", "BLOB", "BYTES", "c", [("'\\x80057d942e'", '"0x80057D942E"'), ("''", '"0x"'), ("'\\x00'", '"00"')]),
    ("date", "DATE32", "DATE", "c", [("'0001-01-01'", '"0001-01-01"'), ("'9999-12-31'", '"9999-12-31"'), ("'1500-03-10'", '"1500-03-10"')]),
    ("time(6)", "TIME", "STRING", "c", [("'24:00:00'", '"24:00:00"'), ("'00:00:00'", '"00:00:00"'), ("'23:59:59.999999'", '"23:59:59.999999"')]),
    ("timetz", "TIME", "STRING", "c", [
        ("'23:59:59.5+05:30'", '"23:59:59.5+05:30"'), ("'00:00:00-15:59'", '"00:00:00-15:59"'), ("'24:00:00+00'", '"24:00:00+00"')]),
    ("timestamp", "DATETIME", "DATETIME", "c", [
        ("'0001-01-01 00:00:00'", '"0001-01-01T00:00:00Z"'), ("'9999-12-31 23:59:59.999999'", '"9999-12-31T23:59:59.999999Z"'),
        ("'2010-11-01 00:02:00.1'", '"2010-11-01T00:02:00.100000Z"')]),
    ("timestamptz", "TIMESTAMP", "TIMESTAMP", "c", [
        ("'0001-01-01 00:00:00+00'", '"0001-01-01T00:00:00Z"'), ("'9999-12-31 23:59:59.999999+00'", '"9999-12-31T23:59:59.999999000Z"'),
        ("'2010-11-01 00:02:00.1+01'", '"2010-10-31 23:02:00.1+00"'), ("'2010-11-01 00:02:00.123456-03:30'", '"2010-11-01T00:02:00.123456-03:30"')]),
    # From no digit of a fraction to nine, which DMS may print; what PostgreSQL keeps are six.
    ("timestamp(6)", "DATETIME", "DATETIME", "c", [
        ("'2024-02-29 23:59:58'", '"2024-02-29T23:59:58Z"'), ("'2024-02-29 23:59:58.1'", '"2024-02-29T23:59:58.1Z"'),
        ("'2024-02-29 23:59:58.12'", '"2024-02-29T23:59:58.12Z"'), ("'2024-02-29 23:59:58.123'", '"2024-02-29T23:59:58.123Z"'),
        ("'2024-02-29 23:59:58.1234'", '"2024-02-29T23:59:58.1234Z"'), ("'2024-02-29 23:59:58.12345'", '"2024-02-29T23:59:58.12345Z"'),
        ("'2024-02-29 23:59:58.123456'", '"2024-02-29T23:59:58.123456Z"'), ("'2024-02-29 23:59:58.123456'", '"2024-02-29T23:59:58.1234560Z"'),
        ("'2024-02-29 23:59:58.123456'", '"2024-02-29T23:59:58.12345600Z"'), ("'2024-02-29 23:59:58.123456'", '"2024-02-29T23:59:58.123456000Z"')]),
    ("timestamptz(3)", "TIMESTAMP", "TIMESTAMP", "c", [
        ("'1754-08-30 22:43:41.129+00'", '"1754-08-30T22:43:41.129Z"'), ("'1500-03-10 00:00:00+00'", '"1500-03-10T00:00:00.000000000Z"')]),
    ("interval", "STRING", "STRING", "c", [("'-1 mons'", '"-1 mons"'), ("'1 year 2 mons -3 days 04:05:06.789'", '"1 year 2 mons -3 days +04:05:06.789"'), ("'0'", '"00:00:00"')]),
    ("uuid", "STRING", "STRING", "c", [("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"')]),
    ("inet", "STRING", "STRING", "c", [("'2001:db8::1/64'", '"2001:db8::1/64"'), ("'10.0.0.1'", '"10.0.0.1"')]),
    ("bit(5)", "STRING", "STRING", "c", [("B'00101'", '"00101"')]),
    ("jsonb", "NCLOB", "STRING", "c", [
        ("'{}'", '"{}"'), ("'[]'", '"[]"'), ("'[null]'", '"[null]"'), ("'null'", '"null"'), ("'{\"a\": 1.50}'", '"{\\"a\\": 1.50}"')]),
    ("integer[]", "NCLOB", "STRING", "c", [("'{}'", '"{}"'), ("'{NULL}'", '"{NULL}"'), ("'{{1,2},{3,NULL}}'", '"{{1,2},{3,NULL}}"')]),
    ("text[]", "NCLOB", "STRING", "c", [("ARRAY['a,b', 'ü\"', '']", '"{\\"a,b\\",\\"ü\\\\\\"\\",\\"\\"}"')]),
    ("json", "NCLOB", "STRING", "c", [
        ("'{\"b\": 1e400, \"a\":  12345678901234567890123, \"a\": null}'", '"{\\"b\\": 1e400, \\"a\\":  12345678901234567890123, \\"a\\": null}"')]),
    ("hstore", "NCLOB", "STRING", "c", [
        ("'a=>1, \"b ü\"=>NULL'", '"\\"a\\"=>\\"1\\", \\"b ü\\"=>NULL"'), ("''", '""')]),
    ("mood", "WSTRING", "STRING", "c", [("'froh'", '"froh"'), ("'größer als 😀'", '"größer als 😀"'), ("''", '""')]),
    ("mood[]", "NCLOB", "STRING", "c", [("'{froh,NULL,\"größer als 😀\"}'", '"{froh,NULL,\\"größer als 😀\\"}"')]),
    ("pair", "NCLOB", "STRING", "c", [("ROW(1, 'a \"b\", ü')", '"(1,\\"a \\"\\"b\\"\\", ü\\")"'), ("ROW(NULL, NULL)", '"(,)"'), ("ROW(0, '')", '"(0,\\"\\")"')]),
    ("citext", "WSTRING", "STRING", "c", [("'ÄbC'", '"ÄbC"')]),
    ("cidr", "STRING", "STRING", "c", [("'192.168.0.0/16'", '"192.168.0.0/16"')]),
    ("macaddr", "STRING", "STRING", "c", [("'08:00:2B:01:02:03'", '"08:00:2b:01:02:03"')]),
    ("varbit", "STRING", "STRING", "c", [("B'1'", '"1"'), ("B''", '""')]),
    ("bool[]", "NCLOB", "STRING", "c", [("'{t,NULL,f}'", '"{t,NULL,f}"')]),
    ("numrange", "STRING", "STRING", "c", [("'[1.50,)'", '"[1.50,)"')]),
    ("tsrange", "STRING", "STRING", "c", [
        ("'[2024-01-01 00:00:00,2024-01-02 12:30:00.5)'", '"[\\"2024-01-01 00:00:00\\",\\"2024-01-02 12:30:00.5\\")"')]),
    ("daterange", "STRING", "STRING", "c", [("'[2024-01-01,2024-02-01]'", '"[2024-01-01,2024-02-02)"')]),
    ("tsquery", "CLOB", "STRING", "c", [("'fat & !cat'", "\"'fat' & !'cat'\"")]),
    ("line", "STRING", "STRING", "c", [("'{1,2.5,-3}'", '"{1,2.5,-3}"')]),
    ("box", "STRING", "STRING", "c", [("'(1,1),(0,0)'", '"(1,1),(0,0)"')]),
    ("circle", "STRING", "STRING", "c", [("'<(0,0),1.5>'", '"<(0,0),1.5>"')]),
    ("path", "CLOB", "STRING", "c", [("'[(0,0),(1,2)]'", '"[(0,0),(1,2)]"')]),
    ("polygon", "CLOB", "STRING", "c", [("'((0,0),(1,0),(1,1))'", '"((0,0),(1,0),(1,1))"')]),
    ("int8range", "STRING", "STRING", "c", [("'[1,10)'", '"[1,10)"'), ("'empty'", '"empty"')]),
    ("xml", "CLOB", "STRING", "c", [("'<a b=\"é\"/>'", '"<a b=\\"é\\"/>"')]),
    ("tsvector", "CLOB", "STRING", "c", [("'a fat cat'", "\"'a' 'cat' 'fat'\"")]),
    ("point", "STRING", "STRING", "c", [("'(1.5,-2)'", '"(1.5,-2)"')]),
    ("money", ("NUMERIC", 38, 4), "BIGNUMERIC(38, 4)", "c::numeric", [("'12.34'", "12.3400"), ("'-92233720368547758.08'", "-92233720368547758.0800")]),
]


def ask(client: list[str], statements: str) -> str:
    done = subprocess.run(client, input=statements, capture_output=True, encoding="utf-8", check=True)
    return done.stdout.removesuffix("\n")


def printed(engine: str, client: list[str], kind: str, show: str, literal: str) -> str:
    if engine == "postgresql":
        settings = "SET client_min_messages = error; CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext;\n"
        settings += "".join(f"CREATE TYPE pg_temp.{own} AS {what};\n" for own, what in POSTGRESQL_OWN.items()) + "SET search_path = pg_temp, public;\n"
        settings += "SET TimeZone = 'UTC'; SET bytea_output = 'hex'; SET client_encoding = 'UTF8'; SET lc_monetary = 'C';\n"
        return ask([*client, "-XAtq"], f"{settings}SELECT {show} FROM (SELECT ({literal})::{kind} AS c) AS t;")
    column = f"c {kind}"
    return ask(
        [*client, "--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4"],
        "SET time_zone = '+00:00', sql_mode = '';"
        f"CREATE TEMPORARY TABLE t ({column}) CHARACTER SET utf8mb4; INSERT INTO t VALUES ({literal}); SELECT {show} FROM t;",
    )


def main():
    engine, client = sys.argv[1], sys.argv[2:]
    columns = []
    for kind, dms, bigquery, show, values in MYSQL if engine == "mysql" else POSTGRESQL:
        name, precision, scale = dms if isinstance(dms, tuple) else (dms, None, None)
        definition = {"type": name} | ({"precision": precision, "scale": scale} if precision else {})
        answers = []
        for literal, sent in values:
            answers.append(
                    {"literal": literal, "sent": str(literal if sent is None else sent), "printed": printed(engine, client, kind, show, literal)}
                )
        own = {"create": f"CREATE TYPE {kind} AS {POSTGRESQL_OWN[kind]}"} if kind in POSTGRESQL_OWN else {}
        columns.append({"type": kind, **own, "dms": definition, "bigquery": bigquery, "values": answers})
    json.dump(columns, sys.stdout, ensure_ascii=False, indent=1)
    print()


if __name__ == "__main__":
    main()
