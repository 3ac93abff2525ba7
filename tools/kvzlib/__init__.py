"""Shared by the Python tools of kvz: texts, models, cache files, RoPE, the KVTC quantizer and its bit allocation."""
