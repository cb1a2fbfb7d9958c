"""Recipes that other projects published, by name."""

from typing import Any

# Where a recipe was endless, or its schedule broken, the nearest thing that ends and works. Sources: nshepperd/gpt-2
# train.py; minimaxir/gpt-2-simple gpt_2.py; itsuncheng/fine-tuning-GPT2; mf1024/transformers; and two published
# walk-throughs of the Trainer (wikitext in padded lines; text in blocks of 128 tokens).
PRESETS: dict[str, dict[str, Any]] = {
    "nshepperd": {
        "batch_size": 1, "learning_rate": 2e-5, "schedule": "constant", "warmup": 0, "dropout": 0, "clip": 0,
        "steps": 1000, "sample_every": 100, "save_every": 1000, "sample_length": 1023,
    },
    "gpt-2-simple": {
        "batch_size": 1, "gradient_accumulation": 5, "learning_rate": 1e-4, "schedule": "constant", "warmup": 0,
        "dropout": 0, "clip": 0, "steps": 1000, "sample_every": 100, "save_every": 1000, "sample_length": 1023, "keep": 1,
    },
    "summaries": {
        "documents": "line", "line_by_line": True, "special_tokens": "bos,eos,pad", "split": "70/20/10", "batch_size": 2,
        "learning_rate": 5e-5, "schedule": "linear", "warmup": 0, "epochs": 5,
    },
    "wikitext": {
        "documents": "line", "line_by_line": True, "block_size": 128, "batch_size": 2, "learning_rate": 1e-4,
        "schedule": "linear", "warmup": 0, "epochs": 1,
    },
    "jokes": {
        "format": "JOKE: {text}", "block_size": 400, "batch_size": 1, "gradient_accumulation": 16, "learning_rate": 3e-5,
        "schedule": "linear", "warmup": 5000, "epochs": 5,
    },
    "blocks": {
        "block_size": 128, "batch_size": 96, "learning_rate": 5e-5, "schedule": "linear", "warmup": 0, "epochs": 50,
    },
}  # fmt: skip
