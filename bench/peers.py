"""The peers that come as Python packages: Hugging Face `generate`, and CTranslate2.

Both get the weights, prompts and sampling (top_k 40, temperature 0.9) that ours gets, and as many threads. Both sample a
batch with one set of options and one generator, and report nothing but ids.

CTranslate2 brings an OpenMP of its own (a libgomp beside torch's, in ctranslate2.libs), which reads OMP_WAIT_POLICY and
GOMP_SPINCOUNT from the environment when it is loaded; they are set by then. On a CPU that is not Intel's it picks AVX2
where AVX-512 is there and measured 3 to 10 % faster, so it is told to take that; CT2_FORCE_CPU_ISA in the environment
decides otherwise. Its bfloat16 exists where its backend has it; on AMD it refuses, which is printed.
"""

import contextlib
import io
import itertools
import json
import os
import time
from pathlib import Path

import generate  # noqa: F401  (first: it tells OpenMP to wait passively before torch is imported)
from bench.measure import Failed, Timing, median, require_units
from bench.shapes import SAMPLING


class HuggingFace:
    """`generate` of transformers with its defaults (a cache that grows, torch's fused attention)."""

    def __init__(self, precision: str, threads: int, device: str = "cpu"):
        import torch
        import transformers

        if device == "cpu":
            require_units(precision)
        torch.set_num_threads(threads)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.precision, self.device = getattr(torch, precision), device

    def load(self, path: Path) -> None:
        from transformers import GPT2LMHeadModel

        self.model = None
        self.model = GPT2LMHeadModel.from_pretrained(path, dtype=self.precision).to(self.device).eval()

    def turn(self, prompts: list[list[int]], new: int) -> Timing:
        """One call of generate; each token is stamped when the loop asks whether to stop."""
        import torch

        ids = torch.tensor(prompts, device=self.device)
        stamps, going_on = [], torch.zeros(len(prompts), dtype=torch.bool, device=self.device)

        def stamp(*_, **__):
            stamps.append(time.perf_counter())
            return going_on

        with torch.inference_mode():
            begun = time.perf_counter()
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                **SAMPLING,
                max_new_tokens=new,
                pad_token_id=0,
                stopping_criteria=[stamp],
            )
            whole = time.perf_counter() - begun
        check([len(row) - ids.shape[1] for row in out], new)
        gaps = [b - a for a, b in itertools.pairwise(stamps)]
        return Timing(stamps[0] - begun, whole, median(gaps) if gaps else 0)


class CTranslate2:
    """A converted model in CTranslate2's generator. A step is (time of N tokens - time of 1) / (N - 1)."""

    def __init__(self, precision: str, threads: int):
        if "avx512_vnni" in Path("/proc/cpuinfo").read_text():
            os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")
        import ctranslate2

        if precision not in ctranslate2.get_supported_compute_types("cpu"):
            raise Failed(f"it has no {precision} for this CPU")
        self.precision, self.threads = precision, threads

    def load(self, path: Path) -> None:
        import ctranslate2

        self.generator = None
        options = {"compute_type": self.precision, "inter_threads": 1, "intra_threads": self.threads}
        self.generator = ctranslate2.Generator(str(path), device="cpu", **options)
        self.tokens = json.loads((path / "vocabulary.json").read_text())

    def turn(self, prompts: list[list[int]], new: int) -> Timing:
        words = [[self.tokens[i] for i in ids] for ids in prompts]
        first = self.some(words, 1)
        whole = self.some(words, new) if new > 1 else first
        return Timing(first, whole, (whole - first) / max(1, new - 1))

    def some(self, words: list[list[str]], new: int) -> float:
        """Median seconds of as many calls as a fifth of a second holds: differences of short times blur."""
        times = []
        while sum(times) < 0.2:
            times.append(self.write(words, new))
        return median(times)

    def write(self, words: list[list[str]], new: int) -> float:
        begun = time.perf_counter()
        results = self.generator.generate_batch(
            words,
            min_length=new,
            max_length=new,
            include_prompt_in_result=False,  # else it reads the prompt token by token
            sampling_topk=SAMPLING["top_k"],
            sampling_temperature=SAMPLING["temperature"],
        )
        whole = time.perf_counter() - begun
        check([len(result.sequences_ids[0]) for result in results], new)
        return whole


def convert(source: Path, target: Path, precision: str) -> None:
    """Write CTranslate2's folder."""
    import transformers
    from ctranslate2.converters import TransformersConverter

    transformers.utils.logging.set_verbosity_error()
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        TransformersConverter(str(source)).convert(str(target), quantization=precision)


def check(lengths: list[int], new: int) -> None:
    if set(lengths) != {new}:
        raise RuntimeError(f"{lengths} tokens instead of {new}")
