"""Which end marker a fine-tune learned: `<|endoftext|>` as one token, or spelled in ordinary ones.

nshepperd's and gpt-2-simple's encoders turned the delimiter between texts into ordinary tokens; a model trained so never
says the real one. The model itself is asked, at the end of some samples of its own, which of the two it finds likelier.
"""

from collections.abc import Iterator

import numpy as np

from convert.certificate import TEXT
from convert.vocabulary import END
from generate import Engine, ModelFolder, Request, Sampling

SAMPLES, LENGTH = 4, 60


def write_samples(folder: ModelFolder) -> tuple[list[int], list[list[int]]]:
    """A short text, and a few continuations of it by the folder's own model with the text before them, as ids."""
    room = folder.config.n_positions - LENGTH - len(folder.tokenizer.encode(END)) - 1
    prompt = folder.tokenizer.encode(TEXT)[: max(1, room)]
    sampling = Sampling(max_new_tokens=LENGTH, temperature=1.0, top_k=40, samples=SAMPLES, seed=1)
    engine = Engine(folder.path.parent, device="cpu", precision="float32").start(folder)
    try:
        run, version = engine.submit(Request(folder, tuple(prompt), sampling)), -1
        while not run.done:
            version = run.wait(version, 60)
    finally:
        engine.close()
    return prompt, [prompt + sample.read()["id"].tolist() for sample in run.samples if not sample.error]


def learned_text_marker(folder: ModelFolder, samples: list[list[int]]) -> bool:
    """Whether the model finds the spelled marker likelier than the token; False where there is no such token."""
    from generate import logits_of

    spelled = folder.tokenizer.encode(END)
    fitting = [ids for ids in samples if ids and len(ids) + len(spelled) <= folder.config.n_positions]
    if folder.end_id is None or not fitting:
        return False
    advantage = []
    for ids, logits in zip(fitting, logits_of(folder, [ids + spelled for ids in fitting]), strict=True):
        tail = list(logprobs(logits[len(ids) - 1 :].astype(np.float64)))
        text = sum(row[index] for row, index in zip(tail, spelled, strict=False))
        advantage.append(text - tail[0][folder.end_id])
    return float(np.mean(advantage)) > 0


def logprobs(logits: np.ndarray) -> Iterator[np.ndarray]:
    top = logits.max(-1, keepdims=True)
    yield from logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
