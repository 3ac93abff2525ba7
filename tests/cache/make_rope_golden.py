"""Make rope_golden.json: inverse frequencies and attention factors as transformers computes them.

python3 tests/cache/make_rope_golden.py > tests/cache/rope_golden.json && deno fmt tests/cache/rope_golden.json

Made with transformers 5.23.0 and torch 2.13.0 (CPU). Each case is a config.json fragment, what
`ROPE_INIT_FUNCTIONS` (or LlamaRotaryEmbedding for the default type) yields for it in float32, and, for one position
deep in the context, the rotated form of a fixed key after `apply_rotary_pos_emb`.
"""
import json

import torch
from transformers import GPTNeoXConfig, LlamaConfig, PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb as apply_partial
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

BASE = {"model_type": "llama", "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
        "num_hidden_layers": 2, "head_dim": 64, "max_position_embeddings": 8192}
CASES = {
    "default": {"rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
    "llama3": {"head_dim": 128, "max_position_embeddings": 131072,
               "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                   "original_max_position_embeddings": 8192, "rope_theta": 500000.0}},
    "llama3.2": {"max_position_embeddings": 131072,
                 "rope_parameters": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                                     "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                                     "rope_theta": 500000.0}},
    "yarn": {"head_dim": 128, "max_position_embeddings": 131072,
             "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
                                 "rope_theta": 1000000.0}},
    "yarn-mscale": {"max_position_embeddings": 163840,
                    "rope_parameters": {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096,
                                        "rope_theta": 10000.0, "beta_fast": 32, "beta_slow": 1, "mscale": 0.707,
                                        "mscale_all_dim": 1.0}},
    "yarn-untruncated": {"max_position_embeddings": 131072,
                         "rope_parameters": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                                             "original_max_position_embeddings": 4096, "rope_theta": 150000.0,
                                             "truncate": False}},
    "yarn-stated-factor": {"max_position_embeddings": 65536,
                           "rope_parameters": {"rope_type": "yarn", "factor": 16.0, "attention_factor": 1.5,
                                               "original_max_position_embeddings": 4096, "rope_theta": 10000.0}},
    "partial": {"model_type": "gpt_neox", "head_dim": None, "hidden_size": 256, "num_attention_heads": 4,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}},
}
POSITION = 5000

out = {}
for name, change in CASES.items():
    config = {key: value for key, value in {**BASE, **change}.items() if value is not None}
    neox = config["model_type"] == "gpt_neox"
    hf: PreTrainedConfig = (GPTNeoXConfig if neox else LlamaConfig)(
        **{key: value for key, value in json.loads(json.dumps(config)).items() if key != "model_type"})
    embedding = (GPTNeoXRotaryEmbedding if neox else LlamaRotaryEmbedding)(config=hf)
    rope_type = config["rope_parameters"]["rope_type"]
    if rope_type != "default":  # the module must agree with the function it is built on
        frequencies, factor = ROPE_INIT_FUNCTIONS[rope_type](hf)
        assert torch.equal(frequencies, embedding.inv_freq) and factor == embedding.attention_scaling
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    key = torch.sin(torch.arange(dim, dtype=torch.float32) * 1.7 + 0.3)[None, None, None]
    cos, sin = embedding(key, torch.tensor([[POSITION]]))
    rotated = (apply_partial if neox else apply_rotary_pos_emb)(key, key, cos, sin)[1]
    out[name] = {
        "config": config,
        "inverseFrequencies": embedding.inv_freq.tolist(),
        "attentionFactor": float(embedding.attention_scaling),
        "position": POSITION,
        "key": key.flatten().tolist(),
        "rotatedKey": rotated.flatten().tolist(),
    }
print(json.dumps(out, indent=1))
