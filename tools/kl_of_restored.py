#!/usr/bin/env python3
"""
Measures what a model says after its cache went through the kvz command, for models that Transformers.js does not run.

    python3 tools/kl_of_restored.py --model FOLDER --texts A.txt B.txt --context 512 --continuation 256 \
      --setting "kvz 1.5=--profile kvz.kvzp --step 1.5" --setting "kvtc 16=--profile kvtc.kvzp --ratio 16" -o OUT.jsonl

For every window of context + continuation tokens: the cache of the context, rounded to f16, is compressed with the
options of each setting, restored and given back to the model, which reads the continuation. One JSON line each in the
form of `kvz eval` (bench/equal_kl.ts compares two such files): `result.text`, `.context`, `.setting`, `.agreement`
(`kl`: mean over the continuation of Σ p ln(p/q) in nats, p after the original cache, without its first token, whose
prediction was made before the cache was stored; `top1`: share of equal most likely tokens; perplexities), `.errors`
‖restored − original‖ ÷ ‖original‖ over all tokens, `.ratios` as kvz reports them. Lines that OUT.jsonl has already are
not computed again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvzlib.caches import Cache, read_cache, write_cache
from kvzlib.model import LoadedModel, load_model
from kvzlib.windows import add_text_arguments, choose_windows

KVZ = f"npx -y deno@2.9.6 run -A {shlex.quote(str(Path(__file__).resolve().parent.parent / 'cli' / 'main.ts'))}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--gguf", metavar="FILE", help="model from a GGUF file")
    source.add_argument("--model", metavar="FOLDER|NAME", help="model from a Hugging Face folder or hub name")
    parser.add_argument("--model-id", help="name of the weights (default: from the file name)")
    add_text_arguments(parser, sequences=4, length=768)
    parser.add_argument("--continuation", type=int, default=256, metavar="N", help="tokens of --length that are predicted")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=OPTIONS", help="options of kvz compress")
    parser.add_argument("--kvz", default=KVZ, metavar="COMMAND", help="how kvz is called (default: from the sources)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the .jsonl file to write or continue")
    return parser.parse_args()


def parse_setting(text: str) -> tuple[str, list[str], list[str]]:
    """Name, options of compress and options of decompress of a setting."""
    name, separator, options = text.partition("=")
    if not separator or not name:
        raise ValueError(f"Cannot read setting {text!r}: expected NAME=OPTIONS")
    words = shlex.split(options)
    profile = words[words.index("--profile") : words.index("--profile") + 2] if "--profile" in words else []
    return name, words, profile


def kvz(command: list[str], words: list[str]) -> dict[str, Any]:
    """Runs kvz and returns the JSON that it prints."""
    done = subprocess.run([*command, *words, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"Cannot run kvz {shlex.join(words)}: it ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def agreement(before: torch.Tensor, after: torch.Tensor, ids: np.ndarray) -> dict[str, float]:
    """Compares predictions, log-probabilities [tokens, vocabulary] each, of the tokens that follow `ids`."""
    kl = (before.exp() * (before - after)).sum(-1).double()
    labels = torch.from_numpy(ids[1:].astype(np.int64))
    perplexities = [float(torch.nn.functional.nll_loss(x[:-1], labels).exp()) for x in (before, after)]
    return {
        "kl": float(kl.mean()),
        "maxKl": float(kl.max()),
        "top1": float((before.argmax(-1) == after.argmax(-1)).double().mean()),
        "perplexityBefore": perplexities[0],
        "perplexityAfter": perplexities[1],
    }


def relative_error(original: Cache, restored: Cache, kind: str) -> float:
    x, y = (np.asarray(c.keys if kind == "key" else c.values, np.float64) for c in (original, restored))
    return float(np.linalg.norm(y - x) / np.linalg.norm(x))


class Measurement:
    """One window: its cache on disk, and what the model predicts after it."""

    def __init__(self, model: LoadedModel, ids: np.ndarray, context: int, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.file = folder / "cache.safetensors"
        self.continuation = ids[context:]
        facts = {"model": model.id, "architecture": model.architecture, "rope": json.dumps(model.rope)}
        write_cache(self.file, model.cache(ids[:context]), ids[:context], facts, "f16")
        self.original = read_cache(self.file)
        self.before = self._predict(self.original)

    def _predict(self, cache: Cache) -> torch.Tensor:
        past = self.model.past(cache.keys, cache.values)
        return self.model.read_on(past, self.continuation).log_softmax(-1)

    def run(self, command: list[str], compress: list[str], decompress: list[str]) -> dict[str, Any]:
        packed, back = self.folder / "cache.kvz", self.folder / "back.safetensors"
        report = kvz(command, ["compress", str(self.file), "-o", str(packed), "--force", *compress])
        kvz(command, ["decompress", str(packed), "-o", str(back), "--force", *decompress])
        restored = read_cache(back)
        return {
            "agreement": agreement(self.before, self._predict(restored), self.continuation),
            "errors": {kind: relative_error(self.original, restored, kind) for kind in ("key", "value")},
            "report": report,
        }


def main() -> None:
    args = parse_arguments()
    settings = [parse_setting(text) for text in args.setting]
    if not args.texts or not settings:
        raise SystemExit("Nothing to do: give --texts and --setting")
    if not 2 <= args.continuation < args.length:
        raise ValueError(f"Cannot predict {args.continuation} of {args.length} tokens: expected 2 to {args.length - 1}")
    context = args.length - args.continuation
    output = Path(args.output)
    lines = output.read_text().splitlines() if output.exists() else []
    known = {(r["text"], r["context"], r["setting"]) for r in (json.loads(line)["result"] for line in lines)}
    model = load_model(args.gguf, args.model, args.model_id)
    counts: dict[str, int] = {}
    with output.open("a") as out, tempfile.TemporaryDirectory() as folder:
        for label, ids in choose_windows(model, args):
            counts[label] = counts.get(label, 0) + 1
            text = f"{label} {counts[label]}"
            missing = [setting for setting in settings if (text, context, setting[0]) not in known]
            if not missing:
                continue
            measurement = Measurement(model, np.array(ids), context, Path(folder))
            for name, compress, decompress in missing:
                result = measurement.run(shlex.split(args.kvz), compress, decompress)
                report = result.pop("report")
                ratios = {"paper": report["paperRatio"], "file": report["fileRatio"]}
                line = {"text": text, "context": context, "setting": name, **result, "ratios": ratios}
                print(json.dumps({"result": line}), file=out, flush=True)
                kl = result["agreement"]["kl"]
                print(f"{text}, {name}: KL {kl:.5f}, file ratio {ratios['file']:.2f}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
