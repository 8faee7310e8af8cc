"""Asks Google's own SQL analyzer and evaluator about statements this project generates.

    python analyze.py --cache DIR [FILE]

Reads a JSON document from FILE or standard input:

    {"tables":      [{"name": ["project", "dataset", "table"], "columns": [["id", "INT64"], ["tags", "ARRAY<STRING>"]],
                      "content": "SELECT 1, ['a'] UNION ALL …"}],
     "statements":  [{"id": "merge orders", "sql": "MERGE …"}],
     "expressions": [{"id": "rounding", "sql": "SELECT SAFE_CAST('1.2345678901' AS NUMERIC)"}]}

and prints one:

    {"statements":  [{"id": "merge orders", "ok": true, "error": null}],
     "expressions": [{"id": "rounding", "ok": true, "value": [["1.23456789"]], "error": null}]}

A statement is analyzed: parsed, its names looked up among the declared tables, its types checked. An expression is a query
whose rows are computed; `value` lists them, each cell as text, as null, or as a list of cells for an array or a struct. `content` of a
table is optional: a query whose rows are the table's, for expressions that read it (by its whole path in one pair of backticks:
the evaluator knows contents only so).

A statement is one statement: scripts are not in this language. A table whose path stands in one pair of backticks needs an alias
where its columns are qualified; BigQuery would take the last part of the path.

The exit status says only whether every question got an answer; the answers are in the document.
It must never make a statement easier to accept than BigQuery does: no name is declared that the document does not declare.
"""

import argparse
import ctypes
import datetime
import hashlib
import json
import os
import pathlib
import sys
from importlib.metadata import version

import wasmtime
import zetasql.core.wasm_client
from zetasql.core import ZetaSQLError
from zetasql.wasi import get_wasm_path
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as public_options
from zetasql.wasi._pb2.zetasql.public import simple_table_pb2, type_pb2

# With these BigQuery's recorded answers and the analyzer's agreed: every feature but the first, and the other two, which the
# maximum does not have.
FEATURE_OFF = "FEATURE_JSON_TYPE_COMPARISON"
FEATURES_ON = ("FEATURE_ALTER_COLUMN_SET_DATA_TYPE", "FEATURE_CREATE_TABLE_CLONE")
EPOCH_DATE = datetime.date(1970, 1, 1)
EPOCH = datetime.datetime(1970, 1, 1)


def cached_module(folder: pathlib.Path):
    """A stand-in for `wasmtime.Module` that compiles once: 28 MB of WebAssembly take 10 s or more, a compiled one is mapped."""

    class CachedModule:
        @staticmethod
        def from_file(engine, path):
            digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]
            compiled = folder / f"zetasql-{digest}-wasmtime-{version("wasmtime")}.compiled"
            try:
                return wasmtime.Module.deserialize_file(engine, str(compiled))
            except wasmtime.WasmtimeError:
                # Missing, or of another machine or version: wasmtime checks that itself.
                module = wasmtime.Module.from_file(engine, str(path))
            folder.mkdir(parents=True, exist_ok=True)
            # Two first starts at once: each writes its own file and moves it into place.
            written = compiled.with_suffix(f".{os.getpid()}")
            written.write_bytes(module.serialize())
            written.replace(compiled)
            return module

    return CachedModule


class Client(zetasql.core.wasm_client.WasmClient):
    """The package's client copies memory byte by byte; a catalog has hundreds of kilobytes."""

    def write_bytes(self, ptr, data):
        ctypes.memmove(self._address(ptr), data, len(data))

    def read_bytes(self, ptr, size):
        return ctypes.string_at(self._address(ptr), size)

    def _address(self, ptr: int) -> int:
        # Asked for each time: the memory may have grown and moved.
        return ctypes.addressof(self.memory.data_ptr().contents) + ptr


class Analyzer:
    def __init__(self, cache: pathlib.Path):
        zetasql.core.wasm_client.Module = cached_module(cache)
        self.client = Client(str(get_wasm_path()))
        self.options = self._options()
        self.catalog = None

    def call(self, name: str, request, response):
        if "descriptor_pool_list" in request.DESCRIPTOR.fields_by_name:
            # Some functions' signatures name built-in message types; they are looked up in the request's first pool.
            request.descriptor_pool_list.definitions.add().builtin.SetInParent()
        return self.client.call_grpc_func(f"ZetaSqlLocalService_{name}", request, response)

    def _options(self) -> options_pb2.AnalyzerOptionsProto:
        language = self.call(
            "GetLanguageOptions",
            service.LanguageOptionsRequest(maximum_features=True),
            options_pb2.LanguageOptionsProto,
        )
        language.product_mode = public_options.PRODUCT_EXTERNAL
        # None named means every kind; the default is queries only.
        del language.supported_statement_kinds[:]
        features = set(language.enabled_language_features)
        features.discard(public_options.LanguageFeature.Value(FEATURE_OFF))
        features |= {public_options.LanguageFeature.Value(name) for name in FEATURES_ON}
        language.enabled_language_features[:] = sorted(features)
        options = self.call(
            "GetAnalyzerOptions", service.AnalyzerOptionsRequest(), options_pb2.AnalyzerOptionsProto
        )
        options.language_options.CopyFrom(language)
        options.default_timezone = "UTC"
        options.error_message_mode = public_options.ERROR_MESSAGE_ONE_LINE
        return options

    def declare(self, tables: list[dict]):
        """Registers the catalog that `check` and `evaluate` look names up in."""
        catalog = service.RegisterCatalogRequest().simple_catalog
        catalog.name = "catalog"
        catalog.builtin_function_options.language_options.CopyFrom(self.options.language_options)
        self.catalog = self._register(catalog, {})
        types, contents = {}, {}
        for serial, table in enumerate(tables, 1):
            proto = simple_table_pb2.SimpleTableProto(
                name=".".join(table["name"]), name_in_catalog=".".join(table["name"]), serialization_id=serial
            )
            for name, kind in table["columns"]:
                if kind not in types:
                    types[kind] = self._type(kind)
                proto.column.add(name=name, type=types[kind])
            if table.get("content"):
                contents[proto.name] = self._evaluate(table["content"]).content
            # BigQuery takes the dots of a path inside or outside the backticks, and the project may be left out.
            parts = table["name"]
            for start in range(len(parts) - 1):
                for path in groupings(parts[start:]):
                    place(catalog, path, proto)
        self.catalog = self._register(catalog, contents)

    def _register(self, catalog, contents: dict) -> int:
        request = service.RegisterCatalogRequest(simple_catalog=catalog)
        for name, content in contents.items():
            request.table_content[name].CopyFrom(content)
        return self.call("RegisterCatalog", request, service.RegisterResponse).registered_id

    def _type(self, kind: str) -> type_pb2.TypeProto:
        """The analyzer reads a type's name itself."""
        request = service.PrepareRequest(
            sql=f"CAST(NULL AS {kind})", options=self.options, registered_catalog_id=self.catalog
        )
        return self.call("Prepare", request, service.PrepareResponse).prepared.output_type

    def check(self, sql: str):
        """Raises ZetaSQLError if BigQuery would refuse the statement."""
        request = service.AnalyzeRequest(
            options=self.options, registered_catalog_id=self.catalog, sql_statement=sql
        )
        self.call("Analyze", request, service.AnalyzeResponse)

    def _evaluate(self, sql: str) -> service.EvaluateQueryResponse:
        request = service.EvaluateQueryRequest(
            sql=sql, options=self.options, registered_catalog_id=self.catalog
        )
        return self.call("EvaluateQuery", request, service.EvaluateQueryResponse)

    def evaluate(self, sql: str) -> list[list]:
        response = self._evaluate(sql)
        types = [column.type for column in response.prepared.columns]
        return [
            [text(kind, cell) for kind, cell in zip(types, row.cell, strict=True)]
            for row in response.content.table_data.row
        ]


def groupings(parts: list[str]):
    """["p", "d", "t"]: (p, d, t), (p, d.t), (p.d, t), (p.d.t)."""
    if len(parts) == 1:
        yield (parts[0],)
        return
    for rest in groupings(parts[1:]):
        yield (parts[0], *rest)
        yield (f"{parts[0]}.{rest[0]}", *rest[1:])


def place(catalog, path: tuple[str, ...], table: simple_table_pb2.SimpleTableProto):
    for name in path[:-1]:
        found = next((child for child in catalog.catalog if child.name == name), None)
        if found is None:
            found = catalog.catalog.add(name=name)
        catalog = found
    placed = catalog.table.add()
    placed.CopyFrom(table)
    placed.name_in_catalog = path[-1]


def clock(bits: int) -> tuple[int, int, int]:
    """The hour, minute and second that ZetaSQL packs into 5, 6 and 6 bits."""
    return bits >> 12 & 0x1F, bits >> 6 & 0x3F, bits & 0x3F


def exact(encoded: bytes, decimals: int) -> str:
    """NUMERIC and BIGNUMERIC: a little-endian two's complement integer of the smallest unit."""
    units = int.from_bytes(encoded, "little", signed=True)
    whole, fraction = divmod(abs(units), 10**decimals)
    digits = f"{fraction:0{decimals}}".rstrip("0")
    return ("-" if units < 0 else "") + str(whole) + (f".{digits}" if digits else "")


def text(kind: type_pb2.TypeProto, value):
    """A cell in the form BigQuery's REST API and CAST(… AS STRING) use; bytes as hexadecimal digits."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    match which:
        case "array_value":
            return [text(kind.array_type.element_type, element) for element in value.array_value.element]
        case "struct_value":
            fields = kind.struct_type.field
            return [text(field.field_type, cell) for field, cell in zip(fields, value.struct_value.field, strict=True)]
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "double_value":
            number = value.double_value
            return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
        case "bytes_value":
            return value.bytes_value.hex()
        case "numeric_value":
            return exact(value.numeric_value, 9)
        case "bignumeric_value":
            return exact(value.bignumeric_value, 38)
        case "date_value":
            return (EPOCH_DATE + datetime.timedelta(days=value.date_value)).isoformat()
        case "time_value":
            nanos = value.time_value & 0x3FFFFFFF
            return datetime.time(*clock(value.time_value >> 30), nanos // 1000).isoformat()
        case "datetime_value":
            bits = value.datetime_value.bit_field_datetime_seconds
            date = bits >> 26, bits >> 22 & 0xF, bits >> 17 & 0x1F
            moment = datetime.datetime(*date, *clock(bits & 0x1FFFF), value.datetime_value.nanos // 1000)
            return moment.isoformat()
        case "timestamp_value":
            stamp = value.timestamp_value
            moment = EPOCH + datetime.timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
            return moment.isoformat(" ") + "+00"
    return str(getattr(value, which))


def answers(questions: list[dict], ask) -> list[dict]:
    given = []
    for question in questions:
        try:
            given.append({"id": question["id"], "ok": True, "error": None} | ask(question["sql"]))
        except ZetaSQLError as error:
            given.append({"id": question["id"], "ok": False, "error": str(error)})
    return given


def main():
    parser = argparse.ArgumentParser("analyze", description="Ask Google's SQL analyzer")
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="folder for the compiled analyzer")
    parser.add_argument("file", nargs="?", help="the questions; standard input without it")
    arguments = parser.parse_args()
    document = json.loads(pathlib.Path(arguments.file).read_text() if arguments.file else sys.stdin.read())

    analyzer = Analyzer(arguments.cache)
    analyzer.declare(document.get("tables", []))

    def check(sql: str) -> dict:
        analyzer.check(sql)
        return {}

    result = {
        "statements": answers(document.get("statements", []), check),
        "expressions": answers(document.get("expressions", []), lambda sql: {"value": analyzer.evaluate(sql)}),
    }
    json.dump(result, sys.stdout, ensure_ascii=False, indent=1)
    print()


if __name__ == "__main__":
    main()
