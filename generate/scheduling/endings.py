"""How a sample's text ends, whichever engine writes it: what it begins with, and whether a token was its last. No torch."""

from collections.abc import Collection, Sequence

from generate.interface.log import RunLog, SampleLog
from generate.interface.request import Request
from generate.interface.states import FinishReason
from generate.sampling.options import Sampling
from generate.text.characters import split_half_character
from generate.text.ending import Ending
from generate.text.sentences import FAR, could_end, ends_sentence
from generate.text.vocabulary import Vocabulary


def ending_of(request: Request, run: RunLog, sample: SampleLog) -> Ending:
    """The ending of a sample as it stands in its run's log: new, or with the tokens that were written before."""
    vocabulary = request.folder.tokenizer.vocabulary
    end_text = (request.folder.end_text,) if request.folder.end_text else ()
    stops = [stop.encode() for stop in (*request.sampling.stop, *end_text)]
    half = split_half_character(vocabulary.bytes_of(run.prompt_ids))[1]
    ending = Ending(stops, half, request.sampling.min_new_tokens)
    for token in sample.read()["id"].tolist():
        ending.feed(vocabulary.tokens[token])
    return ending


def how_over(
    ending: Ending, ids: Sequence[int], sampling: Sampling, end_ids: Collection[int], vocabulary: Vocabulary
) -> FinishReason | None:
    """How a sample has ended whose text since the root is `ids`; None where it goes on."""
    if ending.stop_at is not None or (ending.tokens and ids[-1] in end_ids):
        return FinishReason.STOP
    if ending.tokens >= sampling.max_new_tokens or is_at_sentence(ending, ids, sampling, vocabulary):
        return FinishReason.LENGTH
    return None


def is_at_sentence(ending: Ending, ids: Sequence[int], sampling: Sampling, vocabulary: Vocabulary) -> bool:
    """Whether a sample has come close enough to its length to end where a sentence does, and one ends here.

    That depends on the tokens since the root and on the options alone, as all that a text says.
    """
    if ending.tokens < sampling.may_end_at or not could_end(vocabulary.tokens[ids[-1]]):
        return False
    return ends_sentence(vocabulary.bytes_of(ids[-FAR:]))
