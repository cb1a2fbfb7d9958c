"""examples.json: beginnings with which a model shows what it can, and the seeds that turned out well with these weights.

    {"examples": [{"prompt": "Once upon a time", "seed": 7, "options": {"max_new_tokens": 60}}, ...]}

Only the prompt must be there. Without a seed each press draws another. `options` are by the names they have everywhere; what
is not named there is as the model would be asked by itself.
"""

from dataclasses import dataclass
from pathlib import Path

from generate.errors import Problem, Refusal
from generate.folders.json_files import read_json
from generate.sampling.lists import short
from generate.sampling.options import BY_NAME

FILE = "examples.json"
MOST = 8  # that are used
LONGEST = 2000  # characters of a prompt


@dataclass(frozen=True)
class Example:
    """A beginning, the seed it goes well with (None: any), and (name, value) of the options it was tried with."""

    prompt: str
    seed: int | None = None
    options: tuple[tuple[str, float], ...] = ()

    @property
    def fields(self) -> dict[str, float]:
        """The form's fields that make it: its options, and its seed if it has one."""
        return dict(self.options) | ({} if self.seed is None else {"seed": self.seed})


def read_examples(path: Path) -> tuple[tuple[Example, ...], tuple[Problem, ...]]:
    """A folder's examples, and what is to be said of those that are left out, or of the file. Nothing here is refused: a
    model works without."""
    try:
        raw = read_json(path, FILE, optional=True).get("examples", [])
    except Refusal as refusal:
        return (), (refusal.problem,)
    if not isinstance(raw, list):
        return (), (Problem("{file} is not obeyed: its examples must be a list.", file=FILE),)
    found, remarks = [], []
    for number, one in enumerate(raw[:MOST], 1):
        try:
            found.append(read_example(one))
        except Refusal as refusal:
            remarks.append(
                Problem(
                    "{file}: example {number} is left out. {reason}", file=FILE, number=number, reason=refusal.problem
                )
            )
    return tuple(found), tuple(remarks)


def read_example(raw: object) -> Example:
    """One example as JSON has it; raises Refusal."""
    if not isinstance(raw, dict):
        raise Refusal("It must be an object with a prompt, not {given}.", given=short(raw))
    prompt, seed, options = raw.get("prompt"), raw.get("seed"), raw.get("options", {})
    if not (isinstance(prompt, str) and prompt.strip() and len(prompt) <= LONGEST):
        raise Refusal("Its prompt must be a text of 1 to {most:,} characters.", most=LONGEST)
    if not isinstance(options, dict) or not options.keys() <= BY_NAME.keys() - {"seed", "samples"}:
        raise Refusal("Its options must be those of a run by their names, not {given}.", given=short(options))
    values = tuple((name, BY_NAME[name].parse(value)) for name, value in options.items())
    return Example(prompt, None if seed is None else BY_NAME["seed"].parse(seed), values)
