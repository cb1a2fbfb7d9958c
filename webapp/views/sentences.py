"""What a page says of a run in words: where it stands, how it ended, how long, how many, how probable."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from babel.dates import format_datetime

from generate import (
    LISTS,
    N_,
    OPTIONS,
    FinishReason,
    Outlook,
    RunLog,
    RunState,
    Withdrawal,
    counted,
    gettext,
    languages,
    ngettext,
)
from webapp.runs.kinds import Relation
from webapp.runs.transcript import Transcript
from webapp.sheets.beginnings import Begun
from webapp.views.presets import USUAL
from webapp.views.surprise import verdict

STATES = {
    RunState.PAUSED: N_("The server that wrote this has stopped; it goes on in a moment."),
    RunState.LOADING: N_("Loading the model {model}…"),
    RunState.READING: N_("Reading the prompt…{again}"),
    RunState.WRITING: N_("Writing…{again}"),
}
AGAIN = N_(" It was interrupted once; nothing is lost.")
REPLAYED = {RunState.LOADING: N_("loading the model"), RunState.READING: N_("reading the prompt")}  # states of a replay
ENDINGS = {
    FinishReason.STOP: N_("The model ended its text after {tokens}."),
    FinishReason.LENGTH: N_("Stopped at its length: {tokens}."),
    FinishReason.CANCELLED: N_("Stopped after {tokens}."),
    FinishReason.UNWATCHED: N_("Stopped at token {count:,}: no page was connected to it."),
    FinishReason.YIELDED: N_("Gave way to another text after {tokens}."),
    FinishReason.ERROR: N_("Something went wrong."),
}
RELATIONS = {
    Relation.CONTINUE: N_("goes on"),
    Relation.RETRY: N_("another try"),
    Relation.EDIT: N_("edited"),
    Relation.FORK: N_("another word"),
    Relation.PICK: N_("a sample by itself"),
    Relation.BESIDE: N_("another model"),
    Relation.SCORE: N_("read by another model"),
    None: N_("the beginning"),
}
AT_SENTENCE = N_("Stopped at a sentence: {count:,} of {tokens}.")
GONE = {
    Withdrawal.DELETED: N_("Deleted."),
    Withdrawal.TAKEN_DOWN: N_("Taken down by whoever runs this server."),
}
RARE = {option.name: USUAL[option.name] for option in OPTIONS + LISTS if option.more}
TITLES = {option.name: option.title for option in OPTIONS + LISTS}
OFF = {option.name: option.off for option in OPTIONS if option.off is not None}


def status(log: RunLog, model: str, problem: str | None = None) -> str:
    """Where a run stands that `model` writes; "" for a single sample that has ended, whose ending says it.

    `problem` is why the engine is not ready, if it is not.
    """
    if log.state == RunState.WAITING:
        return problem or gettext("Waiting in line: {nth}{about}.", nth=ordinal(log.place), about=how_long(log.seconds))
    if log.state in STATES:
        return gettext(STATES[log.state], model=model, again=gettext(AGAIN) if log.restarts else "")
    if len(log.samples) > 1:
        tokens = counted(sum(map(len, log.samples)))
        return gettext("Done: {count} samples, {tokens}.", count=len(log.samples), tokens=tokens)
    return ""


def with_title(sentence: str, field: str | None) -> str:
    """What was refused, which names a `field` as programs do, with the name before it that an option has on the page."""
    return (
        gettext("{title}: {sentence}", title=gettext(TITLES[field]), sentence=sentence) if field in TITLES else sentence
    )


def told_options(options: Mapping) -> list[tuple]:
    """What a run was asked for: (plain name, name, value) of each option that most people know, and of the others where it
    matters. The value is "off" where the option does nothing.
    """
    told = {name: value for name, value in options.items() if name != "preset" and value != RARE.get(name, [])}
    off = gettext("off")
    return [
        (gettext(TITLES.get(name, name)), name, off if value == OFF.get(name) else value)
        for name, value in told.items()
    ]


def ending(run: Transcript, options: Mapping, number: int, model: str, in_sheet: bool = False) -> str:
    """How sample `number` of a run of `model` with these options ended, or ""; on its own page, or `in_sheet`."""
    sample = run.log.samples[number]
    reason, tokens = sample.finish_reason, counted(len(sample))
    if reason == FinishReason.LENGTH and options["max_new_tokens"] == 0:
        return verdict(run, model)
    if reason == FinishReason.LENGTH and len(sample) < options["max_new_tokens"]:
        return gettext(AT_SENTENCE, count=len(sample), tokens=counted(options["max_new_tokens"]))
    if reason == FinishReason.ERROR and sample.error:
        return str(sample.error)
    if reason == FinishReason.UNWATCHED and not len(sample):
        return gettext("Left the line: no page was connected to it.")
    if reason == FinishReason.STOP and options["stop"] and sample.size(run.vocabulary) != sample.text_end:
        if in_sheet:
            return gettext("Reached a stop string after {tokens}.", tokens=tokens)
        return gettext("Reached a stop string after {tokens}; Continue goes on past it.", tokens=tokens)
    return gettext(ENDINGS[reason], tokens=tokens, count=len(sample)) if reason in ENDINGS else ""


def special_said(begun: Begun) -> str:
    """What became of the special tokens of a run that a sheet goes on from; "" where it has none."""
    said = []
    if begun.named:
        said.append(gettext("Special tokens stand in the black text by their names, and are read as such."))
    if begun.nameless:
        said.append(gettext("Special tokens left out, as their model is not here: {count:,}.", count=begun.nameless))
    if begun.unseen:
        said.append(gettext("Special tokens unseen among the red words: {count:,}.", count=begun.unseen))
    return languages.spaced(said)


def watched_by(viewers: int) -> str:
    """As in `3 watching`; nothing for one who watches alone."""
    return gettext("{count} watching", count=viewers) if viewers > 1 else ""


def how_long(seconds: float | None) -> str:
    """An estimate as the end of a sentence, as in `, about 5 seconds`; "" where there is none."""
    return gettext(", {about}", about=found) if (found := about(seconds)) else ""


def about(seconds: float | None) -> str:
    """An estimate in words, rounded as such things are said."""
    if seconds is None or seconds < 1:
        return ""
    if seconds < 90:
        return gettext("about {count} seconds", count=5 * max(1, round(seconds / 5)))
    return gettext("about {count} minutes", count=round(seconds / 60))


def ordinal(number: int) -> str:
    """As in `1st`, `2nd`, `11th`."""
    others = {1: N_("{number}st"), 2: N_("{number}nd"), 3: N_("{number}rd")}
    usual = N_("{number}th")
    return gettext(usual if 10 <= number % 100 <= 20 else others.get(number % 10, usual), number=number)


def moment(when: datetime) -> str:
    """A moment of UTC as the pages write one: `7 March 2026, 14:05 UTC`."""
    return format_datetime(when, gettext("d MMMM y, HH:mm 'UTC'"), locale=languages.language())


def share(logprob: float | None) -> str:
    """A probability as a person reads it: `12 %`, `0.34 %`, `1 in 52,000`."""
    if logprob is None or math.isnan(logprob):
        return ""
    percent = 100 * math.exp(logprob)
    if percent >= 9.95:
        return gettext("{percent:.0f} %", percent=percent)
    if percent >= 0.1:
        return gettext("{percent:.2g} %", percent=percent)
    return gettext("1 in {count:,.0f}", count=math.exp(-logprob)) if logprob > -40 else gettext("next to never")


def not_told(what: Sequence[str]) -> str:
    """What a page says in place of what it does not know: `Its rank and the entropy are not told by this engine.`"""
    if not what:
        return ""
    named = listed(what)
    named = f"{named[0].upper()}{named[1:]}"
    if len(what) == 1:
        return gettext("{what} is not told by this engine.", what=named)
    return gettext("{what} are not told by this engine.", what=named)


def listed(names: Sequence[str]) -> str:
    """As in `English, German and French`."""
    *others, last = names
    return gettext("{others} and {last}", others=gettext(", ").join(others), last=last) if others else last


def outlook(now: Outlook) -> str:
    """One sentence on how long a run would have to wait that was sent now."""
    if not now.writing and not now.waiting:
        return gettext("Nobody is writing; yours begins at once.")
    writing = ngettext("One text is being written", "{count} texts are being written", now.writing)
    if now.full:
        return gettext("{writing} and the line is full; please come back in a while.", writing=writing)
    if not now.waiting and now.seconds == 0:
        return gettext("{writing}; there is room for yours.", writing=writing)
    waiting = ngettext(" and {count} waits in line", " and {count} wait in line", now.waiting) if now.waiting else ""
    soon = about(now.seconds)
    begins = gettext("yours would begin in {about}", about=soon) if soon else gettext("yours would wait")
    return gettext("{writing}{waiting}; {begins}.", writing=writing, waiting=waiting, begins=begins)
