"""All that is known of a training before it begins: its model, its text in windows, its options with nothing left open."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import tokenizers
from accelerate import PartialState

from finetune import data
from finetune.data import Data
from finetune.defaults import with_defaults
from finetune.model import count_parameters
from finetune.options import Options
from finetune.part import Part
from finetune.split import FEWEST_DOCUMENTS
from finetune.start import Start, block_size, find_folder, from_folder, with_tokenizer_of
from finetune.task import TOKENIZER, Task
from finetune.teachers import check_teacher
from finetune.windows import Windows, windows
from generate import ModelFolder, Refusal, check_folder


@dataclass(frozen=True)
class Plan:
    """`windows` by the part's name. `choices` are lines that say what was chosen where nobody asked."""

    options: Options
    start: Start
    block_size: int
    data: Data
    windows: dict[str, Windows]
    teachers: Sequence[ModelFolder]
    choices: list[str] = field(default_factory=list)

    def facts(self) -> dict:
        """What must be the same when the training is resumed."""
        base = self.start.folder
        return self.data.facts() | {
            "model": base and {"name": base.name, "fingerprint": base.fingerprint()},
            "teachers": [{"name": t.name, "fingerprint": t.fingerprint()} for t in self.teachers],
        }


def make_plan(task: Task, process: PartialState, scratch: Path) -> Plan:
    """Read what was asked for; the main process first, so that text is tokenised once. Raises Refusal."""
    main = process.is_main_process
    teachers = [checked(name, task.models, "--teacher") for name in task.teachers]
    with process.main_process_first() if process.num_processes > 1 else nullcontext():
        start = make_start(task, teachers, main, scratch)
        block = block_size(start, task.options)
        for teacher in teachers:
            check_teacher(teacher, start, block, task.options)
        found = data.load(task.given, task.validation, task.options, start, task.cache, scratch, main)
    parts = windows_of(found, start, block, task.options)
    options, choices = with_defaults(
        task.options,
        count_parameters(start, task.options),
        len(parts["train"]),
        process.num_processes,
        start.folder is None,
    )
    return Plan(options, start, block, found, parts, teachers, choices)


def checked(name: str, models: Path, option: str) -> ModelFolder:
    """The model's folder that an option means, with the weights that its manifest promises; raises Refusal."""
    folder = check_folder(find_folder(name, models, option))
    folder.fingerprint()  # its weights are those that its manifest promises
    return folder


def make_start(task: Task, teachers: Sequence[ModelFolder], main: bool, scratch: Path) -> Start:
    """The base model with its tokenizer; a new tokenizer is trained once and then kept with the training."""
    if task.model:
        return from_folder(checked(task.model, task.models, "--model"), task.options)
    kept = task.work / TOKENIZER
    if task.tokenizer or teachers:
        folder = checked(task.tokenizer, task.models, "--tokenizer") if task.tokenizer else teachers[0]
        start = with_tokenizer_of(folder, task.options)
        if not task.resume and main:
            start.tokenizer.save(str(kept))
        elif task.resume and opened(kept).get_vocab() != start.tokenizer.get_vocab():
            raise Refusal(
                "{model} has not the tokenizer that this training began with; bring that one back.", model=folder.name
            )
        return start
    if kept.is_file() and (task.resume or not main):
        tokenizer = opened(kept)
        tokenizer.encode_special_tokens = True
        return Start(tokenizer, None, 0, 0, None, False)
    start = data.new_tokenizer(task.given, task.options, scratch)
    start.tokenizer.save(str(kept))
    return start


def opened(kept: Path) -> tokenizers.Tokenizer:
    """The tokenizer that an interrupted training kept; raises Refusal when it is damaged."""
    try:
        return tokenizers.Tokenizer.from_file(str(kept))
    except Exception as error:  # it has no class of its own
        raise Refusal("{path} is damaged ({reason}); begin anew with --force.", path=kept, reason=error) from None


def windows_of(found: Data, start: Start, block: int, options: Options) -> dict[str, Windows]:
    """The windows of each part by its name."""
    begun = dict.fromkeys(found.parts, start.begin is not None)
    if found.cut:
        begun |= dict.fromkeys(begun.keys() - {"train"}, False)  # what was cut off does not begin with the token
    return {
        name: windows(
            part,
            block,
            start.context,
            options.line_by_line,
            begun[name],
            alternate=name == "train",
            seed=order_of_documents(part, found.cut, options) if name == "train" else None,
        )
        for name, part in found.parts.items()
    }


def order_of_documents(part: Part, cut: bool, options: Options) -> int | None:
    """The seed of a new order each epoch; None: they stay as they are, as the pieces of a few documents must."""
    some = len(part) >= FEWEST_DOCUMENTS and not cut
    return options.seed if {"auto": some, "documents": True}.get(options.shuffle) else None


def count_steps(plan: Plan, world: int) -> int:
    """Optimizer steps in all; 0 where they follow from --minutes. Raises Refusal."""
    o = plan.options
    if o.batch_size % world:
        raise Refusal(
            "--batch-size {batch_size} cannot be shared by {world} processes; give a multiple.",
            batch_size=o.batch_size,
            world=world,
        )
    if o.minutes and not o.steps:
        return 0
    batches = -(-len(plan.windows["train"]) // o.batch_size)
    steps = o.steps or round(o.epochs * -(-batches // o.gradient_accumulation))
    if steps < 1:
        raise Refusal(
            "--epochs {epochs:g} of {batches} batches are no step at all; give --steps.",
            epochs=o.epochs,
            batches=batches,
        )
    return steps
