"""Starts the embedded BigQuery (local-bigquery) for `strait local` and the end-to-end tests.

    python launcher.py --host 127.0.0.1 --port 0 --grpc-port 0 --project demo --data-dir DIR

It prints one JSON line, {"rest_port": …, "grpc_port": …}, once both ports have answered a call, and nothing else on
standard output. It ends on SIGTERM, and by itself when the process that started it is gone.

What it adds to local-bigquery 0.4.0, and nothing more:
- gRPC messages up to 64 MiB (4 MiB before) and as many open streams as a test needs (16 before);
- MERGE inside BEGIN TRANSACTION; several RENAME COLUMN in one ALTER TABLE;
- two functions that BigQuery and local-bigquery answer differently: ARRAY_AGG(… IGNORE NULLS … LIMIT n), which kept the nulls, and
  JSON_VALUE: of a number it is the number's own text (1.50, not 1.5; every digit of a long one), of a broken document NULL;
- look-ups by name in place of scans over its whole catalogue, and settings that suit many small statements: the same answers, sooner;
- GET /healthz, GET and DELETE /strait/counters;
- fault injection: POST, GET and DELETE /strait/faults (see `Fault`).

It must never make the emulator more lenient than BigQuery: what is changed in an answer is changed to BigQuery's.
"""

import argparse
import asyncio
import builtins
import collections
import concurrent.futures
import contextlib
import contextvars
import dataclasses
import functools
import gc
import gzip
import http.client
import importlib.util
import json
import logging
import os
import pathlib
import re
import signal
import socket
import stat
import sys
import threading
import time
import urllib.parse
import weakref

# A full AppendRows request may hold 10 MB (BigQuery's limit); the rest is room for what must be refused by its own rules.
GRPC_MESSAGE_BYTES = 64 * 1024 * 1024
# Each open append stream holds a worker for as long as it is open.
GRPC_WORKERS = 256
EXTENSIONS = ("ducklake", "icu", "spatial")
PARENT_POLL_SECONDS = 0.2
READY_POLL_SECONDS = 0.02
# What BigQuery says for a status when a fault gives no body of its own.
ERROR_REASONS = {
    400: "invalid",
    401: "authError",
    403: "rateLimitExceeded",
    404: "notFound",
    409: "duplicate",
    429: "rateLimitExceeded",
    500: "internalError",
    502: "badGateway",
    503: "backendError",
    504: "backendError",
}


# ---------------------------------------------------------------------------------------------------------------------
# Faults
# ---------------------------------------------------------------------------------------------------------------------


class MalformedFault(Exception):
    """A fault that was posted in a form this launcher does not know; nothing of the list was taken."""


@dataclasses.dataclass
class Fault:
    """One rule: which calls it is for, how many of them to let through first, how many to spoil, and how.

    side     "rest" or "grpc"
    match    rest: any of "method", "path_regex" (without the query), "api" (a method of BigQuery's REST API: "jobs.insert"), "body_regex";
             grpc: any of "rpc" ("AppendRows"), "stream_regex" (the write stream's name). All given must hold. Each request of
             an append stream is a call of its own.
    skip     matching calls to let through first (0)
    times    matching calls to spoil after those (1)
    action   {"kind": "status", "http": 503, "body": "…", "content_type": "text/html", "headers": {}}   rest; not carried out
             {"kind": "grpc_status", "code": "UNAVAILABLE", "message": "…"}                             grpc; not carried out
             {"kind": "delay", "seconds": 2.0}                  waits, then carries the call out, whether or not the caller
                                                                still waits for it
             {"kind": "after_effect", …}                        carries the call out, waits "seconds" if given, then answers as
                                                                "http" or "code" say, or drops the connection with "close": true;
                                                                with none of them the true answer, late
             {"kind": "close"}                                  drops the TCP connection, with every stream on it; not carried out
             {"kind": "end"}                                    grpc: ends the stream in good order, unanswered; not carried out
             {"kind": "row_errors", "indexes": [0, 3]}          AppendRows: those rows are refused, so none is written

    Rules are tried in the order they were posted; the first that spoils a call ends the search, so later ones do not count it.
    """

    side: str
    match: dict
    action: dict
    skip: int = 0
    times: int = 1

    MATCHES = {"rest": {"method", "path_regex", "api", "body_regex"}, "grpc": {"rpc", "stream_regex"}}
    ACTIONS = {
        "status": ({"rest"}, {"http"}, {"body", "content_type", "headers"}),
        "grpc_status": ({"grpc"}, {"code"}, {"message"}),
        "delay": ({"rest", "grpc"}, {"seconds"}, set()),
        "after_effect": (
            {"rest", "grpc"},
            set(),
            {"seconds", "http", "body", "content_type", "headers", "code", "message", "close"},
        ),
        "close": ({"rest", "grpc"}, set(), set()),
        "end": ({"grpc"}, set(), set()),
        "row_errors": ({"grpc"}, {"indexes"}, set()),
    }

    @classmethod
    def read(cls, given) -> "Fault":
        """Raises MalformedFault, so that a misspelt rule fails its test instead of never matching."""
        if not isinstance(given, dict):
            raise MalformedFault("a fault is a JSON object")
        unknown = set(given) - {"side", "match", "action", "skip", "times"}
        if unknown:
            raise MalformedFault(f"unknown fields: {sorted(unknown)}")
        fault = cls(
            given.get("side"),
            given.get("match", {}),
            given.get("action") or {},
            given.get("skip", 0),
            given.get("times", 1),
        )
        if fault.side not in cls.MATCHES:
            raise MalformedFault('"side" is "rest" or "grpc"')
        if not all(isinstance(number, int) and number >= 0 for number in (fault.skip, fault.times)):
            raise MalformedFault('"skip" and "times" are whole numbers')
        if unknown := set(fault.match) - cls.MATCHES[fault.side]:
            raise MalformedFault(f"a {fault.side} call is not matched by {sorted(unknown)}")
        for name in ("path_regex", "body_regex", "stream_regex"):
            try:
                re.compile(fault.match.get(name, ""))
            except re.error as error:
                raise MalformedFault(f"{name}: {error}") from error
        kind = fault.action.get("kind")
        if kind not in cls.ACTIONS:
            raise MalformedFault(f'"kind" is one of {sorted(cls.ACTIONS)}')
        sides, required, optional = cls.ACTIONS[kind]
        if fault.side not in sides:
            raise MalformedFault(f"{kind} is not for the {fault.side} side")
        fields = set(fault.action) - {"kind"}
        if missing := required - fields:
            raise MalformedFault(f"{kind} needs {sorted(missing)}")
        if unknown := fields - required - optional:
            raise MalformedFault(f"{kind} does not take {sorted(unknown)}")
        if "code" in fault.action:
            import grpc

            if fault.action["code"] not in grpc.StatusCode.__members__ or fault.action["code"] == "OK":
                raise MalformedFault('"code" is the name of a gRPC error, for example UNAVAILABLE')
        if fault.side == "rest" and "code" in fault.action or fault.side == "grpc" and "http" in fault.action:
            raise MalformedFault('"http" is for the rest side, "code" for the grpc side')
        return fault


class Faults:
    """The rules still in force. Every method may be called from any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._rules: list[Fault] = []

    def add(self, given):
        if not isinstance(given, list):
            raise MalformedFault("post a JSON list of faults")
        rules = [Fault.read(one) for one in given]
        with self._lock:
            self._rules += rules

    def clear(self):
        with self._lock:
            self._rules.clear()

    def remaining(self) -> list[dict]:
        with self._lock:
            return [dataclasses.asdict(rule) for rule in self._rules]

    def wants_body(self) -> bool:
        with self._lock:
            return any("body_regex" in rule.match for rule in self._rules)

    def take(self, side: str, holds) -> dict | None:
        """The action for a call, and one call less for its rule. `holds(match)` says whether a rule is for this call."""
        with self._lock:
            for rule in self._rules:
                if rule.side != side or not holds(rule.match):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                rule.times -= 1
                if rule.times <= 0:
                    self._rules.remove(rule)
                counters.faults(rule.action["kind"])
                return rule.action
        return None


class Counters:
    """What was asked of the emulator since its start or the last DELETE, faults included: calls are counted as they arrive."""

    def __init__(self):
        self._lock = threading.Lock()
        self.reset()

    def reset(self):
        with self._lock:
            self._append = {"requests": 0, "rows": 0, "bytes": 0, "streams": 0}
            self._rest = collections.Counter()
            self._faults = collections.Counter()
            self._jobs = 0

    def append_stream(self):
        with self._lock:
            self._append["streams"] += 1

    def append(self, rows: int, size: int):
        with self._lock:
            self._append["requests"] += 1
            self._append["rows"] += rows
            self._append["bytes"] += size

    def rest(self, name: str):
        with self._lock:
            self._rest[name] += 1

    def faults(self, kind: str):
        with self._lock:
            self._faults[kind] += 1

    def job(self):
        with self._lock:
            self._jobs += 1

    def report(self) -> dict:
        """`jobs` are jobs that were really created: neither dry runs nor repeated ids nor spoiled calls are among them."""
        with self._lock:
            return {
                "append": dict(self._append),
                "rest": dict(self._rest),
                "jobs": self._jobs,
                "faults": dict(self._faults),
            }


faults = Faults()
counters = Counters()


def drop_connection(local_port: int, peer_port: int):
    """Shuts the TCP connection down under the server's feet: neither uvicorn nor gRPC has a call for it."""
    for name in os.listdir("/dev/fd"):
        try:
            descriptor = int(name)
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as connection:
                if connection.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                ports = connection.getsockname()[1], connection.getpeername()[1]
                if ports == (local_port, peer_port):
                    connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            # Listening sockets have no peer; a descriptor may close between the listing and the look.
            continue


# ---------------------------------------------------------------------------------------------------------------------
# REST
# ---------------------------------------------------------------------------------------------------------------------


def api_methods(discovery: dict) -> list[tuple[str, re.Pattern, str]]:
    """(HTTP method, path, name) of every method in BigQuery's own description of its REST API: ("POST", …, "jobs.insert")."""
    found = []

    def walk(resource: dict):
        for method in resource.get("methods", {}).values():
            template = "/" + discovery["servicePath"] + method.get("flatPath", method["path"])
            pattern = re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(template))
            found.append((method["httpMethod"], re.compile(pattern), method["id"].removeprefix("bigquery.")))
        for child in resource.get("resources", {}).values():
            walk(child)

    walk(discovery)
    # Literal paths first: `…/datasets/{d}/tables` is not `…/datasets/{d}:undelete`.
    return sorted(found, key=lambda one: one[1].pattern.count("[^/]+"))


def api_name(methods: list[tuple[str, re.Pattern, str]], method: str, path: str) -> str:
    path = path.removeprefix("/upload")
    for verb, pattern, name in methods:
        if verb == method and pattern.fullmatch(path):
            return name
    return "other"


class EndedJobs:
    """The last jobs as they ended, beside the table that holds all: of each job a client asks several times, and each time it would be read
    from the table, and be made a model and a text again."""

    KEPT = 400
    PATH = re.compile(r"^/bigquery/v2/projects/([^/]+)/jobs/([^/]+)$")

    def __init__(self):
        self._jobs = collections.OrderedDict()
        self._lock = threading.Lock()

    def keep(self, key: tuple, job, text: str):
        with self._lock:
            self._jobs[key] = job, text
            self._jobs.move_to_end(key)
            while len(self._jobs) > self.KEPT:
                self._jobs.popitem(last=False)

    def forget(self, key: tuple):
        with self._lock:
            self._jobs.pop(key, None)

    def job(self, key: tuple):
        kept = self._jobs.get(key)
        return kept and kept[0]

    def text_of(self, method: str, path: str) -> str | None:
        found = self.PATH.match(path) if method == "GET" else None
        kept = self._jobs.get(found.groups()) if found else None
        return kept and kept[1]


ended_jobs = EndedJobs()


class DirectCalls:
    """The two calls that each statement is made of, without the layers that find a route, check its types one by one and open three stacks of
    exits for each. Whatever is not as usual goes through them."""

    PATH = re.compile(r"^/bigquery/v2/projects/([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)/(?:(jobs)|queries/([^/]+))$")
    QUERY = re.compile(r"^(?:(?:location=[\w-]*|maxResults=\d+|timeoutMs=\d+)(?:&|$))*$")

    def __init__(self):
        from local_bigquery.api import jobs
        from local_bigquery.errors import from_exception
        from local_bigquery.models import Job
        from pydantic import ValidationError

        self.jobs, self.from_exception, self.Job, self.invalid = jobs, from_exception, Job, ValidationError
        # Each waits for a job for as long as it is asked to: as many as those layers have, of which the default is a few for each processor.
        self.threads = concurrent.futures.ThreadPoolExecutor(40)

    def wants(self, scope) -> tuple | None:
        found = self.PATH.match(scope["path"])
        if not found or scope["method"] != ("POST" if found[2] else "GET"):
            return None
        names = {name for name, _ in scope["headers"]}
        is_usual = not names & {b"authorization", b"content-encoding"}
        return found.groups() if is_usual and self.QUERY.match(scope["query_string"].decode("latin-1")) else None

    def insert(self, project_id: str, body: bytes) -> str | None:
        try:
            job = self.Job.model_validate_json(body)
        except self.invalid:
            return None
        return json.dumps(self.jobs.insert_job(project_id, job).dump())

    def results(self, project_id: str, job_id: str, query: str) -> str:
        asked = dict(urllib.parse.parse_qsl(query))
        number = {name: int(asked[name]) for name in ("maxResults", "timeoutMs") if name in asked}
        named = {"maxResults": None, "pageToken": None, "startIndex": 0, "timeoutMs": None, "int64_timestamps": False}
        return self.jobs.get_query_results(project_id, job_id, **named | number).body.decode()

    async def call(self, wanted: tuple, scope, receive, send):
        """None once it has answered; else nothing was done, and what it gives back receives the body once more."""
        project_id, is_insert, job_id = wanted
        if is_insert:
            body, receive = await buffered(receive)
            ask = functools.partial(self.insert, project_id, body)
        else:
            ask = functools.partial(self.results, project_id, job_id, scope["query_string"].decode("latin-1"))
        try:
            # In the caller's context, as those layers call it.
            ask = functools.partial(contextvars.copy_context().run, ask)
            status, text = 200, await asyncio.get_running_loop().run_in_executor(self.threads, ask)
        except Exception as error:
            error = self.from_exception(error)
            if error.reason == "dontRetry":
                logging.exception(error.message, exc_info=error.__context__)
            status, text = error.code, json.dumps(error.response())
        if text is None:
            return receive
        await answer(send, status, text.encode(), "application/json", {})
        return None


class StraitRoutes:
    """The outermost layer of the REST side: the launcher's own routes, then counting, then faults, then local-bigquery."""

    def __init__(self, app, discovery: dict, port: int):
        self.app = app
        self.methods = api_methods(discovery)
        self.direct = DirectCalls()
        self.port = port

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        method, path = scope["method"], scope["path"]
        if path == "/healthz":
            return await answer_json(send, 200, {"status": "ok"})
        if path == "/strait/counters":
            if method == "DELETE":
                counters.reset()
            return await answer_json(send, 200, counters.report())
        if path == "/strait/faults":
            return await self.configure(method, receive, send)
        name = api_name(self.methods, method, path)
        counters.rest(name)
        body = b""
        if faults.wants_body():
            body, receive = await buffered(receive)
            if dict(scope["headers"]).get(b"content-encoding") == b"gzip":
                body = gzip.decompress(body)

        def holds(match: dict) -> bool:
            return (
                match.get("method", method) == method
                and match.get("api", name) == name
                and re.search(match.get("path_regex", ""), path) is not None
                and re.search(match.get("body_regex", "").encode(), body) is not None
            )

        action = faults.take("rest", holds)
        if action is None:
            ended = ended_jobs.text_of(method, path)
            if ended is not None:
                return await answer(send, 200, ended.encode(), "application/json", {})
            if wanted := self.direct.wants(scope):
                receive = await self.direct.call(wanted, scope, receive, send)
            return receive and await self.app(scope, receive, send)
        await self.spoil(action, scope, receive, send)

    async def configure(self, method: str, receive, send):
        if method == "DELETE":
            faults.clear()
        elif method == "POST":
            body, _ = await buffered(receive)
            try:
                faults.add(json.loads(body))
            except (ValueError, MalformedFault) as error:
                return await answer_json(send, 400, {"error": {"code": 400, "message": str(error)}})
        await answer_json(send, 200, faults.remaining())

    async def spoil(self, action: dict, scope, receive, send):
        kind = action["kind"]
        if kind == "status":
            return await answer_status(send, action)
        if kind == "delay":
            await asyncio.sleep(action["seconds"])
            return await self.app(scope, receive, send)
        if kind == "after_effect":
            held = []

            async def hold(message):
                held.append(message)

            await self.app(scope, receive, hold)
            await asyncio.sleep(action.get("seconds", 0))
            if "http" in action:
                return await answer_status(send, action)
            if not action.get("close"):
                for message in held:
                    await send(message)
                return
        drop_connection(self.port, scope["client"][1])
        while (await receive())["type"] != "http.disconnect":
            pass


async def buffered(receive):
    """The whole request body, and a `receive` that gives it once more to the layers below."""
    messages = []
    while True:
        messages.append(await receive())
        if not messages[-1].get("more_body"):
            break
    replayed = iter(messages)

    async def again():
        return next(replayed, None) or await receive()

    return b"".join(message.get("body", b"") for message in messages), again


async def answer(send, status: int, body: bytes, content_type: str, headers: dict):
    listed = {"content-type": content_type, "content-length": str(len(body))} | headers
    pairs = [(name.lower().encode(), str(value).encode()) for name, value in listed.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send, status: int, value):
    await answer(send, status, json.dumps(value).encode(), "application/json", {})


async def answer_status(send, action: dict):
    status = action["http"]
    reason = ERROR_REASONS.get(status, "backendError")
    error = {"code": status, "message": "injected fault", "errors": [{"reason": reason, "message": "injected fault"}]}
    body = action.get("body", json.dumps({"error": error}))
    content_type = action.get("content_type", "application/json")
    await answer(send, status, body.encode(), content_type, action.get("headers", {}))


# ---------------------------------------------------------------------------------------------------------------------
# gRPC
# ---------------------------------------------------------------------------------------------------------------------


class CallSpoiled(Exception):
    """Unwinds a handler whose connection was dropped; gRPC's answer to it reaches nobody."""


def rpc_action(rpc: str, stream: str) -> dict | None:
    def holds(match: dict) -> bool:
        return match.get("rpc", rpc) == rpc and re.search(match.get("stream_regex", ""), stream) is not None

    return faults.take("grpc", holds)


def drop_peer(context, port: int):
    """`context.peer()` is `ipv4:127.0.0.1:40000` or `ipv6:%5B::1%5D:40000`."""
    drop_connection(port, int(context.peer().rsplit(":", 1)[1]))
    raise CallSpoiled


def before_effect(action: dict | None, context, port: int):
    """Returns if the call is to be carried out."""
    import grpc

    match action:
        case {"kind": "grpc_status", "code": code}:
            context.abort(grpc.StatusCode[code], action.get("message", "injected fault"))
        case {"kind": "delay", "seconds": seconds}:
            time.sleep(seconds)
        case {"kind": "close"}:
            drop_peer(context, port)


def after_effect(action: dict | None, context, port: int):
    """Returns if the call's own answer is to be sent."""
    import grpc

    if action is None or action["kind"] != "after_effect":
        return
    time.sleep(action.get("seconds", 0))
    if "code" in action:
        context.abort(grpc.StatusCode[action["code"]], action.get("message", "injected fault"))
    if action.get("close"):
        drop_peer(context, port)


def spoilable_unary(rpc: str, handler, port):
    @functools.wraps(handler)
    def handle(request, context):
        action = rpc_action(rpc, getattr(request, "name", "") or getattr(request, "parent", ""))
        before_effect(action, context, port())
        response = handler(request, context)
        after_effect(action, context, port())
        return response

    return handle


def spoilable_append(handler, port):
    """Hands the stream's requests to local-bigquery one at a time, so that each can be counted, spoiled or refused."""
    from google.cloud.bigquery_storage_v1 import types

    def refuse_rows(request, indexes: list[int], stream: str) -> types.AppendRowsResponse | None:
        sent = len(request.proto_rows.rows.serialized_rows)
        refused = [
            types.RowError(
                index=index, code=types.RowError.RowErrorCode.FIELDS_ERROR, message="injected fault"
            )
            for index in indexes
            if index < sent
        ]
        if not refused:
            return None
        response = types.AppendRowsResponse(write_stream=stream, row_errors=refused)
        response.error.code = 3  # INVALID_ARGUMENT, as BigQuery answers
        response.error.message = "Errors found while processing rows. Entity: " + stream
        return response

    def refuse_extra_columns(descriptor, stream: str, context):
        """As BigQuery does; local-bigquery refuses the rows one by one, those alone that hold a value for such a column."""
        import grpc
        from google.protobuf import any_pb2
        from google.rpc import status_pb2
        from local_bigquery.catalog import tables
        from local_bigquery.errors import BigQueryError

        parts = stream.split("/")
        try:
            known = {column.name.casefold() for column in tables.columns(parts[1], parts[3], parts[5])}
        except (BigQueryError, IndexError):
            return  # no such table, which is for local-bigquery to say
        extra = [field.name for field in descriptor.field if field.name.casefold() not in known]
        if not known or not extra:
            return
        code = types.StorageError.StorageErrorCode.SCHEMA_MISMATCH_EXTRA_FIELDS
        detail = any_pb2.Any()
        detail.Pack(types.StorageError.pb(types.StorageError(code=code, entity=stream)))
        message = f"Input schema has more fields than BigQuery schema, extra fields: '{','.join(extra)}'. Entity: {stream}"
        status = status_pb2.Status(code=3, message=message, details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)

    @functools.wraps(handler)
    def handle(requests, context):
        counters.append_stream()
        pending = collections.deque()

        def one_by_one():
            # Asked for the next request only by `next(answers)` below, which follows an append to `pending`.
            while True:
                yield pending.popleft()

        answers = handler(one_by_one(), context)
        stream, writer_schema = "", None
        for request in requests:
            stream = request.write_stream or stream
            serialized = request.proto_rows.rows.serialized_rows
            counters.append(len(serialized), sum(map(len, serialized)))
            if request.proto_rows.writer_schema.proto_descriptor.name:
                writer_schema = request.proto_rows.writer_schema
                refuse_extra_columns(writer_schema.proto_descriptor, stream, context)
            action = rpc_action("AppendRows", stream)
            before_effect(action, context, port())
            if action and action["kind"] == "end":
                return
            if action and action["kind"] == "row_errors":
                if refusal := refuse_rows(request, action["indexes"], stream):
                    yield refusal
                    continue
            # Said once per stream; a request that a fault kept back may have been the one that said it.
            request.write_stream = stream
            if writer_schema is not None:
                request.proto_rows.writer_schema = writer_schema
            pending.append(request)
            response = next(answers)
            after_effect(action, context, port())
            yield response

    return handle


def grpc_server(host: str, port: int):
    """local-bigquery's own handlers behind wider limits. Returns the server, started, and its port."""
    import grpc
    from local_bigquery.grpc import server as emulator

    limits = [
        ("grpc.max_receive_message_length", GRPC_MESSAGE_BYTES),
        ("grpc.max_send_message_length", GRPC_MESSAGE_BYTES),
        # Two servers on one port would share its connections; a taken port must be an error instead.
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=GRPC_WORKERS), options=limits)
    bound = {}

    def spoilable(rpc: str, given):
        if rpc == "AppendRows":
            return grpc.stream_stream_rpc_method_handler(
                spoilable_append(given.stream_stream, lambda: bound["port"]),
                given.request_deserializer,
                given.response_serializer,
            )
        if given.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                spoilable_unary(rpc, given.unary_unary, lambda: bound["port"]),
                given.request_deserializer,
                given.response_serializer,
            )
        return given

    for service, handlers in emulator.SERVICES.items():
        wrapped = {rpc: spoilable(rpc, handler) for rpc, handler in handlers.items()}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, wrapped)])
    bound["port"] = server.add_insecure_port(f"{host}:{port}")
    server.start()
    return server, bound["port"]


# ---------------------------------------------------------------------------------------------------------------------
# What is in the way in local-bigquery 0.4.0
# ---------------------------------------------------------------------------------------------------------------------


def link_extensions():
    """Puts DuckDB's extensions where it looks for them, so that it does not download them: $HOME/.duckdb/extensions/…"""
    import duckdb

    with duckdb.connect() as connection:
        [(platform,)] = connection.execute("PRAGMA platform").fetchall()
    version = f"v{duckdb.__version__}"
    folder = pathlib.Path.home() / ".duckdb" / "extensions" / version / platform
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        package = importlib.util.find_spec(f"duckdb_extension_{name}")
        if package is None or package.origin is None:
            sys.exit(f"launcher: the package duckdb-extension-{name} is not installed beside local-bigquery")
        source = pathlib.Path(package.origin).parent / "extensions" / version / f"{name}.duckdb_extension"
        target = folder / source.name
        if not source.exists():
            sys.exit(f"launcher: duckdb-extension-{name} is not the one of DuckDB {version}: install the pinned requirements")
        if target.exists():
            continue
        # Several launchers may share a HOME: each makes a link of its own name and moves it into place. A link, because
        # the three files have 130 MB.
        link = target.with_name(f"{source.name}.{os.getpid()}")
        link.symlink_to(source)
        link.replace(target)


class InTransaction:
    """A cursor inside a transaction, for a caller that would begin, commit or roll back one of its own."""

    def __init__(self, cursor):
        self._cursor = cursor

    def __getattr__(self, name):
        return getattr(self._cursor, name)

    def execute(self, sql, *arguments):
        import duckdb

        if sql == "BEGIN":
            raise duckdb.TransactionException("already in a transaction")
        return self._cursor.execute(sql, *arguments)


def allow_merge_in_transaction():
    """local-bigquery sends a second BEGIN and expects a `TransactionException`; DuckDB 1.5 also ends the first one with it."""
    import sqlglot
    from local_bigquery.jobs import merge, query

    # DuckDB does not tell whether a cursor is in a transaction, so its statements are watched. A cursor is a connection of
    # its own and lives as long as its job or session.
    inside = weakref.WeakSet()
    run_merge, run_statement = merge.run, query._run

    def watched(cursor, tree, *arguments):
        statistics = run_statement(cursor, tree, *arguments)
        if isinstance(tree, sqlglot.exp.Transaction):
            inside.add(cursor)
        elif isinstance(tree, (sqlglot.exp.Commit, sqlglot.exp.Rollback)):
            inside.discard(cursor)
        return statistics

    def run(cursor, tree, context):
        return run_merge(InTransaction(cursor) if cursor in inside else cursor, tree, context)

    query._run = watched
    merge.run = run


def rename_columns_together():
    """ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN c TO a: local-bigquery takes one."""
    from sqlglot import exp, parser
    from sqlglot.tokens import TokenType

    parse_one = parser.Parser._parse_alter_table_rename

    def parse(self):
        renames = [parse_one(self)]
        while isinstance(renames[-1], exp.RenameColumn) and self._match(TokenType.COMMA):
            self._match_text_seq("RENAME")
            renames.append(parse_one(self))
        return renames if len(renames) > 1 else renames[0]

    parser.Parser._parse_alter_table_rename = parse


def keep_columns_options():
    """ADD COLUMN c NUMERIC(8, 2) OPTIONS (description = …) and SET DATA TYPE NUMERIC(12, 4): local-bigquery forgets the options and the
    parameters, and its columns without parameters cannot be given narrower ones. A renamed column keeps its own, not those that another had
    under the name."""
    from sqlglot import exp
    from local_bigquery.catalog import ddl as catalog, metadata, tables
    from local_bigquery.models import Table
    from local_bigquery.sql.rules import ddl

    alteration, split = catalog._alteration, ddl.split
    decimals = {exp.DataType.Type.DECIMAL, exp.DataType.Type.BIGDECIMAL}

    def renamed(stored, action, reference):
        """All renames of a statement at its first; the table has the new names already."""
        renames = [one for one in action.parent.args["actions"] if isinstance(one, exp.RenameColumn)]
        if action is not renames[0]:
            return {}
        former = {one.args["to"].name.casefold(): one.this.name.casefold() for one in renames}
        known = metadata.load(Table, *reference)
        own = {field.name.casefold(): field for field in (tables.fields(known) if known else [])}
        given = ("precision", "scale", "maxLength", "description")

        def now(field):
            old = former.get(field.name.casefold())
            if old is None:
                return field
            return field.replace(**{name: getattr(own.get(old), name, None) for name in given})

        return {"schema": {"fields": [now(field) for field in tables.fields(stored)]}}

    def altered(stored, action, reference, evaluate):
        if isinstance(action, exp.RenameColumn):
            return renamed(stored, action, reference)
        if isinstance(action, exp.ColumnDef):
            given = catalog.options(action.find(exp.Properties), catalog.COLUMN_OPTIONS, evaluate)
            given |= catalog._parameters(action.args.get("kind"))
        elif isinstance(action, exp.AlterColumn) and (kind := action.args.get("dtype")) is not None and kind.this in decimals:
            given = {"precision": None, "scale": None} | catalog._parameters(kind)
        else:
            return alteration(stored, action, reference, evaluate)

        def is_it(field) -> bool:
            # What was there before IF NOT EXISTS stays as it is.
            is_kept = action.args.get("exists") and (field.description or field.precision)
            return field.name.casefold() == action.name.casefold() and not is_kept

        fields = [field.replace(**given) if is_it(field) else field for field in tables.fields(stored)]
        return {"schema": {"fields": fields}} if given else {}

    def unsized(tree):
        parts = split(tree)
        for part in parts if isinstance(tree, exp.Alter) else []:
            for kind in part.find_all(exp.DataType):
                if kind.this in decimals:
                    kind.set("expressions", None)
        return parts

    catalog._alteration, ddl.split = altered, unsized


def filter_partitions_in_on():
    """A filter that `require_partition_filter` asks for may stand in the ON of a MERGE or of a join, and be on the column of a range:
    local-bigquery looks at WHERE alone, of partitions by ranges for a time of ingestion, and at what it makes of a MERGE instead of at that."""
    from sqlglot import exp
    from local_bigquery.catalog import metadata
    from local_bigquery.errors import BigQueryError
    from local_bigquery.jobs import merge
    from local_bigquery.models import Table
    from local_bigquery.sql.rules import tables

    check, run_merge = tables._check, merge.run
    merged = contextvars.ContextVar("merged", default=None)

    def run(cursor, tree, context):
        token = merged.set(tree)
        try:
            return run_merge(cursor, tree, context)
        finally:
            merged.reset(token)

    def conditions(node):
        """What has to be true for `node` to be."""
        node = node.unnest()
        if isinstance(node, exp.And):
            return [*conditions(node.left), *conditions(node.right)]
        return [node]

    def check_where_it_stands(tree, table, is_target):
        try:
            check(tree, table, is_target)
        except BigQueryError as error:
            if not error.message.startswith("Cannot query over table"):
                raise
            stored = metadata.load(Table, table.catalog, table.db, table.name)
            by = stored.rangePartitioning or stored.timePartitioning
            fields = {by.field.casefold()} if by and by.field else {"_partitiontime", "_partitiondate"}
            tree = merged.get() or tree
            given = [where.this for where in tree.find_all(exp.Where)]
            given += [on for node in tree.find_all(exp.Merge, exp.Join) if (on := node.args.get("on")) is not None]
            for condition in [condition for node in given for condition in conditions(node)]:
                # A comparison with another table's column is no filter.
                columns = {(column.table.casefold(), column.name.casefold()) for column in condition.find_all(exp.Column)}
                if len(columns) == 1 and next(iter(columns))[1] in fields:
                    return
            raise

    merge.run, tables._check = run, check_where_it_stands


def ignore_nulls_before_limit():
    """ARRAY_AGG(x IGNORE NULLS ORDER BY y LIMIT n): local-bigquery drops IGNORE NULLS as soon as an order or a limit is there."""
    from sqlglot import exp
    from local_bigquery.sql import rules

    def rewrite(tree, context):
        for ignoring in list(tree.find_all(exp.IgnoreNulls)):
            aggregate = ignoring.this
            if not isinstance(aggregate, exp.ArrayAgg) or isinstance(ignoring.parent, exp.Window):
                continue
            limit = aggregate.this if isinstance(aggregate.this, exp.Limit) else None
            if limit is not None:
                aggregate.set("this", limit.this)
            value = aggregate.this
            while isinstance(value, (exp.Order, exp.Distinct)):
                value = value.this if isinstance(value, exp.Order) else value.expressions[0]
            present = exp.Not(this=exp.Is(this=value.copy(), expression=exp.Null()))
            filtered = exp.Filter(this=aggregate.copy(), expression=exp.Where(this=present))
            if limit is not None:
                first = exp.Literal.number(1)
                filtered = exp.Anonymous(this="list_slice", expressions=[filtered, first, limit.expression.copy()])
            ignoring.replace(filtered)
        return tree

    rules.STATEMENT_RULES.insert(0, rewrite)


@functools.lru_cache(maxsize=4096)
def parsed_exactly(document: str):
    """The JSON document with every number as its own text. Kept, because each column of a row asks for the same document;
    DuckDB computes 2,048 rows of a column before the next."""

    def first_wins(members):
        return dict(reversed(members))

    return json.loads(document, parse_int=str, parse_float=str, object_pairs_hook=first_wins)


def number_texts(documents, paths):
    """For one vector of rows, as Arrow arrays: row by row, DuckDB's own conversions cost ten times the work."""
    import pyarrow

    found, steps_of = [], functools.cache(json.loads)
    for document, path in zip(documents.to_pylist(), paths.to_pylist()):
        value = None
        if document is not None:
            value = parsed_exactly(document)
            for step in steps_of(path):
                value = value[step]
        found.append(value)
    return pyarrow.array(found, pyarrow.string())


def keep_number_text():
    """JSON_VALUE(text, path): DuckDB reads a number and prints it anew. A result that may have lost digits is read again.
    A broken document fails the statement in DuckDB; that of a poison record does so even where WHERE leaves it out."""
    from sqlglot import exp
    from local_bigquery.sql import native, rules

    function = "_strait_number_text"
    register_others = native.register

    def register(connection):
        register_others(connection)
        connection.create_function(function, number_texts, ["VARCHAR", "VARCHAR"], "VARCHAR", type="arrow")

    native.register = register

    def rewrite(node, context):
        if not isinstance(node, exp.JSONExtractScalar) or not isinstance(node.expression, exp.JSONPath):
            return node
        steps = []
        for part in node.expression.expressions:
            if isinstance(part, (exp.JSONPathKey, exp.JSONPathSubscript)) and isinstance(part.this, (str, int)):
                steps.append(part.this)
            elif not isinstance(part, exp.JSONPathRoot):
                return node
        path = exp.Literal.string(json.dumps(steps, ensure_ascii=False))
        result = exp.Anonymous(this="try", expressions=[exp.Paren(this=node.copy())])
        text = exp.cast(node.this.copy(), "VARCHAR", dialect="duckdb")
        # A JSON value, unlike JSON text, holds its numbers as BigQuery prints them.
        is_text = exp.NEQ(
            this=exp.Anonymous(this="typeof", expressions=[node.this.copy()]), expression=exp.Literal.string("JSON")
        )
        rounded = exp.Anonymous(
            this="regexp_matches",
            expressions=[result, exp.Literal.string("^-?([0-9]+[.eE]|[0-9]{16,}$)")],
        )
        # The concatenation copies: a CASE keeps no hold on the Arrow buffers that strings of more than 12 bytes stay in.
        again = exp.DPipe(
            this=exp.Anonymous(this=function, expressions=[text, path]), expression=exp.Literal.string("")
        )
        return exp.Paren(
            this=exp.Case(ifs=[exp.If(this=exp.and_(is_text, rounded), true=again)], default=result.copy())
        )

    rules.NODE_RULES.append(rewrite)


def forget_unnamed_rows():
    """Rows without an insert id are not deduplicated; local-bigquery files them all the same, in a dict that two appends
    may clean at once (KeyError)."""
    from local_bigquery.catalog import tabledata

    original, lock = tabledata._deduplicate, threading.Lock()

    def deduplicate(table, rows):
        if all(insert_id is None for _, insert_id, _ in rows):
            return [(index, data) for index, _, data in rows]
        with lock:
            return original(table, rows)

    tabledata._deduplicate = deduplicate


# What a statement's translation was told by `once`.
asked = contextvars.ContextVar("asked", default=None)


def once(ask):
    """While a statement is translated its tables are looked up again by each rule and for each place where they stand. Nothing is written
    meanwhile, so the first answer serves them all."""

    def answer(*question):
        known = asked.get()
        if known is None:
            return ask(*question)
        key = ask, repr(question)
        if key not in known:
            known[key] = ask(*question)
        return list(known[key])

    return answer


# How local-bigquery asks for the columns of one table, by a scan over the columns of all: which are required, and whether it has one.
COLUMNS_OF_A_TABLE = "FROM duckdb_columns() WHERE database_name = ? AND schema_name = ? AND table_name = ?"
REQUIRED_COLUMNS = f"SELECT column_name {COLUMNS_OF_A_TABLE} AND NOT is_nullable"
HAS_COLUMN = f"SELECT 1 {COLUMNS_OF_A_TABLE} AND column_name = ?"
A_DATASET = "SELECT 1 FROM duckdb_schemas() WHERE database_name = ? AND schema_name = ?"
TEMPORARY_TABLES = "SELECT table_name FROM duckdb_tables() WHERE temporary"


def find_by_name():
    """local-bigquery looks a table, its columns or its dataset up by a scan over everything that DuckDB knows, many times in a
    statement: each costs 110 ms where there are 100 tables and the answers of 300 queries, which stay. In the tables that DuckLake keeps
    of them they are found by name in one (and DuckLake itself, when it is asked, reads all of them anew after each change of one). What
    cannot be asked that way (a project that is not attached, say) is asked the long way."""
    import duckdb
    from local_bigquery.catalog import tabledata, tables
    from local_bigquery.engine import database

    scan_objects, fetch = database.objects, database.fetch

    def catalogue(project_id: str) -> str:
        return database.quote(f"__ducklake_metadata_{project_id}", "main")

    @once
    def described(project_id: str, dataset_id: str, name: str) -> list[tuple]:
        """A table's number and rows, then the number and beginning of a column, its name, whether it may be null, and whether it is part of
        another; for each column. Of a view, or where there is no such table, nothing."""
        lake = catalogue(project_id)
        return fetch(
            "SELECT t.table_id, n.record_count, c.column_id, c.begin_snapshot, c.column_name, c.nulls_allowed, c.parent_column IS NULL "
            f"FROM {lake}.ducklake_table t JOIN {lake}.ducklake_schema s USING (schema_id) JOIN {lake}.ducklake_column c USING (table_id) "
            f"LEFT JOIN {lake}.ducklake_table_stats n USING (table_id) WHERE s.schema_name = ? AND t.table_name = ? "
            "AND t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND c.end_snapshot IS NULL",
            [dataset_id, name],
        )

    def view(project_id: str, dataset_id: str, name: str) -> list[tuple[str, str, int]]:
        lake = catalogue(project_id)
        return fetch(
            f"SELECT v.view_name, 'VIEW', 0 FROM {lake}.ducklake_view v JOIN {lake}.ducklake_schema s USING (schema_id) "
            "WHERE s.schema_name = ? AND v.view_name = ? AND v.end_snapshot IS NULL AND s.end_snapshot IS NULL",
            [dataset_id, name],
        )

    def kept_answer(*path: str) -> list[tuple[str, str, int]]:
        """The answer of a query lies in a table of DuckDB's own."""
        try:
            [(rows,)] = fetch(f"SELECT count(*) FROM {database.quote(*path)}")
        except duckdb.CatalogException:
            return []
        return [(path[-1], "TABLE", rows)]

    def objects(project_id, dataset_id, table_id=None):
        path = project_id, dataset_id, table_id
        try:
            if table_id is None:
                return scan_objects(*path)
            if project_id == "emulator":
                return kept_answer(*path)
            found = described(*path)
            return [(table_id, "TABLE", found[0][1] or 0)] if found else view(*path)
        except duckdb.Error:
            return scan_objects(*path)

    ask_columns, known = tables.columns, {}

    def columns(*path):
        """Of a table as they were, as long as it is the same one with the same columns."""
        try:
            found = [] if path[1] == tables.RESULTS else described(*path)
        except duckdb.Error:
            found = []
        if not found:
            return ask_columns(*path)
        stamp = {(number, *column) for number, _, *column in found}
        if path not in known or known[path][0] != stamp:
            known[path] = stamp, ask_columns(*path)
        return list(known[path][1])

    def named_columns(sql, params):
        if params[0] == "emulator":
            table = database.quote(*params[:3]).replace("'", "''")
            columns = f"""SELECT name AS column_name, NOT "notnull" AS is_nullable FROM pragma_table_info('{table}')"""
            return fetch(sql.replace(COLUMNS_OF_A_TABLE, f"FROM ({columns}) WHERE true"), params[3:])
        # Of a view none: it has neither a required nor a hidden one.
        found = [(name, nullable) for *_, name, nullable, is_whole in described(*params[:3]) if is_whole]
        if sql == HAS_COLUMN:
            return [(1,) for name, _ in found if name == params[3]]
        return [(name,) for name, nullable in found if not nullable]

    def fetch_by_name(sql, params=None):
        with contextlib.suppress(duckdb.Error):
            if sql in (REQUIRED_COLUMNS, HAS_COLUMN):
                return named_columns(sql, params)
            if sql == A_DATASET:
                found = fetch(
                    f"SELECT 1 FROM {catalogue(params[0])}.ducklake_schema WHERE schema_name = ? AND end_snapshot IS NULL",
                    params[1:],
                )
                if found:
                    return found
        return fetch(sql, params)

    database.objects = objects
    database.fetch = fetch_by_name
    tables.columns = tabledata.columns = columns


class Records:
    """local-bigquery's own records of datasets, tables and the like (`emulator.tables`), which it asks for six times as often as there are
    statements. Nothing but its `execute` writes them, so an answer is good until that names the table that it is from and, as the first
    parameters, the dataset that it is about."""

    NAMED = re.compile(r"\bemulator\.(datasets|tables|routines|row_access_policies|models|indexes|js_functions)\b")
    KEPT = 10_000

    def __init__(self, fetch, execute):
        self._fetch, self._execute = fetch, execute
        # What the last write to a table was, as far as its first parameters are known.
        self._writes = {}
        self._answers = {}

    def fetch(self, sql, params=None):
        named = self.NAMED.search(sql)
        if not named:
            return self._fetch(sql, params)
        question = sql, *(params or ())
        writes = self._writes.get((named[1], *question[1:3]))
        known = self._answers.get(question)
        if known is None or known[0] is not writes:
            if len(self._answers) >= self.KEPT:
                self._answers.clear()
            known = self._answers[question] = writes, self._fetch(sql, params)
        return list(known[1])

    def execute(self, sql, params=None):
        try:
            self._execute(sql, params)
        finally:
            for name in self.NAMED.findall(sql):
                for known in range(3):
                    self._writes[name, *(params or ())[:known]] = object()


def keep_cursors_and_records():
    """A cursor is a connection of its own: local-bigquery made forty for each statement, of which a thread needs one."""
    from local_bigquery.engine import database

    own = threading.local()

    def run(sql, params):
        if not hasattr(own, "cursor"):
            own.cursor = database.connection().cursor()
        return own.cursor.execute(sql, params).fetchall()

    records = Records(run, run)
    replaced = {database.fetch: records.fetch, database.execute: records.execute}
    for module in [module for name, module in sys.modules.items() if name.startswith("local_bigquery.")]:
        for name in ("fetch", "execute"):
            if (instead := replaced.get(getattr(module, name, None))) is not None:
                setattr(module, name, instead)


def ask_once_per_statement():
    from local_bigquery.catalog import metadata, row_access
    from local_bigquery.engine import database
    from local_bigquery.sql import translate as translation

    original = translation.translate

    def translate(tree, context):
        token = asked.set({})
        try:
            return original(tree, context)
        finally:
            asked.reset(token)

    metadata.fetch, row_access.fetch = once(metadata.fetch), once(row_access.fetch)
    database.fetch, database.objects = once(database.fetch), once(database.objects)
    for module in list(sys.modules.values()):
        if getattr(module, "translate", None) is original:
            module.translate = translate


def copy_trees_quickly():
    """A statement's tree is copied for translation, for its types and again for its text. The last copy is of a tree that nobody needs any more,
    and of all of them a node's type, which nothing writes to, took most: each is a tree of its own."""
    from copy import deepcopy

    from local_bigquery.sql import translate as translation
    from local_bigquery.sql.dialect import DuckDBDialect
    from sqlglot import exp

    def blank(kind, parent=None, arg_key=None, index=None):
        node = kind.__new__(kind)
        node.args, node.parent, node.arg_key, node.index = {}, parent, arg_key, index
        node.comments = node._type = node._meta = node._hash = None
        return node

    def copy(self):
        root = blank(self.__class__)
        stack = [(self, root)]
        while stack:
            node, twin = stack.pop()
            if node.comments is not None:
                twin.comments = list(node.comments)
            if node._type is not None:
                twin._type = node._type
            if node._meta:
                twin._meta = deepcopy(node._meta)
            args = twin.args
            for key, value in node.args.items():
                if isinstance(value, exp.Expr):
                    args[key] = child = blank(value.__class__, twin, key)
                    stack.append((value, child))
                elif type(value) is list:
                    args[key] = children = []
                    for place, item in enumerate(value):
                        if isinstance(item, exp.Expr):
                            child = blank(item.__class__, twin, key, place)
                            children.append(child)
                            stack.append((item, child))
                        else:
                            children.append(item)
                else:
                    args[key] = value
        return root

    exp.Expression.copy = copy
    exp.Expression.__deepcopy__ = lambda self, memo: copy(self)

    def translate(tree, context):
        context.used.clear()
        tree = tree.copy()
        for rule in translation.STATEMENT_RULES:
            tree = rule(tree, context)
        tree = translation._rewrite(tree, context)
        return tree.sql(dialect=DuckDBDialect, copy=False), {name: context.values[name] for name in context.used}

    original = translation.translate
    for module in list(sys.modules.values()):
        if getattr(module, "translate", None) is original:
            module.translate = translate


def walk_trees_quickly():
    """Each of some twenty rules looks through a statement's whole tree for what it is about: a generator for each node made an eighth of all work."""
    from sqlglot import exp

    def bfs(self, prune=None):
        nodes = [self]
        # It grows while it is gone through; a node's children are looked up once its taker is done with it, as they may be others then.
        for node in nodes:
            yield node
            if prune and prune(node):
                continue
            for value in node.args.values():
                if type(value) is list:
                    nodes.extend([item for item in value if isinstance(item, exp.Expr)])
                elif isinstance(value, exp.Expr):
                    nodes.append(value)

    exp.Expression.bfs = bfs


def qualify_no_fold_in_vain():
    """For its types a statement's columns are traced to their tables, which fails where a source's columns are a star's and another source
    stands beside it, and is then tried once more, with the same end. A merge's fold is the largest of all statements, and such a one: once
    tracing has failed, it is not tried for a statement with the same names in its WITH."""
    from local_bigquery.sql.rules import typing
    from sqlglot import exp
    from sqlglot.errors import OptimizeError

    typed = typing._typed
    in_vain = set()

    def typed_unless_in_vain(tree, schema, positional):
        names = tree.find(exp.With)
        names = tuple(cte.alias for cte in names.expressions) if names else ()
        if names in in_vain:
            raise OptimizeError("as before")
        try:
            return typed(tree, schema, positional)
        except OptimizeError as error:
            if len(names) > 4 and "missing source schemas" in str(error):
                in_vain.add(names)
            raise

    typing._typed = typed_unless_in_vain


class WithoutTemporaryTables:
    """A cursor that was made for one job and has no temporary tables yet: it answers the search for them, which is a scan over all
    tables, by itself."""

    def __init__(self, cursor):
        self._cursor = cursor

    def __getattr__(self, name):
        return getattr(self._cursor, name)

    def sql(self, query, *arguments, **named):
        if query == TEMPORARY_TABLES:
            return self
        return self._cursor.sql(query, *arguments, **named)

    def fetchall(self):
        return []


def search_for_pandas_never():
    """DuckDB asks for pandas, which is not installed, for each parameter of each statement, and each time it is searched for in the file
    system under a lock: a third of the time of the tests' statements. (None in sys.modules would do, but pyarrow takes that for pandas.)"""
    search = builtins.__import__

    def unless_pandas(name, *rest, **named):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=name)
        return search(name, *rest, **named)

    builtins.__import__ = unless_pandas


def look_for_temporary_tables_in_sessions_only():
    from local_bigquery.jobs import query

    execute = query.execute

    def execute_job(cursor, *arguments, session=None, **named):
        if session is None:
            cursor = WithoutTemporaryTables(cursor)
        return execute(cursor, *arguments, session=session, **named)

    query.execute = execute_job


def end_interrupted_jobs():
    """A job that ran when the process was killed would be RUNNING for ever, and whoever waits for it would wait as long. BigQuery's
    jobs end, at the latest with an error of its own."""
    from local_bigquery.engine.database import fetch
    from local_bigquery.errors import BigQueryError
    from local_bigquery.jobs import runner, store
    from local_bigquery.models import JobStatistics

    for project_id, job_id in fetch("SELECT project_id, job_id FROM emulator.jobs WHERE state <> 'DONE'"):
        job = store.load(project_id, job_id)
        statistics = JobStatistics.model_validate({job.configuration.jobType.lower(): {}})
        store.save(runner._done(job, statistics, BigQueryError("backendError", "The embedded BigQuery was killed while the job ran")))


class IdentifyCaller:
    """What local-bigquery does in a middleware of Starlette's base class, which makes a task and two streams for every request."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        from local_bigquery.catalog import row_access

        authorization = dict(scope.get("headers", [])).get(b"authorization")
        token = row_access.caller.set(row_access.identify(authorization and authorization.decode("latin-1")))
        try:
            await self.app(scope, receive, send)
        finally:
            row_access.caller.reset(token)


def identify_callers_plainly(app):
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware

    def replaced(middleware):
        is_it = middleware.cls is BaseHTTPMiddleware and middleware.kwargs["dispatch"].__name__ == "identify_caller"
        return Middleware(IdentifyCaller) if is_it else middleware

    app.user_middleware = [replaced(middleware) for middleware in app.user_middleware]


def keep_ended_jobs():
    from local_bigquery.engine import database
    from local_bigquery.jobs import store
    from local_bigquery.models import Job

    save, load, delete = store.save, store.load, store.delete
    # In the table they stay PENDING until they end: all that the next start has to know is that they did not.
    begun = {}

    def save_and_keep(job):
        key = job.jobReference.projectId, job.jobReference.jobId
        if job.status.state == "RUNNING":
            begun[key] = job
            return job
        dumped = job.dump()
        if key in begun:
            changed = "UPDATE emulator.jobs SET state = ?, resource = ? WHERE project_id = ? AND job_id = ?"
            database.execute(changed, [job.status.state, json.dumps(dumped), *key])
        else:
            save(job)
        if job.status.state == "DONE":
            # As it would be read from the table.
            ended_jobs.keep(key, Job.model_validate(dumped), json.dumps(dumped))
            begun.pop(key, None)
        return job

    def load_kept(project_id, job_id):
        key = project_id, job_id
        return ended_jobs.job(key) or begun.get(key) or load(project_id, job_id)

    def forget_and_delete(project_id, job_id):
        ended_jobs.forget((project_id, job_id))
        delete(project_id, job_id)

    store.save, store.load, store.delete = save_and_keep, load_kept, forget_and_delete


def count_jobs():
    from local_bigquery.jobs import runner

    original = runner.submit

    def submit(*arguments, **named):
        job = original(*arguments, **named)
        if job.jobReference.jobId is not None:
            counters.job()
        return job

    runner.submit = submit


# ---------------------------------------------------------------------------------------------------------------------
# Start and end
# ---------------------------------------------------------------------------------------------------------------------


def end_with_parent():
    """Polls, because Linux ties its own signal for this (PR_SET_PDEATHSIG) to the thread that started the child, not to
    the process, and a thread of an async runtime may end at any time."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def announce(host: str, rest_port: int, grpc_port: int):
    """Prints the ready line once both ports answered. A reader that has gone meanwhile ends the process."""
    import grpc

    def answered() -> bool:
        with contextlib.closing(http.client.HTTPConnection(host, rest_port, timeout=30)) as connection:
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == 200
            except OSError:
                return False

    def watch():
        while not answered():
            time.sleep(READY_POLL_SECONDS)
        with grpc.insecure_channel(f"{host}:{grpc_port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        try:
            print(json.dumps({"rest_port": rest_port, "grpc_port": grpc_port}), flush=True)
        except BrokenPipeError:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main():
    parser = argparse.ArgumentParser("launcher", description="Start the embedded BigQuery")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="REST; 0 takes a free one")
    parser.add_argument("--grpc-port", type=int, default=0, help="Storage Write API; 0 takes a free one")
    parser.add_argument("--project", required=True)
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    arguments = parser.parse_args()

    # Nothing is lost by an abrupt end: an acknowledged write is on disk. A graceful one would wait for open streams.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    end_with_parent()
    link_extensions()
    # local-bigquery reads its settings from the environment as well, under names as general as DATA_DIR.
    for name in list(os.environ):
        if name.lower() in ("bigquery_port", "bigquery_host", "grpc_port", "data_dir", "caller", "groups"):
            del os.environ[name]
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # It warns of every table option that DuckDB does not have; local-bigquery keeps those elsewhere.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)

    import uvicorn
    from local_bigquery.settings import settings

    settings.bigquery_host = arguments.host
    settings.default_project_id = arguments.project
    settings.data_dir = arguments.data_dir.resolve()

    from local_bigquery.app import DISCOVERY, app
    from local_bigquery.engine import database

    search_for_pandas_never()
    allow_merge_in_transaction()
    rename_columns_together()
    forget_unnamed_rows()
    keep_columns_options()
    filter_partitions_in_on()
    ignore_nulls_before_limit()
    keep_number_text()
    identify_callers_plainly(app)
    keep_ended_jobs()
    count_jobs()
    keep_cursors_and_records()
    find_by_name()
    copy_trees_quickly()
    walk_trees_quickly()
    qualify_no_fold_in_vain()
    ask_once_per_statement()
    look_for_temporary_tables_in_sessions_only()
    # Opens the database now: an error here ends the start instead of failing the first call. Statements run side by side, each on the
    # thread that asks; to share the small tables of a test among threads costs each statement a third more.
    database.execute("SET threads = 1")
    end_interrupted_jobs()

    listener = socket.create_server((arguments.host, arguments.port), backlog=1024)
    # asyncio sets it for sockets that name their protocol, which this one and those that it accepts do not: an answer's second part, its body,
    # would wait for the client's delayed acknowledgement of the first, 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    rest_port = listener.getsockname()[1]
    server, grpc_port = grpc_server(arguments.host, arguments.grpc_port)
    announce(arguments.host, rest_port, grpc_port)
    # What is there now stays: the garbage of syntax trees is collected without a look at it, a tenth less of the work.
    gc.collect()
    gc.freeze()
    # A statement makes tens of thousands of syntax nodes, nearly all of which go without the collector's help.
    gc.set_threshold(100_000, 20, 20)

    config = uvicorn.Config(
        StraitRoutes(app, DISCOVERY, rest_port), log_level="warning", access_log=False, lifespan="off", ws="none"
    )
    rest = uvicorn.Server(config)
    # uvicorn would put its own, graceful, signal handlers over ours.
    rest.capture_signals = contextlib.nullcontext
    rest.run(sockets=[listener])
    server.stop(None)


if __name__ == "__main__":
    main()
