"""The function that a Python developer writes first: `json`, and google-cloud-bigquery's `insert_rows_json`."""

import base64
import json
import os

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

client = bigquery.Client(
    project="bench",
    credentials=AnonymousCredentials(),
    client_options={"api_endpoint": os.environ["BIGQUERY_URL"]},
)


def handler(event, context):
    rows = []
    for records in event["records"].values():
        for record in records:
            message = json.loads(base64.b64decode(record["value"]))
            metadata = message["metadata"]
            rows.append(
                {
                    "source_schema": metadata["schema-name"],
                    "source_table": metadata["table-name"],
                    "operation": metadata["operation"],
                    "data": json.dumps(message["data"]),
                    "transaction_id": str(metadata["transaction-id"]),
                    "committed_at": metadata["commit-timestamp"],
                    "emitted_at": metadata["timestamp"],
                    "kafka_topic": record["topic"],
                    "kafka_partition": record["partition"],
                    "kafka_offset": record["offset"],
                }
            )
    errors = client.insert_rows_json("bench.cdc.log", rows)
    if errors:
        raise RuntimeError("rows were refused")
    return {"batchItemFailures": []}
