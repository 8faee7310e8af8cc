#!/usr/bin/env python3
"""Writes the events of this folder: the demo's history and one sample event per shape.

The history is a small shop's. It is told once, as SQL, and SQLite executes it: what SQLite holds in the end is what
the final tables must hold. The changes that SQLite made (captured row by row by triggers, as a binlog would) are
written as the messages that AWS DMS sends to Kafka. So the expected result never passes through a message.

    generate.py                                    write the committed files
    generate.py --check                            exit 1 if the committed files differ from what would be written
    generate.py --changes N --tables T --out DIR   a history of N changes over T tables, for load tests
    generate.py --verify DIR                       replay DIR/stream.jsonl by position, compare with DIR/expected.json

Everything is invented and deterministic: no clock, no network, nothing beyond the standard library.
"""
from __future__ import annotations

import argparse
import base64
import json
import random
import re
import sqlite3
import sys
import uuid
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Optional

HERE = Path(__file__).resolve().parent
SEED = 20260302
TOPIC = "cdc"
DEMO_PARTITIONS = 3
DEMO_CHANGES = 2000
EPOCH = datetime(2026, 3, 2, 9, 0, 0)

# DMS keys control records by the task's id. These two share a partition (of three), and it is not the one that the
# demo lets fall behind, so a table is known before most of its rows.
MYSQL_TASK = "QX7SHOPMYSQLTASK01EXAMPLEA"
POSTGRES_TASK = "QX7CRMPOSTGRES06TASKEXAMPL"


# ---------------------------------------------------------------------------------------------------------------
# Tables: how a column is declared to DMS, stored by SQLite, printed in a message, and expected in the end
# ---------------------------------------------------------------------------------------------------------------

def text_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def decimal_text(scaled: int, scale: int) -> str:
    sign = "-" if scaled < 0 else ""
    whole, fraction = divmod(abs(scaled), 10 ** scale)
    return f"{sign}{whole}.{fraction:0{scale}d}"


def padded_time_json(text: str) -> str:
    """DMS prints six digits of a fraction, and a Z whether or not the value is UTC."""
    moment, _, fraction = text.partition(".")
    return f'"{moment}.{fraction:0<6}Z"' if fraction else f'"{moment}Z"'


class Column:
    """One column. NUMERIC is stored by SQLite as a scaled integer, so that no decimal passes through a float."""

    def __init__(self, name: str, type_name: str, storage: str, bigquery: str, nullable: bool = True,
                 length: int = 0, precision: int = 0, scale: int = 0, printed_scale: int = 0):
        self.name, self.storage, self.bigquery, self.nullable, self.scale = name, storage, bigquery, nullable, scale
        self.definition: dict[str, Any] = {"type": type_name}
        if length:
            self.definition["length"] = length
        if precision:
            self.definition.update(precision=precision, scale=scale)
        self.definition["nullable"] = nullable
        padding = "0" * (printed_scale - scale)
        self.print: Callable[[Any], str] = {
            "INT64": str,
            "NUMERIC": lambda v: decimal_text(v, scale) + padding,
            "FLOAT64": lambda v: f"{v:.9g}",
            "BOOL": lambda v: '"t"' if v else '"f"',
            "DATE": lambda v: f'"{v}"',
            "DATETIME": padded_time_json,
            "TIMESTAMP": padded_time_json,
            "BYTES": lambda v: f'"0x{v.hex().upper()}"',
            "STRING": text_json,
        }[bigquery]

    def expected(self, value: Any) -> Optional[str]:
        """The cell's canonical text."""
        if value is None:
            return None
        if self.bigquery == "NUMERIC":
            text = decimal_text(value, self.scale)
            return text.rstrip("0").rstrip(".")
        if self.bigquery == "FLOAT64":
            return repr(float(value))
        if self.bigquery == "BOOL":
            return "true" if value else "false"
        if self.bigquery == "TIMESTAMP":
            return value + "Z"
        if self.bigquery == "BYTES":
            return value.hex()
        return str(value)


def int64(name, nullable=True):
    return Column(name, "INT64", "INTEGER", "INT64", nullable)


def int32(name, nullable=True):
    return Column(name, "INT32", "INTEGER", "INT64", nullable)


def wstring(name, length, nullable=True):
    return Column(name, "WSTRING", "TEXT", "STRING", nullable, length=length)


def mysql_decimal(name, precision, scale):
    # MySQL's decimals arrive with six digits after the point, whatever the scale.
    return Column(name, "NUMERIC", "INTEGER", "NUMERIC", precision=precision, scale=scale, printed_scale=6)


class Table:
    def __init__(self, schema: str, name: str, engine: str, key: list[str], columns: list[Column]):
        self.schema, self.name, self.engine, self.key, self.columns = schema, name, engine, key, columns
        self.source = f"{schema}.{name}"
        self.key_indexes = [i for i, c in enumerate(columns) if c.name in key]
        self.members = [(text_json(c.name) + ":", c.print) for c in columns]

    def key_of(self, row: tuple) -> tuple:
        return tuple(row[i] for i in self.key_indexes)

    def image(self, row: tuple, wanted: Optional[list[int]] = None) -> str:
        indexes = range(len(row)) if wanted is None else wanted
        cells = []
        for i in indexes:
            name, printed = self.members[i]
            cells.append(name + ("null" if row[i] is None else printed(row[i])))
        return "{" + ",".join(cells) + "}"

    def definition(self) -> str:
        return json.dumps({"table-def": {"columns": {c.name: c.definition for c in self.columns},
                                         "primary-key": self.key}}, ensure_ascii=False, separators=(",", ":"))


CUSTOMERS = Table("shop", "customers", "mysql", ["id"], [
    int64("id", False), wstring("name", 120, False), wstring("nickname", 60), wstring("email", 255), int32("points")])
ORDERS = Table("shop", "orders", "mysql", ["id"], [
    int64("id", False), int64("customer_id"), mysql_decimal("total", 12, 2),
    Column("placed_at", "DATETIME", "TEXT", "DATETIME"), wstring("status", 9),
    Column("note", "NCLOB", "TEXT", "STRING"), Column("paid", "INT8", "INTEGER", "INT64")])
ORDER_ITEMS = Table("shop", "order_items", "mysql", ["order_id", "line_no"], [
    int64("order_id", False), int32("line_no", False), wstring("sku", 64), int32("qty"), mysql_decimal("price", 10, 4)])
PRODUCTS = Table("shop", "products", "mysql", ["sku"], [
    wstring("sku", 64, False), wstring("name", 200), Column("weight", "DOUBLE", "REAL", "FLOAT64"),
    Column("released", "DATE", "TEXT", "DATE"), Column("thumbnail", "BLOB", "BLOB", "BYTES")])
CONTACTS = Table("crm", "contacts", "postgres", ["id"], [
    Column("id", "STRING", "TEXT", "STRING", False, length=36), Column("attributes", "STRING", "TEXT", "STRING"),
    Column("active", "BOOL", "INTEGER", "BOOL"), Column("updated_at", "TIMESTAMP", "TEXT", "TIMESTAMP"),
    Column("credit", "NUMERIC", "INTEGER", "NUMERIC", precision=10, scale=2)])
DEMO_TABLES = [CUSTOMERS, ORDERS, ORDER_ITEMS, PRODUCTS, CONTACTS]


def load_tables(count: int) -> list[Table]:
    return [Table("load", f"t{i:02d}", "mysql", ["id"], [
        int64("id", False), wstring("a", 200), mysql_decimal("b", 12, 2),
        Column("c", "DATETIME", "TEXT", "DATETIME"), int32("d")]) for i in range(count)]


# ---------------------------------------------------------------------------------------------------------------
# The source: SQLite executes the history; triggers hand over each row that a statement changed
# ---------------------------------------------------------------------------------------------------------------

class Change(NamedTuple):
    table: Table
    operation: str
    old: Optional[tuple]
    new: Optional[tuple]


class Source:
    def __init__(self, tables: list[Table]):
        self.tables = tables
        self.captured: list[Change] = []
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.execute = self.database.execute
        for schema in sorted({t.schema for t in tables}):
            self.execute(f"ATTACH ':memory:' AS {schema}")
        for table in tables:
            columns = ", ".join(f"{c.name} {c.storage}" for c in table.columns)
            self.execute(f"CREATE TABLE {table.source} ({columns}, PRIMARY KEY ({', '.join(table.key)}))")
            self._capture(table)

    def _capture(self, table: Table) -> None:
        width, capture = len(table.columns), f"capture_{table.name}"
        old = ", ".join(f"OLD.{c.name}" for c in table.columns)
        new = ", ".join(f"NEW.{c.name}" for c in table.columns)

        def captured(operation: str, *cells: Any) -> None:
            if operation == "insert":
                change = Change(table, operation, None, cells)
            elif operation == "delete":
                change = Change(table, operation, cells, None)
            else:
                change = Change(table, operation, cells[:width], cells[width:])
            self.captured.append(change)

        self.database.create_function(capture, -1, captured)
        for operation, cells in (("insert", new), ("update", f"{old}, {new}"), ("delete", old)):
            # Temporary triggers may call an application's function under every build of SQLite.
            self.execute(f"CREATE TEMP TRIGGER {table.name}_{operation} AFTER {operation.upper()} ON {table.source} "
                         f"BEGIN SELECT {capture}('{operation}', {cells}); END")

    def transaction(self, statements: Iterable[tuple], commit: bool = True) -> list[list[Change]]:
        """Executes the statements as one transaction; returns the changes of each."""
        by_statement = []
        self.execute("BEGIN")
        for sql, *parameters in statements:
            self.captured = []
            self.execute(sql, parameters)
            # The rows of one statement are independent of each other; sorted, they do not depend on SQLite's plan.
            self.captured.sort(key=lambda c: (c.table.key_of(c.old or c.new)))
            by_statement.append(self.captured)
        self.execute("COMMIT" if commit else "ROLLBACK")
        return [changes for changes in by_statement if changes] if commit else []

    def rows(self, table: Table) -> Iterator[tuple]:
        names = ", ".join(c.name for c in table.columns)
        return iter(self.execute(f"SELECT {names} FROM {table.source} ORDER BY {', '.join(table.key)}"))

    def one(self, sql: str, *parameters: Any) -> Any:
        row = self.execute(sql, parameters).fetchone()
        return None if row is None else row[0] if len(row) == 1 else row


# ---------------------------------------------------------------------------------------------------------------
# DMS: positions, metadata, messages
# ---------------------------------------------------------------------------------------------------------------

@dataclass
class Record:
    """One Kafka record, not yet delivered. `sequence` is the order in which DMS sent it."""
    sequence: int
    partition: int
    key: Optional[str]
    value: Optional[bytes]
    source: str = ""
    operation: str = ""
    transaction: Optional[tuple] = None


def murmur2_partition(key: str, partitions: int) -> int:
    """Kafka's default partitioner."""
    data, mask, m = key.encode(), 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i:i + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


def stamp(microseconds: int) -> str:
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds") + "Z"


class MySqlBinlog:
    """Positions as DMS derives them from a binlog. All rows of one statement share one rows event."""

    def __init__(self, file: int, position: int):
        self.file, self.position = file, position

    def roll_over(self) -> None:
        self.file, self.position = self.file + 1, 157

    def positions(self, statements: list[list[Change]], rng: random.Random) -> Iterator[tuple[int, int, str]]:
        transaction_id = self.file << 32 | self.position
        file = f"mysql-bin-changelog.{self.file:06d}"
        start = self.position + 79      # a GTID event comes first
        event = start + 75              # then BEGIN
        record = 0
        for changes in statements:
            following = event + 95 + sum(40 + rng.randrange(60) for _ in changes)
            for _ in changes:
                record += 1
                yield transaction_id, record, f"{file}:{event}:0:{following}:{transaction_id}:{file}:{start}"
            event = following
        self.position = event + 31      # COMMIT

    @staticmethod
    def commit_time(microseconds: int) -> int:
        return microseconds // 1_000_000 * 1_000_000


class PostgresWal:
    """LSNs rise with every change; transaction ids do not, for they are given out before the commit."""

    def __init__(self, lsn: int, xid: int):
        self.lsn, self.xid, self.held = lsn, xid, None

    def _next_xid(self, rng: random.Random) -> int:
        self.xid += 1 + (rng.random() < 0.3)
        xid = self.xid
        if self.held is None and rng.random() < 0.2:
            self.held = xid             # this one stays open and commits some transactions later
            self.xid += 1
            return self.xid
        if self.held is not None and rng.random() < 0.3:
            xid, self.held = self.held, None
        return xid

    def positions(self, statements: list[list[Change]], rng: random.Random) -> Iterator[tuple[int, int, str]]:
        xid, record = self._next_xid(rng), 0
        for changes in statements:
            for change in changes:
                record += 1
                self.lsn += 8 * rng.randrange(8, 128)
                text = f"{self.lsn >> 32:08X}/{self.lsn & 0xFFFFFFFF:08X}"
                yield xid, record, f"{text}.{3 if change.operation == 'insert' else 2}.{text}"
        self.lsn += 0x30

    @staticmethod
    def commit_time(microseconds: int) -> int:
        return microseconds


class Task:
    """One DMS replication task: what it knows from one record to the next."""

    def __init__(self, task_id: str, log: Any, emitted: int):
        self.id, self.log, self.emitted = task_id, log, emitted
        self.previous: Optional[tuple[int, int]] = None


def data_message(table: Table, operation: str, image: str, before: Optional[str], built: int,
                 load_key: Optional[str] = None, transaction: str = "") -> str:
    before_image = "" if before is None else f'"before-image":{before},'
    partition = (f'"primary-key","partition-key-value":{text_json(load_key)}' if load_key is not None
                 else '"schema-table"')
    return (f'{{"data":{image},{before_image}"metadata":{{"timestamp":"{stamp(built)}","record-type":"data",'
            f'"operation":"{operation}","partition-key-type":{partition},"schema-name":"{table.schema}",'
            f'"table-name":"{table.name}"{transaction}}}}}')


def control_message(task_id: str, schema: str, name: str, operation: str, control: str, built: int) -> str:
    return (f'{{"control":{control},"metadata":{{"timestamp":"{stamp(built)}","record-type":"control",'
            f'"operation":"{operation}","partition-key-type":"task-id","partition-key-value":"{task_id}",'
            f'"schema-name":"{schema}","table-name":"{name}"}}}}')


def transaction_members(transaction_id: int, record: int, position: str, previous: Optional[tuple[int, int]],
                        committed: int) -> str:
    before = "" if previous is None else (f',"prev-transaction-id":{previous[0]}'
                                          f',"prev-transaction-record-id":{previous[1]}')
    return (f',"transaction-id":{transaction_id},"transaction-record-id":{record}{before}'
            f',"commit-timestamp":"{stamp(committed)}","stream-position":"{position}"')


def change_images(change: Change) -> tuple[str, Optional[str]]:
    """`data` and `before-image` of a change under BeforeImageSettings `pk-only` and IncludeNullAndEmpty."""
    table = change.table
    if change.operation == "insert":
        return table.image(change.new), None
    if change.operation == "update":
        moved = table.key_of(change.old) != table.key_of(change.new)
        return table.image(change.new), table.image(change.old, table.key_indexes) if moved else "{}"
    if table.engine == "postgres":      # only the key is known; the other columns arrive as false nulls
        return table.image(tuple(v if i in table.key_indexes else None for i, v in enumerate(change.old))), None
    return table.image(change.old), None


BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")


def escape_pairs(message: str) -> str:
    """Writes what is beyond the basic plane as escaped surrogate pairs, as some DMS versions do."""
    return BEYOND_BMP.sub(lambda found: json.dumps(found.group())[1:-1], message)


class History:
    """Runs the story against the source and keeps the records that DMS would have sent."""

    def __init__(self, tables: list[Table], partitions: int, rng: random.Random):
        self.source, self.partitions, self.rng = Source(tables), partitions, rng
        self.tasks = {"mysql": Task(MYSQL_TASK, MySqlBinlog(9, 890_117), 0),
                      "postgres": Task(POSTGRES_TASK, PostgresWal(0x2_FFFE_1F40, 9_871), 0)}
        self.now = 0                    # microseconds since EPOCH, at the source
        self.sequence = self.changes = self.escaped = 0
        self.records: list[Record] = []
        self.counts: Counter = Counter()
        self.escape_every = 0           # every n-th message with an emoji is escaped; 0: none
        self._emoji_seen = 0
        self._partition_of: dict[str, int] = {}

    def drain(self) -> list[Record]:
        records, self.records = self.records, []
        return records

    def partition_of(self, key: str) -> int:
        partition = self._partition_of.get(key)
        if partition is None:
            partition = murmur2_partition(key, self.partitions)
            if len(self._partition_of) < 1000:
                self._partition_of[key] = partition
        return partition

    def send(self, key: str, value: Any, source: str = "", operation: str = "",
             transaction: Optional[tuple] = None) -> None:
        data = value if isinstance(value, bytes) else value.encode()
        self.records.append(Record(self.sequence, self.partition_of(key), key, data, source, operation, transaction))
        self.sequence += 1
        self.counts[source, operation] += 1

    def _escape(self, message: str) -> str:
        if not self.escape_every or not BEYOND_BMP.search(message):
            return message
        self._emoji_seen += 1
        if self._emoji_seen % self.escape_every:
            return message
        self.escaped += 1
        return escape_pairs(message)

    # -- full load --------------------------------------------------------------------------------------------

    def control(self, engine: str, schema: str, name: str, operation: str, control: str) -> None:
        task = self.tasks[engine]
        task.emitted += self.rng.randrange(2_000, 9_000)
        message = control_message(task.id, schema, name, operation, control, task.emitted)
        self.send(task.id, message, f"{schema}.{name}", operation)

    def full_load(self, tables: list[Table]) -> None:
        for table in tables:
            self.control(table.engine, table.schema, table.name, "drop-table", "{}")
            self.control(table.engine, table.schema, table.name, "create-table", table.definition())
        loading = [(table, self.source.rows(table)) for table in tables]
        while loading:                  # several tables load at a time
            table, rows = self.rng.choice(loading)
            for _ in range(self.rng.randrange(5, 25)):
                row = next(rows, None)
                if row is None:
                    loading = [entry for entry in loading if entry[0] is not table]
                    break
                self._load(table, row)

    def _load(self, table: Table, row: tuple) -> None:
        task = self.tasks[table.engine]
        task.emitted += self.rng.randrange(20, 900)
        key = ".".join([table.source, *map(str, table.key_of(row))])
        message = data_message(table, "load", table.image(row), None, task.emitted, load_key=key)
        self.send(key, self._escape(message), table.source, "load")

    def start_changes(self) -> None:
        """The load is over; from here on the source changes."""
        self.now = max(task.emitted for task in self.tasks.values()) + 2_500_000

    # -- changes ----------------------------------------------------------------------------------------------

    def commit(self, engine: str, *statements: tuple, burst: bool = False) -> None:
        """One transaction. `burst`: right behind the one before, in the same millisecond."""
        self.now += 7 if burst else self.rng.randrange(20_000, 900_000)
        changed = self.source.transaction(statements)
        if not changed:
            return
        task, rng = self.tasks[engine], self.rng
        committed = task.log.commit_time(self.now)
        if not burst:
            task.emitted = max(task.emitted, self.now + rng.randrange(300_000, 700_000))
        position = task.log.positions(changed, rng)
        for changes in changed:
            for change in changes:
                task.emitted += rng.randrange(15, 60)
                transaction_id, record, text = next(position)
                members = transaction_members(transaction_id, record, text, task.previous, committed)
                task.previous = (transaction_id, record)
                image, before = change_images(change)
                if change.table is CONTACTS and rng.random() < 0.2:
                    # Both spellings of a boolean are seen in the wild.
                    image = image.replace('"active":"t"', '"active":true').replace('"active":"f"', '"active":false')
                message = data_message(change.table, change.operation, image, before, task.emitted,
                                       transaction=members)
                self.send(change.table.source, self._escape(message), change.table.source, change.operation,
                          (engine, transaction_id))
                self.counts["keys moved", change.table.source] += before not in (None, "{}")
                self.changes += 1
        for _ in position:              # lets the log advance past the transaction
            raise AssertionError("more positions than changes")

    def roll_back(self, *statements: tuple) -> None:
        """A transaction that never was: it leaves nothing in the log."""
        self.source.transaction(statements, commit=False)

    def status(self, engine: str, state: str) -> None:
        """A row of DMS's own status table: no transaction, no schema."""
        task = self.tasks[engine]
        task.emitted = max(task.emitted, self.now) + 40
        moment = stamp(task.emitted // 1_000_000 * 1_000_000)
        data = {"server_name": "ip-10-0-0-17", "task_name": task.id, "task_status": state, "status_time": moment,
                "pending_changes": 0, "disk_swap_size": 0, "task_memory": 512, "source_current_position": "",
                "source_current_timestamp": moment, "source_tail_position": "", "source_tail_timestamp": moment,
                "source_timestamp_applied": moment}
        message = {"data": data, "before-image": {"server_name": data["server_name"], "task_name": task.id},
                   "metadata": {"timestamp": stamp(task.emitted), "record-type": "data", "operation": "update",
                                "partition-key-type": "schema-table", "schema-name": "",
                                "table-name": "awsdms_status"}}
        self.send(".awsdms_status", json.dumps(message, separators=(",", ":")), ".awsdms_status", "update")


# ---------------------------------------------------------------------------------------------------------------
# The demo's story
# ---------------------------------------------------------------------------------------------------------------

FAMILY = "김 이 박 최 정 강 조 윤 장 임 한 오".split()
GIVEN = "민준 서연 도윤 서준 하은 지우 시우 하린 예준 수아 은우 나래 가온 다온".split()
WESTERN = "Ada Grace Linus Margaret Edsger Barbara Zoë Søren Núria Łukasz O'Brien Jean-Luc".split()
EMOJI = ["😀", "🎉", "🧡", "👩‍👩‍👧‍👦", "🇰🇷", "👍🏽", "🦀", "🚀"]
THINGS = "머그컵 우산 노트 연필 담요 램프 시계 Teapot Notebook Lamp Umbrella Clock Blanket".split()
SKU_STEMS = "MUG LAMP PEN NOTE CLK TEA UMB".split()
STATUSES = ["new", "paid", "shipped", "cancelled", "returned"]

# Text that something on the way could take for more than text.
LITERAL_TEXTS = [
    "{schema}.{table}", "${STRAIT_PROJECT}", "{{ .Values.name }}", "%s %d %(name)s %%", "@param ? $1 :id",
    "'; DROP TABLE shop.orders; --", "\") OR (1=1", "SELECT * FROM `shop.orders` /* all */", "-- not a comment",
    '{"id": 1, "nested": [null, {"a": ""}]}', "[]", "{}", "null", "NULL", "\\N", "true", "false", "0", "-0", "1e400",
    "NaN", "0x41", "\\ud83d\\ude00 is written with backslashes", "C:\\temp\\new\\u0041", "line one\nline two\tand a tab",
    "carriage\r\nreturn", "control \u0001 and \u007f", "separator \u2028 here", '"quoted"', "`backticks`", "'''", '"""',
    "r\"\"\"raw\"\"\"", " leading and trailing ", "e\u0301 is not \u00e9", "\u1112\u1161\u11ab is not \ud55c",
    "zero\u200bwidth", "<script>alert('x')</script>", "a,b;c|d", "2024-02-29T12:00:00Z", "__strait__", "~!@#$%^&*()_+",
    "𝒳 𐍈 beyond the basic plane", "ends with a backslash \\",
]
ODD_TIMES = ["1754-08-30T22:43:41.129", "1500-03-10T00:00:00", "1969-12-31T23:59:59.999999", "1970-01-01T00:00:00",
             "2024-02-29T12:00:00.000001", "9999-12-31T23:59:59.999999", "1000-01-01T00:00:00"]
JSON_TEXTS = ['{}', '[]', '[null]', 'null', '""', '{"a": null}', '{"태그": ["단골", "할인"]}', '{"n": 12345678901234567890.5}',
              '{"quote": "\\"", "slash": "\\\\"}', '{"emoji": "😀"}', '{"a": {"b": {"c": [1, 2.50, "3"]}}}', '"{}"']
ODD_SKUS = ["MUG.9", "LAMP/50%", "it's", 'say "hi"', "노트-7", "🧡-1", "PEN 1", "a\\b", "shop.products.1", "null"]


class Story:
    """What happens in the shop. Each method is one thing that happens; rows are picked from the source itself."""

    def __init__(self, history: History):
        self.history, self.rng = history, history.rng
        self.one = history.source.one
        self.literal = 0
        self.next_order, self.next_customer = 1001, 1

    # -- values

    def text(self) -> Optional[str]:
        chance = self.rng.random()
        if chance < 0.22:
            return None
        if chance < 0.34:
            return ""
        if chance < 0.6:
            self.literal += 1
            return LITERAL_TEXTS[self.literal % len(LITERAL_TEXTS)]
        if chance < 0.62:
            return "긴 메모 " * self.rng.randrange(40, 120)
        return self.rng.choice(["문 앞에 두세요", "선물 포장 🎁", "call first", "부재 시 경비실", "fragile", "빠른 배송 🚀🚀"])

    def name(self) -> str:
        if self.rng.random() < 0.25:
            return self.rng.choice(WESTERN) + (" " + self.rng.choice(EMOJI) if self.rng.random() < 0.4 else "")
        emoji = self.rng.choice(EMOJI) if self.rng.random() < 0.25 else ""
        return self.rng.choice(FAMILY) + self.rng.choice(GIVEN) + emoji

    def time(self) -> str:
        if self.rng.random() < 0.03:
            return self.rng.choice(ODD_TIMES)
        moment = EPOCH + timedelta(microseconds=self.history.now)
        digits = self.rng.choice([0, 3, 6])
        text = moment.isoformat(timespec="microseconds")
        return text[:19] if digits == 0 else text[:20 + digits].rstrip("0").rstrip(".")

    def weight(self) -> Optional[float]:
        chance = self.rng.random()
        if chance < 0.1:
            return None
        if chance < 0.3:
            return float(self.rng.randrange(-2, 90))
        if chance < 0.4:
            return self.rng.choice([2.20000005, 0.1, 1.5e-05, 123456.789, 3.40282347e+38, -0.333333333, 0.0])
        return float(f"{self.rng.random() * 40:.9g}")

    def thumbnail(self) -> Optional[bytes]:
        if self.rng.random() < 0.3:
            return None
        return bytes(self.rng.randrange(256) for _ in range(self.rng.randrange(1, 24)))

    def date(self) -> Optional[str]:
        if self.rng.random() < 0.15:
            return self.rng.choice([None, "1500-03-10", "2024-02-29", "1969-12-31", "9999-12-31"])
        return f"20{self.rng.randrange(10, 27)}-{self.rng.randrange(1, 13):02d}-{self.rng.randrange(1, 29):02d}"

    def cents(self) -> int:
        return self.rng.choice([0, 100, -1230, 999_999_999_999]) if self.rng.random() < 0.05 else \
            self.rng.randrange(1_00, 400_000_00)

    def points(self) -> Optional[int]:
        return self.rng.choice([None, 0, 0, -5, 2_147_483_647, self.rng.randrange(5000)])

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def updated_at(self) -> Optional[str]:
        return self.rng.choice([None, "1754-08-30T22:43:41.129", "1969-12-31T23:59:59.5"]) \
            if self.rng.random() < 0.04 else self.time()

    # -- rows of the source

    def pick(self, table: Table, where: str = "1", *parameters: Any) -> Any:
        """A key of the table, or None. Composite keys come as a tuple."""
        count = self.one(f"SELECT count(*) FROM {table.source} WHERE {where}", *parameters)
        if not count:
            return None
        key = ", ".join(table.key)
        return self.one(f"SELECT {key} FROM {table.source} WHERE {where} ORDER BY {key} LIMIT 1 OFFSET ?",
                        *parameters, self.rng.randrange(count))

    def picks(self, table: Table, wanted: int, where: str = "1") -> list:
        keys: list = []
        for _ in range(wanted * 2):
            key = self.pick(table, where)
            if key is not None and key not in keys and len(keys) < wanted:
                keys.append(key)
        return keys

    def new_sku(self) -> str:
        while True:
            sku = f"{self.rng.choice(SKU_STEMS)}-{self.rng.randrange(1000):03d}"
            if self.one("SELECT 1 FROM shop.products WHERE sku = ?", sku) is None:
                return sku

    # -- statements

    def insert_customer(self, key: Optional[int] = None) -> tuple:
        if key is None:
            key, self.next_customer = self.next_customer, self.next_customer + self.rng.randrange(1, 4)
        email = self.rng.choice([None, "", f"customer{key}@example.com", f"손님{key}@example.com"])
        return ("INSERT INTO shop.customers VALUES (?, ?, ?, ?, ?)", key, self.name(), self.text() and self.name(),
                email, self.points())

    def insert_product(self, sku: Optional[str] = None) -> tuple:
        name = f"{self.rng.choice(THINGS)} {self.rng.choice(EMOJI)}" if self.rng.random() < 0.4 else \
            self.rng.choice(THINGS)
        return ("INSERT INTO shop.products VALUES (?, ?, ?, ?, ?)", sku or self.new_sku(), name, self.weight(),
                self.date(), self.thumbnail())

    def insert_order(self, key: Optional[int] = None) -> tuple:
        if key is None:
            key, self.next_order = self.next_order, self.next_order + 1
        return ("INSERT INTO shop.orders VALUES (?, ?, ?, ?, ?, ?, ?)", key, self.pick(CUSTOMERS), self.cents(),
                self.time(), "new", self.text(), self.rng.choice([0, 0, 1]))

    def insert_item(self, order: int, line: int) -> tuple:
        return ("INSERT INTO shop.order_items VALUES (?, ?, ?, ?, ?)", order, line, self.pick(PRODUCTS),
                self.rng.choice([None, 0, 1, 1, 2, 3, 12]), self.rng.randrange(1_0000, 99_999_9999))

    def insert_contact(self, key: Optional[str] = None) -> tuple:
        attributes = None if self.rng.random() < 0.1 else self.rng.choice(JSON_TEXTS)
        return ("INSERT INTO crm.contacts VALUES (?, ?, ?, ?, ?)", key or self.uuid(), attributes,
                self.rng.choice([None, 0, 1, 1]), self.updated_at(), self.rng.choice([None, 0, self.cents() % 10**10]))

    # -- before the load

    def open_shop(self) -> None:
        statements = [self.insert_product(sku) for sku in ODD_SKUS] + [self.insert_product("abc")]
        self.history.source.transaction(statements)
        for _ in range(34):
            self.history.source.transaction([self.insert_product()])
        self.history.source.transaction([self.insert_customer(key) for key in
                                         (0, -7, 9_007_199_254_740_993, 9_223_372_036_854_775_807)])
        for _ in range(66):
            self.history.source.transaction([self.insert_customer()])
        for _ in range(80):
            order = self.insert_order()
            items = [self.insert_item(order[1], line + 1) for line in range(self.rng.randrange(1, 3))]
            self.history.source.transaction([order, *items])
        for _ in range(40):
            self.history.source.transaction([self.insert_contact()])

    # -- everyday changes

    def customer_arrives(self) -> None:
        self.history.commit("mysql", self.insert_customer())

    def order_placed(self) -> None:
        order = self.insert_order()
        items = [self.insert_item(order[1], line + 1) for line in range(self.rng.randrange(1, 5))]
        total = ("UPDATE shop.orders SET total = ? WHERE id = ?", self.cents(), order[1])
        self.history.commit("mysql", order, *items, *([total] if self.rng.random() < 0.5 else []))

    def order_changes(self) -> None:
        order = self.pick(ORDERS)
        status = self.rng.choice(STATUSES)
        self.history.commit("mysql", self.rng.choice([
            ("UPDATE shop.orders SET status = ?, paid = ? WHERE id = ?", status, self.rng.choice([0, 1, None]), order),
            ("UPDATE shop.orders SET note = ? WHERE id = ?", self.text(), order),
            ("UPDATE shop.orders SET total = total - ?, placed_at = ? WHERE id = ?", self.rng.randrange(500),
             self.time(), order)]))

    def order_cancelled(self) -> None:
        order = self.pick(ORDERS)
        self.history.commit("mysql", ("DELETE FROM shop.order_items WHERE order_id = ?", order),
                            ("DELETE FROM shop.orders WHERE id = ?", order))

    def orders_shipped_together(self) -> None:
        orders = self.picks(ORDERS, self.rng.randrange(3, 9))
        marks = ", ".join("?" * len(orders))
        self.history.commit("mysql", (f"UPDATE shop.orders SET status = ?, paid = 1 WHERE id IN ({marks})",
                                      self.rng.choice(STATUSES), *orders))

    def item_changes(self) -> None:
        order, line = self.pick(ORDER_ITEMS)
        self.history.commit("mysql", ("UPDATE shop.order_items SET qty = ?, price = price + ? "
                                      "WHERE order_id = ? AND line_no = ?",
                                      self.rng.choice([None, 0, 1, 5]), self.rng.randrange(1, 9), order, line))

    def customer_changes(self) -> None:
        customer = self.pick(CUSTOMERS)
        self.history.commit("mysql", self.rng.choice([
            ("UPDATE shop.customers SET name = ?, points = ? WHERE id = ?", self.name(), self.points(), customer),
            ("UPDATE shop.customers SET nickname = ? WHERE id = ?", self.text(), customer),
            ("UPDATE shop.customers SET email = ? WHERE id = ?", self.rng.choice([None, "", "new@example.com"]),
             customer)]))

    def customer_leaves(self) -> None:
        self.history.commit("mysql", ("DELETE FROM shop.customers WHERE id = ?", self.pick(CUSTOMERS)))

    def product_changes(self) -> None:
        self.history.commit("mysql", ("UPDATE shop.products SET weight = ?, released = ?, thumbnail = ? WHERE sku = ?",
                                      self.weight(), self.date(), self.thumbnail(), self.pick(PRODUCTS)))

    def product_comes_or_goes(self) -> None:
        statement = self.insert_product() if self.rng.random() < 0.6 else \
            ("DELETE FROM shop.products WHERE sku = ?", self.pick(PRODUCTS))
        self.history.commit("mysql", statement)

    def contact_changes(self) -> None:
        contact, chance = self.pick(CONTACTS), self.rng.random()
        if chance < 0.3:
            self.history.commit("postgres", *[self.insert_contact() for _ in range(self.rng.randrange(1, 4))])
        elif chance < 0.45:
            self.history.commit("postgres", ("DELETE FROM crm.contacts WHERE id = ?", contact))
        elif chance < 0.75:
            self.history.commit("postgres", ("UPDATE crm.contacts SET attributes = ?, active = ?, updated_at = ? "
                                             "WHERE id = ?", self.rng.choice(JSON_TEXTS + [None]),
                                             self.rng.choice([0, 1, None]), self.updated_at(), contact))
        else:
            contacts = self.picks(CONTACTS, 4)
            marks = ", ".join("?" * len(contacts))
            self.history.commit("postgres", (f"UPDATE crm.contacts SET credit = ?, updated_at = ? WHERE id IN ({marks})",
                                             self.cents() % 10**10, self.time(), *contacts))

    # -- what has broken real systems

    def deleted_and_written_again(self) -> None:
        order, contact = self.pick(ORDERS), self.pick(CONTACTS)
        self.history.commit("mysql", ("DELETE FROM shop.orders WHERE id = ?", order), self.insert_order(order))
        self.history.commit("postgres", ("DELETE FROM crm.contacts WHERE id = ?", contact),
                            self.insert_contact(contact))

    def whole_life_in_one_transaction(self) -> None:
        customer = self.insert_customer()
        key = customer[1]
        self.history.commit("mysql", customer, ("UPDATE shop.customers SET points = 1 WHERE id = ?", key),
                            ("DELETE FROM shop.customers WHERE id = ?", key), self.insert_customer(key),
                            ("UPDATE shop.customers SET points = 0, email = '' WHERE id = ?", key))
        gone = self.insert_contact()
        self.history.commit("postgres", gone, ("DELETE FROM crm.contacts WHERE id = ?", gone[1]))

    def key_changes(self) -> None:
        order, contact, customer = self.pick(ORDERS), self.pick(CONTACTS), self.pick(CUSTOMERS)
        self.history.commit("mysql", ("UPDATE shop.orders SET id = ?, note = 'renumbered' WHERE id = ?",
                                      self.next_order, order),
                            ("UPDATE shop.order_items SET order_id = ? WHERE order_id = ?", self.next_order, order))
        self.next_order += 1
        self.history.commit("postgres", ("UPDATE crm.contacts SET id = ? WHERE id = ?", self.uuid(), contact))
        self.history.commit("mysql", ("UPDATE shop.customers SET id = ? WHERE id = ?", self.next_customer, customer))
        self.next_customer += 1

    def key_changes_and_the_old_one_is_used_again(self) -> None:
        order, contact = self.pick(ORDERS), self.pick(CONTACTS)
        self.history.commit("mysql", ("UPDATE shop.orders SET id = ? WHERE id = ?", self.next_order, order),
                            self.insert_order(order))
        self.next_order += 1
        self.history.commit("postgres", ("UPDATE crm.contacts SET id = ? WHERE id = ?", self.uuid(), contact))
        self.history.commit("postgres", self.insert_contact(contact), burst=True)

    def key_taken_over_from_a_deleted_row(self) -> None:
        first, second = self.picks(ORDERS, 2)
        self.history.commit("mysql", ("DELETE FROM shop.orders WHERE id = ?", first),
                            ("UPDATE shop.orders SET id = ? WHERE id = ?", first, second))
        first, second = self.picks(CONTACTS, 2)
        self.history.commit("postgres", ("DELETE FROM crm.contacts WHERE id = ?", first),
                            ("UPDATE crm.contacts SET id = ? WHERE id = ?", first, second))

    def keys_swapped(self) -> None:
        first, second = self.picks(PRODUCTS, 2)
        change = "UPDATE shop.products SET sku = ? WHERE sku = ?"
        self.history.commit("mysql", (change, "~tmp", first), (change, first, second), (change, second, "~tmp"))
        first, second, third = self.picks(CONTACTS, 3)
        change, temporary = "UPDATE crm.contacts SET id = ? WHERE id = ?", self.uuid()
        self.history.commit("postgres", (change, temporary, first), (change, first, second), (change, second, third),
                            (change, third, temporary))
        order = self.one("SELECT order_id FROM shop.order_items WHERE line_no = 2 ORDER BY order_id LIMIT 1 OFFSET ?",
                         self.rng.randrange(20))
        change = "UPDATE shop.order_items SET line_no = ? WHERE order_id = ? AND line_no = ?"
        self.history.commit("mysql", (change, -1, order, 1), (change, 1, order, 2), (change, 2, order, -1))

    def key_goes_and_comes_back(self) -> None:
        order = self.pick(ORDERS)
        change = "UPDATE shop.orders SET id = ? WHERE id = ?"
        self.history.commit("mysql", (change, -order, order))
        self.history.commit("mysql", ("UPDATE shop.orders SET note = 'away' WHERE id = ?", -order), burst=True)
        self.history.commit("mysql", (change, order, -order), burst=True)

    def key_changes_by_case_only(self) -> None:
        change = "UPDATE shop.products SET sku = ? WHERE sku = ?"
        spelling = self.one("SELECT sku FROM shop.products WHERE lower(sku) = 'abc'")
        if spelling is None:
            self.history.commit("mysql", self.insert_product("abc"))
            spelling = "abc"
        self.history.commit("mysql", (change, spelling.swapcase(), spelling))

    def one_row_many_times_in_a_millisecond(self) -> None:
        order, contact = self.pick(ORDERS), self.pick(CONTACTS)
        for index, text in enumerate([None, "", "b", None, "a", ""]):
            self.history.commit("mysql", ("UPDATE shop.orders SET note = ? WHERE id = ?", text, order),
                                burst=index > 0)
        for index in range(4):
            self.history.commit("postgres", ("UPDATE crm.contacts SET credit = ? WHERE id = ?", 400 - 100 * index,
                                             contact), burst=index > 0)

    def inserted_deleted_inserted_in_a_millisecond(self) -> None:
        order = self.insert_order()
        self.history.commit("mysql", order)
        self.history.commit("mysql", ("DELETE FROM shop.orders WHERE id = ?", order[1]), burst=True)
        self.history.commit("mysql", self.insert_order(order[1]), burst=True)

    def rolled_back(self) -> None:
        order = self.pick(ORDERS)
        self.history.roll_back(("DELETE FROM shop.orders WHERE id = ?", order),
                               ("UPDATE shop.products SET weight = 0",))

    def literal_texts(self) -> None:
        for text in self.rng.sample(LITERAL_TEXTS, 6):
            self.history.commit("mysql", ("UPDATE shop.orders SET note = ? WHERE id = ?", text, self.pick(ORDERS)),
                                ("UPDATE shop.customers SET nickname = ? WHERE id = ?", text[:60],
                                 self.pick(CUSTOMERS)))

    def null_and_empty(self) -> None:
        for table, column, engine in (("shop.orders", "note", "mysql"), ("shop.customers", "email", "mysql"),
                                      ("crm.contacts", "attributes", "postgres")):
            key = self.pick(ORDERS if table == "shop.orders" else
                            CUSTOMERS if table == "shop.customers" else CONTACTS)
            empty = '""' if engine == "postgres" else ""
            for value in self.rng.choice([[None, empty], [empty, None], [None, "x", None], ["x", empty]]):
                self.history.commit(engine, (f"UPDATE {table} SET {column} = ? WHERE id = ?", value, key))

    def last_orders(self) -> None:
        """Every literal text and every odd time, in rows that nothing changes any more."""
        for first in range(0, len(LITERAL_TEXTS), 7):
            orders = []
            for index, text in enumerate(LITERAL_TEXTS[first:first + 7], first):
                _, key, customer, *_ = self.insert_order()
                orders.append(("INSERT INTO shop.orders VALUES (?, ?, ?, ?, ?, ?, ?)", key, customer,
                               [0, -1, 1, -1230, 999_999_999_999][index % 5], ODD_TIMES[index % len(ODD_TIMES)],
                               "new", text, [0, 1, None][index % 3]))
            self.history.commit("mysql", *orders)

    def overtakes_the_load(self) -> None:
        """Changes rows whose load record lies in the partition that falls behind: the load arrives after them."""
        behind = [order for (order,) in self.history.source.execute("SELECT id FROM shop.orders ORDER BY id")
                  if self.history.partition_of(f"shop.orders.{order}") == SLOW_PARTITION]
        change = "UPDATE shop.orders SET id = ? WHERE id = ?"
        for order in behind[:4]:
            self.history.commit("mysql", ("DELETE FROM shop.orders WHERE id = ?", order))
        for order in behind[4:8]:
            self.history.commit("mysql", ("UPDATE shop.orders SET note = 'newer than the load' WHERE id = ?", order))
        for order in behind[8:11]:
            self.history.commit("mysql", (change, self.next_order, order))
            self.next_order += 1
        self.history.commit("mysql", (change, -1, behind[11]), (change, behind[11], behind[12]),
                            (change, behind[12], -1))
        self.history.commit("mysql", ("DELETE FROM shop.orders WHERE id = ?", behind[13]),
                            self.insert_order(behind[13]))
        for contact in [c for (c,) in self.history.source.execute("SELECT id FROM crm.contacts ORDER BY id")
                        if self.history.partition_of(f"crm.contacts.{c}") == SLOW_PARTITION][:3]:
            self.history.commit("postgres", ("DELETE FROM crm.contacts WHERE id = ?", contact))


SLOW_PARTITION = 1
EVERYDAY = [("customer_arrives", 6), ("order_placed", 16), ("order_changes", 26), ("order_cancelled", 7),
            ("orders_shipped_together", 5), ("item_changes", 12), ("customer_changes", 14), ("customer_leaves", 4),
            ("product_changes", 8), ("product_comes_or_goes", 6), ("contact_changes", 22)]
TROUBLE = ["deleted_and_written_again", "whole_life_in_one_transaction", "key_changes",
           "key_changes_and_the_old_one_is_used_again", "key_taken_over_from_a_deleted_row", "keys_swapped",
           "key_goes_and_comes_back", "key_changes_by_case_only", "one_row_many_times_in_a_millisecond",
           "inserted_deleted_inserted_in_a_millisecond", "rolled_back", "literal_texts", "null_and_empty"]


def demo_history() -> History:
    rng = random.Random(SEED)
    history = History(DEMO_TABLES, DEMO_PARTITIONS, rng)
    history.escape_every = 20
    story = Story(history)
    story.open_shop()
    for engine in ("mysql", "postgres"):
        history.status(engine, "STARTING")
        history.full_load([table for table in DEMO_TABLES if table.engine == engine])
    for engine in ("mysql", "postgres"):
        history.status(engine, "CHANGE PROCESSING")
    history.start_changes()
    story.overtakes_the_load()
    weighted = [name for name, weight in EVERYDAY for _ in range(weight)]
    trouble: list[str] = []
    pending = {"roll over": DEMO_CHANGES // 2, "not JSON": 700, "not UTF-8": 1400, "status": 1000}
    while history.changes < DEMO_CHANGES - len(LITERAL_TEXTS):
        if rng.random() < 0.09:
            trouble = trouble or rng.sample(TROUBLE, len(TROUBLE))
            getattr(story, trouble.pop())()
        else:
            getattr(story, rng.choice(weighted))()
        for event in [name for name, at in pending.items() if history.changes >= at]:
            del pending[event]
            if event == "roll over":
                history.tasks["mysql"].log.roll_over()
            elif event == "status":
                history.status("mysql", "CHANGE PROCESSING")
            elif event == "not JSON":
                history.send("shop.orders", NOT_JSON, "", "poison")
            else:
                history.send("shop.customers", NOT_UTF8, "", "poison")
    story.last_orders()
    for engine in ("mysql", "postgres"):
        history.status(engine, "STOPPED")
    return history


NOT_JSON = '{"data":{"id":1001,"customer_id":3,"total":46.570000,"note":"this message was cut'
NOT_UTF8 = (b'{"data":{"id":3,"name":"\xb1\xe8\xb9\xce\xc1\xd8","nickname":null,"email":null,"points":0},"metadata":'
            b'{"timestamp":"2026-03-02T09:09:00.000000Z","record-type":"data","operation":"insert",'
            b'"partition-key-type":"schema-table","schema-name":"shop","table-name":"customers"}}')


# ---------------------------------------------------------------------------------------------------------------
# Delivery, and the files
# ---------------------------------------------------------------------------------------------------------------

def deliver(sent: Iterable[Record], partitions: int, rng: random.Random,
            stalls: Optional[dict[int, tuple[int, int]]] = None) -> Iterator[Record]:
    """The order in which a poller sees the records: per partition as sent, partitions at speeds of their own.

    `stalls`: a partition from which nothing is read while the newest record's sequence lies in the range.
    """
    queues: list[deque] = [deque() for _ in range(partitions)]
    sent, newest, more = iter(sent), -1, True
    while more or any(queues):
        for _ in range(rng.randrange(20, 110)):
            record = next(sent, None)
            if record is None:
                more = False
                break
            queues[record.partition].append(record)
            newest = record.sequence
        for partition in rng.sample(range(partitions), partitions):
            first, last = (stalls or {}).get(partition, (0, 0))
            if more and first <= newest < last:
                continue
            queue = queues[partition]
            # A poller may take little, but a backlog is read off in the end.
            for _ in range(min(len(queue), rng.randrange(5, 70) + max(0, len(queue) - 150))):
                yield queue.popleft()


def stream_line(record: Record) -> str:
    line: dict[str, Any] = {"topic": TOPIC, "partition": record.partition, "key": record.key}
    try:
        line["value"] = record.value.decode()
    except UnicodeDecodeError:
        line["value_base64"] = base64.b64encode(record.value).decode()
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def expected_pieces(source: Source) -> Iterator[str]:
    yield '{"tables":[\n'
    for index, table in enumerate(source.tables):
        head = json.dumps({"source": table.source, "final": f"replica.{table.schema}_{table.name}", "key": table.key,
                           "columns": [{"name": c.name, "type": c.bigquery} for c in table.columns]})
        yield (",\n" if index else "") + head[:-1] + ', "rows":[\n'
        for number, row in enumerate(source.rows(table)):
            cells = [column.expected(value) for column, value in zip(table.columns, row)]
            yield (",\n" if number else "") + json.dumps(cells, ensure_ascii=False)
        yield "\n]}"
    yield "\n]}\n"


def cuts_a_transaction(records: list[Record], cut: int) -> bool:
    """Whether some partition's transaction has records on both sides of the cut."""
    for partition in range(DEMO_PARTITIONS):
        before = next((r for r in reversed(records[:cut]) if r.partition == partition), None)
        after = next((r for r in records[cut:] if r.partition == partition), None)
        if before and after and before.transaction and before.transaction == after.transaction:
            return True
    return False


def demo_plan(records: list[Record]) -> dict:
    merges = [1, 3, 4, 7, 9, 11]        # indexes of batches, from 0
    shares = [70, 330, 120, 260, 40, 410, 150, 230, 90, 300, 180, 220]
    batches, start, total = [], 0, sum(shares)
    for index in range(len(shares)):
        end = len(records) * sum(shares[:index + 1]) // total
        while index in merges[:-1] and not cuts_a_transaction(records, end):
            end += 1
        batches.append({"from": start, "to": end, "deliver_times": 2 if index == 6 else 1})
        start = end
    return {"batches": batches, "merge_after_batches": merges}


def plan_text(plan: dict) -> str:
    batches = ",\n".join(json.dumps(batch) for batch in plan["batches"])
    return f'{{"batches":[\n{batches}\n],\n"merge_after_batches":{json.dumps(plan["merge_after_batches"])}}}\n'


def demo_files() -> tuple[dict[str, str], History, list[Record]]:
    history = demo_history()
    sent = history.drain()
    loads = sum(record.operation == "load" for record in sent)
    stalls = {SLOW_PARTITION: (loads // 2, loads + 230), 0: (1500, 1660), 2: (1900, 2100)}
    delivered = list(deliver(sent, DEMO_PARTITIONS, random.Random(SEED + 1), stalls))
    check_order(sent, delivered)
    plan = demo_plan(delivered)
    files = {"demo/stream.jsonl": "".join(map(stream_line, delivered)), "demo/plan.json": plan_text(plan),
             "demo/expected.json": "".join(expected_pieces(history.source))}
    files["README.md"] = readme(history, delivered, plan)
    return files, history, delivered


def check_order(sent: list[Record], delivered: list[Record]) -> None:
    assert sorted(r.sequence for r in delivered) == list(range(len(sent)))
    for partition in range(DEMO_PARTITIONS):
        sequences = [r.sequence for r in delivered if r.partition == partition]
        assert sequences == sorted(sequences)
    replay = Replay()
    for record in sent:                 # in the source's order, and positions must agree with it
        replay.take(record.value)
        replay.positions_rise()


def write_load(changes: int, tables: int, partitions: int, batch: int, merge_every: int, out: Path) -> Counter:
    rng = random.Random(SEED + changes * 131 + tables)
    history = History(load_tables(tables), partitions, rng)
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with open(out / "stream.jsonl", "w", encoding="utf-8", newline="\n") as stream, \
            open(out / "messages.jsonl", "wb") as messages:
        for record in deliver(load_history(history, changes), partitions, random.Random(SEED + 1)):
            stream.write(stream_line(record))
            messages.write(record.value + b"\n")
            count += 1
    batches = [{"from": start, "to": min(start + batch, count), "deliver_times": 1} for start in range(0, count, batch)]
    merges = sorted({*range(merge_every - 1, len(batches), merge_every), len(batches) - 1})
    write(out / "plan.json", [plan_text({"batches": batches, "merge_after_batches": merges})])
    write(out / "expected.json", expected_pieces(history.source))
    return history.counts


LOAD_TEXTS = ["order placed", "빠른 배송", "paid by card", "returned unopened", "문 앞에 두세요", "gift 🎁", "", "fragile"]


def load_history(history: History, changes: int) -> Iterator[Record]:
    """A few rows to load, then `changes` changes; yields as it goes, so memory holds the live rows only."""
    rng, source = history.rng, history.source
    keys = {table.source: list(range(1, 21)) for table in source.tables}
    following = {table.source: 21 for table in source.tables}

    def values() -> tuple:
        text = f"{rng.choice(LOAD_TEXTS)} {rng.getrandbits(96):x}"
        moment = (EPOCH + timedelta(microseconds=history.now)).isoformat(timespec="microseconds")
        return (text, rng.randrange(-10**6, 10**9), moment.rstrip("0").rstrip("."),
                None if rng.random() < 0.2 else rng.randrange(-2**31, 2**31))

    def statement() -> tuple:
        table = rng.choice(source.tables).source
        live, chance = keys[table], rng.random()
        if chance < 0.45 or not live:
            key = following[table]
            following[table] += 1
            live.append(key)
            return (f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", key, *values())
        index = rng.randrange(len(live))
        key = live[index]
        if chance < 0.83:
            return (f"UPDATE {table} SET a = ?, b = ?, c = ?, d = ? WHERE id = ?", *values(), key)
        if chance < 0.98:
            live[index] = live[-1]
            live.pop()
            return (f"DELETE FROM {table} WHERE id = ?", key)
        live[index] = following[table]
        following[table] += 1
        return (f"UPDATE {table} SET id = ? WHERE id = ?", live[index], key)

    for table in source.tables:
        source.transaction([(f"INSERT INTO {table.source} VALUES (?, ?, ?, ?, ?)", key, *values())
                            for key in keys[table.source]])
    history.full_load(source.tables)
    history.start_changes()
    yield from history.drain()
    while history.changes < changes:
        size = min(rng.randrange(1, 9), changes - history.changes)
        history.commit("mysql", *[statement() for _ in range(size)])
        if history.tasks["mysql"].log.position > 128 << 20:
            history.tasks["mysql"].log.roll_over()
        yield from history.drain()


# ---------------------------------------------------------------------------------------------------------------
# Replay: the messages alone, applied naively in the source's order, must give what SQLite holds
# ---------------------------------------------------------------------------------------------------------------

class Replay:
    """Reads messages as text and knows nothing of the code above that wrote them."""

    def __init__(self) -> None:
        self.changes: dict[str, list] = {}
        self.last: dict[str, tuple] = {}
        self.poison = 0

    def take(self, value: bytes) -> None:
        self.newest = None
        try:
            message = json.loads(value, parse_int=str, parse_float=str)
        except ValueError:
            self.poison += 1
            return
        metadata = message["metadata"]
        if metadata["record-type"] != "data" or not metadata["schema-name"]:
            return
        table = f'{metadata["schema-name"]}.{metadata["table-name"]}'
        self.newest = (metadata["schema-name"], self.position(metadata))
        self.changes.setdefault(table, []).append(
            (self.newest[1], metadata["operation"], message["data"], message.get("before-image")))

    @staticmethod
    def position(metadata: dict) -> tuple:
        if metadata["operation"] == "load":
            return (0, 0)
        if metadata["stream-position"].startswith("mysql"):
            file, event, _, following, transaction_id, again, start = metadata["stream-position"].split(":")
            assert file == again and transaction_id == metadata["transaction-id"]
            assert int(file.split(".")[1]) == int(transaction_id) >> 32
            assert int(transaction_id) & 0xFFFFFFFF < int(start) < int(event) < int(following)
            return (int(transaction_id), int(metadata["transaction-record-id"]))
        lsn = metadata["stream-position"].split(".")[0].replace("/", "")
        return (int(lsn, 16), int(metadata["transaction-record-id"]))

    def positions_rise(self) -> None:
        if self.newest is None:
            return
        engine, position = self.newest
        assert position == (0, 0) or position > self.last.get(engine, (0, 0)), (engine, position)
        assert position != (0, 0) or self.last.get(engine, (0, 0)) == (0, 0)
        self.last[engine] = position

    @staticmethod
    def cell(value: Any, kind: str) -> Optional[str]:
        if value is None:
            return None
        if kind == "NUMERIC":
            text = f"{Decimal(value):f}"
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return "0" if text == "-0" else text
        if kind == "FLOAT64":
            return repr(float(value))
        if kind == "BOOL":
            return {"t": "true", "f": "false", True: "true", False: "false"}[value]
        if kind == "BYTES":
            return value[2:].lower()
        if kind in ("DATETIME", "TIMESTAMP"):
            text = value[:-1]
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return text + "Z" if kind == "TIMESTAMP" else text
        return value

    def differences(self, expected: dict) -> list[str]:
        found = []
        for table in expected["tables"]:
            key, rows = table["key"], {}
            changes = self.changes.pop(table["source"], [])
            changes.sort(key=lambda change: change[0])
            for _, operation, data, before in changes:
                if before:
                    rows.pop(tuple(before[name] for name in key), None)
                if operation == "delete":
                    rows.pop(tuple(data[name] for name in key))
                else:
                    rows[tuple(data[name] for name in key)] = data
            replayed = {tuple(self.cell(row[c["name"]], c["type"]) for c in table["columns"]) for row in rows.values()}
            wanted = set(map(tuple, table["rows"]))
            if replayed != wanted or len(table["rows"]) != len(rows):
                found.append(f"{table['source']}: {len(replayed - wanted)} rows too many or different, "
                             f"{len(wanted - replayed)} missing")
        return found + [f"{table}: changes of a table that is not expected" for table in self.changes]


def verify(lines: Iterable[str], plan: dict, expected: dict) -> list[str]:
    replay, count, found = Replay(), 0, []
    newest: dict[int, dict] = {}
    for line in lines:
        record = json.loads(line)
        value = record["value"].encode() if "value" in record else base64.b64decode(record["value_base64"])
        replay.take(value)
        count += 1
        if replay.newest:               # per partition, every engine's positions rise
            engine, position = replay.newest
            seen = newest.setdefault(record["partition"], {})
            if position < seen.get(engine, (0, 0)) or position != (0, 0) and position == seen.get(engine):
                found.append(f"record {count - 1}: out of order in its partition")
            seen[engine] = position
    ends = [0] + [batch["to"] for batch in plan["batches"]]
    if [batch["from"] for batch in plan["batches"]] != ends[:-1] or ends[-1] != count:
        found.append("the plan's batches do not cover the stream once")
    if plan["merge_after_batches"][-1] != len(plan["batches"]) - 1:
        found.append("no merge after the last batch")
    return found + replay.differences(expected)


# ---------------------------------------------------------------------------------------------------------------
# One event per shape
# ---------------------------------------------------------------------------------------------------------------

ACCOUNT = "111122223333"
CLUSTER = f"arn:aws:kafka:ap-northeast-2:{ACCOUNT}:cluster/example-cdc/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9-2"
BROKERS = ("b-1.examplecdc.abc123.c2.kafka.ap-northeast-2.amazonaws.com:9098,"
           "b-2.examplecdc.abc123.c2.kafka.ap-northeast-2.amazonaws.com:9098")
SAMPLE_TIME = 4 * 3600 * 1_000_000
ABSENT = object()


def base64_text(value: Any) -> Optional[str]:
    if value is None:
        return None
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()


def kafka_record(offset: int, key: Any, value: Any, topic: str = TOPIC, partition: int = 0,
                 headers: Any = ()) -> dict:
    # 1772456400000 is EPOCH + SAMPLE_TIME; the offset makes milliseconds that a float of seconds does not keep.
    record: dict[str, Any] = {"topic": topic, "partition": partition, "offset": offset,
                              "timestamp": 1_772_456_400_000 + offset * 137, "timestampType": "CREATE_TIME"}
    if key is not ABSENT:
        record["key"] = base64_text(key)
    record["value"] = base64_text(value)
    if headers is not ABSENT:
        record["headers"] = list(headers)
    return record


def kafka_event(*records: dict) -> dict:
    by_partition: dict[str, list] = {}
    for record in records:
        by_partition.setdefault(f"{record['topic']}-{record['partition']}", []).append(record)
    return {"eventSource": "aws:kafka", "eventSourceArn": CLUSTER, "bootstrapServers": BROKERS,
            "records": by_partition}


def sample_message(table: Table, operation: str, row: Optional[tuple], old: Optional[tuple], number: int) -> str:
    """The `number`-th change of the samples' own short history."""
    log = MySqlBinlog(9, 120_000 + 900 * number)
    image, before = change_images(Change(table, operation, old, row))
    transaction_id, record, position = next(log.positions([[Change(table, operation, old, row)]], random.Random(number)))
    members = transaction_members(transaction_id, record, position, None, SAMPLE_TIME + number * 1_000_000)
    return data_message(table, operation, image, before, SAMPLE_TIME + number * 1_000_000 + 412_345,
                        transaction=members)


def sample_load(table: Table, row: tuple) -> tuple[str, str]:
    key = ".".join([table.source, *map(str, table.key_of(row))])
    return key, data_message(table, "load", table.image(row), None, SAMPLE_TIME - 5_000_000, load_key=key)


def sample_events() -> dict[str, dict]:
    first = (1001, 7, 46_57, "2026-03-02T12:59:58.5", "new", "문 앞에 두세요 🎁", 0)
    second = (1002, 8, 1250_00, "2026-03-02T12:59:59", "new", None, 0)
    paid = (1001, 7, 46_57, "2026-03-02T12:59:58.5", "paid", "", 1)
    moved = (2001, *paid[1:])
    create = control_message(MYSQL_TASK, "shop", "orders", "create-table", ORDERS.definition(), SAMPLE_TIME - 6_000_000)
    update = sample_message(ORDERS, "update", paid, first, 1)
    insert = sample_message(ORDERS, "insert", (1003, *second[1:]), None, 4)
    self_managed = kafka_event(kafka_record(102, "shop.orders", update))
    del self_managed["eventSourceArn"]
    self_managed["eventSource"] = "SelfManagedKafka"
    self_managed["bootstrapServers"] = "broker-1.example.com:9096,broker-2.example.com:9096"
    signed = {"trace-id": [118, -36, 0, 127, -128]}
    return {
        "msk-control-create-table.json": kafka_event(kafka_record(99, MYSQL_TASK, create)),
        "msk-load.json": kafka_event(kafka_record(100, *sample_load(ORDERS, first)),
                                     kafka_record(41, *sample_load(ORDERS, second), partition=1)),
        "msk-update.json": kafka_event(kafka_record(102, "shop.orders", update)),
        "msk-key-change.json": kafka_event(kafka_record(103, "shop.orders",
                                                        sample_message(ORDERS, "update", moved, paid, 2))),
        "msk-delete.json": kafka_event(kafka_record(104, "shop.orders",
                                                    sample_message(ORDERS, "delete", None, second, 3))),
        "msk-poison.json": kafka_event(kafka_record(105, "shop.orders", NOT_JSON),
                                       kafka_record(106, "shop.customers", NOT_UTF8),
                                       kafka_record(107, "shop.orders", insert)),
        "msk-tombstone.json": kafka_event(kafka_record(108, "shop.orders.1002", None)),
        "msk-no-key-no-headers.json": kafka_event(kafka_record(109, ABSENT, insert, headers=ABSENT),
                                                  kafka_record(110, None, update, headers=[signed])),
        "msk-two-topics.json": kafka_event(kafka_record(102, "shop.orders", update),
                                           kafka_record(102, "shop.orders", insert, topic="cdc.eu-1")),
        "self-managed-kafka.json": self_managed,
        "scheduled.json": {
            "version": "0", "id": "5f0c6b7e-0000-4000-8000-000000000001", "detail-type": "Scheduled Event",
            "source": "aws.events", "account": ACCOUNT, "time": "2026-03-02T13:05:00Z", "region": "ap-northeast-2",
            "resources": [f"arn:aws:events:ap-northeast-2:{ACCOUNT}:rule/strait-merge"], "detail": {}},
        "merge-one-table.json": {"tables": ["shop.orders"]},
        "not-msk-sqs.json": {"Records": [{
            "messageId": "5f0c6b7e-0000-4000-8000-000000000002", "receiptHandle": "example", "body": "{}",
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1772456700000",
                           "SenderId": ACCOUNT, "ApproximateFirstReceiveTimestamp": "1772456700001"},
            "messageAttributes": {}, "md5OfBody": "99914b932bd37a50b983c5e7c90ae93b", "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:ap-northeast-2:{ACCOUNT}:example-queue", "awsRegion": "ap-northeast-2"}]},
    }


def readme(history: History, delivered: list[Record], plan: dict) -> str:
    def count(source: str, operation: str) -> int:
        return history.counts[source, operation]

    table_lines = [f"| {t.source} | " + " | ".join(str(count(t.source, o)) for o in
                   ("load", "insert", "update", "delete")) + f" | {count('keys moved', t.source)} | "
                   f"{history.source.one('SELECT count(*) FROM ' + t.source)} |" for t in DEMO_TABLES]
    cuts = sum(cuts_a_transaction(delivered, plan["batches"][i]["to"]) for i in plan["merge_after_batches"][:-1])
    controls = sum(r.operation in ("drop-table", "create-table") for r in delivered)
    own = sum(r.source == ".awsdms_status" for r in delivered)
    return f"""# Events

Everything here is invented, and written by `generate.py` (Python 3.9 or newer, standard library only).
`generate.py --check` fails when a file differs from what the generator would write.

## One event per shape

The function `ingest` takes these:

| file | what it shows |
|---|---|
| `msk-control-create-table.json` | a control record: how DMS describes `shop.orders` |
| `msk-load.json` | two rows of a full load, in two partitions: no transaction, no position |
| `msk-update.json` | an update that leaves the key alone (`before-image` is `{{}}`); the note becomes an empty string |
| `msk-key-change.json` | an update of the key, 1001 to 2001: the old key stands in `before-image` only |
| `msk-delete.json` | a MySQL delete: the whole old row; only its key counts |
| `msk-poison.json` | text that is no JSON, bytes that are no UTF-8, and a sound insert behind them |
| `msk-tombstone.json` | a Kafka tombstone: `value` is null |
| `msk-no-key-no-headers.json` | a record without `key` and `headers`; one with a null key and a header of signed bytes |
| `msk-two-topics.json` | the same partition and offset on two topics (one with a dot and a dash in its name): both are kept |
| `self-managed-kafka.json` | the event of a self-managed Kafka: no `eventSourceArn` |
| `not-msk-sqs.json` | an event of another service: an error that says so |

The function `merge` takes these:

| file | what it shows |
|---|---|
| `scheduled.json` | EventBridge's scheduled event: all tables |
| `merge-one-table.json` | one table, by hand |

To hand one to a function on this machine, with an embedded BigQuery instead of Google's (`strait local --keep` prints its two addresses):

```console
$ target/ci/strait local --keep
$ cargo lambda watch --env-vars STRAIT_PROJECT=demo,STRAIT_BIGQUERY_REST_URL=http://127.0.0.1:PORT/bigquery/v2,STRAIT_BIGQUERY_GRPC_URL=http://127.0.0.1:PORT
$ cargo lambda invoke ingest --data-file events/msk-update.json
$ cargo lambda invoke merge --data-file events/scheduled.json
```

With Docker and `sam build`, in the image of Lambda itself: `local-environment.json` has the same variables, in which `PORT` is to be replaced (`STRAIT_CREDENTIALS` is emptied: the stack would set it).

```console
$ sam local invoke IngestFunction --event events/msk-update.json --env-vars events/local-environment.json --parameter-overrides \\
    MskClusterArn=arn:aws:kafka:eu-central-1:111122223333:cluster/example/1 Topic=cdc GoogleProject=strait-demo
```

## demo/: a shop's history

A MySQL schema `shop` and a PostgreSQL table `crm.contacts`, each sent by a DMS task of its own to one topic of
{DEMO_PARTITIONS} partitions: a full load, then {history.changes} changes. The history is SQL that SQLite executes; the
messages are what its triggers captured, the expected rows are what it holds in the end.

| file | content |
|---|---|
| `stream.jsonl` | {len(delivered)} Kafka records in the order of their delivery, one a line: `topic`, `partition`, `key`, and `value` as sent (or `value_base64` where it is not UTF-8). A record's offset is the number of lines before it with its topic and partition |
| `plan.json` | how to cut the stream into batches (`to` is exclusive; `deliver_times` 2: the same records again, with the same offsets), and the batches, counted from 0, after which a merge runs |
| `expected.json` | the final tables: rows sorted by key, each cell as text (NUMERIC without trailing zeros, BYTES in lower-case hex, DATETIME and TIMESTAMP without trailing zeros, FLOAT64 as its shortest text), NULL as null |

| table | load | insert | update | delete | of the updates, key changes | rows in the end |
|---|---|---|---|---|---|---|
{chr(10).join(table_lines)}

Besides: {controls} control records, {own} rows of DMS's own `awsdms_status`, 2 poison records, {history.escaped} messages with emoji
written as escaped surrogate pairs. {cuts} of the {len(plan["merge_after_batches"]) - 1} merges before the last cut through a transaction.

What is in it on purpose:
- a partition that falls behind from the load into the changes: rows deleted, updated, moved and swapped before their load record arrives;
- a row deleted and written again in one transaction; a row's whole life in one transaction; one row changed several times in a millisecond;
- keys that change, swap, rotate among three rows, go and come back, are taken over from a deleted row, or change by case only;
- statements that change several rows at one binlog position, so that only the record's number in the transaction orders them;
- a binlog that rolls over from file 000009 to 000010; PostgreSQL transaction ids that are no order, LSNs that pass FFFFFFFF;
- text that looks like a placeholder, SQL, JSON or a template; text with literal `\\ud83d\\ude00`; NULL, empty string, 0 and false;
- times before 1970 and before 1582, integers beyond 2^53, negative and zero decimals;
- rolled back transactions, which must leave no trace.

## More of it

`generate.py --changes 100000 --tables 20 --out DIR` writes the same three files for tables `load.t00`, `load.t01`, …, and `messages.jsonl`, the DMS messages alone, one a line
(`--partitions`, `--batch` and `--merge-every` shape the delivery). `generate.py --verify DIR` replays a stream by
position, without BigQuery, and compares it with its `expected.json`.
"""


# ---------------------------------------------------------------------------------------------------------------

def write(path: Path, pieces: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)


def all_files() -> dict[str, str]:
    files, _, _ = demo_files()
    for name, event in sample_events().items():
        files[name] = json.dumps(event, ensure_ascii=False, indent=2) + "\n"
    found = verify(files["demo/stream.jsonl"].rstrip("\n").split("\n"), json.loads(files["demo/plan.json"]),
                   json.loads(files["demo/expected.json"]))
    if found:
        raise SystemExit("the demo's messages do not give the expected rows:\n" + "\n".join(found))
    return files


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--verify", type=Path, metavar="DIR")
    arguments.add_argument("--changes", type=int)
    arguments.add_argument("--tables", type=int, default=10)
    arguments.add_argument("--partitions", type=int, default=3)
    arguments.add_argument("--batch", type=int, default=1000)
    arguments.add_argument("--merge-every", type=int, default=10)
    arguments.add_argument("--out", type=Path)
    options = arguments.parse_args()
    if options.verify:
        with open(options.verify / "stream.jsonl", encoding="utf-8", newline="\n") as stream:
            found = verify(stream, json.loads((options.verify / "plan.json").read_text("utf-8")),
                           json.loads((options.verify / "expected.json").read_text("utf-8")))
        print("\n".join(found) or "the messages give the expected rows")
        return 1 if found else 0
    if options.changes is not None:
        if options.out is None or min(options.changes, options.tables, options.partitions, options.batch,
                                      options.merge_every) < 1:
            arguments.error("--changes needs --out DIR, and every number must be at least 1")
        counts = write_load(options.changes, options.tables, options.partitions, options.batch, options.merge_every,
                            options.out)
        operations = Counter()
        for (_, operation), number in counts.items():
            if operation in ("load", "insert", "update", "delete"):
                operations[operation] += number
        print(", ".join(f"{number} {operation}" for operation, number in sorted(operations.items())))
        return 0
    files = all_files()
    if options.check:
        stale = [name for name, text in files.items()
                 if not (HERE / name).is_file() or (HERE / name).read_bytes() != text.encode()]
        print("\n".join(f"{name} is not what generate.py writes" for name in stale) or "events are up to date")
        return 1 if stale else 0
    for name, text in files.items():
        write(HERE / name, [text])
    return 0


if __name__ == "__main__":
    sys.exit(main())
