"""Which windows of which texts a model is run over: the arguments and their meaning, shared by the tools that do."""

from __future__ import annotations

import argparse
from pathlib import Path

from kvzlib.model import LoadedModel
from kvzlib.texts import parse_skips, read_segments, share, spread, token_windows


def add_text_arguments(parser: argparse.ArgumentParser, sequences: int, length: int) -> None:
    """Adds --texts, --labels, --sequences, --length, --bos, --skip-chars and --skip-lines."""
    parser.add_argument("--texts", nargs="+", default=[], metavar="FILE", help="plain text or .jsonl")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="`text` metadata, one a text (default: file name)")
    parser.add_argument("--sequences", nargs="+", type=int, default=[sequences], metavar="N", help="in all, or one a text")
    parser.add_argument("--length", type=int, default=length, metavar="L", help="tokens a sequence")
    parser.add_argument("--bos", action="store_true", help="begin every sequence with the model's first token")
    parser.add_argument(
        "--skip-chars", action="append", default=[], metavar="FILE:BEGIN-END", help="from 0, end exclusive"
    )
    parser.add_argument(
        "--skip-lines", action="append", default=[], metavar="FILE:BEGIN-END", help="from 1, end included"
    )


def choose_windows(model: LoadedModel, args: argparse.Namespace) -> list[tuple[str, list[int]]]:
    """The token windows to run, `args.length` tokens each (the first one included), with the label of their text."""
    first = [model.first_token()] if args.bos else []
    labels = args.labels or [Path(t).name for t in args.texts]
    if len(labels) != len(args.texts):
        raise ValueError(f"Cannot label texts: {len(labels)} labels, expected {len(args.texts)}")
    skips = parse_skips(args.skip_chars, args.skip_lines, args.texts)
    windows = [token_windows(read_segments(Path(t), skips), model.tokenize, args.length - len(first)) for t in args.texts]
    counts = args.sequences
    if len(counts) == 1:
        counts = share(counts[0], [len(w) for w in windows])
    if len(counts) != len(windows):
        raise ValueError(f"Cannot take windows: {len(counts)} values of --sequences, expected 1 or {len(windows)}")
    return [(label, first + w[i]) for label, w, n in zip(labels, windows, counts) for i in spread(len(w), n)]
