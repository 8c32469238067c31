"""Write RELIABILITY.md from what the tests have recorded in outputs/reliability/: `uv run python .ci/reliability.py`."""

import json
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
RECORDS = PROJECT / "outputs" / "reliability"
PROMISES = {
    "P1": "A run that goes on ends with the weights, bit for bit, of one that was never interrupted: every loss and trick, from any iteration, on one rank and on two.",
    "P2": "`kill -9` costs at most what came after the last save.",
    "P3": "Logging, scores and samples never change the weights, however often.",
    "P4": "A save is all or nothing, whatever happens during it.",
    "P5": "What has become of a file since it was saved is noticed, and the one before it is used.",
    "P6": "A signal has the run saved at the end of its iteration and ends it with 128 + its number; a second one ends it at once.",
    "P7": "Numbers that are not finite reach neither the weights nor the disk.",
    "P8": "A wrong configuration costs one line and exit code 2, and nothing is made.",
    "P9": "Broken data cost one line that names the file, and exit code 3.",
    "P10": "The same seed is the same run on the same machine.",
    "P11": "Opening a file runs no code.",
    "P12": "No secret of the environment is in what a run leaves.",
    "P13": "Two ranks hold the same shared state bit for bit, and play the game that one would.",
    "P14": "Running out of disk or memory costs one line with sizes and the setting to change, and exit code 5.",
    "mutation": "The tests see faults: each of these was put into a copy of the source, and the test that stands against it failed.",
}
HEAD = """# What was tried, how often, and what came of it

Every line is what a test has recorded; the numbers come from the full counts where a line says full, else from the everyday run.
All of it again, about half an hour on 2 cores:

```
uv run pytest -m 'slow or not slow' && uv run python .ci/reliability.py
```
"""


def main() -> None:
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for record in sorted(records, key=lambda record: record["full"]):  # the full counts have the last word
        latest[record["promise"], record["what"]] = record
    lines_of: dict[tuple[str, str], dict[str, Any]] = {}
    for (promise, what), record in latest.items():  # the variants of one trial, named in brackets, are one line
        line = lines_of.setdefault((promise, what.partition(" (")[0]), {**record, "held": 0, "tried": 0})
        line["held"] += record["held"]
        line["tried"] += record["tried"]
        line["what"] = what.partition(" (")[0]
    lines = [HEAD]
    for promise, text in PROMISES.items():
        rows = [line for (name, _), line in lines_of.items() if name == promise]
        if not rows:
            continue
        lines += [
            f"## {promise.capitalize()}",
            "",
            text,
            "",
            "| what was tried | held | of | counts | seed | date |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row['what']} | {row['held']} | {row['tried']} | {'full' if row['full'] else 'everyday'} | {row['seed']} | {row['date']} |"
            for row in rows
        ]
        lines.append("")
    (PROJECT / "RELIABILITY.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
