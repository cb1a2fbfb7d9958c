"""What the tests share: small models made on the spot, an engine, and a rule that CI skips nothing."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ["HF_HUB_OFFLINE"] = "1"

from generate import Engine, Request, find_model, parse_sampling

MODELS = ROOT / "models"
TRICKY = "Once <|endoftext|> upon  a time\tthere\n\nwas 从前有一只狐狸 and a 🦊👨‍👩‍👧 said “I'm”. <script>alert(1)</script> & é\r\n  end "


def pytest_sessionfinish(session, exitstatus):
    skipped = session.config.pluginmanager.getplugin("terminalreporter").stats.get("skipped", [])
    if os.environ.get("CI") and skipped and exitstatus == 0:
        print(f"\n{len(skipped)} skipped, and in CI nothing may be skipped")
        session.exitstatus = 1


def make_model(folder: Path, seed: int = 0, **sizes) -> Path:
    """Write a seeded random GPT-2 with a byte-level BPE trained on a few sentences; returns the folder."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel

    folder.mkdir(parents=True)
    tokenizer = ByteLevelBPETokenizer()
    texts = ["the old king said to the young fox that the sea was far away", "从前有一只狐狸", "one two three"] * 3
    tokenizer.train_from_iterator(texts, vocab_size=300, min_frequency=2, special_tokens=["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    shape = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4} | sizes
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0, initializer_range=0.2))
    model.save_pretrained(folder)
    return folder


def edit_json(file: Path, **changes) -> None:
    """Change some keys of a JSON file; None removes a key."""
    value = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A models folder with the storyteller, `tiny` (window of 64 tokens) and `other`."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(MODELS / "storyteller", root / "storyteller")
    make_model(root / "tiny", seed=1)
    make_model(root / "other", seed=2)
    return root


class Writer:
    """An engine with the small conveniences that tests want."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def submit(self, text="Once upon a time", model="tiny", ids=None, first_sample=0, **options):
        folder = find_model(self.engine.models, model)
        options = {"seed": 1, "max_new_tokens": 20, "top_k": 0, "temperature": 1} | options
        ids = tuple(folder.encode_prompt(text) if ids is None else ids)
        return self.engine.submit(Request(model, ids, parse_sampling(options), first_sample))

    def write(self, *args, **options):
        return finished(self.submit(*args, **options))

    def ids(self, *args, **options) -> list[list[int]]:
        return [sample.read()["id"].tolist() for sample in self.write(*args, **options).samples]

    def text(self, run, model="tiny", sample=0) -> str:
        """The visible text of a finished sample."""
        vocabulary = find_model(self.engine.models, model).tokenizer.vocabulary
        end = run.samples[sample].text_end
        return vocabulary.bytes_of(run.samples[sample].read()["id"])[:end].decode("utf-8", "replace")


def finished(run, seconds=60):
    """Wait until a run is done."""
    deadline, version = time.time() + seconds, 0
    while not run.done:
        assert time.time() < deadline, f"still {run.state} after {seconds} s"
        version = run.wait(version, 1)
    return run


def started(engine: Engine, seconds=60) -> Engine:
    deadline = time.time() + seconds
    while (problem := engine.ready()) is not None:
        assert time.time() < deadline, problem
        time.sleep(0.01)
    return engine


@pytest.fixture(scope="session")
def writer(models) -> Writer:
    """One float32 engine on the CPU for the whole session."""
    engine = Engine(models, device="cpu", precision="float32").start("tiny")
    started(engine)
    yield Writer(engine)
    engine.close()
