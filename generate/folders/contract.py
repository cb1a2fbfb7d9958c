"""The contract of `models/NAME`, and the one place that checks it. Nothing here imports torch.

    config.json             GPT-2's hyper-parameters in `transformers`' names
    model.safetensors       the weights, `transformers`' names with or without the `transformer.` prefix
    tokenizer.json          or vocab.json with merges.txt: a byte-level BPE
    generation_config.json  optional: defaults for the sampling options
    certificate.json        optional: what `convert` found when it made the folder
    run.json                optional: how `finetune` trained it: options, data, losses, samples
    rubric.json             optional manifest: {"format": 1, "source": ..., "fingerprint": ..., "end": {"token_id": ..., "text": ...},
                            "begin": {"token_id": ...}: put before every prompt, where a model's texts all begin with it,
                            "measured": what each precision does to the model, see transformer/precision.py}

`fingerprint` is the sha256 of model.safetensors. A plain Hugging Face folder has no manifest; one is derived.
`transformers` 5 loads a wrong n_head, a missing layer or a missing tokenizer without an error, so all is checked here.
"""

import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from generate.errors import Refusal
from generate.sampling.options import BY_NAME
from generate.text.tokenizer import Tokenizer, open_tokenizer

log = logging.getLogger(__name__)

ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu")
FLOATS = ("F16", "BF16", "F32", "F64")
SIZES = {"vocab_size": 10**7, "n_positions": 10**7, "n_embd": 10**6, "n_layer": 10**4, "n_head": 10**6}
DESCRIPTIONS = ("rubric.json", "certificate.json", "run.json")
DEFAULTS = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty")


@dataclass(frozen=True)
class Config:
    """GPT-2's hyper-parameters: sizes in numbers of tokens, positions and features."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    activation: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attention: bool = True
    scale_by_layer: bool = False


@dataclass(frozen=True)
class ModelFolder:
    """A folder that keeps the contract."""

    name: str
    path: Path
    config: Config
    begin_id: int | None  # of a token that every text begins with, and nobody sees
    end_id: int | None
    end_text: str | None  # a fine-tune's end marker in ordinary tokens: a stop string that nobody sees
    source: str
    claimed_fingerprint: str | None
    defaults: tuple[tuple[str, float], ...]
    signature: tuple  # of all files, so that a folder whose weights were replaced is another one
    tokenizer: Tokenizer = field(compare=False, repr=False)

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def identity(self) -> tuple:
        """What a loaded model depends on: the path and all files but those that only describe the model."""
        return self.path, tuple(entry for entry in self.signature if entry[0] not in DESCRIPTIONS)

    def measured(self) -> dict[str, dict]:
        """What each precision does to this model, as far as it was measured on these very weights."""
        kept = read_json(self.path, "rubric.json", optional=True).get("measured")
        if not isinstance(kept, dict) or kept.get("fingerprint") != self.fingerprint():
            return {}
        found = kept.get("precisions")
        return {k: v for k, v in found.items() if is_effect(v)} if isinstance(found, dict) else {}

    def remember_measured(self, precisions: dict[str, dict]) -> None:
        """Keep in the manifest what was measured; where the folder cannot be written to, it is measured again."""
        manifest = {"format": 1, "source": self.source} | read_json(self.path, "rubric.json", optional=True)
        manifest["measured"] = {"fingerprint": self.fingerprint(), "precisions": precisions}
        part = self.path / f".rubric.json.{os.getpid()}"
        try:
            part.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
            part.replace(self.path / "rubric.json")
        except OSError as error:
            log.warning("%s: what was measured cannot be kept in rubric.json (%s)", self.name, error.strerror)

    def certificate(self) -> dict | None:
        """What `convert` found when it made this folder, if it did; raises Refusal when the file is no JSON object."""
        return read_json(self.path, "certificate.json", optional=True) or None

    def training(self) -> dict | None:
        """How `finetune` made this folder, if it did; raises Refusal when the file is no JSON object."""
        return read_json(self.path, "run.json", optional=True) or None

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a prompt. An empty one starts from the end token (or is [] without one); neither it nor `begin_id` has text."""
        if self.begin_id is not None:
            return [self.begin_id, *self.tokenizer.encode(text)]
        if text:
            return self.tokenizer.encode(text)
        return [] if self.end_id is None else [self.end_id]

    def fingerprint(self) -> str:
        """sha256 of the weights file, in hex; raises Refusal when the manifest claims another one."""
        status = self.weights.stat()
        found = sha256(self.weights, status.st_size, status.st_mtime_ns)
        if self.claimed_fingerprint not in (None, found):
            raise Refusal(
                "{name}: model.safetensors is not the file that rubric.json describes (sha256 {found}…, not "
                "{claimed}…); restore it, or delete rubric.json if the change is meant.",
                name=self.name,
                found=found[:12],
                claimed=self.claimed_fingerprint[:12],
            )
        return found


def is_part(file: Path) -> bool:
    """Whether a file belongs to the model; those that begin with a dot are being written, or the system's."""
    return file.is_file() and not file.name.startswith(".")


def is_effect(value: object) -> bool:
    """Whether a value from the manifest is what transformer/precision.py measures; anything else is measured again."""
    numbers = [value.get(name) for name in ("kl", "same")] if isinstance(value, dict) else [None]
    return all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)


def signature(path: Path) -> tuple:
    """Changes whenever a file in the folder is written, added or removed; () when the folder cannot be read."""
    try:
        files = sorted(path.iterdir())
        return tuple((f.name, (s := f.stat()).st_size, s.st_mtime_ns, s.st_ino) for f in files if is_part(f))
    except OSError:
        return ()


def check_folder(path: Path) -> ModelFolder:
    """Check all that can be known without reading the weights; raises Refusal with one sentence that says what to do."""
    config, eos = read_config(path)
    check_tensors(path, config)
    end_id = check_tokenizer(path, config, eos)
    manifest = read_json(path, "rubric.json", optional=True)
    kinds = {"format": int, "begin": dict, "end": dict, "fingerprint": str}
    if manifest.get("format", 1) != 1 or not all(isinstance(manifest.get(k, t()), t) for k, t in kinds.items()):
        raise Refusal("{model}: rubric.json is not of format 1; delete it, and it will be derived.", model=path.name)
    begin, end = manifest.get("begin", {}).get("token_id"), manifest.get("end", {}).get("token_id", end_id)
    for what, token in (("begin", begin), ("end", end)):
        if token is not None and not is_index(token, config.vocab_size):
            raise Refusal(
                "{model}: the {what} token {token!r} must be a token id below {vocab_size}; correct it.",
                model=path.name,
                what=what,
                token=token,
                vocab_size=config.vocab_size,
            )
    end_text = manifest.get("end", {}).get("text")
    if end_text is not None and not (isinstance(end_text, str) and 0 < len(end_text) <= 200):
        raise Refusal(
            "{model}: the end text in rubric.json must be a string of 1 to 200 characters; correct it.", model=path.name
        )
    return ModelFolder(
        name=path.name,
        path=path,
        config=config,
        begin_id=begin,
        end_id=end,
        end_text=end_text,
        source=str(manifest.get("source", "a Hugging Face folder")),
        claimed_fingerprint=manifest.get("fingerprint"),
        defaults=read_defaults(path),
        signature=signature(path),
        tokenizer=Tokenizer(path, config.vocab_size),
    )


def read_json(path: Path, name: str, optional: bool = False) -> dict:
    file = path / name
    if optional and not file.exists():
        return {}
    if not file.is_file():
        raise Refusal("{model}: {name} is missing; copy it from where the model came from.", model=path.name, name=name)
    try:
        value = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refusal(
            "{model}: {name} is not JSON ({reason}); copy it again.", model=path.name, name=name, reason=error
        ) from None
    if not isinstance(value, dict):
        raise Refusal(
            "{model}: {name} must hold a JSON object, not a {kind}.",
            model=path.name,
            name=name,
            kind=type(value).__name__,
        )
    return value


def read_config(path: Path) -> tuple[Config, int | None]:
    """Return the hyper-parameters and the end token's id that config.json names, if any."""
    raw = read_json(path, "config.json")
    if raw.get("model_type", "gpt2") != "gpt2":
        raise Refusal(
            "{model}: model_type is {kind!r}; only gpt2 can be served.", model=path.name, kind=raw["model_type"]
        )
    sizes = {}
    for name, most in SIZES.items():
        value = raw.get(name, raw.get("n_ctx") if name == "n_positions" else None)
        sizes[name] = checked_size(path, name, value, most)
    if sizes["n_embd"] % sizes["n_head"]:
        raise Refusal(
            "{model}: n_head {heads} does not divide n_embd {width}; correct config.json.",
            model=path.name,
            heads=sizes["n_head"],
            width=sizes["n_embd"],
        )
    activation = raw.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        raise Refusal(
            "{model}: activation_function {activation!r} is unknown; known are {known}.",
            model=path.name,
            activation=activation,
            known=", ".join(ACTIVATIONS),
        )
    if raw.get("add_cross_attention"):
        raise Refusal(
            "{model}: it has cross-attention; only a plain GPT-2 language model can be served.", model=path.name
        )
    inner = 4 * sizes["n_embd"] if raw.get("n_inner") is None else raw["n_inner"]
    epsilon = raw.get("layer_norm_epsilon", 1e-5)
    if isinstance(epsilon, bool) or not (isinstance(epsilon, int | float) and 0 <= epsilon <= 1):
        raise Refusal(
            "{model}: layer_norm_epsilon in config.json must be a number from 0 to 1, not {epsilon!r}.",
            model=path.name,
            epsilon=epsilon,
        )
    config = Config(
        **sizes,
        n_inner=checked_size(path, "n_inner", inner, 10**7),
        activation=activation,
        layer_norm_epsilon=epsilon,
        scale_attention=bool(raw.get("scale_attn_weights", True)),
        scale_by_layer=bool(raw.get("scale_attn_by_inverse_layer_idx", False)),
    )
    return config, raw.get("eos_token_id")


def checked_size(path: Path, name: str, value: object, most: int) -> int:
    if not is_index(value, most + 1) or value == 0:
        raise Refusal(
            "{model}: {name} in config.json must be a whole number from 1 to {limit:,}, not {value!r:.60}.",
            model=path.name,
            name=name,
            limit=most,
            value=value,
        )
    return value


def tensor_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a GPT-2 by its name without the `transformer.` prefix. Matrices are [in, out]."""
    c, e = config, config.n_embd
    block = {
        "ln_1.weight": (e,),
        "ln_1.bias": (e,),
        "attn.c_attn.weight": (e, 3 * e),
        "attn.c_attn.bias": (3 * e,),
        "attn.c_proj.weight": (e, e),
        "attn.c_proj.bias": (e,),
        "ln_2.weight": (e,),
        "ln_2.bias": (e,),
        "mlp.c_fc.weight": (e, c.n_inner),
        "mlp.c_fc.bias": (c.n_inner,),
        "mlp.c_proj.weight": (c.n_inner, e),
        "mlp.c_proj.bias": (e,),
    }
    ends = {"wte.weight": (c.vocab_size, e), "wpe.weight": (c.n_positions, e), "ln_f.weight": (e,), "ln_f.bias": (e,)}
    return ends | {f"h.{layer}.{name}": shape for layer in range(c.n_layer) for name, shape in block.items()}


def is_foreign(name: str) -> bool:
    """Old checkpoints keep each layer's causal mask as a buffer; it is not a weight."""
    return name.startswith("h.") and name.endswith((".attn.bias", ".attn.masked_bias"))


def check_tensors(path: Path, config: Config) -> None:
    """Compare names, shapes and types in the header of model.safetensors with what config.json promises."""
    file = path / "model.safetensors"
    if not file.is_file():
        raise Refusal(
            "{model}: model.safetensors is missing; weights in another form must be saved as safetensors first (in "
            "transformers: model.save_pretrained).",
            model=path.name,
        )
    try:
        with safe_open(str(file), "numpy") as tensors:
            found = {
                name.removeprefix("transformer."): (
                    tuple((part := tensors.get_slice(name)).get_shape()),
                    part.get_dtype(),
                )
                for name in tensors.keys()  # noqa: SIM118 (not a dict)
            }
    except SafetensorError as error:
        raise Refusal(
            "{model}: model.safetensors is damaged or cut short ({reason}); copy it again.",
            model=path.name,
            reason=error,
        ) from None
    expected = tensor_shapes(config)
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(n for n in found.keys() - expected.keys() if n != "lm_head.weight" and not is_foreign(n))
    if missing or extra:
        kind, names = ("lacks", missing) if missing else ("has the unexpected", extra)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise Refusal(
            "{model}: model.safetensors {kind} {name}{more}; config.json and weights must belong together.",
            model=path.name,
            kind=kind,
            name=names[0],
            more=more,
        )
    for name, shape in expected.items() | {("lm_head.weight", expected["wte.weight"])}:
        actual, dtype = found.get(name, (shape, "F32"))
        if actual != shape:
            raise Refusal(
                "{model}: {name} has shape {shape} where config.json says {wanted}; config.json and weights must "
                "belong together.",
                model=path.name,
                name=name,
                shape=list(actual),
                wanted=list(shape),
            )
        if dtype not in FLOATS:
            raise Refusal(
                "{model}: {name} is stored as {dtype}; save the weights as float32, float16 or bfloat16.",
                model=path.name,
                name=name,
                dtype=dtype,
            )


def check_tokenizer(path: Path, config: Config, eos: object) -> int | None:
    """Check that the tokenizer fits the embedding; return the end token's id, or None where there is no such token."""
    tokenizer = open_tokenizer(path)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if size <= 1:
        raise Refusal(
            "{model}: its tokenizer has {size} token; copy the real tokenizer.json there.", model=path.name, size=size
        )
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if highest >= config.vocab_size:
        raise Refusal(
            "{model}: its tokenizer goes up to id {highest} but the embedding has {vocab_size} rows; copy the "
            "tokenizer that the model was trained with.",
            model=path.name,
            highest=highest,
            vocab_size=config.vocab_size,
        )
    generation = read_json(path, "generation_config.json", optional=True).get("eos_token_id", eos)
    generation = generation[0] if isinstance(generation, list) and generation else generation
    return generation if generation is not None else tokenizer.token_to_id("<|endoftext|>")


def read_defaults(path: Path) -> tuple[tuple[str, float], ...]:
    """The sampling options that generation_config.json sets, within our limits."""
    raw = read_json(path, "generation_config.json", optional=True)
    if is_index(wanted := raw.get("max_new_tokens"), 10**9):
        # a model that by itself writes nothing would be of no use, so 0 counts as not given
        raw["max_new_tokens"] = min(wanted, int(BY_NAME["max_new_tokens"].high)) or None
    try:
        return tuple((name, BY_NAME[name].parse(raw[name])) for name in DEFAULTS if raw.get(name) is not None)
    except Refusal as refusal:
        raise Refusal("{model}: generation_config.json: {reason}", model=path.name, reason=refusal) from None


def is_index(value: object, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


@lru_cache(maxsize=64)
def sha256(file: Path, _size: int, _mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
