"""What a training takes where nobody says: learning rate, batch and epochs, from the model's size and the text's.

Small models bear, and need, larger rates than 124M parameters do. Anchors: 1e-3 at 7M parameters (measured), 1e-4 at
124M and 2e-5 to 5e-5 above, as is usual in published fine-tunings; a power law lies between. A small text needs more
passes and smaller batches: with eight windows in a batch, 100 kB would be learned from in a dozen steps.
"""

import math
from dataclasses import replace

from finetune.options import Options
from generate import N_, counted, gettext

ANCHOR, RATE, POWER, HIGHEST = 7e6, 1e-3, 0.8, 3e-3
FROM_SCRATCH, LORA, MUON = 2.0, 3.0, 2.0  # times that
BATCH, EPOCHS = 8, 3  # of a text of some size
STEPS_AN_EPOCH, STEPS, MOST_EPOCHS = 16, 400, 20  # that a small text gets, if so many passes are enough


def with_defaults(
    options: Options, parameters: int, windows: int, world: int, scratch: bool
) -> tuple[Options, list[str]]:
    """The options with what was left open, and a line for each choice that says why.

    `windows` are those of the training part, `world` the number of processes, `scratch` whether the model is new.
    """
    told = []
    if not options.learning_rate:
        rate, why = choose_rate(parameters, options, scratch)
        options = replace(options, learning_rate=rate)
        chosen = N_("Learning rate {rate:g}, chosen for {why}; --learning-rate takes another.")
        told.append(gettext(chosen, rate=rate, why=why))
    if not options.batch_size:
        options = replace(options, batch_size=choose_batch(windows, world))
    if not (options.epochs or options.steps or options.minutes):
        batches = math.ceil(windows / (options.batch_size * options.gradient_accumulation))
        options = replace(options, epochs=choose_epochs(batches))
        if (options.batch_size, options.epochs) != (BATCH, EPOCHS):
            chosen = N_(
                "{epochs} in batches of {size}, chosen for a text this small; --epochs, --steps or --minutes take another "
                "length."
            )
            told.append(gettext(chosen, epochs=counted(int(options.epochs), "epoch"), size=options.batch_size))
    return options, told


def choose_rate(parameters: int, options: Options, scratch: bool) -> tuple[float, str]:
    """A rate of two digits, and what it was chosen for."""
    rate, why = (
        min(HIGHEST, RATE * (ANCHOR / parameters) ** POWER),
        [gettext("{count} parameters", count=size(parameters))],
    )
    for factor, holds, reason in (
        (FROM_SCRATCH, scratch, gettext("from scratch")),
        (LORA, options.lora, "--lora"),
        (MUON, scratch and options.optimizer == "muon", "muon"),
    ):
        if holds:
            rate, why = rate * factor, [*why, reason]
    return float(f"{rate:.1e}"), gettext(", ").join(why)


def choose_batch(windows: int, world: int) -> int:
    """A power of two, and at least one window for each process."""
    wanted = min(BATCH, windows // STEPS_AN_EPOCH)
    return max(world, 2 ** (wanted.bit_length() - 1) if wanted else 1)


def choose_epochs(batches: int) -> float:
    """Passes over so many batches, where nobody said how long to train."""
    return float(max(EPOCHS, min(MOST_EPOCHS, math.ceil(STEPS / batches))))


def size(parameters: int) -> str:
    """A number of parameters in millions, as in `124M` and `2.5M`."""
    return f"{parameters / 1e6:,.0f}M" if parameters >= 1e7 else f"{parameters / 1e6:.2g}M"
