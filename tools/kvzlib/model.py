"""Language models whose caches are dumped: from a GGUF file or a Hugging Face folder, computed in float32."""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before transformers is imported: its GGUF loader has no other way to be quiet.
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

from .rope import rotation


@dataclass(frozen=True)
class LoadedModel:
    """A model, its tokenizer, and the facts that a cache file states about it."""

    model: Any
    tokenizer: Any
    id: str
    architecture: str
    #: None where layers rotate differently: caches then hold keys before RoPE.
    rope: dict[str, Any] | None
    #: RoPE of each layer of such a model, else None.
    layer_ropes: list[dict[str, Any]] | None = None

    def tokenize(self, text: str) -> list[int]:
        """Token ids without special tokens, so that windows of one text join seamlessly."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def first_token(self) -> int:
        """The token that sequences begin with."""
        if self.tokenizer.bos_token_id is None:
            raise ValueError(f"Cannot begin sequences of {self.id}: its tokenizer has no first token, leave out --bos")
        return self.tokenizer.bos_token_id

    def cache(self, ids: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """
        Keys and values of every layer and all tokens, float32 [1, kv_heads, tokens, dim] each. Keys are after RoPE,
        half-split; where layers rotate differently, before it. Layers with a sliding window keep what left it.
        """
        past = DynamicCache()
        with torch.inference_mode():
            self.model.base_model(torch.from_numpy(ids.astype(np.int64))[None], **cache_argument(self.model, past))
        layers = [(layer.keys.numpy(), layer.values.numpy()) for layer in past.layers]
        if self.layer_ropes is None:
            return layers
        turns = [rotation(rope, np.arange(len(ids))) for rope in self.layer_ropes]
        return [(turn.undo(keys), values) for turn, (keys, values) in zip(turns, layers)]

    def past(self, keys: np.ndarray, values: np.ndarray) -> DynamicCache:
        """What the model reads on from: the inverse of `cache`, float32 [layers, kv_heads, tokens, dim] each."""
        past = DynamicCache()
        for n, (k, v) in enumerate(zip(keys, values)):
            if self.layer_ropes is not None:
                k = rotation(self.layer_ropes[n], np.arange(k.shape[1])).apply(k)
            past.update(torch.tensor(k)[None], torch.tensor(v)[None], n)
        return past

    def read_on(self, past: DynamicCache, ids: np.ndarray) -> torch.Tensor:
        """Logits float32 [tokens, vocabulary] of ids that follow a cache, which grows by them."""
        with torch.inference_mode():
            return self.model(torch.from_numpy(ids.astype(np.int64))[None], **cache_argument(self.model, past)).logits[0]

    def perplexity(self, ids: list[int]) -> float:
        """exp of the mean negative log-likelihood of tokens 1 … n − 1, each given all before it."""
        x = torch.tensor(ids)[None]
        with torch.inference_mode():
            logits = self.model(x).logits[0]
            return float(torch.nn.functional.cross_entropy(logits[:-1], x[0, 1:]).exp())


def cache_argument(model: Any, cache: DynamicCache) -> dict[str, Any]:
    """The arguments that have a model use and extend a cache; transformers renames one of them."""
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}


def _facts(config: Any, rope_parameters: dict[str, Any]) -> dict[str, Any]:
    parameters = dict(rope_parameters)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kind = parameters.pop("rope_type", "default")
    theta = float(parameters.pop("rope_theta"))
    dim = int(head_dim * parameters.pop("partial_rotary_factor", 1.0))
    facts: dict[str, Any] = {"theta": theta, "dim": dim, "pairing": "half-split", "first_position": 0}
    if kind != "default":
        facts["scaling"] = {"type": kind, **parameters}
    return facts


def rope_facts(config: Any) -> dict[str, Any] | None:
    """
    The `rope` metadata of a cache file; scaling parameters are copied under the names of the configuration. None where
    it differs between layers.
    """
    return None if layer_rope_facts(config) is not None else _facts(config, config.rope_parameters)


def layer_rope_facts(config: Any) -> list[dict[str, Any]] | None:
    """RoPE of each layer where the configuration has one for each type of layer (Gemma 3), else None."""
    parameters = config.rope_parameters
    if not all(isinstance(value, dict) for value in parameters.values()):
        return None
    return [_facts(config, parameters[kind]) for kind in config.layer_types]


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
    facts = (rope_facts(config), layer_rope_facts(config))
    return LoadedModel(loaded, tokenizer, model_id or default_id, config.model_type, *facts)
