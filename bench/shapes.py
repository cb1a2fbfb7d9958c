"""What everybody is given: models, prompts and sampling.

The models are the storyteller, and seeded random weights of true shapes (speed needs no meaning). They lie in one
folder for the time of the run, without an end token, so that every sample of every contender is as long as was asked
for. The random ones speak with the storyteller's tokenizer, and words of two words for the other ids.
"""

import json
import random
import shutil
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import save_file

from generate import read_config, tensor_shapes

ROOT = Path(__file__).parent.parent
STORYTELLER = ROOT / "models" / "storyteller"
SHAPES = {  # layers, features, heads
    "124M": (12, 768, 12),
    "345M": (24, 1024, 16),
    "774M": (36, 1280, 20),
    "1558M": (48, 1600, 25),
}
SAMPLING = {"top_k": 40, "temperature": 0.9}
NAMES = ("storyteller", "124M", "345M")  # of which everything is measured; of the larger ones how they load
LARGE = ("345M", "774M", "1558M")
WORDS = "king queen fox sea old young night forest bread river house bird stone gold dark little was saw and went"


def make(root: Path, name: str) -> Path:
    """Write the model called `name` into `root`; returns its folder."""
    if name in SHAPES:
        random_model(root / name, name)
    else:
        shutil.copytree(STORYTELLER, root / name)
    for file in ("config.json", "generation_config.json"):
        edit(root / name / file, eos_token_id=None, bos_token_id=None)
    edit(root / name / "rubric.json", format=1, end={"token_id": None})
    return root / name


def random_model(folder: Path, shape: str) -> None:
    """Write seeded random weights as GPT-2 begins its training: matrices of deviation 0.02, norms of 1, biases of 0."""
    layers, width, heads = SHAPES[shape]
    sizes = {"vocab_size": 50257, "n_positions": 1024, "n_embd": width, "n_layer": layers, "n_head": heads}
    folder.mkdir(parents=True)
    edit(folder / "config.json", model_type="gpt2", architectures=["GPT2LMHeadModel"], **sizes)
    shutil.copy(STORYTELLER / "tokenizer_config.json", folder)
    tokenizer = json.loads((STORYTELLER / "tokenizer.json").read_text())
    more_words(tokenizer["model"], sizes["vocab_size"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    dice = torch.Generator().manual_seed(0)
    tensors = {}
    for name, size in tensor_shapes(read_config(folder)[0]).items():
        value = torch.randn(size, generator=dice) * 0.02 if len(size) == 2 else torch.zeros(size)
        tensors[f"transformer.{name}"] = value + 1 if "ln_" in name and name.endswith("weight") else value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def more_words(model: dict, count: int) -> None:
    """Let a tokenizer have so many tokens, as CTranslate2 wants all: words of two, each by a merge, as a learned one has them."""
    known, merges = model["vocab"], model["merges"]
    words = [word for word in known if word.isalpha() and len(word) > 2]
    for left, right in product(words, words):
        if len(known) == count:
            return
        if left + right not in known:
            known[left + right] = len(known)
            merges.append([left, right] if isinstance(merges[0], list) else f"{left} {right}")


def edit(file: Path, **changes) -> None:
    """Change some keys of a JSON file, which need not exist."""
    old = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(old | changes, indent=2))


def prompts(count: int, length: int, seed: str) -> list[list[int]]:
    """`count` prompts of random ids, all different: a cache of prefixes that an engine keeps must not help it here."""
    dice = random.Random(seed)
    return [[dice.randrange(1, 8192) for _ in range(length)] for _ in range(count)]


def texts(count: int, seed: str) -> list[str]:
    """`count` different prompts of 32 common words, for those who take text (some 32 tokens of the storyteller)."""
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS.split(), k=32)) for _ in range(count)]
