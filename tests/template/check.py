"""Checks template.yaml and infra/source.yaml, then plants every mistake of mistakes.py and sees whether it is found. Facts about the code
come as JSON on standard input; what is wrong goes out as JSON: `{"findings": [...], "missed": [...], "planted": N}`."""

import json
import sys
from pathlib import Path

import checks
import mistakes
from template import transformed

ROOT = Path(__file__).parents[2]


def planted(text: str, place: str, instead: str) -> str:
    if text.count(place) != 1:
        raise SystemExit(f"a mistake cannot be planted: this stands in the template {text.count(place)} times, not once:\n{place}")
    return text.replace(place, instead)


def main() -> None:
    facts = json.load(sys.stdin)
    template = (ROOT / "template.yaml").read_text()
    source = (ROOT / "infra/source.yaml").read_text()
    runbook = (ROOT / "docs/runbook.md").read_text()

    found = [f"template.yaml: {line}" for line in checks.findings(template, facts, with_lint=True)]
    found += [f"infra/source.yaml: {line}" for line in checks.source_findings(source, with_lint=True)]
    decided = transformed(template)
    found += [f"docs/runbook.md: {line}" for line in checks.check_runbook(runbook, decided, facts)]

    missed = []
    for kind, place, instead in mistakes.TEMPLATE:
        lines = checks.findings(planted(template, place, instead), facts, with_lint=kind == "lint")
        if not any(line.startswith(f"{kind}: ") for line in lines):
            missed.append(f"template.yaml, {kind}: {place!r} as {instead!r} is not found, only {lines}")
    for kind, place, instead in mistakes.SOURCE:
        lines = checks.source_findings(planted(source, place, instead), with_lint=kind == "lint")
        if not any(line.startswith(f"{kind}: ") for line in lines):
            missed.append(f"infra/source.yaml, {kind}: {place!r} as {instead!r} is not found, only {lines}")
    for place, instead in (("### poison\n", "### poisoned\n"), ("### `TablesFailed`\n", "### Tables\n")):
        if not checks.check_runbook(planted(runbook, place, instead), decided, facts):
            missed.append(f"docs/runbook.md: {place!r} as {instead!r} is not found")
    count = len(mistakes.TEMPLATE) + len(mistakes.SOURCE) + 2
    json.dump({"findings": found, "missed": missed, "planted": count}, sys.stdout)


if __name__ == "__main__":
    main()
