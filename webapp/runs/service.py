"""What visitors may ask for: a run to be started, stopped, deleted, looked at, read by another model, replayed."""

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import select, update
from sqlalchemy.orm.exc import ObjectDeletedError

from generate import (
    FinishReason,
    ModelFolder,
    Refusal,
    Request,
    RunLog,
    RunState,
    Sampling,
    Vocabulary,
    Withdrawal,
    parse_sampling,
    unknown_records,
)
from webapp.runs.derivation import Beginning, joined
from webapp.runs.follower import show_state
from webapp.runs.kinds import GoneReason, Relation
from webapp.runs.lease import LEASE
from webapp.runs.models import Models
from webapp.runs.registry import Clock, Registry
from webapp.runs.removal import Removal
from webapp.runs.replays import Replay, Replays, Written
from webapp.runs.repository import Vocabularies, new_run, removed_run, stored_log, withdrawal_for
from webapp.runs.tables import Run, db
from webapp.runs.typed import gone_on

UNSURE = 200  # tokens that may be held back, as a banned phrase has so many bytes
READ_ONLY = {"max_new_tokens": 0, "seed": 0}


class Service:
    """Does what is asked of runs, on one server. `max_prompt` is the most bytes that a prompt may have."""

    def __init__(
        self,
        server: str,
        registry: Registry,
        clock: Clock,
        models: Models,
        max_prompt: int,
        vocabularies: Vocabularies,
        removal: Removal,
        replays: Replays,
    ):
        self._server, self._registry, self._clock = server, registry, clock
        self._models, self.max_prompt, self._vocabularies = models, max_prompt, vocabularies
        self._removal, self._replays = removal, replays

    # A run

    def log_of(self, run: Run) -> RunLog:
        """A run's log: a live one, or what was stored. Whoever asks counts as watching at this moment.

        Needs an app context; the log itself does not. Raises RemovedRun when the run was deleted a moment ago.
        """
        try:
            entry = self._registry.get(run.id)
            if entry is None:
                db.session.expire_all()  # it may have been saved and let go a moment ago
                log = stored_log(run)
                if log.done:
                    return log
                show_state(log, run, self._clock.now())
                entry = self._registry.keep(run.id, log)
        except ObjectDeletedError:
            raise removed_run() from None
        entry.seen = time.monotonic()
        return entry.log

    def start(
        self,
        folder: ModelFolder,
        beginning: Beginning,
        sampling: Sampling,
        owner: str,
        run_id: str | None = None,
        **columns: object,
    ) -> str:
        """Put a run in line and store it; returns its id. Raises Refusal where the engine cannot do it, and Busy.

        It is stored in one transaction with whatever its caller has changed; `columns` are what else its row says.
        """
        engine = self._models.engine_for(folder, sampling)
        fingerprint, vocabulary = folder.fingerprint(), self._vocabularies.keep(folder)
        run_id = run_id or secrets.token_urlsafe(12)
        if beginning.parent and beginning.parent.fingerprint != fingerprint:  # others' probabilities are not its own
            unknown = unknown_records(beginning.ids, folder.config.vocab_size)
            beginning = replace(beginning, records=unknown, blocked={})
        log = RunLog(beginning.records, sampling.samples, beginning.blocked)
        engine.submit(Request(folder, sampling, beginning.first_sample, owner), log)
        entry = self._registry.add(run_id, log, stored=False)  # before its row is there: a page may be opened at once
        try:
            new_run(
                id=run_id,
                owner=owner,
                model=folder.name,
                fingerprint=fingerprint,
                vocabulary_id=vocabulary,
                vocab_size=folder.config.vocab_size,
                n_positions=folder.config.n_positions,
                options=sampling.as_dict(),
                holder=self._server,
                lease_until=self._clock.now() + LEASE,
                **beginning.columns(),
                **columns,
            )
        except Exception:
            db.session.rollback()  # the page that says so may ask for more
            self._registry.drop(run_id, entry)
            engine.cancel(log)
            raise
        entry.stored = True
        return run_id

    def stop(self, run: Run) -> None:
        """End a run, whichever server writes it: that one hears of it at its next saving, this one at once."""
        run_id = run.id
        mine = (Run.id == run_id) & (Run.state == RunState.WRITING)
        asked = update(Run).where(mine).values(stop_asked=FinishReason.CANCELLED)
        db.session.execute(asked)
        db.session.commit()
        self.cancel(run_id)

    def cancel(self, run_id: str) -> None:
        """End a run at once if it is this server that writes it."""
        entry = self._registry.get(run_id)
        if entry is not None and entry.ours:
            self._models.engine.cancel(entry.log)

    def withdraw(self, run_id: str, why: Withdrawal) -> None:
        """Send a run's readers away from here at once, whoever writes it; those of other servers follow by themselves."""
        entry = self._registry.get(run_id)
        if entry is not None:
            entry.log.withdraw(why)
            self.cancel(run_id)

    def delete(self, run: Run, reason: GoneReason = GoneReason.DELETED) -> bool:
        """Remove a run for good, at once. False: it was gone already."""
        return self.delete_all([(run.id, run.parent_id)], reason)

    def delete_all(self, runs: Sequence[tuple[str, str | None]], reason: GoneReason) -> bool:
        """Remove runs for good, each an id and its parent's, in one transaction with whatever the caller has changed; commits.

        False: all were gone already.
        """
        found = self._removal.delete(runs, reason)
        for run_id, _ in runs if found else ():
            self.withdraw(run_id, withdrawal_for(reason))
        return found

    def oversize(self, ids: Iterable[int], vocabulary: Vocabulary) -> int:
        """The bytes of a text of tokens that is longer than a prompt may be, else 0: runs grow from runs, but not for ever."""
        size = len(vocabulary.bytes_of(ids))
        return size if size > self.max_prompt else 0

    # What comes from a run

    def kept_score(self, run: Run, folder: ModelFolder) -> str | None:
        """The id of the run in which these weights read this text, or are reading it."""
        same = (Run.parent_id == run.id) & (Run.relation == Relation.SCORE) & (Run.fingerprint == folder.fingerprint())
        for found in db.session.scalars(select(Run).where(same, Run.hidden.is_(None)).order_by(Run.created.desc())):
            log = self.log_of(found)
            if not log.done or log.samples[0].finish_reason == FinishReason.LENGTH:
                return found.id
        return None

    def score(self, run: Run, log: RunLog, folder: ModelFolder, owner: str) -> str:
        """Let another model with the same vocabulary read a run's text, that of its first sample; returns the new id.

        It keeps as much of its beginning in mind as the run did, or as its own window has room for.
        """
        records, authors = joined(run, log, 0)
        if size := self.oversize(records["id"].tolist(), folder.tokenizer.vocabulary):
            raise Refusal(
                "The text has {size:,} bytes and cannot be read by another model; the limit is {limit:,}.",
                size=size,
                limit=self.max_prompt,
            )
        typed = gone_on(run.typed, records["id"][len(log.prompt) :].tolist(), folder.tokenizer.vocabulary)
        text = Beginning(unknown_records(records["id"], run.vocab_size), authors, Relation.SCORE, run, 0, typed=typed)
        n_keep = min(run.options.get("n_keep", 0), folder.config.most_kept)
        return self.start(folder, text, parse_sampling(READ_ONLY | {"n_keep": n_keep}), owner)

    def replay(self, run: Run, log: RunLog, vocabulary: Vocabulary, owner: str) -> str:
        """Put a finished run in line once more, as far as it went; returns the replay's key.

        Raises Refusal when there is nothing to replay or nothing to do it with, and Busy.
        """
        self._models.require_replay()
        if not any(len(sample) for sample in log.samples):
            raise Refusal("Nothing was written in this run, so there is nothing to replay.")
        folder = self._models.find_for(  # other weights will do, and are what one may want to see
            run,
            Refusal(
                "The model {name} has other tokens now than when this was written; it cannot be replayed.",
                name=run.model,
            ),
        )
        written = Written.of(run, log, vocabulary, folder)
        sampling = sampling_of(run, **to_replay(run, written))
        request = Request(folder, sampling, run.first_sample, owner)
        engine = self._models.engine_for(folder, sampling)
        self._replays.make_room()
        return self._replays.add(
            Replay(run.id, owner, written, engine.submit(request, request.new_log(log.prompt_ids)))
        )


def require_done(log: RunLog, refusal: Refusal) -> None:
    """Raise `refusal` while a run is being written."""
    if not log.done:
        raise refusal


def to_write(run: Run) -> dict:
    """What to change in a run's options to write on from it: one that was only read gets the usual length."""
    return {} if run.options["max_new_tokens"] else {"max_new_tokens": None}


def to_replay(run: Run, written: Written) -> dict:
    """What to change in a run's options to write it again as far as it went.

    Where a sample ended with a sentence, which depends on the length, that stays. Where phrases are banned, a text that
    was stopped is sure of its last tokens only once more are written.
    """
    length = run.options["max_new_tokens"]
    if run.options.get("end_at_sentence") and FinishReason.LENGTH in written.ended:
        return {}
    more = UNSURE if run.options.get("banned_phrases") else 0
    return {"max_new_tokens": min(written.longest + more, length), "end_at_sentence": 0}


def sampling_of(run: Run, **changes) -> Sampling:
    """A run's options with some changed, and the name of its preset: the values stay what they were when it was chosen."""
    given = run.options | changes
    return replace(parse_sampling(given), preset=given.get("preset", ""))
