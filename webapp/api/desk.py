"""Where the API's requests are taken: from a body that was read to the work that answers it."""

from collections.abc import Callable, Mapping

from generate import Capabilities, Engine, ModelFolder, Problem, Refusal, Sampling
from webapp.api.completions import Completion
from webapp.api.errors import TooLong, UnknownModel, Wrong
from webapp.api.fields import BY_NAME, Asked, quoted, read, refused_field
from webapp.api.guard import MOST, Slots
from webapp.api.places import Places
from webapp.api.spelling import Spellings
from webapp.api.work import Engines, Keeper, Work, plan
from webapp.runs.models import Models

WRITTEN = BY_NAME["max_new_tokens"].high  # tokens of a run at the most
LUCK = "This server's engine need not write the same text again for the same seed."


class Desk:
    """What the API's requests share. `usual` is the model of those that name none, `most_bytes` the longest prompt."""

    def __init__(
        self,
        engine: Engine | None,
        models: Models,
        keeper: Keeper,
        alive: Callable[[], bool],
        usual: str,
        most_bytes: int,
        most_runs: int,
    ):
        self.slots, self.spellings = Slots(MOST), Spellings()
        self._models, self._usual, self.most_bytes = models, usual, most_bytes
        self._engines = Engines(engine, Places(most_runs), keeper, alive)

    def model(self, name: str | None) -> ModelFolder:
        """The model of this name; raises UnknownModel."""
        try:
            folder = self._models.find(name or self._models.preferred(self._usual))
        except Refusal as refusal:
            raise UnknownModel("{problem}", "model", problem=refusal.problem) from None
        if not self._models.is_served(folder.name):
            raise UnknownModel("{name} is not one of the models that this server has.", "model", name=folder.name)
        return folder

    def ids_of(self, folder: ModelFolder, prompt: str | list[int], parse_special: bool) -> list[int]:
        """The tokens of a prompt: those of a text, or ids as they are. Raises Refusal.

        Ids may be as many more as a run writes: another server goes on so with a text that was as long as one may be.
        """
        if isinstance(prompt, str):
            self.check_size(len(prompt.encode("utf-8", "replace")))
            return folder.encode_prompt(prompt, parse_special)
        self.check_ids(folder, prompt, "prompt")
        begun = prompt[:-WRITTEN]
        if (size := max(len(begun), len(folder.tokenizer.vocabulary.bytes_of(begun)))) > self.most_bytes:
            raise TooLong(
                "prompt may have at most {limit} bytes before its last {more} tokens, not {size}.",
                "prompt",
                limit=self.most_bytes,
                more=WRITTEN,
                size=size,
            )
        return prompt

    def check_size(self, size: int) -> None:
        """Raise TooLong for a text of more bytes than a prompt may have."""
        if size > self.most_bytes:
            raise TooLong(
                "prompt may have at most {limit} bytes, not {size}.", "prompt", limit=self.most_bytes, size=size
            )

    @staticmethod
    def check_ids(folder: ModelFolder, ids: list[int], name: str) -> None:
        """Raise Wrong for ids that are no tokens of the model."""
        if (most := max(ids, default=0)) >= folder.config.vocab_size:
            raise Wrong(
                "{name} holds token {id}, and {model} has {count} of them, from 0 on.",
                name,
                name=name,
                id=quoted(most),
                model=folder.name,
                count=folder.config.vocab_size,
            )

    @staticmethod
    def check_ends(folder: ModelFolder, ids: list[int]) -> None:
        """Raise Wrong for tokens to end at that do not end the model's texts."""
        if others := [index for index in ids if index not in folder.end_ids]:
            raise Wrong(
                "stop_token_ids names token {id}, and here a text ends at the end tokens of {model} alone ({ends}); give "
                "the text to end at as stop.",
                "stop_token_ids",
                id=quoted(others[0]),
                model=folder.name,
                ends=", ".join(map(str, folder.end_ids)) or Problem("it has none"),
            )

    def completion(
        self, body: Mapping[str, object], owner: str, link: Callable[[str], str], address: str | None = None
    ) -> tuple[Asked, Completion]:
        """Take a request; what it wants is in line, or soon will be. Raises Refusal naming the field at fault.

        What is kept of it notes the `address` that asks, by its keyed hash. Whoever takes it closes its work.
        """
        asked = read(body)
        folder = self.model(asked["model"])
        try:
            self.check_ends(folder, asked["stop_token_ids"] or [])
            sampling = asked.sampling(self._models.defaults_for(folder))
            self._models.engine_for(folder, sampling)
            can = self._models.capabilities
            if asked.tells_prompt and not can.scores_prompt:
                raise Wrong(
                    "This server's engine does not tell how likely a model finds a text, so it cannot score a prompt.",
                    "prompt_logprobs" if asked["logprobs"] is None else "echo",
                )
            parse_special = asked["parse_special"] is not False
            texts = [(prompt, self.ids_of(folder, prompt, parse_special)) for prompt in asked.prompts]
            parts = [plan(asked, prompt, ids, folder, sampling, can.beyond_window) for prompt, ids in texts]
            work = Work(self._engines, folder, owner, parts, address)
            try:
                work.advance()  # what an engine refuses is refused before an answer begins
            except BaseException:
                work.close()
                raise
        except Refusal as refusal:
            refusal.field = refused_field(refusal, asked)
            raise
        warnings = [LUCK] if luck_is_lost(asked, sampling, can) else []
        return asked, Completion(asked, sampling, folder, self.spellings.of(folder), work, link, warnings)


def luck_is_lost(asked: Asked, sampling: Sampling, can: Capabilities) -> bool:
    """Whether somebody wants the same text again, and the engine does not promise that it comes."""
    wants = asked["seed"] is not None or asked["first_sample"] is not None
    return wants and sampling.temperature > 0 and sampling.max_new_tokens > 0 and not can.resumes_exactly
