"""The four JSON files that Transformers.js reads beside a model, from the metadata of a GGUF file."""

from __future__ import annotations

import json
import os
from typing import Any

from .llama import LlamaModel

_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def hf_files(model: LlamaModel) -> dict[str, str]:
    """File names and texts."""
    tokenizer, tokenizer_config = _tokenizer(model)
    ids = {kind: model.metadata.get(f"tokenizer.ggml.{name}_token_id") for kind, name in _SPECIAL.items()}
    ids = {f"{kind}_id": ids[kind] for kind in ("bos_token", "eos_token", "pad_token") if ids[kind] is not None}
    texts = {
        "config.json": config_of(model) | ids,
        "generation_config.json": {"_from_model_config": True, **ids},
        "tokenizer_config.json": tokenizer_config,
    }
    out = {name: json.dumps(text, indent=2, ensure_ascii=False) + "\n" for name, text in texts.items()}
    return out | {"tokenizer.json": tokenizer}


def config_of(model: LlamaModel) -> dict[str, Any]:
    """The fields of config.json."""
    rope = dict(model.rope.get("scaling", {}))
    scaling = {"rope_type": rope.pop("type"), **rope} if rope else None
    return {
        "_name_or_path": model.name,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": model.dim,
        "hidden_act": "silu",
        "hidden_size": model.hidden,
        "initializer_range": 0.02,
        "intermediate_size": model.ffn,
        "max_position_embeddings": model.context,
        "mlp_bias": False,
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": model.epsilon,
        "rope_scaling": scaling,
        "rope_theta": model.rope["theta"],
        "tie_word_embeddings": model.tied,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": model.vocab,
    }


def _tokenizer(model: LlamaModel) -> tuple[str, dict[str, Any]]:
    """
    The text of tokenizer.json and the fields of tokenizer_config.json.

    As `AutoTokenizer.from_pretrained(gguf_file=…)` builds it. That call itself demands PyTorch, to read the file;
    the conversion does not.
    """
    meta = model.metadata
    if "tokenizer.ggml.tokens" not in meta:
        raise ValueError("Cannot export model: the GGUF file has no tokenizer")
    # Otherwise transformers warns that there is no PyTorch, which a tokenizer does not need.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf import GGUF_TOKENIZER_MAPPING, convert_gguf_tokenizer

    groups = {
        group: {name: meta[f"tokenizer.{key}"] for key, name in keys.items() if f"tokenizer.{key}" in meta}
        for group, keys in GGUF_TOKENIZER_MAPPING.items()
    }
    parts, config = groups["tokenizer"], groups["tokenizer_config"]
    if parts.get("tokenizer_type") == "llama":
        # As llama.cpp does for files without the flag.
        config.setdefault("add_bos_token", True)
    for name, kind in _SPECIAL.items():
        number = meta.get(f"tokenizer.ggml.{kind}_token_id")
        config[name] = None if number is None else parts["tokens"][number]
    backend, _ = convert_gguf_tokenizer("llama", parts)
    whole = PreTrainedTokenizerFast(tokenizer_object=backend, **config)
    config |= {
        # Transformers.js knows classes by the names of transformers 4.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.context,
        "clean_up_tokenization_spaces": False,
    }
    fields = {name: value for name, value in sorted(config.items()) if value is not None}
    return whole.backend_tokenizer.to_str(pretty=True), fields
