#!/usr/bin/env python3
"""Runs every test of the workspace, several processes of tests side by side, and prints what `cargo test` would.

    python3 tests/run.py                # as many processes at once as there are cores
    python3 tests/run.py --jobs 1       # one after the other, as `cargo test` does
    python3 tests/run.py schedules      # only those whose name holds one of these words

A process is a test binary or, of the end-to-end tests, which are one binary, a module. `cargo test` runs the binaries one after the
other. A process of end-to-end tests waits for its one embedded BigQuery, which uses one core, so that on two cores half the machine
would stand idle. cargo-nextest runs each test in a process of its own, and each would start an embedded BigQuery for itself. What
fails is run once more, alone; exit status 0 only if everything passed by then.
"""

import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
END_TO_END = "end_to_end"
# How long each process took the last time, so that the longest begins first; of these it is known without a last time.
TIMES = ROOT / "target" / "test-times.json"
LONGEST = ["tests/cases (test)", "tests/schema_changes (test)", "tests/epochs (test)", "tests/fault_sweep (test)", "tests/analyzer (test)"]


def cargo():
    return os.environ.get("CARGO", "cargo").split()


def modules(executable, package):
    """What each module of the end-to-end tests is to be run with."""
    listed = subprocess.run([executable, "--list", "--format", "terse"], cwd=package, check=True, stdout=subprocess.PIPE, text=True)
    names = [line.removesuffix(": test") for line in listed.stdout.splitlines()]
    # In the list's order, which is the alphabet's.
    return [(module, [executable, "--exact", *tests]) for module, tests in itertools.groupby(names, lambda name: name.split("::")[0])]


def processes(profile):
    """Builds all tests; for each process its name, its command, and the folder of its package, from where cargo would run it."""
    command = [*cargo(), "test", "--profile", profile, "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = []
    for line in process.stdout:
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            package = pathlib.Path(message["manifest_path"]).parent
            name, kind, executable = message["target"]["name"], message["target"]["kind"][0], message["executable"]
            commands = modules(executable, package) if name == END_TO_END else [(name, [executable])]
            found += [(f"{package.relative_to(ROOT)}/{name} ({kind})", command, package) for name, command in commands]
    if process.wait():
        sys.exit(process.returncode)
    return found


def build_programs(profile):
    """What the tests run, once for all of them: each process would ask cargo for itself otherwise (tests/src/programs.rs)."""
    programs = ["ingest", "merge", "strait", "poller"]
    command = [*cargo(), "build", "--workspace", "--quiet", "--profile", profile, *[part for program in programs for part in ("--bin", program)]]
    if status := subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(status)


def report(process, seconds, output):
    # Whole, so that the binaries' lines stay together.
    print(f"\n     Running {process[0]}\n{output}     {process[0]}: {seconds:.0f} s", flush=True)


def run(process, threads):
    _, command, package = process
    environment = {**os.environ, "RUST_TEST_THREADS": str(threads), "TEST_PROGRAMS": "built", "CARGO": cargo()[0], "CARGO_MANIFEST_DIR": str(package)}
    started = time.monotonic()
    ended = subprocess.run(
        command, cwd=package, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return process, ended.returncode, time.monotonic() - started, ended.stdout.decode(errors="replace")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("words", nargs="*", help="only those whose name holds one of these")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="processes at once")
    arguments.add_argument("--threads", type=int, default=4, help="tests at once in each process")
    arguments.add_argument("--profile", default="ci")
    asked = arguments.parse_args()

    started = time.monotonic()
    chosen = [process for process in processes(asked.profile) if not asked.words or any(word in process[0] for word in asked.words)]
    build_programs(asked.profile)
    built = time.monotonic()
    try:
        times = json.loads(TIMES.read_text())
    except (OSError, ValueError):
        times = {}
    chosen.sort(key=lambda process: -times.get(process[0], 1_000 if process[0] in LONGEST else 0))

    red = []
    with concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, process, asked.threads) for process in chosen]):
            process, status, seconds, output = done.result()
            times[process[0]] = round(seconds, 1)
            # Its sums do not count yet: it is run once more.
            report(process, seconds, output.replace("\ntest result:", "\nfirst result:") if status else output)
            if status:
                red.append(process)
    # Some tests are about time limits, and a machine that is busy with others can starve them. What is red alone, is red.
    alone = [(process, run(process, asked.threads)) for process in red]
    for process, (_, _, seconds, output) in alone:
        report(process, seconds, output)
    TIMES.write_text(json.dumps(times, indent=1, sort_keys=True))

    slowest = sorted(((times[name], name) for name, *_ in chosen), reverse=True)[:10]
    print(f"\nbuilt in {built - started:.0f} s, ran {len(chosen)} processes of tests in {time.monotonic() - built:.0f} s; the slowest:")
    for seconds, name in slowest:
        print(f"  {seconds:6.0f} s  {name}")
    for (name, *_), (_, status, _, _) in alone:
        print(f"FAILED: {name}" if status else f"WARNING: {name} failed beside others and passed alone")
    sys.exit(any(status for _, (_, status, _, _) in alone))


if __name__ == "__main__":
    main()
