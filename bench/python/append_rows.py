"""The best that Python can do: `orjson`, protobuf's C implementation, and the Storage Write API over one channel with gzip. Google's
client is left out of the way of the rows: it would copy them once more. `handler` is what runs on Lambda; `handle` is given the event's
bytes, which AWS's runtime client would have parsed with `json` before."""

import base64
import os

import grpc
import orjson
from google.cloud.bigquery_storage_v1 import types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

STREAM = "projects/bench/datasets/cdc/tables/log/streams/_default"
TEXT = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
INTEGER = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
COLUMNS = [
    (1, "source_schema", TEXT),
    (2, "source_table", TEXT),
    (3, "operation", TEXT),
    (5, "data", TEXT),
    (7, "transaction_id", TEXT),
    (10, "kafka_topic", TEXT),
    (11, "kafka_partition", INTEGER),
    (12, "kafka_offset", INTEGER),
]


def row_class():
    file = descriptor_pb2.FileDescriptorProto(name="log.proto", package="bench", syntax="proto2")
    message = file.message_type.add(name="Row")
    for number, name, kind in COLUMNS:
        message.field.add(name=name, number=number, type=kind, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Row")), message


Row, descriptor = row_class()
channel = grpc.secure_channel(
    os.environ["BIGQUERY_STORAGE_TARGET"],
    grpc.ssl_channel_credentials(),
    options=[("grpc.max_send_message_length", -1)],
    compression=grpc.Compression.Gzip,
)
transport = BigQueryWriteGrpcTransport(channel=channel)
routing = [("x-goog-request-params", "write_stream=" + STREAM.replace("/", "%2F"))]


def handle(body: bytes) -> bytes:
    return orjson.dumps(handler(orjson.loads(body), None))


def handler(event, context):
    rows = []
    for records in event["records"].values():
        for record in records:
            message = orjson.loads(base64.b64decode(record["value"]))
            metadata = message["metadata"]
            row = Row(
                source_schema=metadata["schema-name"],
                source_table=metadata["table-name"],
                operation=metadata["operation"],
                data=orjson.dumps(message["data"]).decode(),
                transaction_id=str(metadata["transaction-id"]),
                kafka_topic=record["topic"],
                kafka_partition=record["partition"],
                kafka_offset=record["offset"],
            )
            rows.append(row.SerializeToString())
    request = types.AppendRowsRequest.pb()(write_stream=STREAM)
    request.proto_rows.writer_schema.proto_descriptor.CopyFrom(descriptor)
    request.proto_rows.rows.serialized_rows.extend(rows)
    for answer in transport.append_rows(iter([types.AppendRowsRequest.wrap(request)]), metadata=routing):
        if answer.row_errors or answer.error.code:
            raise RuntimeError("rows were refused")
    return {"batchItemFailures": []}
