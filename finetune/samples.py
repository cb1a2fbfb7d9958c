"""What the model writes on the way, by the same engine that will serve it."""

import tempfile
from pathlib import Path

import torch

from finetune.options import Options
from finetune.result import write_model
from finetune.start import Start
from generate import LocalEngine, Request, Sampling, plain_text

TEMPERATURE, TOP_K = 0.8, 40


def write_sample(model, start: Start, options: Options, work: Path, device: str) -> dict[str, str]:
    """One continuation of --sample-prompt; always from the same seed, so that what changes is the model.

    The model is written to a hidden folder and loaded from there: it takes as much memory once more.
    """
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=work) as root:
        (path := Path(root) / "model").mkdir()
        folder = write_model(path, model, start, "float32", {"source": "a training that goes on"})
        ids = folder.encode_prompt(plain_text(options.sample_prompt))[-folder.config.n_positions + 1 :]
        sampling = Sampling(
            max_new_tokens=options.sample_length, temperature=TEMPERATURE, top_k=TOP_K, seed=options.seed
        )
        engine = LocalEngine(Path(root), device, "float32", threads, max_rows=1, prefix_memory=0).start(folder)
        try:
            request = Request(folder, sampling)
            run = engine.submit(request, request.new_log(ids))
            run.wait_until_done()
        finally:
            engine.close()
            torch.set_num_threads(threads)
        sample = run.samples[0]
        text = folder.tokenizer.vocabulary.bytes_of(sample.read()["id"].tolist())[: sample.text_end]
    return {
        "prompt": options.sample_prompt,
        "text": text.decode("utf-8", "replace"),
        "finish_reason": sample.finish_reason or "",
    }
