"""What the page shows of a token: what the model thought of it, before any filter, and what the filters made of it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generate.sampling import at_once, likeliest
from generate.sampling.records import ALTERNATIVES, UNKNOWN, record_dtype, unknown_records
from generate.sampling.sampler import Choice, RowOptions
from generate.sampling.top import FEW, Top, as_rows, empty_top, top_few_by_torch


@dataclass
class Survey:
    """What is known of the model's distribution at each row: log-sum-exp and entropy [B, 1], and the likeliest tokens."""

    log_z: Tensor
    entropy: Tensor
    top: Top


def survey(logits: Tensor) -> Survey:
    """Look over logits [B, V] float32; on a CPU in one pass, which is twice as fast as torch's operators."""
    if logits.device.type != "cpu":
        return survey_by_torch(logits)
    rows, size = logits.shape
    log_z, entropy, top = torch.empty(rows, 1), torch.empty(rows, 1), empty_top(logits)
    flat, stride = as_rows(logits)
    top.maxima = torch.empty(rows, -(-size // likeliest.GROUP))
    arrays = (part.numpy() for part in (log_z[:, 0], entropy[:, 0], top.values, top.ids, top.maxima))
    likeliest.survey(flat, stride, size, *arrays)
    return Survey(log_z, entropy, top)


def survey_by_torch(logits: Tensor) -> Survey:
    """The same on any device; torch's softmax is twice as fast as its logsumexp, and holds the same."""
    top, probabilities = top_few_by_torch(logits), logits.softmax(1)
    log_z = top.values[:, :1] - probabilities.gather(1, top.ids[:, :1]).log()
    return Survey(log_z, -torch.linalg.vecdot(probabilities, logits - log_z)[:, None], top)


def statistics(logits: Tensor, ids: Tensor, seen: Survey, more: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
    """What the model thought of the tokens `ids` [B], given logits [B, V] float32 and their survey.

    Returns floats [B, 3 + A] (logprob, entropy, log_z, alternatives' logprobs) and int64 [B, 1 + A] (rank,
    alternatives' ids), where A is 10 or the whole of a smaller vocabulary; and after these room for so many columns `more`.
    """
    width, device = min(ALTERNATIVES, logits.shape[1]), logits.device
    floats = torch.empty(len(ids), 3 + width + more[0], device=device)
    whole = torch.empty(len(ids), 1 + width + more[1], dtype=torch.int64, device=device)
    if device.type == "cpu":
        (flat, stride), top = as_rows(logits), seen.top
        arrays = (part.numpy() for part in (ids, seen.log_z, seen.entropy, top.values, top.ids, floats, whole))
        likeliest.tell(flat, stride, logits.shape[1], width, *arrays)
        return floats, whole
    chosen = logits.gather(1, ids[:, None])
    floats[:, :1], floats[:, 1:2], floats[:, 2:3] = chosen - seen.log_z, seen.entropy, seen.log_z
    floats[:, 3 : 3 + width] = seen.top.values[:, :width] - seen.log_z
    whole[:, :1], whole[:, 1 : 1 + width] = rank(logits, chosen, seen.top), seen.top.ids[:, :width]
    return floats, whole


def rank(logits: Tensor, chosen: Tensor, top: Top) -> Tensor:
    """1 + how many tokens are likelier than the chosen one; int64 [B, 1]."""
    found = 1 + (top.values > chosen).sum(1, keepdim=True)
    deep = found > top.values.shape[1]
    return torch.where(deep, 1 + (logits > chosen).sum(1, keepdim=True), found)


class Report:
    """The numbers of B tokens on their way from the device, in one transfer that the caller need not wait for.

    `floats` [B, F] are logprob, entropy, log_z, the alternatives' logprobs, and for sampled tokens sampled_logprob and
    filter_norm; `whole` [B, W] are rank, the alternatives' ids, and for sampled tokens the bits of those cut.
    Without statistics `floats` is sampled_logprob alone, and `whole` is empty.
    """

    def __init__(self, ids: Tensor, floats: Tensor, whole: Tensor, vocab_size: int):
        self.ids, self._vocab_size, self._told = ids, vocab_size, (floats, whole, ids)
        self._arrived = None
        if ids.device.type == "cuda":
            self._split = floats.shape[1]
            table = torch.cat((floats.double(), whole, ids[:, None]), 1)  # float64 holds every id and float32
            self._table = torch.empty(table.shape, dtype=torch.float64, pin_memory=True)
            self._table.copy_(table, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def records(self) -> np.ndarray:
        """Wait for the numbers and lay them out as records [B]."""
        if self._arrived is None:
            floats, whole, ids = (part.numpy() for part in self._told)
        else:
            self._arrived.synchronize()
            floats, whole, ids = np.split(self._table.numpy(), (self._split, self._table.shape[1] - 1), 1)
            ids = ids[:, 0]
        if floats.shape[1] == 1:
            records = unknown_records(ids, self._vocab_size)
            records["sampled_logprob"] = floats[:, 0]
            return records
        width = min(ALTERNATIVES, self._vocab_size)
        records = np.zeros(len(ids), record_dtype(self._vocab_size))
        records["id"], records["rank"] = ids, whole[:, 0]
        records["logprob"], records["entropy"], records["log_z"] = floats[:, :3].T
        records["alt_logprobs"] = UNKNOWN
        records["alt_logprobs"][:, :width] = floats[:, 3 : 3 + width]
        records["alt_ids"][:, :width] = whole[:, 1 : 1 + width]
        records["sampled_logprob"], records["filter_norm"] = UNKNOWN, UNKNOWN
        if floats.shape[1] > 3 + width:
            records["sampled_logprob"], records["filter_norm"] = floats[:, 3 + width :].T
            records["cut"] = whole[:, 1 + width]
        return records


def prompt_records(logits: Tensor, ids: Tensor) -> np.ndarray:
    """Records [B] of tokens `ids` [B] of a prompt, each predicted by its row of logits [B, V]."""
    return Report(ids, *statistics(logits, ids, survey(logits)), logits.shape[1]).records()


def report_sampled(logits: Tensor, seen: Survey, choice: Choice, rows: RowOptions) -> Report:
    """The report of tokens that were chosen from logits [B, V], with statistics and what the filters cut."""
    floats, whole = statistics(logits, choice.ids, seen, more=(2, 1))
    floats[:, -2], floats[:, -1] = choice.sampled_logprob, choice.norm - floats[:, 2] / rows.divisor[:, 0]
    whole[:, -1] = (choice.cut << torch.arange(choice.cut.shape[1], device=logits.device)).sum(1)
    return Report(choice.ids, floats, whole, logits.shape[1])


def report_usual(logits: Tensor, rows: RowOptions) -> Report:
    """The same of rows on a CPU whose way is the usual one (`RowOptions.usual`), chosen in here: two hundred microseconds less
    for one row, in which all the rest of a small model's step takes six hundred."""
    count, size = logits.shape
    width, (flat, stride) = min(ALTERNATIVES, size), as_rows(logits)
    ids, floats = torch.empty(count, dtype=torch.int64), torch.empty(count, 5 + width)
    whole = torch.empty(count, 2 + width, dtype=torch.int64)
    arrays = (part.numpy() for part in (*rows.keys, ids, floats, whole))
    at_once.choose_and_tell(flat, stride, size, min(FEW, size), width, *rows.given, *arrays)
    return Report(ids, floats, whole, size)


def report_plain(choice: Choice, vocab_size: int) -> Report:
    """Only the tokens, and the sampler's probability of each."""
    return Report(choice.ids, choice.sampled_logprob[:, None], choice.ids[:, None][:, :0], vocab_size)


def as_prompt(records: np.ndarray) -> np.ndarray:
    """Records of written tokens as those of a prompt, which no sampler has touched."""
    records = records.copy()
    records["sampled_logprob"], records["filter_norm"], records["cut"] = UNKNOWN, UNKNOWN, 0
    return records
