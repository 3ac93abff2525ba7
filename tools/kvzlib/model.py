"""Language models whose caches are dumped: from a GGUF file or a Hugging Face folder, computed in float32."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before transformers is imported: its GGUF loader has no other way to be quiet.
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


@dataclass(frozen=True)
class LoadedModel:
    """A model, its tokenizer, and the facts that a cache file states about it."""

    model: Any
    tokenizer: Any
    id: str
    architecture: str
    rope: dict[str, Any]

    def tokenize(self, text: str) -> list[int]:
        """Token ids without special tokens, so that windows of one text join seamlessly."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def cache(self, ids: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Keys (after RoPE, half-split) and values of every layer, float32 [1, kv_heads, tokens, dim] each."""
        with torch.inference_mode():
            out = self.model.model(torch.from_numpy(ids.astype(np.int64))[None], use_cache=True)
        return [(layer.keys.numpy(), layer.values.numpy()) for layer in out.past_key_values.layers]

    def perplexity(self, ids: list[int]) -> float:
        """exp of the mean negative log-likelihood of tokens 1 … n − 1, each given all before it."""
        x = torch.tensor(ids)[None]
        with torch.inference_mode():
            logits = self.model(x).logits[0]
            return float(torch.nn.functional.cross_entropy(logits[:-1], x[0, 1:]).exp())


def rope_facts(config: Any) -> dict[str, Any]:
    """The `rope` metadata of a cache file; scaling parameters are copied under the names of the configuration."""
    parameters = dict(config.rope_parameters)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kind = parameters.pop("rope_type", "default")
    theta = float(parameters.pop("rope_theta"))
    dim = int(head_dim * parameters.pop("partial_rotary_factor", 1.0))
    facts: dict[str, Any] = {"theta": theta, "dim": dim, "pairing": "half-split", "first_position": 0}
    if kind != "default":
        facts["scaling"] = {"type": kind, **parameters}
    return facts


def load_model(gguf: str | None, model: str | None, model_id: str | None) -> LoadedModel:
    """
    Loads a GGUF file or a Hugging Face folder or name, float32 compute.

    llama.cpp stores q and k rows permuted (RoPE on adjacent pairs); transformers undoes that on loading, so keys come
    out in half-split order whatever the source.
    """
    if (gguf is None) == (model is None):
        raise ValueError("Cannot load model: give either --gguf or --model")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if gguf is not None:
        path = Path(gguf)
        if not path.is_file():
            raise FileNotFoundError(f"Cannot load model: {path} is not a file")
        source: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        # "SmolLM2-135M-Instruct.Q4_1.gguf": the name of the weights without their quantization.
        default_id = path.name.removesuffix(".gguf").split(".Q")[0]
    else:
        source = {"pretrained_model_name_or_path": model}
        default_id = str(model).rstrip("/").split("/")[-1]
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(**source)
    config = loaded.config
    return LoadedModel(loaded, tokenizer, model_id or default_id, config.model_type, rope_facts(config))
