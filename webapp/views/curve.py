"""The plot of a training's losses: from numbers to places in percent, which a template draws as SVG.

The template is our own, so that its inks follow the page's style sheet in light and dark: matplotlib is heavy and draws
with fixed ones, pygal puts styles and scripts into its pictures, which our Content-Security-Policy forbids.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from generate import N_, gettext

POINTS = 300  # of a line at most; more cannot be told apart on a page
DOTS = 40  # of the held-out line are marked at most
NEAR = 7.0  # percent of the plot's height: the least distance between the names of two lines
FLATTEST = 0.1  # nats that the plot's height stands for at least, so that noise does not fill it


@dataclass(frozen=True)
class Loss:
    """The mean loss in nats a token at a step, and for an evaluation what else was said of it."""

    step: float
    loss: float
    perplexity: float | None = None
    bits_per_byte: float | None = None


@dataclass(frozen=True)
class Line:
    """A line of the plot: its points in percent of the plot's width and height, from the upper left corner."""

    name: str  # "training" or "held out", to be put into the page's language
    points: list[tuple[float, float]]
    marked: bool  # each point has a dot
    label: float  # where its name stands, in percent from the top

    @property
    def path(self) -> str:
        """The points as the `points` of an SVG polyline."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


@dataclass(frozen=True)
class Curve:
    """The plot: its lines, its ticks as (percent, words), and what it says to those who cannot see it."""

    lines: list[Line]
    steps: list[tuple[float, str]]
    losses: list[tuple[float, str]]
    description: str


def draw(history: list[Loss], validation: list[Loss], steps: float = 0) -> Curve | None:
    """The plot of the loss while training and on held-out text, or None where there is neither.

    It is as wide as the `steps` of a training that goes on, and at least as what was seen.
    """
    both = {N_("training"): thinned(history), N_("held out"): thinned(validation)}
    seen = [one for line in both.values() for one in line]
    if not seen:
        return None
    last, ticks = max(1, steps, max(one.step for one in seen)), loss_ticks([one.loss for one in seen])
    low, high = ticks[0], ticks[-1]
    placed = {
        name: [(percent(one.step, 0, last), percent(one.loss, high, low)) for one in line]
        for name, line in both.items()
        if line
    }
    labels = apart([points[-1][1] for points in placed.values()])
    return Curve(
        [
            Line(name, points, len(points) == 1 or (name == "held out" and len(points) <= DOTS), label)
            for (name, points), label in zip(placed.items(), labels, strict=True)
        ],
        [(percent(step, 0, last), short(step)) for step in step_ticks(last)],
        [(percent(loss, high, low), digits(loss, ticks[1] - ticks[0])) for loss in ticks],
        described(history, validation),
    )


def thinned(line: list[Loss], most: int = POINTS) -> list[Loss]:
    """At most `most` points: each the mean of its share of neighbours."""
    if len(line) <= most:
        return line
    bounds = [len(line) * n // most for n in range(most + 1)]
    shares = [line[start:end] for start, end in pairwise(bounds)]
    return [Loss(fmean(one.step for one in share), fmean(one.loss for one in share)) for share in shares]


def percent(value: float, start: float, end: float) -> float:
    """How far `value` is on the way from `start` to `end`."""
    return round(100 * (value - start) / (end - start), 2) + 0.0  # no "-0"


def loss_ticks(found: list[float]) -> list[float]:
    """Round losses, in nats, from under the lowest to over the highest: some three to six of them."""
    middle, half = (min(found) + max(found)) / 2, max(max(found) - min(found), FLATTEST) / 2
    low, high = max(0.0, middle - half), middle + half
    step = round_step(high - low, 4)
    return [n * step for n in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def step_ticks(last: float) -> list[float]:
    """Round steps from 0 to the last one: five of them at most, so that they have room on a phone."""
    step = max(1, round_step(last, 4))
    return [n * step for n in range(math.floor(last / step) + 1)]


def round_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5, 10, ... (and tenths of these) of which at most `most` fit into `span`."""
    power = math.floor(math.log10(span / most))
    return next(step for n in (1, 2, 5, 10) if (step := n * 10.0**power) * most >= span * (1 - 1e-9))


def digits(value: float, step: float) -> str:
    """A tick with as many decimals as its neighbours need."""
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def short(step: float) -> str:
    """A step as the axis shows it: `20,000`, `1.5M`."""
    return f"{step:,.0f}" if step < 1e6 else f"{step / 1e6:,g}M"


def apart(ends: list[float]) -> list[float]:
    """Where names stand that belong beside `ends` (in percent), moved as far as they would touch."""
    if len(ends) < 2 or abs(ends[0] - ends[1]) >= NEAR:
        return ends
    middle = min(max(sum(ends) / 2, NEAR / 2), 100 - NEAR / 2)
    up, down = round(middle - NEAR / 2, 2), round(middle + NEAR / 2, 2)
    return [up, down] if ends[0] < ends[1] else [down, up]


def described(history: list[Loss], validation: list[Loss]) -> str:
    """The plot in words."""
    said = []
    for what, line in ((gettext("while training"), history), (gettext("on held-out text"), validation)):
        if len(line) == 1:
            once = gettext(
                "{what} it was {loss:.2f} at step {step:,.0f}", what=what, loss=line[0].loss, step=line[0].step
            )
            said.append(once)
        elif line:
            first, last = line[0], line[-1]
            said.append(
                gettext(
                    "{what} it went from {first:.2f} at step {start:,.0f} to {last:.2f} at step {end:,.0f}",
                    what=what,
                    first=first.loss,
                    start=first.step,
                    last=last.loss,
                    end=last.step,
                )
            )
    return gettext("Loss in nats a token: {losses}.", losses=gettext("; ").join(said))
