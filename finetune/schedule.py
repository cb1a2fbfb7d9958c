"""How the learning rate and the weight decay go over the steps, and where the fall begins that an average belongs to."""

from transformers import TrainerCallback

from finetune.option_checks import decay_of
from finetune.options import Options

LEAST_RATE = 0.02  # of the learning rate, at the end of the schedule `stable`


def warmup_steps(options: Options, steps: int) -> int:
    """Steps in which the learning rate rises."""
    return min(round(options.warmup * steps) if options.warmup < 1 else int(options.warmup), steps // 2)


def falling_steps(options: Options, steps: int) -> int:
    """The last steps, in which the learning rate falls; 0: it never does."""
    most = steps - warmup_steps(options, steps)
    if options.schedule == "constant":
        return min(options.cooldown, most)
    if options.schedule == "stable":
        return min(max(1, round((1 - options.stable) * steps)), most)
    return most


def rate_schedule(options: Options, steps: int) -> dict:
    """The Trainer's arguments for the learning rate."""
    arguments = {"learning_rate": options.learning_rate, "warmup_steps": warmup_steps(options, steps)}
    falling = falling_steps(options, steps)
    if options.schedule == "constant" and not falling:
        return arguments | {"lr_scheduler_type": "constant_with_warmup"}
    if options.schedule in ("cosine", "linear"):
        return arguments | {"lr_scheduler_type": options.schedule}
    least = LEAST_RATE if options.schedule == "stable" else 0.0
    shape = {"num_decay_steps": falling, "min_lr_ratio": least, "decay_type": "linear"}
    return arguments | {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": shape}


def weight_decay_at(step: int, options: Options, steps: int) -> float:
    """The weight decay of a step (from 0): the first of two until the learning rate falls, then evenly to the second."""
    first, last = decay_of(options.weight_decay)
    falling = falling_steps(options, steps)
    share = max(0, step - (steps - falling)) / falling if falling else 0.0
    return first + (last - first) * share


class WeightDecay(TrainerCallback):
    """Tells the optimizer the weight decay of every step; the groups that have one are marked with `decays`."""

    def __init__(self, options: Options, steps: int):
        self.options, self.steps = options, steps

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        """Set the step's weight decay in the groups that have one."""
        decay = weight_decay_at(state.global_step, self.options, self.steps)
        for group in optimizer.param_groups:
            if group.get("decays"):
                group["weight_decay"] = decay
