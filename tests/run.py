#!/usr/bin/env python3
"""Runs every test of the workspace, several test binaries side by side, and prints what `cargo test` would.

    python3 tests/run.py                # as many binaries at once as there are cores
    python3 tests/run.py --jobs 1       # one after the other, as `cargo test` does
    python3 tests/run.py schedules      # only the binaries whose name holds one of these words

`cargo test` runs the binaries one after the other. An end-to-end binary waits for its one embedded BigQuery, a process that uses one
core, so that on two cores half the machine would stand idle. cargo-nextest runs each test in a process of its own, and each
would start an embedded BigQuery for itself. A binary that fails is run once more, alone; exit status 0 only if every one passed by then.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
# How long each binary took the last time, so that the longest begins first; of these it is known without a last time.
TIMES = ROOT / "target" / "test-times.json"
LONGEST = ["tests/cases (test)", "tests/schema_changes (test)", "tests/fault_sweep (test)", "tests/analyzer (test)"]


def cargo():
    return os.environ.get("CARGO", "cargo").split()


def binaries(profile):
    """Builds all tests; each binary's name, path, and the folder of its package, from where cargo would run it."""
    command = [*cargo(), "test", "--profile", profile, "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    found = []
    for line in process.stdout:
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            package = pathlib.Path(message["manifest_path"]).parent
            name = f"{package.relative_to(ROOT)}/{message['target']['name']} ({message['target']['kind'][0]})"
            found.append((name, message["executable"], package))
    if process.wait():
        sys.exit(process.returncode)
    return found


def build_programs(profile):
    """What the tests run, once for all of them: each binary would ask cargo for itself otherwise (tests/src/programs.rs)."""
    programs = ["ingest", "merge", "strait", "poller"]
    command = [*cargo(), "build", "--workspace", "--quiet", "--profile", profile, *[part for program in programs for part in ("--bin", program)]]
    if status := subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(status)


def report(binary, seconds, output):
    # Whole, so that the binaries' lines stay together.
    print(f"\n     Running {binary[0]}\n{output}     {binary[0]}: {seconds:.0f} s", flush=True)


def run(binary, threads):
    _, executable, package = binary
    environment = {**os.environ, "RUST_TEST_THREADS": str(threads), "TEST_PROGRAMS": "built", "CARGO": cargo()[0], "CARGO_MANIFEST_DIR": str(package)}
    started = time.monotonic()
    process = subprocess.run(
        [executable], cwd=package, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return binary, process.returncode, time.monotonic() - started, process.stdout.decode(errors="replace")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("words", nargs="*", help="only the binaries whose name holds one of these")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count() or 2, help="binaries at once")
    arguments.add_argument("--threads", type=int, default=4, help="tests at once in each binary")
    arguments.add_argument("--profile", default="ci")
    asked = arguments.parse_args()

    started = time.monotonic()
    chosen = [binary for binary in binaries(asked.profile) if not asked.words or any(word in binary[0] for word in asked.words)]
    build_programs(asked.profile)
    built = time.monotonic()
    try:
        times = json.loads(TIMES.read_text())
    except (OSError, ValueError):
        times = {}
    chosen.sort(key=lambda binary: -times.get(binary[0], 1_000 if binary[0] in LONGEST else 0))

    red = []
    with concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, binary, asked.threads) for binary in chosen]):
            binary, status, seconds, output = done.result()
            times[binary[0]] = round(seconds, 1)
            # Its sums do not count yet: it is run once more.
            report(binary, seconds, output.replace("\ntest result:", "\nfirst result:") if status else output)
            if status:
                red.append(binary)
    # Some tests are about time limits, and a machine that is busy with another binary can starve them. What is red alone, is red.
    alone = [(binary, run(binary, asked.threads)) for binary in red]
    for binary, (_, _, seconds, output) in alone:
        report(binary, seconds, output)
    TIMES.write_text(json.dumps(times, indent=1, sort_keys=True))

    slowest = sorted(((times[name], name) for name, *_ in chosen), reverse=True)[:10]
    print(f"\nbuilt in {built - started:.0f} s, ran {len(chosen)} test binaries in {time.monotonic() - built:.0f} s; the slowest:")
    for seconds, name in slowest:
        print(f"  {seconds:6.0f} s  {name}")
    for (name, *_), (_, status, _, _) in alone:
        print(f"FAILED: {name}" if status else f"WARNING: {name} failed beside others and passed alone")
    sys.exit(any(status for _, (_, status, _, _) in alone))


if __name__ == "__main__":
    main()
