"""Texts for calibration and evaluation: reading, leaving regions out, cutting into windows of tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Skips:
    """Regions of files to leave out. Characters count from 0, end exclusive; lines from 1, both ends included."""

    chars: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    lines: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


def parse_region(text: str) -> tuple[str, int, int]:
    """Parses FILE:BEGIN-END. FILE is a path or just the file's name."""
    name, _, span = text.rpartition(":")
    begin, _, end = span.partition("-")
    if not name or not begin.isdecimal() or not end.isdecimal() or int(begin) > int(end):
        raise ValueError(f"Cannot parse region {text!r}: expected FILE:BEGIN-END")
    return Path(name).name, int(begin), int(end)


def parse_skips(chars: list[str], lines: list[str], texts: list[str]) -> Skips:
    """Parses --skip-chars and --skip-lines; a region of a file that is not among the texts is an error."""
    skips = Skips()
    names = {Path(t).name for t in texts}
    for values, table, kind in ((chars, skips.chars, "chars"), (lines, skips.lines, "lines")):
        for value in values:
            name, begin, end = parse_region(value)
            if name not in names:
                raise ValueError(f"Cannot skip {kind} of {name}: it is not among the texts {sorted(names)}")
            if kind == "lines" and not any(n == name and n.endswith(".jsonl") for n in names):
                raise ValueError(f"Cannot skip lines of {name}: lines are those of a .jsonl file, use --skip-chars")
            table.setdefault(name, []).append((begin, end))
    return skips


def record_text(record: dict[str, str]) -> str:
    """The text of one JSON line: its "text", or its "question" and "answer" joined as in the sample caches."""
    if "text" in record:
        return record["text"]
    if "question" in record and "answer" in record:
        return f"Question: {record['question']}\nAnswer: {record['answer']}"
    raise ValueError(f'Cannot read record with keys {sorted(record)}: expected "text", or "question" and "answer"')


def read_segments(path: Path, skips: Skips) -> list[str]:
    """Stretches of uninterrupted text of a file, the left-out regions cut out. Records are joined by a blank line."""
    if path.suffix == ".jsonl":
        if path.name in skips.chars:
            raise ValueError(f"Cannot skip characters of {path.name}: use --skip-lines for a .jsonl file")
        out: list[str] = []
        run: list[str] = []
        with path.open(encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                if any(b <= number <= e for b, e in skips.lines.get(path.name, [])):
                    out.append("\n\n".join(run))
                    run = []
                elif line.strip():
                    run.append(record_text(json.loads(line)))
        out.append("\n\n".join(run))
        return [s for s in out if s]
    # CRLF is read as LF, as the models saw text in training; offsets count characters after that.
    text = path.read_text(encoding="utf-8")
    at = 0
    out = []
    for begin, end in sorted(skips.chars.get(path.name, [])):
        out.append(text[at:begin])
        at = max(at, end)
    out.append(text[at:])
    return [s for s in out if s]


def spread(available: int, wanted: int) -> list[int]:
    """Indices of `wanted` of `available` items, evenly spread."""
    if wanted > available:
        raise ValueError(f"Cannot take {wanted} windows: the text has {available}")
    return [(2 * i + 1) * available // (2 * wanted) for i in range(wanted)]


def share(total: int, sizes: list[int]) -> list[int]:
    """Splits `total` in proportion to `sizes` (largest remainders), at most `sizes[i]` each."""
    whole = sum(sizes)
    if total > whole:
        raise ValueError(f"Cannot take {total} windows: the texts have {whole}")
    counts = [total * n // whole for n in sizes]
    rest = sorted(range(len(sizes)), key=lambda i: -(total * sizes[i] % whole))
    for i in rest[: total - sum(counts)]:
        counts[i] += 1
    return counts


def token_windows(segments: list[str], tokenize: Callable[[str], list[int]], length: int) -> list[list[int]]:
    """All non-overlapping windows of `length` tokens; none crosses a segment's end."""
    windows: list[list[int]] = []
    for segment in segments:
        ids = tokenize(segment)
        windows += [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]
    return windows
