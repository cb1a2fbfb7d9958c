"""What happens beside the arithmetic: the bar, the log, evaluations, samples, the wish to stop."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm
from transformers import TrainerCallback

from finetune.record import Record
from finetune.stopping import Stop
from finetune.trainer import Tuner
from generate import Score, counted, gettext


class Watch(TrainerCallback):
    """Keeps the record of a training and shows it; `patience` evaluations without a better one end it."""

    def __init__(
        self,
        record: Record,
        stop: Stop,
        every: dict[str, int],
        evaluates: bool,
        patience: int,
        write_sample: Callable[[], dict[str, str]],
        shows: bool,
    ):
        self.record, self.stop, self.every, self.evaluates = record, stop, every, evaluates
        self.patience, self.write_sample, self.shows = patience, write_sample, shows
        self.tuner: Tuner | None = None  # told when it is made
        self.stopped = False
        self.bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the clock and the bar."""
        self.begun = self.last = time.monotonic()
        self.before = self.record.facts["seconds"]
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit=gettext("step"), disable=None if self.shows else True, leave=False
        )  # fmt: skip

    def on_step_end(self, args, state, control, **kwargs):
        """Ask the Trainer for what is due after this step: the end, an evaluation, a sample, an entry of the log."""
        self.bar.update()
        step, last = state.global_step, state.global_step >= state.max_steps
        self.record.journal.tell_at_times("step", step=step, steps=state.max_steps)
        if self.stop.agreed(args.device) and not last:
            self.stopped = control.should_training_stop = control.should_save = True
        if self.evaluates and (last or due(step, self.every["evaluate"])):
            control.should_evaluate = True
        if due(step, self.every["sample"]) or (last and self.every["sample"]):
            self.sample(step)
        if last or control.should_save:
            control.should_log = True  # a loss that is no number is seen before it is saved

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Keep a training loss, with the tokens a second since the last entry."""
        if "loss" not in (logs or {}):
            return
        now = time.monotonic()
        speed = float(self.tuner.predicted) / max(now - self.last, 1e-9)
        self.tuner.predicted, self.last = 0, now
        entry = {"step": state.global_step, "loss": logs["loss"], "learning_rate": logs["learning_rate"]}
        if "grad_norm" in logs:
            entry["grad_norm"] = logs["grad_norm"]
        self.record.facts["seconds"] = self.before + now - self.begun
        self.record.add("history", entry | {"tokens_per_second": speed, "seconds": self.record.facts["seconds"]})
        self.bar.set_postfix_str(gettext("loss {loss:.3f}, {speed:,.0f} tokens/s", loss=logs["loss"], speed=speed))

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        """Keep the score that the Tuner has found."""
        self.note_score(state.global_step, self.tuner.found, control)
        self.last += self.tuner.judged  # judging is not training either

    def note_score(self, step: int, score: Score, control=None) -> None:
        """Keep what an evaluation found, and stop when it gets no better any more."""
        self.record.add_score(step, "validation", score)
        self.say(gettext("step {step:,}: validation {score}, loss {loss:.3f}", step=step, score=score, loss=score.nats))
        losses = [loss for _, loss in self.record.losses()]
        since = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        if control and self.patience:
            control.should_save = control.should_save or step == self.best_step()
            if since >= self.patience:
                control.should_training_stop = True
                self.say(
                    gettext(
                        "No better one in {evaluations}; the best was that of step {step:,}.",
                        evaluations=counted(since, "evaluation"),
                        step=self.best_step(),
                    )
                )

    def best_step(self) -> int | None:
        """The step whose checkpoint is kept whatever comes; None where the last one counts."""
        # there is no checkpoint of what was not trained
        losses = [found for found in self.record.losses() if found[0] > 0]
        return min(losses, key=lambda found: found[1])[0] if self.patience and losses else None

    def sample(self, step: int) -> None:
        """One process writes; the others wait at their next step."""
        if not self.record.writes:
            return
        begun = time.monotonic()
        found = self.write_sample()
        self.record.add("samples", {"step": step} | found)
        text = f"{found['prompt']}{found['text']}"
        self.say(gettext("step {step:,} writes: {text}\n", step=step, text=text))
        self.last += time.monotonic() - begun  # writing it is not training

    def on_train_end(self, args, state, control, **kwargs):
        """Close the bar."""
        self.bar.close()

    def say(self, text: str) -> None:
        """Print a line above the progress bar, on standard error."""
        if self.shows:
            tqdm.write(text, file=sys.stderr)


def due(step: int, every: int) -> bool:
    """Whether something that comes `every` so many steps comes now; 0: never."""
    return bool(every) and step % every == 0
