"""The next token of every sequence, with as much said of it as was asked for."""

from torch import Tensor

from generate.sampling.sampler import RowOptions, choose
from generate.sampling.statistics import Report, report_plain, report_sampled, report_usual, survey
from generate.scheduling.sequence import Sequence


def choose_next(logits: Tensor, sequences: list[Sequence], options: RowOptions) -> Report:
    """Choose each sequence's next token from its logits [B, V]; nothing waits for the device."""
    if not any(sequence.request.statistics for sequence in sequences):
        return report_plain(choose(logits, options), logits.shape[1])
    if options.usual:
        return report_usual(logits, options)
    seen = survey(logits)
    return report_sampled(logits, seen, choose(logits, options, seen.top), options)
