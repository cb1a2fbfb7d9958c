"""What is not a GPT-2, called by its name: by config.json, by the names of its tensors, by the files of its folder."""

import re
from collections.abc import Iterable
from pathlib import Path

from generate.errors import Refusal
from generate.text.bpe import read_object

BY_TYPE = {  # model_type in config.json
    "bert": "BERT",
    "bloom": "BLOOM",
    "ctrl": "CTRL",
    "falcon": "Falcon",
    "gemma": "Gemma",
    "gpt_bigcode": "GPT-BigCode",
    "gpt_neo": "GPT-Neo",
    "gpt_neox": "GPT-NeoX",
    "gptj": "GPT-J",
    "llama": "LLaMA",
    "mamba": "Mamba",
    "mistral": "Mistral",
    "openai-gpt": "GPT-1",
    "opt": "OPT",
    "phi": "Phi",
    "qwen2": "Qwen2",
    "rwkv": "RWKV",
    "t5": "T5",
    "xlnet": "XLNet",
}
BY_NAME = (  # of a tensor, in PyTorch or TensorFlow; the first that fits
    (re.compile(r"(^|/)newslm/"), "Grover"),
    (re.compile(r"attn\.attention\.[qkv]_proj"), "GPT-Neo"),
    (re.compile(r"(^|\.)h\.\d+\.attn\.[qkv]_proj"), "GPT-J"),
    (re.compile(r"self_attention\.query_key_value"), "BLOOM"),
    (re.compile(r"attention\.query_key_value"), "GPT-NeoX"),
    (re.compile(r"decoder\.layers\.\d+\.self_attn"), "OPT"),
    (re.compile(r"(^|\.)layers\.\d+\.(self_attn|attention\.w[qkv])"), "LLaMA"),
    (re.compile(r"encoder\.layer\.\d+\.attention\.self|^bert/"), "BERT"),
    (re.compile(r"^tokens_embed\.|\.tokens_embed\."), "GPT-1"),
    (re.compile(r"^blocks\.\d+\.att\."), "RWKV"),
)
ADAPTER = re.compile(r"\.lora_[AB]\.|^base_model\.model\.")
OTHERS = {"*.onnx": "ONNX", "tf_model.h5": "Keras", "flax_model.msgpack": "Flax", "rust_model.ot": "Rust"}


def kind_by_names(names: Iterable[str]) -> str | None:
    """What kind of model tensors of these names are of, None where nobody knows."""
    names = list(names)
    return next((kind for pattern, kind in BY_NAME if any(pattern.search(name) for name in names)), None)


def refuse_adapter(path: Path, names: Iterable[str] = ()) -> None:
    """Raise Refusal for a folder, or tensors of such `names`, that are a low-rank adapter without its model."""
    config = path / "adapter_config.json"
    if not config.is_file() and not any(ADAPTER.search(name) for name in names):
        return
    base = read_object(config).get("base_model_name_or_path") if config.is_file() else None
    raise (
        Refusal(
            "{model} is an adapter alone, not a whole model; merge it first: in peft, AutoPeftModelForCausalLM.from_pretrained("
            "folder).merge_and_unload().save_pretrained(another).",
            model=path.name,
        )
        if not isinstance(base, str)
        else Refusal(
            "{model} is an adapter alone, for the model {base!r:.80}; merge it with that first: in peft, AutoPeftModelForCausalLM."
            "from_pretrained(folder).merge_and_unload().save_pretrained(another).",
            model=path.name,
            base=base,
        )
    )


def refuse_other_files(path: Path) -> None:
    """Raise Refusal for a folder whose weights are in a file that another program reads, or for such a file."""
    folder, name = (path.parent, path.name) if path.is_file() else (path, "*")
    ggufs = sorted(folder.glob("*.gguf")) if path.is_dir() else []
    if ggufs:
        raise Refusal(
            "{model}: its weights are in {file}; `python -m convert {path} models/NAME` makes a model of it that can be served.",
            model=path.name,
            file=ggufs[0].name,
            path=ggufs[0],
        )
    for pattern, program in OTHERS.items():
        for file in sorted(file for file in folder.glob(pattern) if name in ("*", file.name)):
            raise Refusal(
                "{model}: its weights are in {file}, which is of {program} and cannot be read here; take the model's "
                "model.safetensors or pytorch_model.bin from where it came from.",
                model=path.name,
                file=file.name,
                program=program,
            )


def refuse_other_type(model: str, kind: object) -> None:
    """Raise Refusal for a config.json of another model_type."""
    if isinstance(kind, str) and kind in BY_TYPE:
        raise Refusal(
            "{model} is a {name} (model_type {kind!r}), and no GPT-2; other kinds of models cannot be served here.",
            model=model,
            name=BY_TYPE[kind],
            kind=kind,
        )
    raise Refusal("{model}: model_type is {kind!r:.60}; only gpt2 can be served.", model=model, kind=kind)


def refuse_other_tensors(model: str, names: Iterable[str]) -> None:
    """Raise Refusal where the names of some tensors are known to be of another kind of model."""
    if (kind := kind_by_names(names)) is not None:
        raise Refusal(
            "{model}: its weights are those of a {kind}, and no GPT-2's; other kinds of models cannot be served here.",
            model=model,
            kind=kind,
        )
