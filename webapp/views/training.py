"""How a model was trained, for its page: what `finetune` left in run.json, in words and as a curve.

What is not as it should be in the file is left out, never refused: it may be older than this page, or somebody else's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from generate import N_, ModelFolder, Refusal, counted, gettext, languages
from webapp.views.curve import Curve, Loss, draw
from webapp.views.sentences import listed, moment
from webapp.views.training_record import TrainingSample, entries, losses, number, part, samples, words

SHOWN, FOLDED = 3, 40  # samples in sight, and at most folded away


@dataclass(frozen=True)
class Fact:
    """A line of what else there is to know, whose name is put into the page's language by its template; `code` is what a person would copy: a hash, a command. Where it is a moment,
    `when` is it as ISO 8601 has it."""

    name: str
    words: str
    code: str = ""
    when: str = ""


@dataclass(frozen=True)
class Training:
    """What the page says of a training; `problem` is why run.json cannot be read at all."""

    problem: str = ""
    sentence: str = ""
    curve: Curve | None = None
    shown: tuple[TrainingSample, ...] = ()  # the newest first
    folded: tuple[TrainingSample, ...] = ()
    facts: tuple[Fact, ...] = ()


def find_training(folder: ModelFolder) -> Training | None:
    """How a model was trained, or None where its folder says nothing of it."""
    try:
        raw = folder.training()
    except Refusal as refusal:
        return Training(problem=str(refusal))
    return read_training(raw) if raw else None


def read_training(raw: dict) -> Training:
    """What there is to say of a parsed run.json, whatever is in it."""
    history = losses(raw.get("history"))
    evaluations = {kind: losses(raw.get("evaluations"), kind) for kind in ("validation", "test")}
    best = number(raw.get("best_step"))
    kept = {kind: up_to(best, found) for kind, found in evaluations.items()}
    newest = samples(raw.get("samples"))[::-1]
    return Training(
        sentence=languages.spaced(filter(None, (trained(raw), *brought(**kept), ended(raw, best)))),
        curve=draw(history, evaluations["validation"]),
        shown=tuple(newest[:SHOWN]),
        folded=tuple(spread(newest[SHOWN:], FOLDED)),
        facts=tuple(facts(raw, kept)),
    )


PLACES = {"train": N_("training text"), "validation": N_("held-out text"), "test": N_("test text")}
FILES = 20  # named at most


def trained(raw: dict) -> str:
    """From what, on what, and how long."""
    base = words(part(raw.get("model")).get("name"))
    start = gettext("from {base}", base=base) if base else ""
    names = [name for file in entries(raw.get("data")) if (name := words(file.get("name")))]
    much = gettext(" ({amount})", amount=amount(raw, "train")) if amount(raw, "train") else ""
    said = [
        gettext("from nothing") if raw.get("model", ...) is None else start,
        gettext("on {files}{amount}", files=joined(names), amount=much) if names else "",
        duration(raw.get("seconds")),
    ]
    if not any(said):
        return gettext("run.json does not say what it was trained on.")
    return gettext("Trained {how}.", how=languages.pgettext("how it was trained", " ").join(filter(None, said)))


def joined(names: list[str]) -> str:
    """As in "one", "one and two", "one, two and 7 other files"."""
    more = gettext("{count:,} other files", count=len(names) - 2)
    return listed([*names[:2], more] if len(names) > 3 else names)


def amount(raw: dict, which: str) -> str:
    """How much text there was for training, validation or test."""
    documents, tokens = (number(part(raw.get(name)).get(which)) for name in ("documents", "tokens"))
    counts = [counted(round(documents), "document") if documents else "", counted(round(tokens)) if tokens else ""]
    return gettext(", ").join(filter(None, counts))


def duration(value: object) -> str:
    """Seconds in words, as in `in 5 minutes`; "" where they are not known."""
    if (seconds := number(value)) is None:
        return ""
    if seconds < 90:
        return gettext("in {time}", time=counted(max(1, round(seconds)), "second"))
    if seconds < 90 * 60:
        return gettext("in {count} minutes", count=round(seconds / 60))
    return gettext("in {count:,.1f} hours", count=seconds / 3600)


def brought(validation: list[Loss], test: list[Loss]) -> list[str]:
    """What training did to the perplexity on text that it did not learn from; one sentence for each part."""
    return [
        went(gettext("Perplexity on {text}", text=gettext(PLACES[name])), found)
        for name, found in (("validation", validation), ("test", test))
    ]


def went(what: str, found: list[Loss]) -> str:
    """One sentence on a perplexity, from the first that is known to the last; "" where none is."""
    known = [one for one in found if one.perplexity is not None]
    if not known:
        return ""
    first, last = (rounded(one.perplexity) for one in (known[0], known[-1]))
    if len(known) == 1:
        told = N_("{what} was {value} before.") if known[0].step == 0 else N_("{what} is {value}.")
        return gettext(told, what=what, value=first)
    if first == last:
        return gettext("{what} stayed at {value}.", what=what, value=last)
    since = gettext(" at step {step:,.0f}", step=known[0].step) if known[0].step else ""
    return gettext("{what} went from {first}{since} to {last}.", what=what, first=first, since=since, last=last)


def up_to(best: float | None, found: list[Loss]) -> list[Loss]:
    """What was found on the way to the weights that were kept: those of step `best`, or of the last."""
    return found if best is None else [one for one in found if one.step <= best] or found


def ended(raw: dict, best: float | None) -> str:
    """One sentence where a training was stopped, or where its best weights were kept; else ""."""
    if raw.get("state") == "stopped":
        return gettext("It was stopped before its last step.")
    kept = N_("The weights of step {step:,.0f} were the best, and were kept.")
    return "" if best is None else gettext(kept, step=best)


def rounded(value: float) -> str:
    """A perplexity or a loss to some three digits."""
    if value >= 1e7:
        return f"{value:.1e}"
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def facts(raw: dict, evaluations: dict[str, list[Loss]]) -> Iterator[Fact]:
    """All that has no place of its own: how it was made, of what, what it came to, its options."""
    if command := words(raw.get("command")):
        yield Fact(N_("command"), "", command)
    base = part(raw.get("model"))
    if words(base.get("fingerprint")):
        yield Fact(N_("base model"), words(base.get("name")), words(base["fingerprint"]))
    yield from file_facts(N_("data"), entries(raw.get("data")))
    yield from file_facts(N_("held-out data"), entries(raw.get("validation_data")))
    for which, name in PLACES.items():
        if said := gettext("; ").join(filter(None, (amount(raw, which), evaluated(evaluations.get(which))))):
            yield Fact(name, said)
    if started := words(raw.get("started")):
        yield date(started)
    if place := gettext(" on ").join(filter(None, (words(raw.get("precision")), words(raw.get("device"))))):
        yield Fact(N_("precision"), place)
    if (steps := number(raw.get("steps"))) is not None:
        yield Fact(N_("steps"), f"{steps:,.0f}")
    for name, value in part(raw.get("options")).items():
        if (said := plain(value)) is not None:
            yield Fact(words(name), said)


def file_facts(kind: str, found: list[dict]) -> Iterator[Fact]:
    """A line for each file with its name, bytes and sha256; past FILES only how many more there are."""
    for file in found[:FILES]:
        size = number(file.get("bytes"))
        said = gettext(", ").join(filter(None, (words(file.get("name")), counted(round(size), "byte") if size else "")))
        if said:
            yield Fact(kind, said, words(file.get("sha256")))
    if len(found) > FILES:
        yield Fact(kind, gettext("and {files} more", files=counted(len(found) - FILES, "file")))


def evaluated(found: list[Loss] | None) -> str:
    """Where the loss ended and began, in nats a token and, where it is known, in bits a byte."""
    if not found:
        return ""
    last = found[-1]
    said = gettext("{loss:.3f} nats a token", loss=last.loss)
    if last.bits_per_byte:
        said += gettext(", {bits:.3f} bits a byte", bits=last.bits_per_byte)
    if found[0].step == 0 < last.step:
        said += gettext("; before training {loss:.3f} nats", loss=found[0].loss)
    return said


def date(started: str) -> Fact:
    """When it began: an ISO date as the site's pages write one, or the text as it is."""
    try:
        when = datetime.fromisoformat(started).astimezone(UTC)
        return Fact(N_("started"), moment(when), when=when.isoformat())
    except (ValueError, OverflowError):
        return Fact(N_("started"), started)


def plain(value: object) -> str | None:
    """An option's value in words; None for what is neither text nor number nor a list of those."""
    if isinstance(value, list):
        said = [plain(one) for one in value if not isinstance(one, list)]
        return gettext(", ").join(filter(None, said)) or gettext("none")
    if value is None or isinstance(value, bool):
        return gettext({None: N_("none"), True: N_("yes"), False: N_("no")}[value])
    if isinstance(value, int | float):
        return f"{value:.10g}" if abs(value) <= 1e300 else None
    return words(value) if isinstance(value, str) else None


def spread(found: list, most: int) -> list:
    """At most `most` of a list, evenly: the first and the last among them."""
    if len(found) <= most:
        return found
    return [found[round(n * (len(found) - 1) / (most - 1))] for n in range(most)]
