#!/usr/bin/env python3
"""
Writes a text of facts that are told again: names with numbers that nothing around them tells, in a running mix of names
that are new and names told before. Beside the texts of tools/sensitivity.py it gives weight to the heads that look single
facts up, which ordinary texts seldom need.

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
PEOPLE = 40
"""Names with a number at a time: 40 of them told at random are 400 tokens apart, and some a thousand."""
REPEATS = 5
"""How often a number is told on average until its name is given up for another one."""
SENTENCES = 12
"""Of a paragraph, all in one form."""
DIGITS = [4, 5, 6]


def recall_text(characters: int, seed: int) -> str:
    """
    At least so many characters, in whole paragraphs. What is told anew and what again is mixed, so that wherever a text is
    cut some of the names have been told before and some not.
    """
    rng = random.Random(seed)
    numbers: dict[str, str] = {}
    paragraphs: list[str] = []
    while sum(map(len, paragraphs)) < characters:
        form = rng.choice(FORMS)
        sentences = []
        for _ in range(SENTENCES):
            name = tell(numbers, rng)
            sentences.append(form.format(name=name, number=numbers[name]))
        paragraphs.append(" ".join(sentences) + "\n\n")
    return "".join(paragraphs)


def tell(numbers: dict[str, str], rng: random.Random) -> str:
    """A name to be told: one of those that have a number, or another one, which gets one."""
    if len(numbers) == PEOPLE and rng.random() < 1 / REPEATS:
        del numbers[rng.choice(list(numbers))]
    if len(numbers) == PEOPLE:
        return rng.choice(list(numbers))
    name = rng.choice([name for name in NAMES if name not in numbers])
    numbers[name] = "".join(rng.choice("0123456789") for _ in range(rng.choice(DIGITS)))
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=120000, help="length at least (default: 120000)")
    parser.add_argument("--seed", type=int, default=7, help="another text (default: 7)")
    parser.add_argument("-o", "--output", metavar="FILE", required=True)
    arguments = parser.parse_args()
    Path(arguments.output).write_text(recall_text(arguments.characters, arguments.seed))


if __name__ == "__main__":
    main()
