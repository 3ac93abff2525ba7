"""A run of KV-CAR's training in a folder: its steps, what each leaves, and how one goes on from another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .kvcar_cache import Compressor, logits
from .kvcar_export import write_artefact, write_weights
from .kvcar_net import KINDS
from .kvcar_reuse import HeadDistances, choose_slots, resolve
from .kvcar_train import Plan, evaluate, train

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What all steps of a run have in common; None: whatever the run has, or the default."""

    model: str
    share: float | None
    hidden: float | None
    slope: float | None
    pre_rope: bool | None
    seed: int | None

    DEFAULTS = {"share": 0.5, "hidden": 1.0, "slope": 0.01, "pre_rope": False, "seed": 0}

    @classmethod
    def given(cls, model: Any, *values: Any) -> Settings:
        """Settings as a caller gives them."""
        return cls(model.id, *values)

    def kept(self, path: Path) -> Settings:
        """The settings of the run at `path`, written there if it is new; raises ValueError where these differ."""
        if path.exists():
            kept = Settings(**json.loads(path.read_text()))
            for name, value in asdict(self).items():
                if value is not None and value != getattr(kept, name):
                    raise ValueError(f"Cannot go on with {path.parent}: its {name} is {getattr(kept, name)}, not {value}")
            return kept
        given = {name: value for name, value in asdict(self).items() if value is not None}
        settings = Settings(**{**self.DEFAULTS, **given})
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_json(path, asdict(settings))
        return settings


class Run:
    """The steps. `windows`: token ids of sequences of one length; the last `validation` are not trained on."""

    def __init__(
        self, folder: Path, model: Any, settings: Settings, windows: list[list[int]], validation: int, progress: Progress
    ) -> None:
        if not windows:
            raise ValueError("Nothing to do: give --texts")
        self.folder = folder
        self.settings = settings.kept(folder / "settings.json")
        self._loaded = model
        self._model = model.model
        self._windows = np.array(windows)
        self._validation = validation
        self._progress = progress
        config = self._model.config
        self._layers = config.num_hidden_layers
        self._heads = config.num_key_value_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._dims = {"key": dim, "value": dim}

    @property
    def _training(self) -> np.ndarray:
        rest = self._windows[: len(self._windows) - self._validation]
        if len(rest) == 0:
            raise ValueError(f"Cannot train: all {len(self._windows)} sequences are for validation, see --validation")
        return rest

    @property
    def _held_out(self) -> np.ndarray:
        if not 0 < self._validation <= len(self._windows):
            raise ValueError("Cannot compare losses: no sequence is kept for validation, see --validation")
        return self._windows[len(self._windows) - self._validation :]

    def _compressor(self, reuse: bool = True) -> Compressor:
        path = self.folder / "reuse.json"
        none = np.arange(self._layers * self._heads, dtype=np.int32).reshape(self._layers, self._heads)
        found = json.loads(path.read_text())["sources"] if reuse and path.exists() else {}
        return Compressor({k: np.array(found.get(k, none), np.int32) for k in KINDS}, self.settings.pre_rope)

    def _insert(self, compressor: Compressor, layer: int) -> None:
        share, hidden, slope = self.settings.share, self.settings.hidden, self.settings.slope
        torch.manual_seed(self.settings.seed * 4096 + layer)
        compressor.insert(layer, self._dims, share, hidden, slope)

    def _load_repaired(self) -> None:
        path = self.folder / "repaired.pt"
        if path.exists():
            self._model.load_state_dict(torch.load(path, weights_only=True)["state"])

    def heads(
        self, limits: dict[str, tuple[float | None, int | None]], chains: bool, batch: int, fresh: bool
    ) -> dict[str, Any]:
        """Algorithm 2, lines 1 to 13: distances of heads over the training sequences once, and the reuse map."""
        path = self.folder / "reuse.json"
        if (self.folder / "stage1").exists() or (path.exists() and not fresh):
            raise ValueError(f"Cannot choose heads: {self.folder} has gone on from a choice already; use another folder")
        distances = HeadDistances()
        compressor = self._compressor(reuse=False)
        before: dict[str, np.ndarray] = {}

        def watch(kind: str, layer: int, x: torch.Tensor) -> None:
            now = x.detach().numpy()
            if layer > 0:
                distances.add(kind, layer, now, before[kind])
            before[kind] = now

        compressor.watch = watch
        windows = self._training
        for at in range(0, len(windows), batch):
            with torch.no_grad():
                logits(self._model, compressor, torch.from_numpy(windows[at : at + batch].astype(np.int64)))
            self._progress(f"heads: {min(at + batch, len(windows))}/{len(windows)} sequences")
        found: dict[str, Any] = {"sources": {}, "distances": {}, "chains": chains}
        for kind in KINDS:
            mean = distances.mean(kind)
            threshold, count = limits[kind]
            chosen = choose_slots(mean, threshold, 0 if threshold is None and count is None else count)
            found["sources"][kind] = resolve(chosen, chains).tolist()
            found["distances"][kind] = mean.tolist()
        _write_json(path, found)
        reused = {k: self._reused(np.array(found["sources"][k])) for k in KINDS}
        return {"reused": reused, "saving": sum(reused.values()) / (2 * self._layers * self._heads)}

    def repair(self, plan: Plan, fresh: bool) -> dict[str, Any]:
        """Algorithm 2, lines 14 on: fine-tunes the whole model with CE + λ·L1 of the reused heads."""
        compressor = self._compressor()
        if all(self._reused(compressor.sources[k]) == 0 for k in KINDS):
            raise ValueError(f"Nothing to repair: {self.folder} reuses no heads, see step heads")
        path = self.folder / "repaired.pt"
        if fresh:
            path.unlink(missing_ok=True)
        untouched = evaluate(self._model, self._compressor(reuse=False), self._held_out)
        before = evaluate(self._model, compressor, self._held_out)
        parameters = list(self._model.parameters())
        train(self._model, compressor, parameters, self._training, plan, path, self._progress, self._model)
        after = evaluate(self._model, compressor, self._held_out)
        # A fair baseline is the same fine-tuning without reuse; this is the model's after it, nothing reused.
        alone = evaluate(self._model, self._compressor(reuse=False), self._held_out)
        result = {"untouched": untouched, "reused": before, "repaired": after, "repaired_without_reuse": alone}
        _write_json(self.folder / "repair.json", result)
        return result

    def stage1(self, plan: Plan, layers: list[int] | None, fresh: bool) -> dict[str, Any]:
        """Algorithm 1, lines 1 to 15: the autoencoders of each layer alone, everything else frozen."""
        self._load_repaired()
        folder = self.folder / "stage1"
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        base = evaluate(self._model, self._compressor(), self._held_out)
        for layer in range(self._layers) if layers is None else layers:
            done = folder / f"layer-{layer}.json"
            if done.exists():
                continue
            compressor = self._compressor()
            self._insert(compressor, layer)
            label = lambda line, layer=layer: self._progress(f"stage 1, layer {layer}: {line}")  # noqa: E731
            path = folder / f"layer-{layer}.pt"
            train(self._model, compressor, compressor.parameters(), self._training, plan, path, label)
            loss = evaluate(self._model, compressor, self._held_out)
            _write_json(done, {"loss": loss, "base": base, "increase": loss - base})
        return {"base": base, "increase": {n: increase for n, increase in self._increases().items()}}

    def stage2(self, plan: Plan, layers: list[int] | None, best: int | None, fresh: bool) -> dict[str, Any]:
        """Algorithm 1, lines 16 on: the chosen layers' autoencoders together, from stage 1, the model frozen."""
        self._load_repaired()
        increases = self._increases()
        chosen = sorted(increases) if layers is None else layers
        if best is not None:
            chosen = sorted(sorted(chosen, key=lambda n: increases.get(n, np.inf))[:best])
        missing = [n for n in chosen if n not in increases]
        if missing or not chosen:
            raise ValueError(f"Cannot train together: stage 1 lacks layers {missing or 'of any kind'}")
        path = self.folder / "stage2.pt"
        listed = self.folder / "stage2.json"
        if fresh:
            path.unlink(missing_ok=True)
            listed.unlink(missing_ok=True)
        if listed.exists() and json.loads(listed.read_text())["layers"] != chosen:
            raise ValueError(f"Cannot go on with {path}: it has other layers, use --fresh")
        compressor = self._joined(chosen)
        before = evaluate(self._model, compressor, self._held_out)
        _write_json(listed, {"layers": chosen, "stage1": before})
        label = lambda line: self._progress(f"stage 2: {line}")  # noqa: E731
        train(self._model, compressor, compressor.parameters(), self._training, plan, path, label)
        after = evaluate(self._model, compressor, self._held_out)
        base = evaluate(self._model, self._compressor(), self._held_out)
        result = {"layers": chosen, "base": base, "stage1": before, "stage2": after, "saving": self._saving(compressor)}
        _write_json(listed, result)
        return result

    def evaluate(self) -> dict[str, float]:
        """Cross-entropy on all sequences: the model as it is, and with what the run has so far."""
        result = {"untouched": evaluate(self._model, self._compressor(reuse=False), self._windows)}
        if (self.folder / "reuse.json").exists():
            result["reuse"] = evaluate(self._model, self._compressor(), self._windows)
        if (self.folder / "repaired.pt").exists():
            self._load_repaired()
            result["repaired"] = evaluate(self._model, self._compressor(), self._windows)
        if (self.folder / "stage2.json").exists():
            layers = json.loads((self.folder / "stage2.json").read_text())["layers"]
            result["stage1"] = evaluate(self._model, self._joined(layers), self._windows)
            if (self.folder / "stage2.pt").exists():
                result["stage2"] = evaluate(self._model, self._final(), self._windows)
        return result

    def export(self, path: Path, weights: Path | None) -> dict[str, Any]:
        """Writes the artefact, and the repaired model's weights where asked."""
        if self._loaded.rope is None:
            raise ValueError("Cannot export: the model's layers rotate differently")
        compressor = self._final()
        model = {"id": self._loaded.id, "architecture": self._loaded.architecture, "rope": self._loaded.rope}
        training, seed, slope = self._training, self.settings.seed, self.settings.slope
        write_artefact(path, compressor, self._dims, model, training, seed, slope)
        result: dict[str, Any] = {"layers": compressor.layers(), "saving": self._saving(compressor)}
        if weights is not None:
            if not (self.folder / "repaired.pt").exists():
                raise ValueError(f"Cannot export weights: {self.folder} has no repaired model")
            self._load_repaired()
            result["weights"] = write_weights(weights, self._model)
        return result

    def _final(self) -> Compressor:
        listed = self.folder / "stage2.json"
        if not listed.exists():
            return self._compressor()
        compressor = self._joined(json.loads(listed.read_text())["layers"])
        path = self.folder / "stage2.pt"
        if not path.exists():
            raise ValueError(f"Cannot use {self.folder}: stage 2 has not come to its first checkpoint")
        compressor.load_state_dict(torch.load(path, weights_only=True)["state"])
        return compressor

    def _joined(self, layers: list[int]) -> Compressor:
        """The autoencoders of stage 1 together."""
        compressor = self._compressor()
        for layer in layers:
            self._insert(compressor, layer)
            saved = torch.load(self.folder / "stage1" / f"layer-{layer}.pt", weights_only=True)["state"]
            for kind in KINDS:
                name = f"{kind}_{layer}"
                prefix = f"autoencoders.{name}."
                own = {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
                compressor.autoencoders[name].load_state_dict(own)
        return compressor

    def _increases(self) -> dict[int, float]:
        found = sorted((self.folder / "stage1").glob("layer-*.json"), key=lambda p: int(p.stem.split("-")[1]))
        return {int(p.stem.split("-")[1]): json.loads(p.read_text())["increase"] for p in found}

    @staticmethod
    def _reused(sources: np.ndarray) -> int:
        return int((sources.reshape(-1) != np.arange(sources.size)).sum())

    def _saving(self, compressor: Compressor) -> float:
        """Share of the cache's elements that is not stored."""
        stored = 0
        for kind in KINDS:
            sources = compressor.sources[kind].reshape(-1)
            own = (sources == np.arange(sources.size)).reshape(self._layers, self._heads).sum(axis=1) * self._dims[kind]
            for layer in range(self._layers):
                autoencoder = compressor.of(kind, layer)
                stored += own[layer] if autoencoder is None else autoencoder.encoder[-1].out_features
        return float(1 - stored / (self._layers * self._heads * sum(self._dims.values())))


def _write_json(path: Path, value: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value))
    partial.rename(path)
