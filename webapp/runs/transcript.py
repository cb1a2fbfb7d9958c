"""The text of a run: its log, read with the vocabulary that its ids are of."""

from generate import RunLog, Vocabulary, split_half_character


class Transcript:
    """What a run's prompt and samples say. `head` and `half` are the prompt's bytes: whole characters, and what is left."""

    def __init__(self, log: RunLog, vocabulary: Vocabulary):
        self.log, self.vocabulary = log, vocabulary
        self.prompt_ids = log.prompt["id"]
        self.head, self.half = split_half_character(vocabulary.bytes_of(self.prompt_ids.tolist()))

    @property
    def prompt_text(self) -> str:
        """The prompt in whole characters; a half one at its end belongs to the continuation's first."""
        return self.head.decode("utf-8", "replace")

    def text(self, number: int) -> str:
        """What sample `number` says so far: the visible bytes, joined to a half character of the prompt."""
        sample = self.log.samples[number]
        data = self.vocabulary.bytes_of(sample.read(0, sample.released)["id"].tolist())[: sample.text_end]
        return (self.half + data).decode("utf-8", "replace")
