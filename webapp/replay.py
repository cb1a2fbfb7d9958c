"""A finished run once more, from its seed: whether the model still says the same, or where it does not, and why.

A replay is not stored. It lives in this server's memory, for a while, and is given up when nobody asks for it any more.
"""

import secrets
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from flask import Blueprint, Response, current_app, redirect, render_template, url_for
from markupsafe import escape

from generate import Busy, Refusal, Request, RunLog, Vocabulary, find_model
from webapp.http.request import is_fragment
from webapp.http.security import limited
from webapp.http.visitors import make_visitor
from webapp.runs.registry import Live, live
from webapp.runs.repository import find_run, get_run, same_vocabulary
from webapp.runs.service import require_engine, sampling_of
from webapp.runs.tables import Run
from webapp.views.run_view import RunView, look
from webapp.views.sentences import counted, how_long, ordinal
from webapp.views.tokens import VISIBLE

blueprint = Blueprint("replay", __name__)

KEPT = 600.0  # seconds, verdicts included
PATIENCE = 15.0  # seconds without a question after which nobody waits for a verdict
MOST = 64  # replays kept at once
ROUND = 0.2  # seconds between two looks at what is there

EXACT = ("float32", "int8")  # precisions in which a run writes the same tokens in whatever company
UNKNOWN = "This replay is over and no longer known here; the run can be replayed again."


@dataclass(frozen=True)
class Written:
    """What a run said, and what it was written with."""

    ids: list[np.ndarray]  # of each sample
    ended: list[str]  # finish_reason of each sample
    vocabulary: Vocabulary
    fingerprint: str | None
    precision: str | None
    device: str | None

    @classmethod
    def of(cls, run: Run, view: RunView) -> "Written":
        log = view.log
        ids = [sample.read()["id"] for sample in log.samples]
        ended = [sample.finish_reason for sample in log.samples]
        return cls(ids, ended, view.vocabulary, log.fingerprint or run.fingerprint, log.precision, log.device)

    @property
    def longest(self) -> int:
        return max(map(len, self.ids))


@dataclass(eq=False)
class Replay:
    """One run being written again. `log` is let go once there is a verdict."""

    run_id: str
    owner: str
    written: Written
    log: RunLog | None
    verdict: str | None = None
    begun: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)

    @property
    def progress(self) -> str:
        """How far it is, in a few words."""
        log = self.log
        if log is None:
            return ""
        if log.state == "waiting":
            return f"waiting in line, {ordinal(log.place)}{how_long(log.seconds)}"
        if log.state in ("loading", "reading"):
            return {"loading": "loading the model", "reading": "reading the prompt"}[log.state]
        # a sample that was stopped may be longer now than then
        there = sum(min(len(new), len(ids)) for new, ids in zip(log.samples, self.written.ids, strict=True))
        return f"{there:,} of {counted(sum(map(len, self.written.ids)))}"


class Replays:
    """Those of one server. A thread looks at the unfinished ones as long as there are any."""

    def __init__(self):
        self._all: dict[str, Replay] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def going_on(self, run_id: str, owner: str) -> str | None:
        """The key of an unfinished replay of the same run by the same visitor: a second click starts no other."""
        with self._lock:
            same = (k for k, r in self._all.items() if (r.run_id, r.owner, r.verdict) == (run_id, owner, None))
            return next(same, None)

    def make_room(self) -> None:
        """Forget what is old, and the oldest verdict where there are too many; raises Busy when all are unfinished."""
        with self._lock:
            self._forget()
            if len(self._all) >= MOST:
                judged = next((key for key, replay in self._all.items() if replay.verdict), None)
                if judged is None:
                    raise Busy("Too many runs are being replayed at once; please try again in a moment.")
                del self._all[judged]

    def add(self, replay: Replay, state: Live) -> str:
        """Keep a replay that the engine writes; return its key."""
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._all[key] = replay
            if self._thread is None:
                self._thread = threading.Thread(target=self._tend, args=(state,), name="replays", daemon=True)
                self._thread.start()
        return key

    def find(self, run_id: str, key: str) -> Replay | None:
        """A replay that somebody asks for, which keeps it going."""
        with self._lock:
            self._forget()
            replay = self._all.get(key)
            if replay is None or replay.run_id != run_id:
                return None
            replay.asked = time.monotonic()
            return replay

    def _forget(self) -> None:
        """Let go of old verdicts; what is unfinished is `tend`'s to give up."""
        limit = time.monotonic() - KEPT
        for key in [key for key, replay in self._all.items() if replay.verdict and replay.begun < limit]:
            del self._all[key]

    def _tend(self, state: Live) -> None:
        while True:
            time.sleep(ROUND)
            with self._lock:
                unfinished = [replay for replay in self._all.values() if replay.verdict is None]
                if not unfinished or not state.alive():
                    self._thread = None
                    return
            for replay in unfinished:
                tend(replay, state.engine)


def tend(replay: Replay, engine) -> None:
    """Judge a replay if that can be done by now, or give it up."""
    now, log = time.monotonic(), replay.log
    verdict = judge(replay.written, log)
    if verdict is None and now - replay.asked > PATIENCE:
        verdict = "Nobody asked for this replay any more, so it was stopped."
    if verdict is None and now - replay.begun > KEPT:
        verdict = "This replay took too long and was stopped."
    if verdict is not None:
        replay.verdict, replay.log = verdict, None
        if engine is not None and not log.done:
            engine.cancel(log)


@blueprint.record_once
def register(state) -> None:
    state.app.extensions["replays"] = Replays()


def replays() -> Replays:
    return current_app.extensions["replays"]


@blueprint.post("/r/<run_id>/replay")
@limited
def begin(run_id: str):
    """Write a finished run again, as far as it went; anybody may."""
    run = find_run(run_id)
    owner = make_visitor()
    key = replays().going_on(run.id, owner) or start(run, owner)
    if is_fragment():
        return page(run, key, replays().find(run.id, key))
    return redirect(url_for("replay.show", run_id=run.id, key=key), 303)


@blueprint.get("/r/<run_id>/replay/<key>")
def show(run_id: str, key: str):
    """How far a replay is, or its verdict."""
    run = get_run(run_id)
    replay = replays().find(run_id, key) if run else None
    if not is_fragment():
        if replay is None:
            find_run(run_id)  # tells of one that was deleted
        return page(run, key, replay)
    if replay is not None and replay.verdict is None:
        return Response(escape(replay.progress))  # into the element that asks
    answer = page(run, key, replay)  # in place of the element that asks, which ends its asking
    answer.headers.update({"HX-Retarget": "#replay", "HX-Reswap": "innerHTML"})
    return answer


def page(run: Run | None, key: str, replay: Replay | None) -> Response:
    """A page of its own, or for htmx what the run's page shows of a replay."""
    verdict, progress = (replay.verdict, replay.progress) if replay else (UNKNOWN, "")
    html = render_template(
        "pages/replay.html", run=run, key=key, verdict=verdict, progress=progress, alone=not is_fragment()
    )
    return Response(html, 200 if replay else 404)


def start(run: Run, owner: str) -> str:
    """Put the same request in line again; return the replay's key."""
    view = look(run)
    if not view.log.done:
        raise Refusal("This run is still being written; it can be replayed when it is done.")
    written = Written.of(run, view)
    if not written.longest:
        raise Refusal("Nothing was written in this run, so there is nothing to replay.")
    folder = find_model(current_app.config["MODELS"], run.model)
    if not same_vocabulary(run, folder):  # other weights will do, and are what one may want to see
        raise Refusal(f"The model {run.model} has other tokens now than when this was written; it cannot be replayed.")
    sampling = sampling_of(run, max_new_tokens=written.longest)
    request = Request(folder, tuple(view.prompt_ids.tolist()), sampling, run.first_sample, owner)
    engine = require_engine()
    replays().make_room()
    return replays().add(Replay(run.id, owner, written, engine.submit(request)), live())


# The verdict


def judge(written: Written, log: RunLog) -> str | None:
    """The verdict on what there is of a replay, or None while nothing differs and more is to come."""
    with log.changed:
        over = log.done
        again = [(sample.read()["id"], sample.finish_reason, sample.error) for sample in log.samples]
    place = first_difference(written, [(ids, reason) for ids, reason, _ in again])
    error = next((sentence for _, _, sentence in again if sentence), None)
    if place is not None:
        number, token = place
        return f"{difference(written, again[number][0], number, token)} {reasons(written, log)}"
    if error:
        return f"It could not be written again to its end: {error}"
    if over:
        several = f" in {len(written.ids)} samples" if len(written.ids) > 1 else ""
        return f"Identical: {counted(sum(map(len, written.ids)))}{several}."
    return None


def first_difference(written: Written, again: list[tuple[np.ndarray, str | None]]) -> tuple[int, int] | None:
    """The sample and the place of the first token that differs, as far as there are tokens; None where none does.

    `again` has each sample's ids up to now and its finish_reason. A text that ends where the other goes on differs.
    """
    found = []
    for number, (then, ended, (now, over)) in enumerate(zip(written.ids, written.ended, again, strict=True)):
        both = min(len(then), len(now))
        unlike = np.flatnonzero(then[:both] != now[:both])
        if len(unlike):
            found.append((int(unlike[0]), number))
        elif (len(now) < len(then) and over in ("stop", "length")) or (len(now) > len(then) and ended == "stop"):
            found.append((both, number))
    place, number = min(found, default=(0, None))
    return None if number is None else (number, place)


def difference(written: Written, again: np.ndarray, number: int, place: int) -> str:
    """One sentence on a token that differs."""
    then, now = written.ids[number], again
    which = f"The {ordinal(place + 1)} token{f' of sample {number + 1}' if len(written.ids) > 1 else ''} differs"
    if place >= len(now):
        return f"{which}: here it said {quoted(written.vocabulary, then[place])}, now the text ends there."
    if place >= len(then):
        return f"{which}: here the text ended, now it goes on with {quoted(written.vocabulary, now[place])}."
    return f"{which}: here it said {quoted(written.vocabulary, then[place])}, now {quoted(written.vocabulary, now[place])}."


def quoted(vocabulary: Vocabulary, index: int) -> str:
    """A token as a sentence names it: its text, its bytes where they are no whole characters, or that it has none."""
    data = vocabulary.tokens[index]
    try:
        return f"“{data.decode().translate(VISIBLE)}”" if data else "the end marker"
    except UnicodeDecodeError:
        return f"‹{data.hex(' ').upper()}›"


def reasons(written: Written, log: RunLog) -> str:
    """Why a run may differ now, as far as that is known."""
    found = []
    if written.fingerprint and log.fingerprint and written.fingerprint != log.fingerprint:
        found.append(f"The weights are others now ({log.fingerprint[:12]}; then {written.fingerprint[:12]}).")
    if written.precision and log.precision and written.precision != log.precision:
        found.append(f"It was written in {written.precision}, and now in {log.precision}.")
    if written.device and log.device and written.device != log.device:
        found.append(f"It was written on {written.device}, and now on {log.device}.")
    if not found and log.precision and log.precision not in EXACT:
        found.append(
            f"In {log.precision} rounding can turn a token when a run was interrupted or written in other company."
        )
    return " ".join(found) or "Why cannot be told."
