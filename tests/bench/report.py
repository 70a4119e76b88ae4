"""Samples into a Markdown table and into JSON. Measures nothing.

    python3 tests/bench/report.py FILE    the table of what run.py --json has written
"""

import json
import pathlib
import sys
from statistics import median


def markdown(results, rounds):
    """One table: a row a variant, with the ratio to its bare counterpart within each round."""
    lines = [
        f"Median [min-max] of {rounds} rounds; ratio = median of the rounds' ratios to bare;"
        " noise = largest share of the CPU used by others.",
        "",
        "| project | variant | seconds | ratio | noise |",
        "|---|---|---|---|---|",
    ]
    for project, samples, _ in results:
        for variant, taken in samples.items():
            seconds = [sample["s"] for sample in taken]
            spread = f"{median(seconds):.3f} [{min(seconds):.3f}-{max(seconds):.3f}]"
            noise = max(sample["noise"] for sample in taken)
            base = [sample["s"] for sample in samples.get(counterpart(variant), [])]
            ratios = [s / b for s, b in zip(seconds, base)]
            ratio = f"{median(ratios):.3f}" if ratios and variant != counterpart(variant) else ""
            lines.append(f"| {project} | {variant} | {spread} | {ratio} | {noise:.0%} |")
    notes = [f"- {project}: {note}" for project, _, notes in results for note in dict.fromkeys(notes)]
    return "\n".join(lines + ([""] + notes if notes else []))


def counterpart(variant):
    """The bare variant that `variant` is compared with."""
    if variant.startswith("configure"):
        return "configure bare"
    for kind in ("no-op", "one file"):
        if kind in variant:
            return f"bare {kind}"
    return "bare"


def as_json(results):
    """All samples, with a schema name."""
    return {
        "schema": "rfs.bench/1",
        "projects": [
            {"name": project, "samples": samples, "notes": notes}
            for project, samples, notes in results
        ],
    }


def of_json(text):
    """The table of what `as_json` gave."""
    told = json.loads(text)
    if told.get("schema") != "rfs.bench/1":
        sys.exit(f"schema {told.get('schema')!r} is not known")
    results = [(project["name"], project["samples"], project["notes"]) for project in told["projects"]]
    rounds = max((len(taken) for _, samples, _ in results for taken in samples.values()), default=0)
    return markdown(results, rounds)


if __name__ == "__main__":
    print(of_json(pathlib.Path(sys.argv[1]).read_text()))
