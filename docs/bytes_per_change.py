#!/usr/bin/env python3
"""What a change weighs on its way, from a file of DMS messages, one JSON a line: in Kafka, as a row of the log, and compressed as it
crosses between the clouds (gzip, level 6, in batches as Lambda delivers them). Standard library only."""

import gzip
import json
import sys

BATCH = 2000


def main() -> None:
    messages = [line.rstrip(b"\n") for line in open(sys.argv[1], "rb")]
    rows = []
    for message in messages:
        record = json.loads(message)
        images = [json.dumps(record[name], separators=(",", ":"), ensure_ascii=False).encode() for name in ("data", "before-image") if name in record]
        metadata = record["metadata"]
        identity = "|".join(str(metadata.get(name, "")) for name in ("schema-name", "table-name", "operation", "transaction-id", "timestamp", "stream-position"))
        rows.append(b"|".join([*images, identity.encode()]))
    count = len(messages)
    wire = sum(len(gzip.compress(b"\n".join(rows[start : start + BATCH]), 6)) for start in range(0, count, BATCH))
    print(f"messages {count}")
    print(f"in Kafka, bytes a message {sum(map(len, messages)) / count:.0f}")
    print(f"in Lambda's event (base64), bytes a message {sum((len(message) + 2) // 3 * 4 for message in messages) / count:.0f}")
    print(f"row of the log, bytes {sum(map(len, rows)) / count:.0f}")
    print(f"row of the log on the wire (gzip), bytes {wire / count:.0f}")


if __name__ == "__main__":
    main()
