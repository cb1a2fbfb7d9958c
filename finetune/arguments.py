"""What the Trainer is told: our options in its words."""

import math
import os
from pathlib import Path

import torch
from transformers import TrainingArguments

from finetune.option_checks import decay_of
from finetune.options import Options
from finetune.schedule import rate_schedule
from generate import Refusal


def arguments(
    options: Options, work: Path, steps: int, micro: int, accumulation: int, device: str
) -> TrainingArguments:
    """What the Trainer is told. Everything about evaluation, logging and saving is in steps."""
    every = rhythm(options, steps)
    precision = precision_of(options, device)
    return TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        activation_checkpointing=options.gradient_checkpointing,
        optim="adamw_torch_fused",
        adam_beta2=options.beta2,
        weight_decay=max(decay_of(options.weight_decay)),  # each step's own: schedule.py
        max_grad_norm=options.clip,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        torch_compile=options.compile,
        use_cpu=device == "cpu",
        seed=options.seed,
        logging_steps=every["log"],
        logging_nan_inf_filter=False,
        save_strategy="steps" if every["save"] else "no",
        save_steps=every["save"] or steps,
        eval_strategy="no",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        dataloader_num_workers=0,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if device == "cpu" and int(os.environ.get("WORLD_SIZE", "1")) > 1 else None,
        log_level="error",
        **rate_schedule(options, steps),
    )


def rhythm(options: Options, steps: int) -> dict[str, int]:
    """Steps between two evaluations, samples, checkpoints and entries of the log; 0: never."""
    tenth, hundredth = max(1, math.ceil(steps / 10)), max(1, math.ceil(steps / 100))
    asked = {
        "evaluate": (options.evaluate_every, tenth),
        "sample": (options.sample_every, tenth),
        "save": (options.save_every, tenth),
        "log": (options.log_every, hundredth),
    }
    found = {name: value if value >= 0 else usual for name, (value, usual) in asked.items()}
    return found | {"log": found["log"] or steps}


def precision_of(options: Options, device: str) -> str:
    """What `auto` means on this device; raises Refusal for what it cannot do."""
    if options.precision == "float16" and device == "cpu":
        raise Refusal("--precision float16 needs a GPU; on a CPU use bfloat16 or float32.")
    if options.precision != "auto":
        return options.precision
    if device == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
