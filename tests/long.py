"""Runs the random schedules of all levels, those of altered tables included, for a long time and prints a table of what they went through.

The budget (BUDGET, such as 30m, 1800s or 2h) is split between the levels; each runs its own test with its own variable of seconds.
STRAIT_SCHEDULES_SEED plays one seed on every level. The exit status is 0 only if nothing was wrong.
"""

import os
import re
import subprocess
import sys

# Level, test, variable of its seconds, its share of the budget.
LEVELS = [
    ("model", "schedules_model::the_algorithm_is_right_under_random_schedules", "MODEL", 0.10),
    ("statements", "schedules_statements::the_statements_are_right_under_random_schedules", "STATEMENTS", 0.45),
    ("built functions", "schedules::final_tables_equal_the_source_under_random_schedules", "BUILT", 0.20),
    ("altered: steps", "schema_model::random_schedules_of_alterations_leave_every_value_in_its_column", "SCHEMA_MODEL", 0.05),
    ("altered: stmts", "schema_statements::random_schedules_of_altered_tables_end_equal_to_their_sources", "SCHEMA_STATEMENTS", 0.20),
]
UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text):
    match = re.fullmatch(r"(\d+)([smh]?)", text)
    if not match:
        sys.exit(f"BUDGET={text}: expected a number with s, m or h behind it, such as 30m")
    return int(match[1]) * UNITS[match[2] or "s"]


def play(test, variable, budget):
    """Runs one level; its output goes on, and its last sums are the answer: histories, records, whether it failed."""
    command = [*os.environ.get("CARGO", "cargo").split(), "test", "--profile", os.environ.get("PROFILE", "ci")]
    command += ["-p", "strait-tests", "--test", "end_to_end", "--", "--nocapture", "--exact", test]
    environment = {**os.environ, f"STRAIT_SCHEDULES_SECONDS_{variable}": str(budget)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    histories = records = wrong = 0
    for line in process.stdout:
        # The handlers write their metrics to standard output.
        if line.startswith("{"):
            continue
        print(line, end="", flush=True)
        if sums := re.search(r"so far: (\d+) histories, (\d+) records delivered, (\d+) wrong", line):
            histories, records, wrong = map(int, sums.groups())
    failed = process.wait() != 0
    return histories, records, max(wrong, int(failed))


def main():
    budget = seconds(os.environ.get("BUDGET", "30m"))
    rows = []
    for level, test, variable, share in LEVELS:
        rows.append((level, *play(test, variable, max(1, round(budget * share)))))
    print(f"\n{'level':<18}{'histories':>12}{'records':>14}{'wrong':>8}")
    for level, histories, records, wrong in rows:
        print(f"{level:<18}{histories:>12,}{records:>14,}{wrong:>8}")
    sys.exit(any(wrong for *_, wrong in rows))


if __name__ == "__main__":
    main()
