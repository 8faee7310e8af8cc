#!/usr/bin/env python3
"""What a month costs, for three sizes of user: the table of docs/cost.md, from the bytes that `make bench` measured (target/bench.json) and
the list prices below, in US dollars, us-east-1 and BigQuery's US multi-region. Free tiers are taken into account where they are the
account's own every month; discounts are not."""

import json
import pathlib
import sys

DAYS = 30.4
HOURS = DAYS * 24
GIB, TIB, GB, TB = 2**30, 2**40, 10**9, 10**12

LAMBDA_GB_SECOND = 0.0000133334  # arm64, first 7.5 billion GB-seconds
LAMBDA_REQUEST = 0.20 / 1e6
POLLER_UNIT_HOUR = 0.185  # provisioned mode of the event source mapping
MSK_BROKER_HOUR = {"kafka.t3.small": 0.0456, "kafka.m7g.large": 0.204}
MSK_GB_MONTH = 0.10
DMS_DCU_HOUR = 0.225  # not verified
TRANSFER_TIERS = [(100 * GB, 0.0), (10 * TB, 0.09), (50 * TB, 0.085), (150 * TB, 0.07), (float("inf"), 0.05)]
WRITE_GIB, WRITE_FREE = 0.025, 2 * TIB
STORAGE_GIB_MONTH = 0.02  # active, logical
QUERY_TIB, QUERY_FREE = 6.25, 1 * TIB
SLOT_HOUR_STANDARD = 0.04

MERGE_MINUTES = 5
RUNS = HOURS * 60 / MERGE_MINUTES
# A query is billed at least 10 MB for each table it refers to, and 10 MB in all.
MINIMUM_BYTES = 10 * 2**20
# References to tables: of a run in itself (plan, ledger), and for each table with news (fold, survey, merge with fold and ledger).
REFERENCES_OF_RUN, REFERENCES_OF_TABLE = 4, 6
# The log's partitions are hours, and a run looks back 20 minutes: half an hour of the running partition, and in one of three runs the
# whole of the one before.
HOURS_READ = 0.5 + 1 / 3
# Bytes of a log row that the plan's columns have. The rows are read whole once, whatever the number of tables: by their copy, which holds
# what came since the last run, and from which the folds read.
PLAN_SHARE = 0.4
LOG_READINGS = PLAN_SHARE + 1 + MERGE_MINUTES / 60 / HOURS_READ

# Of a ledger's row, the columns that tell a table's state, reckoned with six partitions and an epoch; two rows for each table and run.
LEDGER_ENTRY_BYTES = 750

SIZES = [
    dict(name="10 tables, 1M a day", tables=10, changes=1e6, broker="kafka.t3.small", dcu=1, final_gib=10, busy=1.0),
    dict(name="200 tables, 100M a day", tables=200, changes=100e6, broker="kafka.m7g.large", dcu=4, final_gib=500, busy=0.5),
    dict(name="2,000 tables, 1B a day", tables=2000, changes=1e9, broker="kafka.m7g.large", dcu=16, final_gib=5000, busy=0.25),
]
# The share of a final table's blocks that a merge's key range leaves to be read.
TOUCHED = 0.02


def tiered(amount):
    cost, below = 0.0, 0.0
    for limit, price in TRANSFER_TIERS:
        cost += max(0.0, min(amount, limit) - below) / GB * price
        below = limit
    return cost


def costs(size, bench):
    changes = size["changes"] * DAYS
    wire, row, message = bench["wire_bytes"], bench["wire_bytes_plain"], 641
    # An invocation every ten seconds at least, with at most 5,000 records.
    invocations = max(HOURS * 360, changes / 5000)
    # 512 MB have 0.29 of a processor; BigQuery's answer takes about 150 ms, which only a real one can tell.
    cpu_seconds = changes * bench["invocation_tls_gzip_ns"] / 1e9 / (512 / 1769)
    ingest = (cpu_seconds + invocations * 0.15) * 0.5 * LAMBDA_GB_SECOND + invocations * LAMBDA_REQUEST
    busy_tables = size["tables"] * size["busy"]
    merge = RUNS * min(240, 5 + busy_tables * 0.5) * 0.25 * LAMBDA_GB_SECOND + RUNS * LAMBDA_REQUEST
    transfer = tiered(changes * wire)
    msk = 3 * MSK_BROKER_HOUR[size["broker"]] * HOURS + size["changes"] * 3 * message * 3 / GB * MSK_GB_MONTH
    log_bytes = changes * row
    log_reads = log_bytes / HOURS * HOURS_READ * RUNS * LOG_READINGS
    minimum = RUNS * (REFERENCES_OF_RUN + busy_tables * REFERENCES_OF_TABLE) * MINIMUM_BYTES
    finals = RUNS * size["busy"] * size["final_gib"] * GIB * TOUCHED
    # The day's part that has passed, half of it in the mean; what is below a table's minimum is in that.
    ledger = RUNS * max(0.0, 0.5 * RUNS / DAYS * 2 * busy_tables * LEDGER_ENTRY_BYTES - MINIMUM_BYTES)
    query = max(0.0, log_reads + minimum + finals + ledger - QUERY_FREE) / TIB * QUERY_TIB
    return {
        "DMS Serverless": size["dcu"] * DMS_DCU_HOUR * HOURS,
        "MSK: 3 brokers, 3 days kept": msk,
        "Lambda's poller, provisioned, 1 unit": POLLER_UNIT_HOUR * HOURS,
        "Lambda: ingest": ingest,
        "Lambda: merge every 5 minutes": merge,
        "data transfer out": transfer,
        "Storage Write API": max(0.0, log_bytes - WRITE_FREE) / GIB * WRITE_GIB,
        "storage: 30 days of log, final tables": (log_bytes / GIB * 30 / DAYS + size["final_gib"]) * STORAGE_GIB_MONTH,
        "queries, on demand": query,
        "  of them the log, TiB": log_reads / TIB,
        "  of them 10 MB minima, TiB": minimum / TIB,
        "  of them final tables, TiB": finals / TIB,
        "  of them the ledger, TiB": ledger / TIB,
    }


def main():
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/bench.json")
    bench = json.loads(path.read_text())
    columns = [costs(size, bench) for size in SIZES]
    print("| $ a month | " + " | ".join(size["name"] for size in SIZES) + " |")
    print("|---|" + "---:|" * len(SIZES))
    for line in columns[0]:
        print(f"| {line.strip()} | " + " | ".join(f"{column[line]:,.1f}" if column[line] < 100 else f"{column[line]:,.0f}" for column in columns) + " |")
    totals = [sum(cost for line, cost in column.items() if not line.startswith(" ")) for column in columns]
    print("| **in all** | " + " | ".join(f"**{total:,.0f}**" for total in totals) + " |")
    without = [total - column["DMS Serverless"] - column["MSK: 3 brokers, 3 days kept"] for total, column in zip(totals, columns)]
    print("| without DMS and MSK | " + " | ".join(f"{total:,.0f}" for total in without) + " |")
    per_million = [total / (size["changes"] * DAYS / 1e6) for total, size in zip(totals, SIZES)]
    print("| $ per million changes | " + " | ".join(f"{cost:.2f}" for cost in per_million) + " |")
    floor = RUNS / 60 * 50 * SLOT_HOUR_STANDARD
    print(f"\nQueries by slots instead: 50 slots of the Standard edition for the least time, one minute, {RUNS:,.0f} times: ${floor:,.0f}.")
    print(f"One GiB of a final table read whole at each of them, on demand: ${RUNS / 1024 * QUERY_TIB:,.1f}.")


if __name__ == "__main__":
    main()
