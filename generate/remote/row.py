"""One sample being written by an engine behind an address: asked for, taken in token by token, and gone on with elsewhere
from what is there when the engine fails."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import numpy as np

from generate.errors import Problem
from generate.interface.log import RunLog
from generate.interface.request import Request
from generate.interface.states import FinishReason
from generate.remote.answers import Packer, piece_of, read_of
from generate.remote.asking import WRITES_ONE, ask_rubric, ask_vllm, body_of, reading_body, readings
from generate.remote.failures import Broken, Crowded, Refused
from generate.remote.kept import Kept
from generate.remote.pool import Pool
from generate.remote.replica import Replica, Served
from generate.sampling.records import first_unknown
from generate.scheduling.endings import ending_of, how_over

TRIES = 6  # in a row without a token, of engines that count as well
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0  # seconds between two tries, doubling from one to the other
LOOK_AGAIN = 5.0  # seconds after which one that waits for an engine looks by itself


class GivenUp(Exception):
    """Engines that answer could not do it."""

    def __init__(self, problem: Problem):
        super().__init__(str(problem))
        self.problem = problem


class Tries:
    """Does something with one engine after another, until one has done it.

    `paused` is called when there is none to do it, or it failed; whoever gets on calls `progress`.
    """

    def __init__(self, pool: Pool, request: Request, paused: Callable[[], None]):
        self._pool, self._request, self._paused = pool, request, paused
        self._failed: list[Replica] = []

    def progress(self) -> None:
        """Something was got: failures are counted anew."""
        self._failed = []

    async def until_done(self, work: Callable[[Replica, Served], Awaitable[bool]]) -> None:
        """Do `work` until it says that it is done. Raises GivenUp."""
        crowded: list[Replica] = []  # others come first, though it has the fewest rows
        while True:
            taken = self._pool.take(self._request.folder, [*self._failed, *crowded])
            if taken is None:
                self._paused()
                await self._pool.wait(LOOK_AGAIN)
                continue
            try:
                if await work(*taken):
                    return
            except Broken as broken:
                taken[0].suspect(self._request.folder.name, broken.problem)
                self._paused()
                self._failed.append(taken[0])
                if len(self._failed) >= TRIES:
                    raise GivenUp(
                        Problem(
                            "The engines failed {times} times in a row: {reason}.", times=TRIES, reason=broken.problem
                        )
                    ) from None
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (len(self._failed) - 1))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            except Crowded as busy:
                crowded = [taken[0]]
                await asyncio.sleep(busy.seconds * random.uniform(0.5, 1.0))
            except Refused as refused:
                raise GivenUp(refused.problem) from None


class Row:
    """Writes one sample of a run into its log. `on_token` is called for every piece that came."""

    def __init__(self, request: Request, run: RunLog, number: int, tries: Tries, on_token: Callable[[int], None]):
        self._request, self._run, self._sample = request, run, run.samples[number]
        self._number, self._tries, self._on_token = request.first_sample + number, tries, on_token
        self._vocabulary = request.folder.tokenizer.vocabulary
        self._ending = ending_of(request, run, self._sample)
        self._ids = run.prompt_ids + self._sample.read()["id"].tolist()
        kept = Kept(request.sampling) if request.statistics else None
        self._packer = Packer(request.folder.config.vocab_size, kept)

    @property
    def left(self) -> int:
        """How many tokens it may still write."""
        return self._request.sampling.max_new_tokens - self._ending.tokens

    @property
    def text_end(self) -> int:
        """Bytes of its visible text, if it ended here."""
        return self._ending.size if self._ending.stop_at is None else self._ending.stop_at

    async def write(self) -> None:
        """Write until the sample has ended; it ends with an error where engines give up."""
        if self._end_if_over():
            return
        try:
            await self._tries.until_done(self._some)
        except GivenUp as given_up:
            self._run.finish(self._sample, FinishReason.ERROR, self.text_end, given_up.problem)

    async def _some(self, replica: Replica, served: Served) -> bool:
        """One request to one engine; True once the sample has ended."""
        make = ask_rubric if served.is_rubric else ask_vllm
        ask = make(self._request, self._number, self._ids, self._ending.tokens)
        path, body = body_of(ask, served.folder.name, served.tokens_only)
        finish, written, over = None, 0, False
        async with replica.stream(path, body) as events:
            async for event in events:
                piece = piece_of(event, self._packer, ask.ids, ask.statistics)
                if piece is None or over:  # what comes after the end is read, so that the connection can be used again
                    continue
                if len(piece.records):
                    self._tries.progress()
                    self._on_token(len(piece.records))
                    written += len(piece.records)
                    over = self._take(piece.records)
                    if over and piece.finish is None:
                        return True
                finish = piece.finish or finish
        if finish == "stop" and not over:  # at a mark of its own that it does not show
            self._run.finish(self._sample, FinishReason.STOP, self.text_end)
            return True
        if not over and (finish != "length" or not written):
            raise Broken("its answer was cut")
        return over

    def _take(self, records: np.ndarray) -> bool:
        """Add tokens to the log; True when one of them was the sample's last, and none after it counts."""
        count, tokens, over = 0, self._vocabulary.tokens, None
        ids = records["id"].tolist()
        while count < len(ids) and over is None:
            self._ids.append(ids[count])
            self._ending.feed(tokens[ids[count]])
            count += 1
            over = self._how_over()
        with self._run.changed:
            self._sample.append(records[:count], self._ending.released)
            self._run.touch()
        if over is not None:
            self._run.finish(self._sample, over, self.text_end)
        return over is not None

    def _end_if_over(self) -> bool:
        over = self._how_over()
        if over is not None:
            self._run.finish(self._sample, over, self.text_end)
        return over is not None

    def _how_over(self) -> FinishReason | None:
        folder = self._request.folder
        return how_over(self._ending, self._ids, self._request.sampling, folder.end_ids, self._vocabulary)


async def read_prompt(request: Request, run: RunLog, tries: Tries) -> None:
    """Learn what the model thinks of a prompt's tokens: all of them where a run only reads, else those in the window.

    Raises GivenUp.
    """
    config, ids = request.folder.config, run.prompt_ids
    packer = Packer(config.vocab_size, None)
    first = first_unknown(run.prompt, 1, len(ids))

    async def read(replica: Replica, served: Served) -> bool:
        most = config.n_positions + (1 if served.is_rubric else WRITES_ONE)
        writes = 0 if served.is_rubric else 1
        for reading in readings(ids, config.n_positions, request.n_keep, most, request.only_reads, first):
            known_already = first_unknown(run.prompt, reading.first, reading.first + reading.count)
            if known_already == reading.first + reading.count:  # by another engine, which failed after that
                continue
            answer = await replica.post("/v1/completions", reading_body(reading, served.folder.name, writes))
            run.learn(reading.first, read_of(answer, packer, reading.ids, reading.count))
            tries.progress()
        return True

    await tries.until_done(read)


def end_reading(request: Request, run: RunLog, problem: Problem | None) -> None:
    """End all samples of a run that only read: its text is read, or could not be."""
    reason = FinishReason.LENGTH if problem is None else FinishReason.ERROR
    for sample in run.samples:
        run.finish(sample, reason, sample.size(request.folder.tokenizer.vocabulary), problem)
