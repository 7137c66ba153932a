"""A Markdown table of the answers of ``sacma predict --out ANSWERS.csv`` beside the known labels.

    python speed/clip_table.py ANSWERS.csv MANIFEST.csv

MANIFEST.csv has the columns ``file`` and ``label``; clips are matched by the file's name. The label counts as
found if it, or another name that ``--also LABEL=NAME`` accepts for it, is among the names of the answer.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path


def main() -> None:
    """Print the table, and the number of labels that rank first and of labels that are among the names."""
    parser = argparse.ArgumentParser(description="Answers beside labels, as a Markdown table.")
    parser.add_argument("answers", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--also", action="append", default=[], metavar="LABEL=NAME")
    arguments = parser.parse_args()
    also = defaultdict(set)
    for pair in arguments.also:
        label, _, name = pair.partition("=")
        also[label.casefold()].add(name.casefold())
    with arguments.manifest.open(newline="", encoding="utf-8") as file:
        labels = {Path(row["file"]).name: row["label"] for row in csv.DictReader(file)}
    told: dict[str, list[tuple[str, float, str]]] = defaultdict(list)
    with arguments.answers.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["part"] == "clip":
                answer = (row["name"], float(row["probability"]), row["carried_by"])
                told[Path(row["clip"]).name].append(answer)
    print("| clip | label | answers | carried by |\n| --- | --- | --- | --- |")
    first = among = asked = 0
    for clip, answers in sorted(told.items(), key=lambda item: labels.get(item[0], "")):
        label = labels.get(clip, "")
        right = {label.casefold()} | also[label.casefold()]
        names = [name.casefold() in right for name, _, _ in answers]
        first, among, asked = first + names[0], among + any(names), asked + 1
        shown = ", ".join(
            f"{'**' * hit}{name}{'**' * hit} {100 * p:.0f} %"
            for (name, p, _), hit in zip(answers, names, strict=True)
        )
        print(f"| {Path(clip).stem} | {label} | {shown} | {answers[0][2]} |")
    print(f"\nFirst: {first} of {asked}; among the names: {among} of {asked}.")


if __name__ == "__main__":
    main()
