"""One engine behind one address: how it is, which models it has, and its requests over HTTP.

It is looked at again and again, and more often while something is wrong: what it lists is asked for a test string, and
counts as had only if it cuts that into the same ids as our tokenizer does. An engine that failed somebody gets no more
work until it has passed this again.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import httpx2

from generate.errors import Problem, Refusal
from generate.folders.model_folder import ModelFolder
from generate.remote.failures import Broken, Crowded, Refused, failure_of

log = logging.getLogger(__name__)

TEST = "The fox’s 1st café — 从前 🦊\n\n  x=10;"
EVERY = 5.0  # seconds between two looks while all is well
SOONEST, LATEST = 0.2, 5.0  # seconds between two looks while it is not, doubling from one to the other
CONNECT, SILENCE, LOOK = 5.0, 60.0, 15.0  # seconds for a connection, between two pieces of an answer, for a look
TOLD = 4096  # bytes of an error that are read
OURS = "rubric"  # what our own server says of who owns its models
MISSES = 2  # looks in a row without an answer, or with "busy", after which it counts as gone


@dataclass(frozen=True)
class Served:
    """A model that an engine has: its folder here, whether it is another Rubric that writes it, in which precision (None:
    not told), and whether the address for tokens alone is open."""

    folder: ModelFolder
    is_rubric: bool
    precision: str | None
    tokens_only: bool


@dataclass(eq=False)
class Replica:
    """An address. `problem` is None while it can be given work; `unfit` says of models that it has why we cannot use them."""

    address: str
    client: httpx2.AsyncClient
    problem: Problem | None
    served: dict[str, Served] = field(default_factory=dict)
    unfit: dict[str, Problem] = field(default_factory=dict)
    suspected: set[str] = field(default_factory=set)  # models that failed somebody since they were tried
    rows: int = 0  # requests that it is answering for us
    failures: int = 0  # looks in a row that went wrong
    look_now: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def at(cls, address: str, key: str, most: int) -> "Replica":
        """One that was not looked at yet, with room for `most` requests at once."""
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
        limits = httpx2.Limits(max_connections=most + 4, max_keepalive_connections=most + 4)
        timeout = httpx2.Timeout(SILENCE, connect=CONNECT)
        client = httpx2.AsyncClient(
            base_url=address, headers=headers, limits=limits, timeout=timeout, trust_env=False, follow_redirects=False
        )
        return cls(address, client, Problem("it has not answered yet"))

    # Requests

    async def post(self, path: str, body: dict, timeout: float = SILENCE) -> object:
        """The JSON of an answer that comes as a whole; raises Broken, Crowded or Refused."""
        with translated():
            answer = await self.client.post(path, json=body, timeout=timeout)
        if answer.status_code != 200:
            raise failure_of(answer.status_code, answer.headers.get("retry-after"), parsed(answer.content[:TOLD]))
        return parsed(answer.content)

    @asynccontextmanager
    async def stream(self, path: str, body: dict) -> AsyncIterator[AsyncIterator[object]]:
        """The events of a streamed answer, each as JSON, without the last, [DONE]. Leaving it closes the connection, by
        which the engine knows that nobody wants the rest. Raises Broken, Crowded or Refused."""
        self.rows += 1
        try:
            with translated():
                async with self.client.stream("POST", path, json=body) as answer:
                    if answer.status_code != 200:
                        told = parsed((await answer.aread())[:TOLD])
                        raise failure_of(answer.status_code, answer.headers.get("retry-after"), told)
                    async with aclosing(events_of(answer)) as events:
                        yield events
        finally:
            self.rows -= 1

    # Looks

    def suspect(self, model: str, problem: Problem) -> None:
        """It failed somebody who wanted this model: no more work until it is looked at, which is at once."""
        if self.problem is None:
            log.warning("%s failed: %s", self.address, problem)
            self.problem = problem
        self.suspected.add(model)
        self.look_now.set()

    async def watch(self, folders: Callable[[], Iterable[ModelFolder]], changed: Callable[[], None]) -> None:
        """Look again and again; calls `changed` after each look. `folders` gives the models that we have."""
        while True:
            self.look_now.clear()
            before = self.problem
            await self._look(folders)
            if self.problem is None and before is not None:
                log.info("%s answers", self.address)
            changed()
            pause = EVERY
            if self.problem is not None:
                pause = min(LATEST, SOONEST * 2 ** min(self.failures, 10)) * random.uniform(0.8, 1.2)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.look_now.wait(), pause)

    async def _look(self, folders: Callable[[], Iterable[ModelFolder]]) -> None:
        """Find out how it is, and what it has. Nothing that goes wrong here ends the watch."""
        try:
            here = {folder.name: folder for folder in folders()}
        except OSError as error:  # which says nothing of the engine: what is known of it stays
            log.warning("The models here cannot be listed just now: %s", error)
            return
        try:
            with translated():
                answer = await self.client.get("/v1/models", timeout=LOOK)
            if answer.status_code != 200:
                told = parsed(answer.content[:TOLD])
                raise failure_of(answer.status_code, answer.headers.get("retry-after"), told)
            await self._try_models(here, models_in(parsed(answer.content)))
        except (Broken, Refused) as failed:
            self._missed(failed.problem, isinstance(failed.__cause__, httpx2.TimeoutException))
        except Crowded:
            self._missed(Problem("it has too much to do"), True)
        except Exception as error:
            log.exception("%s could not be looked at", self.address)
            self._missed(Problem("it could not be looked at ({kind})", kind=type(error).__name__), False)
        else:
            self.failures, self.problem = 0, None

    def _missed(self, problem: Problem, is_busy: bool) -> None:
        """A look has failed. One that `is_busy` counts as gone only after some."""
        self.failures += 1
        if self.problem is not None or not is_busy or self.failures >= MISSES:
            self.problem = problem

    async def _try_models(self, folders: dict[str, ModelFolder], listed: dict[str, dict]) -> None:
        """Find out which of the models that it lists we can use, trying those that are new."""
        here = {name: folder for name, folder in folders.items() if name in listed}
        for name in set(self.served) - set(here):
            del self.served[name]
        self.unfit = {name: problem for name, problem in self.unfit.items() if name in here}
        for name, folder in here.items():
            old = self.served.get(name)
            if old is None or old.folder.identity != folder.identity or name in self.suspected:
                found = await self._tried(folder, listed[name])
                self.suspected.discard(name)
                if isinstance(found, Problem):
                    self.served.pop(name, None)
                    self.unfit[name] = found
                else:
                    self.unfit.pop(name, None)
                    self.served[name] = found

    async def _tried(self, folder: ModelFolder, listed: dict) -> Served | Problem:
        """As `_try`; a Problem as well where the fault is with our own folder."""
        try:
            return await self._try(folder, listed)
        except Refusal as refusal:
            return refusal.problem
        except OSError as error:
            return Problem("its folder here cannot be read ({reason})", reason=error.strerror)

    async def _try(self, folder: ModelFolder, listed: dict) -> Served | Problem:
        """Ask it for a token after the test string; a Problem where its model is not ours."""
        window = listed.get("max_model_len")
        if window != folder.config.n_positions:
            return Problem(
                "it serves {name} with a window of {given} tokens, and it has {window:,}",
                name=folder.name,
                given=str(window)[:20],
                window=folder.config.n_positions,
            )
        is_rubric = listed.get("owned_by") == OURS
        body = {"model": folder.name, "prompt": TEST, "max_tokens": 1, "temperature": 0.0, "return_token_ids": True}
        answer = await self.post("/v1/completions", body, LOOK)
        try:
            ids, print_ = answer["choices"][0]["prompt_token_ids"], answer.get("system_fingerprint")
        except (KeyError, TypeError, IndexError, AttributeError):
            raise Broken("its answer has another form than asked for") from None
        if without_begin(ids, folder) != folder.tokenizer.encode(TEST, parse_special=True):
            return Problem("it cuts text into other tokens than {name} does here", name=folder.name)
        if not is_rubric:
            return Served(folder, False, None, await self._is_open(folder, ids))
        weights, _, precision = str(print_).partition("-")
        if weights != folder.fingerprint():
            return Problem("its {name} has other weights", name=folder.name)
        # one that does not tell has an engine behind an address of its own, which may promise less
        return Served(folder, bool(precision), precision or None, False)

    async def _is_open(self, folder: ModelFolder, ids: list[int]) -> bool:
        """Whether the address for tokens alone answers, as well as it must."""
        params = {"max_tokens": 1, "temperature": 0.0, "detokenize": False, "logprobs": 1}
        body = {"model": folder.name, "token_ids": ids, "sampling_params": params}
        try:
            answer = await self.post("/inference/v1/generate", body, LOOK)
            return "top_logprobs" in answer["choices"][0]["logprobs"]["content"][0]
        except (Broken, Refused, KeyError, TypeError, IndexError):
            return False


def without_begin(ids: object, folder: ModelFolder) -> object:
    """The ids of a text without the token that a server puts before every one, if it does."""
    has_begin = isinstance(ids, list) and folder.begin_id is not None and ids[:1] == [folder.begin_id]
    return ids[1:] if has_begin else ids


def models_in(answer: object) -> dict[str, dict]:
    """The models that `/v1/models` lists, by name; raises Broken."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise Broken("it lists no models")
    return {one["id"]: one for one in data if isinstance(one, dict) and isinstance(one.get("id"), str)}


def parsed(data: bytes) -> object:
    """JSON; None where it is none."""
    try:
        return json.loads(data)
    except ValueError:
        return None


async def events_of(answer: httpx2.Response) -> AsyncIterator[object]:
    """The events of a stream, which must end with [DONE]."""
    async with aclosing(aiter(httpx2.EventSource(answer))) as source:
        async for event in source:
            if event.data == "[DONE]":
                return
            yield parsed(event.data)
    raise Broken("its answer was cut")


@contextmanager
def translated() -> Iterator[None]:
    """What httpx raises within, as Broken."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise Broken("it does not answer") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        raise Broken("it cannot be reached ({kind})", kind=type(error).__name__) from error
