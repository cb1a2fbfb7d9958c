"""What this server's engine writes goes to the database, four times a second, all runs in one transaction."""

from sqlalchemy import insert, select, update

from webapp import lease
from webapp.database import Block, Gone, Run, Sample, db
from webapp.store import find_vocabulary, stored_log
from webapp.view import RunView

INDEXED = 20  # runs made searchable in one round


def save_round(live) -> None:
    """Store what is new in our runs' logs, renew their leases, and hear who wants them stopped."""
    ours = {run_id: entry for run_id, entry in live.entries().items() if entry.ours}
    if not ours:
        return
    held = lease.renew(live.server, ours)
    stored = {run_id: store_news(live, run_id, entry) for run_id, entry in ours.items() if run_id in held}
    lost = {run_id: "moved" for run_id in ours if run_id not in held}
    if lost:
        lost |= dict.fromkeys(db.session.scalars(select(Gone.id).where(Gone.id.in_(lost))), "deleted")
    db.session.commit()
    for run_id, (counts, done, told) in stored.items():
        entry = ours[run_id]
        entry.saved, entry.told = counts, told
        entry.prompt_saved = entry.prompt_saved or any(counts) or done
        if held[run_id]:
            live.engine.cancel(entry.log, held[run_id])
        if done:
            live.drop(run_id)
    for run_id, reason in lost.items():
        live.engine.cancel(ours[run_id].log, reason)
        live.drop(run_id)


def store_news(live, run_id: str, entry) -> tuple[list[int], bool, dict]:
    """Add what is new in a log to the transaction; return tokens stored of each sample, if it is done, its progress."""
    log = entry.log
    with log.changed:
        done = log.done
        told = {"state": log.state, "place": log.place, "seconds": log.seconds and round(log.seconds)}
        told |= {"restarts": log.restarts, "watching": entry.viewers + entry.elsewhere}
        news = [
            (s.read(entry.saved[n]), s.released, s.finish_reason, s.text_end, s.error)
            for n, s in enumerate(log.samples)
        ]
    blocks = [
        {"run_id": run_id, "number": n, "start": entry.saved[n], "tokens": records.tobytes(), "released": released}
        for n, (records, released, *_) in enumerate(news)
        if len(records)
    ]
    if blocks:
        db.session.execute(insert(Block), blocks)
    for number, (_, _, reason, text_end, error) in enumerate(news):
        if reason:
            end_sample(run_id, number, reason, text_end, error)
    change = {}
    if told != entry.told:
        change |= {"progress": told, "precision": log.precision, "device": log.device}
        change |= {"fingerprint": log.fingerprint} if log.fingerprint else {}
    if (
        blocks or done
    ) and not entry.prompt_saved:  # what the model thought of the prompt is there with the first token
        change["prompt"] = log.prompt.tobytes()
    if done:
        change |= {"state": "done", "holder": None, "words": None}
    if change:
        db.session.execute(update(Run).where(Run.id == run_id).values(**change))
    return [saved + len(records) for saved, (records, *_) in zip(entry.saved, news, strict=True)], done, told


def end_sample(run_id: str, number: int, reason: str, text_end: int, error: str | None) -> None:
    which = (Sample.run_id == run_id) & (Sample.number == number) & Sample.finish_reason.is_(None)
    db.session.execute(update(Sample).where(which).values(finish_reason=reason, text_end=text_end, error=error))


def release(live) -> None:
    """This server ends: others may go on with its runs at once."""
    lease.give_up(live.server, [run_id for run_id, entry in live.entries().items() if entry.ours])
    db.session.commit()


def index_words(live) -> None:
    """Make runs searchable: keep the text of some that have none yet, or that have ended since."""
    for run in db.session.scalars(select(Run).where(Run.words.is_(None)).limit(INDEXED)).all():
        view = RunView(run, stored_log(run), find_vocabulary(run.vocabulary_id))
        texts = [view.prompt_text, *(view.text(number) for number in range(len(view.log.samples)))]
        words = "\n".join(texts).lower().replace("\0", "")  # PostgreSQL's text holds no NUL
        db.session.execute(update(Run).where(Run.id == run.id, Run.state == run.state).values(words=words))
    db.session.commit()
