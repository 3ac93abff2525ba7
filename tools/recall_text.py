#!/usr/bin/env python3
"""
Writes a text of facts that are told again: names with numbers that nothing around them tells, in lists that repeat
them in another order. Among the texts of tools/sensitivity.py it gives weight to the heads that look single facts up,
which ordinary texts seldom need.

    python tools/recall_text.py -o recall.txt
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

NAMES = (
    "Alvarez Boone Castro Dunne Ekholm Farrow Giles Hobart Ibsen Jarvis Kemp Lindqvist Moreau Novak Okafor Pires Quimby "
    "Rossi Sato Tanaka Ursin Vance Weber Xiong Yates Zeller Abbot Bishop Carver Dalton Emery Foster Gibson Harlow Irving "
    "Jensen Keller Lawson Mercer Norris Osborn Palmer Quick Ramsey Sutton Turner Upton Vaughn Walsh York"
).split()
FORMS = [
    "{name} has badge {number}.",
    "Badge of {name}: {number}.",
    "The locker of {name} opens with {number}.",
    "{name} - {number};",
    "{name} was given number {number}.",
    "Call {name} at {number}.",
]
PEOPLE = 22
"""Names of a block: told five times they are about 1,000 tokens."""
REPEATS = 5
DIGITS = [4, 5, 6]


def recall_text(characters: int, seed: int) -> str:
    """At least so many characters, in whole blocks."""
    rng = random.Random(seed)
    lists: list[str] = []
    while sum(map(len, lists)) < characters:
        people = rng.sample(NAMES, PEOPLE)
        numbers = {name: "".join(rng.choice("0123456789") for _ in range(rng.choice(DIGITS))) for name in people}
        form = rng.choice(FORMS)
        for _ in range(REPEATS):
            rng.shuffle(people)
            lists.append(" ".join(form.format(name=name, number=numbers[name]) for name in people) + "\n\n")
    return "".join(lists)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=120000, help="length at least (default: 120000)")
    parser.add_argument("--seed", type=int, default=7, help="another text (default: 7)")
    parser.add_argument("-o", "--output", metavar="FILE", required=True)
    arguments = parser.parse_args()
    Path(arguments.output).write_text(recall_text(arguments.characters, arguments.seed))


if __name__ == "__main__":
    main()
