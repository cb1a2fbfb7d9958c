"""All engines behind the addresses of one setting: which of them has a model now, and whose turn it is."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from generate.errors import Problem
from generate.folders.model_folder import ModelFolder
from generate.interface.engine import Capabilities
from generate.remote.asking import BY_NAME, WRITES_ONE
from generate.remote.replica import Replica, Served
from generate.sampling.in_use import SAMPLERS

VLLM = Capabilities(scores_prompt=True, beyond_window=WRITES_ONE, samplers=BY_NAME)
RUBRIC = Capabilities(resumes_exactly=True, scores_prompt=True, samplers=SAMPLERS)


class Pool:
    """The replicas. Its attributes are changed in the loop's thread alone, and may be looked at from any."""

    def __init__(self, addresses: Sequence[str], key: str, most: int):
        self._replicas = [Replica.at(address, key, most) for address in addresses]
        self._changed = asyncio.Event()
        self._used: dict[str, float] = {}  # when each model was last asked for

    # For any thread

    @property
    def loaded(self) -> list[str]:
        """The models that some engine has, or had when it was last seen; the one used last first."""
        names = {name for replica in self._replicas for name in list(replica.served)}
        return sorted(names, key=lambda name: (-self._used.get(name, 0.0), name))

    @property
    def capabilities(self) -> Capabilities:
        """What all of them can do, as far as they have answered."""
        served = [one for replica in self._replicas for one in list(replica.served.values())]
        if served and all(one.is_rubric for one in served):
            return RUBRIC
        told = bool(served) and all(one.tokens_only for one in served)
        return replace(VLLM, rank=told)

    def unfit(self, name: str) -> Problem | None:
        """Why a model cannot be used that some engine has; None where one can, or none has it."""
        if name in self.loaded:
            return None
        return next((replica.unfit[name] for replica in self._replicas if name in replica.unfit), None)

    def problem(self) -> Problem | None:
        """None while one of them answers and has a model of ours; else why not."""
        up = [replica for replica in self._replicas if replica.problem is None]
        if any(replica.served for replica in up):
            return None
        first = next((replica for replica in self._replicas if replica.problem is not None), self._replicas[0])
        if not up:
            return Problem(
                "The engine at {address} cannot be asked now: {reason}. Texts wait, and go on when it answers.",
                address=first.address,
                reason=first.problem,
            )
        unfit = next((problem for replica in up for problem in replica.unfit.values()), None)
        if unfit is not None:
            return Problem("The engine at {address} is of no use here: {reason}.", address=up[0].address, reason=unfit)
        return Problem("The engine at {address} has none of the models that are here.", address=up[0].address)

    # In the loop

    def watch(self, folders: Callable[[], Iterable[ModelFolder]], changed: Callable[[], None]) -> list[asyncio.Task]:
        """Begin to look after all of them; the tasks end when they are cancelled."""

        def news() -> None:
            self._changed.set()
            self._changed = asyncio.Event()
            changed()

        return [asyncio.create_task(replica.watch(folders, news)) for replica in self._replicas]

    def has(self, folder: ModelFolder) -> bool:
        """Whether one of them can be given work for this model now."""
        return any(self._usable(replica, folder) for replica in self._replicas)

    def take(self, folder: ModelFolder, failed: Collection[Replica] = ()) -> tuple[Replica, Served] | None:
        """The one with the least work that has the model, one of those that `failed` only if there is no other; None where
        there is none now."""
        able = [replica for replica in self._replicas if self._usable(replica, folder)]
        if not able:
            return None
        self._used[folder.name] = time.monotonic()
        replica = min(able, key=lambda one: (one in failed, one.rows))
        return replica, replica.served[folder.name]

    async def wait(self, seconds: float) -> None:
        """Wait until something was learned of one of them, at most so long."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    async def close(self) -> None:
        """Close all connections."""
        for replica in self._replicas:
            await replica.client.aclose()

    @staticmethod
    def _usable(replica: Replica, folder: ModelFolder) -> bool:
        served = replica.served.get(folder.name)
        return replica.problem is None and served is not None and served.folder.identity == folder.identity
