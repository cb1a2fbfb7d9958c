"""Which end marker a fine-tune learned: `<|endoftext|>` as one token, or spelled in ordinary ones.

nshepperd's and gpt-2-simple's encoders turned the delimiter between texts into ordinary tokens; a model trained so never
says the real one. The model itself is asked, along some samples of its own, which of the two it finds likelier.
"""

import numpy as np

from convert.certificate import text_ids
from generate import END, LocalEngine, ModelFolder, Request, Sampling

SAMPLES, LENGTH = 4, 60  # fewer tokens where the window is small


def write_samples(folder: ModelFolder) -> tuple[list[int], list[list[int]]]:
    """A short text, and a few continuations of it by the folder's own model with the text before them, as ids."""
    length = min(LENGTH, folder.config.n_positions // 4)
    room = folder.config.n_positions - length - len(spelled_marker(folder))
    prompt = text_ids(folder)[: max(1, room)]
    if not prompt:
        return [], []
    sampling = Sampling(max_new_tokens=max(1, length), temperature=1.0, top_k=40, samples=SAMPLES, seed=1)
    engine = LocalEngine(folder.path.parent, device="cpu", precision="float32").start(folder)
    try:
        request = Request(folder, sampling)
        run = engine.submit(request, request.new_log(prompt))
        run.wait_until_done()
    finally:
        engine.close()
    return prompt, [prompt + sample.read()["id"].tolist() for sample in run.samples if not sample.error]


def spelled_marker(folder: ModelFolder) -> list[int]:
    """The end marker in ordinary tokens; [] where the model's end token is another, or it has none."""
    return folder.tokenizer.encode(END) if folder.end_name == END else []


def learned_text_marker(folder: ModelFolder, prompt: list[int], samples: list[list[int]]) -> bool:
    """Whether the model finds the spelled marker likelier than the token, each where it finds it likeliest.

    False where there is no such token, or no sample to ask at.
    """
    from generate import logits_of

    spelled = spelled_marker(folder)
    if not spelled or not samples:
        return False
    begin, last = len(prompt) - 1, folder.config.n_positions - len(spelled)
    by_token, endings = [], []
    for ids, logits in zip(samples, logits_of(folder, samples), strict=True):
        choices = logprobs(logits[begin:last])
        by_token.append(choices[:, folder.end_id].max())
        endings.append(ids[: begin + 1 + int(choices[:, spelled[0]].argmax())])
    by_text = []
    for ids, logits in zip(endings, logits_of(folder, [ids + spelled for ids in endings]), strict=True):
        choices = logprobs(logits[len(ids) - 1 : -1])
        by_text.append(choices[range(len(spelled)), spelled].sum())
    return float(np.mean(by_text)) > float(np.mean(by_token))


def logprobs(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities, float64 [T, V], from logits [T, V]."""
    logits = logits.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
