"""Every option of a training: its default, its limits, its meaning."""

from dataclasses import asdict, dataclass
from typing import Any

SCHEDULES = ("cosine", "linear", "constant", "stable")
SHUFFLES = ("auto", "documents", "windows")
OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
DTYPES = ("float32", "float16", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
HEADERS = ("auto", "yes", "no")


@dataclass(frozen=True)
class Options:
    """What decides the outcome of a training. Counts are of optimizer steps, windows or tokens as the names say."""

    steps: int = 0
    epochs: float = 0
    minutes: float = 0
    batch_size: int = 0
    gradient_accumulation: int = 1
    block_size: int = 0
    line_by_line: bool = False
    shuffle: str = "auto"
    learning_rate: float = 0
    schedule: str = "cosine"
    warmup: float = 0.05
    stable: float = 0.5
    cooldown: int = 0
    ema: int = 0
    optimizer: str = "adamw"
    beta2: float = 0.999
    weight_decay: str = "0"
    clip: float = 1.0
    dropout: float = 0.1
    freeze_embeddings: bool = False
    lora: int = 0
    distill_weight: float = 0.5
    gradient_checkpointing: bool = False
    compile: bool = False
    precision: str = "auto"
    device: str = "auto"
    dtype: str = "float32"
    split: str = "90/10"
    patience: int = 0
    seed: int = 1
    documents: str = "file"
    format: str = "{text}"
    encoding: str = "utf-8"
    column: str = ""
    field: str = ""
    header: str = "auto"
    special_tokens: str = ""
    layers: int = 0
    width: int = 256
    heads: int = 0
    vocab: int = 8192
    zero_init: bool = False
    evaluate_every: int = -1
    sample_every: int = -1
    sample_prompt: str = ""
    sample_length: int = 100
    save_every: int = -1
    log_every: int = -1
    keep: int = 2


LIMITS: dict[str, tuple[float, float]] = {
    "steps": (0, 10**8),
    "epochs": (0, 10**5),
    "minutes": (0, 10**6),
    "batch_size": (1, 2**16),
    "gradient_accumulation": (1, 2**16),
    "block_size": (0, 2**20),
    "learning_rate": (0, 1),
    "warmup": (0, 10**8),
    "stable": (0, 1),
    "cooldown": (0, 10**8),
    "ema": (0, 10**6),
    "distill_weight": (0, 1),
    "beta2": (0, 0.999999),
    "weight_decay": (0, 10),  # each of one or two
    "clip": (0, 10**6),
    "dropout": (0, 0.9),
    "lora": (0, 1024),
    "patience": (0, 10**4),
    "seed": (0, 2**32 - 1),
    "layers": (0, 1000),
    "width": (1, 2**14),
    "heads": (0, 1024),
    "vocab": (257, 2**20),
    "evaluate_every": (-1, 10**8),
    "sample_every": (-1, 10**8),
    "sample_length": (1, 4096),
    "save_every": (-1, 10**8),
    "log_every": (-1, 10**8),
    "keep": (1, 10**4),
}
CHOICES = {
    "header": HEADERS,
    "shuffle": SHUFFLES,
    "schedule": SCHEDULES,
    "optimizer": OPTIMIZERS,
    "precision": PRECISIONS,
    "device": DEVICES,
    "dtype": DTYPES,
}
HELP = {
    "steps": "optimizer steps in all (default 0: as many as the epochs have)",
    "epochs": "times that the text is read through (default 0: three, and more of a small text)",
    "batch_size": "windows in a batch, over all devices together; halved, and accumulated, when memory is short "
    "(default 0: eight, and fewer for a small text)",
    "gradient_accumulation": "batches whose gradients make one step (default 1)",
    "minutes": "train for about so long: the pace is measured first, and the number of steps follows from it",
    "block_size": "tokens in a window (default 0: the model's whole window)",
    "line_by_line": "each document in a window of its own, padded; else documents are packed into full windows",
    "shuffle": "what each epoch puts in a new order: documents, before they are packed into windows, or the windows alone "
    "(default auto: documents when there are more than a few)",
    "learning_rate": "the highest one (default 0: chosen from the model's size and the optimizer)",
    "schedule": "of the learning rate after the warm-up; stable: constant, then linear to 2 %%; constant: as it is, until "
    "--cooldown (default cosine)",
    "warmup": "steps in which the learning rate rises, at most half of all; below 1 a share of all (default 0.05)",
    "stable": "with --schedule stable: the share of the steps after which the rate falls (default 0.5)",
    "cooldown": "with --schedule constant: the last steps, in which the rate falls to zero; `python -m finetune branch` begins "
    "one from a checkpoint of a training that goes on (default 0)",
    "ema": "steps that a moving average of the weights reaches back, from where the learning rate begins to fall; it is the "
    "average that is evaluated, shown and written; 0: none (default 0; try 150)",
    "optimizer": "adamw, or muon for the matrices inside the blocks with adamw for the rest (default adamw)",
    "beta2": "AdamW's decay of squared gradients (default 0.999)",
    "weight_decay": "of all but biases and norms, with muon of the matrices alone; two such as 0.8:0: held until the learning "
    "rate falls, then evenly to the second (default 0)",
    "clip": "longest gradient, 0: any (default 1)",
    "dropout": "share of activations left out (default 0.1)",
    "freeze_embeddings": "train the transformer's layers only",
    "lora": "rank of low-rank adapters that are trained in the weights' stead and merged into them at the end; 0: none",
    "distill_weight": "with --teacher: the share of the loss that the teachers' probabilities have, the text has the rest "
    "(default 0.5)",
    "compile": "compile the model's step (a minute at the beginning; for GPUs, and needs a C++ compiler on a CPU)",
    "gradient_checkpointing": "compute activations twice and keep few of them: slower, much less memory",
    "precision": "of the products; auto: bfloat16 or float16 where a GPU has it, else float32",
    "device": "where to train (default auto: a GPU when there is one)",
    "dtype": "of the weights that are written (default float32)",
    "split": "shares for training, validation and, if given, a last test, by document, such as 70/20/10 (default 90/10)",
    "patience": "stop after this many evaluations in a row without a better one, and keep the best; 0: never",
    "seed": "of the split, the order, the dropout (default 1)",
    "documents": "where one document ends: file, line, blank-line, or any text that separates them (default file; "
    "<|endoftext|> in a file ends one too)",
    "format": "wraps each document, such as 'JOKE: {text}'",
    "encoding": "of text files (default utf-8)",
    "column": "of CSV, TSV and Parquet: its name, or its number from 0",
    "field": "of JSON and JSON lines; a.b is field b of the object in field a",
    "header": "of CSV and TSV: whether the first row is one: yes, no, or auto, as the rows show it (default auto)",
    "special_tokens": "of bos,eos,pad those to add as <BOS>, <EOS>, <PAD>; documents are then written with them",
    "layers": "with --from-scratch (default 6); with --model: add layers up to so many, which change nothing at first",
    "width": "with --from-scratch (default 256)",
    "heads": "with --from-scratch (default 0: width / 64)",
    "vocab": "with --from-scratch: tokens of the vocabulary (default 8192)",
    "zero_init": "with --from-scratch: the projections back into the residual stream begin at zero",
    "evaluate_every": "steps between two looks at the validation part; 0: only before and after (default -1: ten in all)",
    "sample_every": "steps between two samples; 0: none (default -1: ten in all)",
    "sample_prompt": "what the samples go on from (default: nothing)",
    "sample_length": "most tokens of a sample (default 100)",
    "save_every": "steps between two checkpoints; 0: none but when stopped, or best (default -1: ten in all)",
    "log_every": "steps between two entries of the curve (default -1: a hundred in all)",
    "keep": "checkpoints kept (default 2)",
}


def flag(name: str) -> str:
    """An option's name as a command line writes it."""
    return "--" + name.replace("_", "-")


def changed(options: Options) -> dict[str, Any]:
    """The options that are not the defaults."""
    defaults = asdict(Options())
    return {name: value for name, value in asdict(options).items() if value != defaults[name]}
