"""The models of this server, and what its engine can do with them."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from generate import (
    PRESETS,
    Capabilities,
    Engine,
    Listed,
    ModelFolder,
    Problem,
    Refusal,
    Sampling,
    find_model,
    gettext,
    in_use,
    list_models,
    model_homes,
    parse_sampling,
    require_samplers,
    without_effect,
)
from webapp.runs.choices import Choices
from webapp.runs.repository import Vocabularies
from webapp.runs.tables import Run


class Models:
    """`engine` is None on a server that writes nothing; `folder` is the folder of the models. `sees_all` says whether whoever
    asks just now may use those that `choices` hide; for all others it is as if these were not there."""

    def __init__(
        self,
        engine: Engine | None,
        folder: Path,
        vocabularies: Vocabularies,
        choices: Choices,
        sees_all: Callable[[], bool] = lambda: True,
    ):
        self.engine, self.folder, self._vocabularies = engine, folder, vocabularies
        self._choices, self._sees_all = choices, sees_all

    # The engine

    @property
    def capabilities(self) -> Capabilities:
        """What may be offered here; nothing without an engine."""
        return Capabilities() if self.engine is None else self.engine.capabilities

    def problem(self) -> str | None:
        """None when runs can be written, else a sentence saying why not."""
        nothing = gettext("This server has no engine, so it writes nothing.")
        return nothing if self.engine is None else self.engine.ready()

    def engine_for(self, folder: ModelFolder, sampling: Sampling) -> Engine:
        """The engine; raises Refusal where there is none, or where it cannot do this with this model."""
        if self.engine is None:
            raise Refusal("This server has no engine, so it cannot start a run.")
        if not self.is_served(folder.name):
            if (why := self.engine.why_not(folder.name)) is not None:
                raise Refusal(
                    "This server's engine cannot be used for {name}: {reason}.", "model", name=folder.name, reason=why
                )
            raise Refusal(
                "This server's engine loads no models by itself, and {name} is not one of those it has: {loaded}.",
                "model",
                name=folder.name,
                loaded=", ".join(self.loaded()),
            )
        if sampling.max_new_tokens == 0 and not self.capabilities.scores_prompt:
            raise Refusal(
                "This server's engine does not tell how likely a model finds a text, so it cannot only read one.",
                "max_new_tokens",
            )
        require_samplers(sampling, self.capabilities.samplers)
        return self.engine

    @property
    def lacking(self) -> frozenset[str]:
        """The options that the engine does nothing with; none where there is no engine."""
        return frozenset() if self.engine is None else without_effect(self.capabilities.samplers)

    def defaults_for(self, folder: ModelFolder) -> dict[str, float]:
        """What options are that nobody set, as a model's folder has it: without what the engine lacks, lest somebody be
        refused for what they did not ask for."""
        lacking = self.lacking
        return {name: value for name, value in folder.defaults if name not in lacking}

    @property
    def presets_beyond(self) -> dict[str, list[str]]:
        """The presets that cannot be used here, by their names, and the samplers they want that the engine has not."""
        if self.engine is None:
            return {}
        wanted = {preset.name: in_use(parse_sampling(preset.options)) for preset in PRESETS}
        missing = {name: sorted(used - self.capabilities.samplers) for name, used in wanted.items()}
        return {name: names for name, names in missing.items() if names}

    def require_replay(self) -> None:
        """Raise Refusal where a run that is written again need not say the same."""
        if self.engine is not None and not self.capabilities.resumes_exactly:
            raise Refusal("This server's engine does not say the same twice, so a replay would tell nothing.")

    def preferred(self, name: str) -> str:
        """The model that the operator chose, else that of this name, or where it cannot be asked for the one that the engine
        used last."""
        chosen = self._choices.default
        if chosen is not None and any((home / chosen).is_dir() for home in model_homes(self.folder)):
            name = chosen
        return name if self.is_served(name) else next(iter(self.loaded()), name)

    def loaded(self) -> list[str]:
        """What the engine has, of those that are not hidden from whoever asks."""
        return [name for name in self.engine.loaded if name not in self._hidden()]

    def hides(self, name: str) -> bool:
        """Whether a model is not there for whoever asks."""
        return name in self._hidden()

    def _hidden(self) -> frozenset[str]:
        """The models that are not there for whoever asks."""
        return frozenset() if self._sees_all() else self._choices.hidden

    def is_served(self, name: str | None) -> bool:
        """Whether a model that is whole can be asked for here; not denied before an engine has told what it has."""
        if self.engine is None or self.capabilities.loads_models:
            return True
        loaded = self.engine.loaded
        return not loaded or name in loaded

    def why_not_served(self, name: str) -> Problem | None:
        """Why a model cannot be asked for here, in a sentence; None where it can."""
        if self.is_served(name):
            return None
        why = self.engine.why_not(name)
        if why is not None:
            return Problem("The engine of this server cannot be used for it: {reason}.", reason=why)
        return Problem("The engine of this server does not have it.")

    # The folder

    def all(self) -> list[Listed]:
        """All models of the folder, those that cannot be used included."""
        return list_models(self.folder, self._hidden())

    def find(self, name: str) -> ModelFolder:
        """A model by its name; raises Refusal when it is not there or not whole.

        What is wrong with it is for whoever can mend it: its own page tells them.
        """
        return self._found(name, self._hidden())

    def _found(self, name: str, hidden: frozenset[str] = frozenset()) -> ModelFolder:
        try:
            return find_model(self.folder, name, hidden)
        except Refusal as refusal:
            if "reason" not in refusal.problem.values:
                raise
            raise Refusal("The model {name} cannot be used on this server just now.", "model", name=name[:80]) from None

    def begin_of(self, name: str) -> int | None:
        """The token that a model puts before every prompt; None where it puts none, or is not here."""
        with suppress(Refusal):
            return self._found(name).begin_id
        return None

    def defaults_of(self, name: str) -> dict[str, float] | None:
        """How a model would be asked by itself; None where it is not here."""
        with suppress(Refusal):
            return self.defaults_for(self._found(name))
        return None

    def find_for(self, run: Run, other_tokens: Refusal | None = None) -> ModelFolder:
        """The model a run was written by, if its tokens still mean the same; raises `other_tokens` if they do not."""
        folder = self.find(run.model)
        if not self._vocabularies.same(run, folder):
            raise other_tokens or Refusal(
                "The model {name} has other tokens now than when this was written; edit the text to go on with it.",
                name=run.model,
            )
        return folder

    def comparable(self, run: Run) -> list[str]:
        """Names of the models here that can be compared with the run's: others, with its vocabulary."""
        found = [m for m in self.all() if m.folder and self.is_served(m.name)]
        return [m.name for m in found if self.why_not_compared(run, m.folder) is None]

    def require_comparable(self, run: Run, folder: ModelFolder) -> None:
        """Raise Refusal where a model cannot be compared with the run's."""
        if (refusal := self.why_not_compared(run, folder)) is not None:
            raise refusal

    def why_not_compared(self, run: Run, folder: ModelFolder) -> Refusal | None:
        """Why a model cannot be compared with the run's; None: it can."""
        if not self._vocabularies.same(run, folder):
            return Refusal(
                "{second} has other tokens than {first}, so the two cannot be compared.",
                "model",
                first=run.model,
                second=folder.name,
            )
        try:
            if folder.fingerprint() != run.fingerprint:
                return None
        except Refusal as refusal:  # its weights are not those that it claims
            return refusal
        return Refusal("{name} is the model that this run has already; choose another.", "model", name=folder.name)
