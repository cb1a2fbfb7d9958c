"""What a list of runs shows of each: the end of its prompt and the beginning of its first sample."""

from sqlalchemy import select

from generate import Vocabulary, split_half_character
from webapp.runs.repository import Vocabularies, unpack
from webapp.runs.tables import Block, Run, db

EXCERPT = 60  # tokens of the continuation, and of the prompt's end


def excerpts(found: list[Run], vocabularies: Vocabularies) -> list[dict]:
    """What the list shows of each run: the end of its prompt and the beginning of its first sample."""
    blocks = select(Block).where(Block.run_id.in_([run.id for run in found]), Block.number == 0, Block.start < EXCERPT)
    begun: dict[str, bytes] = {}
    for block in db.session.scalars(blocks.order_by(Block.run_id, Block.start)):
        begun[block.run_id] = begun.get(block.run_id, b"") + block.tokens
    return [excerpt(run, begun.get(run.id, b""), vocabularies.find(run.vocabulary_id)) for run in found]


def excerpt(run: Run, tokens: bytes, vocabulary: Vocabulary) -> dict:
    """What the list shows of one run; `tokens` are the packed first tokens of its first sample."""
    prompt, written_ids = (unpack(packed, run.vocab_size)["id"] for packed in (run.prompt, tokens))
    head, half = split_half_character(vocabulary.bytes_of(prompt[-EXCERPT:].tolist()))
    data = half + vocabulary.bytes_of(written_ids[:EXCERPT].tolist())[: run.samples[0].text_end]
    return {
        "run": run,
        "cut": len(prompt) > EXCERPT,
        "prompt": head.decode("utf-8", "ignore"),
        "text": data.decode("utf-8", "ignore"),
        "samples": run.options["samples"],
    }
