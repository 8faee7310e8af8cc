#!/usr/bin/env python3
"""Breaks the product on purpose, one rule at a time, and expects the rule's test to notice.

    python3 tests/mutations/run.py                     # all of tests/mutations/list.toml
    python3 tests/mutations/run.py --only 5 --only 23  # those of these lines
    python3 tests/mutations/run.py --no-baseline       # without running the tests on the sound product first
    python3 tests/mutations/run.py --check             # only whether each mutation still finds its text

Everything happens in a copy of the repository under target/mutations, with a target folder of its own: the tree that one works in is
never touched, however this ends. Exit status 0 only if every mutation was caught.
"""

import argparse
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = ROOT / "target" / "mutations"
COPY = HOME / "tree"
BUILD = HOME / "build"
# Far above what a test takes; a mutation that makes it hang is noticed, too.
PATIENCE_SECONDS = 900


def repository_files():
    """Everything that belongs to the repository, committed or not yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    names = {name for name in listed.stdout.decode().split("\0") if name}
    return {name for name in names if (ROOT / name).is_file()}


def refresh_copy():
    """Only what differs is written, so that cargo builds only what differs."""
    wanted = repository_files()
    COPY.mkdir(parents=True, exist_ok=True)
    for path in [path for path in COPY.rglob("*") if path.is_file()]:
        if str(path.relative_to(COPY)) not in wanted:
            path.unlink()
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)


def prepare_build():
    """A target folder as cargo would make it, with the embedded BigQuery's environment, which takes hundreds of megabytes and a minute."""
    BUILD.mkdir(parents=True, exist_ok=True)
    # Cargo marks a target folder only when it makes it; the tests look for the mark.
    (BUILD / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    shared, own = ROOT / "target" / "embedded-bigquery", BUILD / "embedded-bigquery"
    if shared.is_dir() and not own.exists():
        own.symlink_to(shared)


def edits_of(mutation):
    return mutation.get("edit") or [{part: mutation[part] for part in ("file", "find", "replace")}]


def mutate(mutation):
    """The files' texts with the mutation in them. What is to be replaced has to stand there exactly once."""
    texts = {}
    for edit in edits_of(mutation):
        text = texts.get(edit["file"]) or (ROOT / edit["file"]).read_text()
        count = text.count(edit["find"])
        if count != 1:
            raise SystemExit(
                f"line {mutation['line']}, {mutation['what']}: {edit['file']} holds the text {count} times, not once:\n{edit['find']}"
            )
        texts[edit["file"]] = text.replace(edit["find"], edit["replace"])
    return texts


def cargo(arguments, log):
    environment = {**os.environ, "CARGO_TARGET_DIR": str(BUILD), "RUST_BACKTRACE": "0"}
    command = [os.environ.get("CARGO", "cargo"), *arguments]
    with open(log, "ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command, cwd=COPY, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(PATIENCE_SECONDS)
        except BaseException:
            os.killpg(process.pid, 15)
            process.wait()
            raise


def run_test(test, log):
    """Whether the test passes, fails, or what else is the matter."""
    target, *names = test.split()
    if (ROOT / "tests/tests" / f"{target}.rs").is_file():
        target, names = "end_to_end", [f"{target}::{name}" for name in names]
    # With the features of the whole workspace, as the tests build the functions, so that nothing is compiled twice.
    where = ["--workspace", *(["--lib"] if target == "lib" else ["--test", target])]
    log.unlink(missing_ok=True)
    try:
        if cargo(["test", "--quiet", "--no-run", *where], log):
            return "does not build"
        failed = cargo(["test", *where, "--", *names], log)
    except subprocess.TimeoutExpired:
        return "hangs"
    output = log.read_text(errors="replace")
    ran = sum(int(passed) + int(red) for passed, red in re.findall(r"(\d+) passed; (\d+) failed", output))
    if "the programs cannot be built" in output:
        return "does not build"
    if ran == 0:
        return "no such test"
    return "fails" if failed else "passes"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", action="append", default=[], metavar="LINE", help="only the mutations of this line")
    arguments.add_argument("--no-baseline", action="store_true", help="do not run the tests on the sound product first")
    arguments.add_argument("--check", action="store_true", help="only look whether each mutation still finds its text")
    asked = arguments.parse_args()

    # As on Ctrl+C, also in the background: what was started ends, too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)

    mutations = tomllib.loads((pathlib.Path(__file__).parent / "list.toml").read_text())["mutation"]
    for mutation in mutations:
        mutate(mutation)  # Before anything is built: a list that is out of date says so at once.
    if asked.check:
        print(f"{len(mutations)} mutations find their texts")
        return
    mutations = [mutation for mutation in mutations if not asked.only or mutation["line"] in asked.only]

    refresh_copy()
    prepare_build()
    logs = HOME / "logs"
    logs.mkdir(exist_ok=True)
    if not asked.no_baseline:
        for number, test in enumerate(sorted({mutation["test"] for mutation in mutations})):
            result = run_test(test, logs / f"sound-{number}.log")
            print(f"sound: {test}: {result}", flush=True)
            if result != "passes":
                raise SystemExit("a test that fails without a mutation says nothing about one")

    verdicts = []
    for number, mutation in enumerate(mutations):
        started = time.monotonic()
        try:
            for name, text in mutate(mutation).items():
                (COPY / name).write_text(text)
            result = run_test(mutation["test"], logs / f"{mutation['line']}-{number}.log")
        finally:
            refresh_copy()
        verdict = {"fails": "caught", "hangs": "caught", "passes": "SURVIVED"}.get(result, result.upper())
        verdicts.append((mutation, verdict))
        seconds = time.monotonic() - started
        print(f"{verdict:9} {mutation['line']:>8}  {mutation['what']}  ({mutation['test']}, {seconds:.0f} s)", flush=True)

    caught = sum(verdict == "caught" for _, verdict in verdicts)
    print(f"\n{caught} of {len(verdicts)} mutations caught")
    sys.exit(caught != len(verdicts))


if __name__ == "__main__":
    main()
