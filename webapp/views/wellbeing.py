"""The operator's small charts: how the server is and was in the last hour, as places in percent that a template draws."""

from dataclasses import dataclass
from itertools import groupby

from generate import N_, counted, gettext, languages
from webapp.views.curve import percent, round_step
from webapp.watch.disk import FULL, LOW, Disk
from webapp.watch.history import HOUR, History, Series
from webapp.watch.numbers import Numbers

REFUSALS = {
    "line": N_("the line was full"),
    "streams": N_("no stream was free"),
    "api": N_("the API was busy"),
    "often": N_("too often from one address"),
    "request": N_("it could not be done as it was asked"),
}


@dataclass(frozen=True)
class Line:
    """One line of a chart: pieces of it, each the `points` of an SVG polyline, and the last point if it is of now."""

    name: str
    pieces: list[str]
    last: tuple[float, float] | None


@dataclass(frozen=True)
class Chart:
    """`now` is the number of this moment in words; `top` what stands at the upper edge, where the lower one is zero."""

    title: str
    now: str
    top: str
    lines: list[Line]
    description: str


def charts(history: History, now: Numbers) -> list[Chart]:
    """All of them, in the order in which one looks: what it does, who waits, what it needs."""
    rows, waiting = sum(now.rows.values()), now.waiting
    first = history.means(lambda m: m.first_sum, lambda m: m.first_count)
    steps = [(ago, s and s * 1000) for ago, s in history.means(lambda m: m.step_sum, lambda m: m.step_count)]
    speed = history.rates(lambda moment: moment.written)
    refused = [(ago, rate * 60) for ago, rate in history.rates(lambda moment: moment.refused)]
    found = [
        draw(gettext("Tokens a second"), f"{last_of(speed):,.0f}", {"": speed}, "{:,.0f}"),
        draw(
            gettext("Being written, and waiting"),
            f"{rows:,} · {waiting:,}",
            {N_("written"): history.values(lambda m: m.rows), N_("waiting"): history.values(lambda m: m.waiting)},
            "{:,.0f}",
        ),
        draw(gettext("To the first token"), seconds(last_of(first)), {"": first}, "{:g} s"),
        draw(gettext("A step of the model"), f"{last_of(steps):,.1f} ms", {"": steps}, "{:g} ms"),
        draw(
            gettext("Open streams"),
            f"{now.streams:,}",
            {"": history.values(lambda m: m.streams)},
            "{:,.0f}",
            now.most_streams,
        ),
        draw(gettext("Refused in a minute"), f"{last_of(refused):,.0f}", {"": refused}, "{:,.0f}"),
        draw(
            gettext("Room on the disk"),
            size(now.disk_free),
            {"": gigabytes(history, "disk_free")},
            "{:g} GB",
            now.disk_total / 1e9,
        ),
    ]
    if now.memory is not None:
        found.insert(
            -1,
            draw(
                languages.pgettext("machine", "Memory"), size(now.memory), {"": gigabytes(history, "memory")}, "{:g} GB"
            ),
        )
    return found


def draw(title: str, now: str, lines: dict[str, Series], words: str, most: float = 0.0) -> Chart:
    """A chart of an hour, up to now: of series by their names, from zero to `most` or what there was."""
    values = [value for series in lines.values() for _, value in series if value is not None]
    top = top_of(max([most, *values]))
    ago = max((ago for series in lines.values() for ago, _ in series), default=0.0)
    return Chart(
        title,
        now,
        words.format(top),
        [line(name, series, top) for name, series in lines.items()],
        described(title, now, values, words, ago),
    )


def line(name: str, series: Series, top: float) -> Line:
    """A series as it is drawn; it is broken where there was nothing to measure."""
    points = [(ago, None if value is None else (across(ago), percent(value, top, 0.0))) for ago, value in series]
    pieces = [
        [point for _, point in some] for is_there, some in groupby(points, lambda p: p[1] is not None) if is_there
    ]
    last = points[-1][1] if points else None
    return Line(name, [" ".join(f"{x:g},{y:g}" for x, y in piece) for piece in pieces if len(piece) > 1], last)


def across(ago: float) -> float:
    """Where a moment stands from left to right; what is older than an hour stands at the left edge."""
    return percent(max(0.0, HOUR - ago), 0.0, HOUR)


def top_of(value: float) -> float:
    """A round number that is not below it, and not zero."""
    if value <= 0:
        return 1.0
    step = round_step(value, 4)
    return round(step * -(-value // step), 12)


def described(title: str, now: str, values: list[float], words: str, ago: float) -> str:
    """A chart for those who cannot see it."""
    if not values:
        return gettext("{title}: nothing yet.", title=title)
    within = gettext("hour") if ago > HOUR * 0.9 else counted(max(1, round(ago / 60)), "minute")
    least, most = (words.format(float(f"{value:.3g}")) for value in (min(values), max(values)))
    told = N_("{title}: {now} now; in the last {time} between {least} and {most}.")
    return gettext(told, title=title, now=now, time=within, least=least, most=most)


def last_of(series: Series) -> float:
    """Its newest value, or 0 where it has none."""
    return next((value for _, value in reversed(series) if value is not None), 0.0)


def gigabytes(history: History, name: str) -> Series:
    """A number of bytes at each moment in GB."""
    found = history.values(lambda moment: getattr(moment, name))
    return [(ago, None if value is None else value / 1e9) for ago, value in found]


def size(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def seconds(value: float) -> str:
    """A time in words."""
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"


@dataclass(frozen=True)
class ModelLine:
    """What one model does and has done since the server began, each in words."""

    name: str
    rows: str
    runs: str
    tokens: str
    first_token: str
    step: str


def model_lines(now: Numbers) -> list[ModelLine]:
    """A line for each model, the one that wrote most first."""
    by_use = sorted(now.tallies.items(), key=lambda pair: -pair[1].written)
    return [
        ModelLine(
            name,
            f"{now.rows.get(name, 0):,}",
            f"{tally.runs:,}",
            f"{tally.written:,}",
            mean(tally.first_token.sum, tally.first_token.count),
            mean(tally.steps.sum, tally.steps.count),
        )
        for name, tally in by_use
    ]


def mean(total: float, count: int) -> str:
    """A mean time in words."""
    return seconds(total / count) if count else "–"


def facts(now: Numbers) -> list[str]:
    """What has no chart, in sentences."""
    found = []
    if errors := now.all.ended["error"]:
        told = N_("{samples} ended with an error since the server began.")
        found.append(gettext(told, samples=counted(errors, "sample")))
    found += [
        gettext("{times} refused, as {why}.", times=counted(count, "time"), why=gettext(REFUSALS[why]))
        for why, count in now.refused.items()
        if count
    ]
    if now.answers["5xx"]:
        told = N_("{answers} said that the server was busy or at fault.")
        found.append(gettext(told, answers=counted(now.answers["5xx"], "answer")))
    if now.stored.size is not None:
        found.append(gettext("The database has {size}.", size=size(now.stored.size)))
    return found


def verdict(now: Numbers, problem: str | None, disk: Disk) -> tuple[bool, str]:
    """Whether all is well, and one sentence that says so, or what is not."""
    if problem is not None:
        return False, problem
    if not now.stored.answers:
        return False, gettext("The database has not answered at the last look.")
    if disk.is_full:
        return False, gettext(FULL)
    if now.disk_free < LOW:
        return False, gettext("The disk is nearly full: {size} are left.", size=size(now.disk_free))
    return True, gettext("All is well.")
