"""What a page says of a run in words: where it stands, how it ended, how long, how many, how probable."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from generate import LISTS, OPTIONS, FinishReason, Outlook, RunLog, RunState, counted, perplexity
from webapp.runs.kinds import Relation
from webapp.runs.transcript import Transcript
from webapp.views.presets import USUAL

STATES = {
    RunState.PAUSED: "The server that wrote this has stopped; it goes on in a moment.",
    RunState.LOADING: "Loading the model {model}…",
    RunState.READING: "Reading the prompt…{again}",
    RunState.WRITING: "Writing…{again}",
}
AGAIN = " It was interrupted once; nothing is lost."
REPLAYED = {RunState.LOADING: "loading the model", RunState.READING: "reading the prompt"}  # states of a replay
ENDINGS = {
    FinishReason.STOP: "The model ended its text after {tokens}.",
    FinishReason.LENGTH: "Stopped at the length you set: {tokens}.",
    FinishReason.CANCELLED: "Stopped by hand after {tokens}.",
    FinishReason.UNWATCHED: "Stopped at token {count:,}: nobody was watching.",
    FinishReason.ERROR: "Something went wrong.",
}
RELATIONS = {
    Relation.CONTINUE: "goes on",
    Relation.RETRY: "another try",
    Relation.EDIT: "edited",
    Relation.FORK: "another word",
    Relation.PICK: "a sample by itself",
    Relation.BESIDE: "another model",
    Relation.SCORE: "read by another model",
    None: "the beginning",
}
DELETED = "Deleted."
RARE = {option.name: USUAL[option.name] for option in OPTIONS + LISTS if option.more}


def status(log: RunLog, model: str, problem: str | None = None) -> str:
    """Where a run stands that `model` writes; "" for a single sample that has ended, whose ending says it.

    `problem` is why the engine is not ready, if it is not.
    """
    if log.state == RunState.WAITING:
        return problem or f"Waiting in line: {ordinal(log.place)}{how_long(log.seconds)}."
    if log.state in STATES:
        return STATES[log.state].format(model=model, again=AGAIN if log.restarts else "")
    if len(log.samples) > 1:
        return f"Done: {len(log.samples)} samples, {counted(sum(map(len, log.samples)))}."
    return ""


def told_options(options: Mapping) -> list[tuple]:
    """What a run was asked for: (name, value) of each option that most people know, and of the others where it matters."""
    return [(name, value) for name, value in options.items() if name != "preset" and value != RARE.get(name, [])]


def ending(run: Transcript, options: Mapping, number: int) -> str:
    """How sample `number` of a run with these options ended, or ""."""
    sample = run.log.samples[number]
    reason, tokens = sample.finish_reason, counted(len(sample))
    if reason == FinishReason.LENGTH and options["max_new_tokens"] == 0:
        return verdict(run)
    if reason == FinishReason.ERROR and sample.error:
        return str(sample.error)
    if reason == FinishReason.UNWATCHED and not len(sample):
        return "Left the line: nobody was watching."
    if reason == FinishReason.STOP and options["stop"] and sample.size(run.vocabulary) != sample.text_end:
        return f"Reached a stop string after {tokens}; Continue goes on past it."
    return ENDINGS[reason].format(tokens=tokens, count=len(sample)) if reason in ENDINGS else ""


def watched_by(viewers: int) -> str:
    """As in `3 watching`; nothing for one who watches alone."""
    return f"{viewers} watching" if viewers > 1 else ""


def verdict(view: Transcript) -> str:
    """The sentence under a text that was read whole: `Read: 412 tokens. Perplexity 23.4, 1.25 bits per byte.`

    A token without a prediction (the first) counts neither with its probability nor with its bytes.
    """
    records = view.log.prompt
    score = perplexity(records, view.vocabulary)
    read = f"Read: {counted(len(records))}."
    if score.perplexity is None:
        return f"{read} Nothing came before it that could predict it." if len(records) == 1 else read
    bits = "" if score.bits_per_byte is None else f", {score.bits_per_byte:.2f} bits per byte"
    return f"{read} Perplexity {rounded(score.perplexity)}{bits}."


def rounded(perplexity: float) -> str:
    """A perplexity as a person reads it: three digits, or all before the point."""
    if perplexity >= 1e7:
        return f"{perplexity:.1e}"
    return f"{perplexity:,.0f}" if perplexity >= 99.95 else f"{perplexity:#.3g}"


def how_long(seconds: float | None) -> str:
    """An estimate in words, rounded as such things are said."""
    if seconds is None or seconds < 1:
        return ""
    if seconds < 90:
        return f", about {5 * max(1, round(seconds / 5))} seconds"
    return f", about {round(seconds / 60)} minutes"


def ordinal(number: int) -> str:
    """As in `1st`, `2nd`, `11th`."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def moment(when: datetime) -> str:
    """A moment of UTC as the pages write one: `7 March 2026, 14:05 UTC`."""
    return f"{when:%-d %B %Y, %H:%M} UTC"


def share(logprob: float | None) -> str:
    """A probability as a person reads it: `12 %`, `0.34 %`, `1 in 52,000`."""
    if logprob is None or math.isnan(logprob):
        return ""
    percent = 100 * math.exp(logprob)
    if percent >= 9.95:
        return f"{percent:.0f} %"
    if percent >= 0.1:
        return f"{percent:.2g} %"
    return f"1 in {math.exp(-logprob):,.0f}" if logprob > -40 else "next to never"


def not_told(what: Sequence[str]) -> str:
    """What a page says in place of what it does not know: `Its rank and the entropy are not told by this engine.`"""
    if not what:
        return ""
    *others, last = what
    named = f"{', '.join(others)} and {last}" if others else last
    return f"{named[0].upper()}{named[1:]} {'are' if others else 'is'} not told by this engine."


def outlook(now: Outlook) -> str:
    """One sentence on how long a run would have to wait that was sent now."""
    if not now.writing and not now.waiting:
        return "Nobody is writing; yours begins at once."
    writing = "One text is being written" if now.writing == 1 else f"{now.writing} texts are being written"
    if now.full:
        return f"{writing} and the line is full; please come back in a while."
    if not now.waiting and now.seconds == 0:
        return f"{writing}; there is room for yours."
    waiting = f" and {now.waiting} wait{'s' if now.waiting == 1 else ''} in line" if now.waiting else ""
    begins = (
        f"yours would begin in{about.removeprefix(',')}" if (about := how_long(now.seconds)) else "yours would wait"
    )
    return f"{writing}{waiting}; {begins}."
