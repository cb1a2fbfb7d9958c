"""What the tests share: small models made on the spot, an engine, and a rule that CI skips nothing."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["LC_ALL"] = "C.UTF-8"  # English, whoever runs the tests

from waiting import until

from generate import LocalEngine, ModelFolder, Request, find_model, parse_sampling
from hatch_build import compile_catalogues

compile_catalogues(ROOT)  # what `make` does, where pytest is called by itself
MODELS = ROOT / "models"
DEVICE = os.environ.get("RUBRIC_TEST_DEVICE", "cpu")  # of the engines that tests start; `python -m bench.gpu` sets it
TRICKY = "Once <|endoftext|> upon  a time\tthere\n\nwas 从前有一只狐狸 and a 🦊👨‍👩‍👧 said “I'm”. <script>alert(1)</script> & é\r\n  end "

pytest_plugins = ["rounds", "workshops"]  # fixtures of the tests in which several servers share a database, and of jobs

# The same inputs in every run, however slow the machine is: whoever looks for new ones says `--hypothesis-profile new`.
hypothesis.settings.register_profile("new", deadline=None)
hypothesis.settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("same")

ON_BOTH_DATABASES = {  # they store, read and delete
    *("test_runs", "test_sheets", "test_drafts", "test_my_runs", "test_my_sheets", "test_fork", "test_samples"),
    *(
        "test_api_keys",
        "test_backup",
        "test_disk",
        "test_adoption",
        "test_followers",
        "test_removal",
        "test_migrations",
        "test_presses",
        "test_nasty_values",
        "test_taken_down",
        "test_blocked",
        "test_reports",
    ),
}

ON_BOTH_SOON = {"test_migrations", "test_presses", "test_removal"}  # on both kinds also in `make test`

# Tried through a second Rubric as the engine, too.
ABOUT_RUNS = {
    *("test_runs", "test_sheets", "test_samples", "test_fork", "test_tokens", "test_scored", "test_suggestions"),
    *("test_replay", "test_comparison", "test_followers", "test_kept", "test_special_tokens", "test_presses"),
}
# Of Capabilities. `needs` marks what asks for others, and for what no capability tells: of a long prompt with something
# kept in mind the kept part is not scored.
HAD_BY_REMOTES = {"resumes_exactly", "scores_prompt", "samplers"}
# What takes a process or a training: fixtures, and what a test calls itself. `make test-fast` leaves such tests out.
WHOLE = {
    *("browser", "workshop", "postgresql", "server", "mortal", "servers"),
    *("front", "impatient", "narrow", "command", "bench"),
}
CALLS = {"subprocess", "serving", "Server", "Bench"}
running: list[pytest.Item] = []  # the test that runs


def called(code) -> set[str]:
    """The names that a function uses, with those of the functions inside it."""
    inner = (called(const) for const in code.co_consts if hasattr(const, "co_names"))
    return set(code.co_names).union(*inner)


@pytest.hookimpl(tryfirst=True)  # before marks are looked at
def pytest_collection_modifyitems(config, items):
    """What asks little of the database is tried on one of the two kinds, and most on the second in the long tier alone; what
    starts a process or trains is marked."""
    for item in items:
        if "[postgresql" in item.name and item.module.__name__ not in ON_BOTH_SOON:
            item.add_marker("long")
        if "[postgresql" in item.name or WHOLE & set(item.fixturenames) or CALLS & called(item.function.__code__):
            item.add_marker("whole")
    spared = {i for i in items if "[postgresql" in i.name and i.module.__name__ not in ON_BOTH_DATABASES}
    spared |= {i for i in items if "[remote" in i.name and not is_for_remotes(i)}
    items[:] = [item for item in items if item not in spared]
    config.hook.pytest_deselected(items=list(spared))


def is_for_remotes(item: pytest.Item) -> bool:
    """Whether it asks of runs, and for nothing that an engine behind an address lacks; nor looks into the session's own."""
    lacking = {name for mark in item.iter_markers("needs") for name in mark.args} - HAD_BY_REMOTES
    code = item.function.__code__
    return item.module.__name__ in ABOUT_RUNS and not lacking and "writer" not in code.co_varnames[: code.co_argcount]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    running[:] = [item]


def only_marked_ones_start_python(event, given):
    """Lest one that starts a server, or imports torch once more, slips into `make test-fast`."""
    if event == "subprocess.Popen" and running and given[0] == sys.executable:
        left_out = any(running[0].get_closest_marker(name) for name in ("whole", "long", "soak"))
        assert left_out, f"{running[0].nodeid} starts Python; mark it `whole`"


sys.addaudithook(only_marked_ones_start_python)


def pytest_make_parametrize_id(val, argname):
    """Bytes, and strings that are long or odd, do not name a test: all workers must collect the same names."""
    plain = isinstance(val, str) and len(val) <= 60 and val.isascii() and val.isprintable()
    return argname if isinstance(val, str | bytes) and not plain else None


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.getplugin("terminalreporter")  # a worker of pytest-xdist has none
    skipped = reporter.stats.get("skipped", []) if reporter else []
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
    with torch.no_grad():  # the end token's logit stays below -30, so that runs are as long as a test wants
        model.transformer.ln_f.weight.fill_(0.3)
        model.transformer.ln_f.bias[0] = 5
        model.transformer.wte.weight[0] = 0
        model.transformer.wte.weight[0, 0] = -10
    model.save_pretrained(folder)
    return folder


def edit_json(file: Path, **changes) -> None:
    """Change some keys of a JSON file; None removes a key."""
    value = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Iterator[Path]:
    """A models folder with the storyteller, `tiny` (window of 64 tokens), `other`, and `slow`, made to be interrupted."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(MODELS / "storyteller", root / "storyteller")
    make_model(root / "tiny", seed=1)
    make_model(root / "other", seed=2)
    make_model(root / "slow", seed=3, n_embd=640, n_layer=8, n_head=8, n_positions=512)
    yield root
    measured = [name for name in ("tiny", "other", "slow") if (root / name / "rubric.json").exists()]
    assert not measured, "a test measured the shared models: give it a RUBRIC_PRECISION"


@pytest.fixture(scope="session")
def tiny(models) -> ModelFolder:
    return find_model(models, "tiny")


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """The folder of a small model, called tiny, which nobody may change."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny", seed=1)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    """models/broken, a copy to break; models/good is beside it."""
    shutil.copytree(model, tmp_path / "models" / "good")
    return shutil.copytree(model, tmp_path / "models" / "broken")


@pytest.fixture
def bench(tmp_path, model):
    """A folder with a text, in which `model` is trained; see tuning.py."""
    from tuning import Bench

    return Bench(tmp_path, model)


class Writer:
    """An engine with the small conveniences that tests want."""

    def __init__(self, engine: LocalEngine):
        self.engine = engine

    def submit(
        self, text="Once upon a time", model="tiny", ids=None, first_sample=0, owner="", yields=False, **options
    ):
        folder = find_model(self.engine.models, model)
        options = {"seed": 1, "max_new_tokens": 20, "top_k": 0, "temperature": 1} | options
        request = Request(folder, parse_sampling(options), first_sample, owner, yields=yields)
        return self.engine.submit(request, request.new_log(folder.encode_prompt(text) if ids is None else ids))

    @property
    def loaded_models(self):
        """What tests of the engine look into: the models in its memory, and their batches."""
        return self.engine._loaded_models

    def batch(self, model="tiny"):
        """The running batch of a model that is in memory."""
        return next(r.batch for r in self.loaded_models.all.values() if r.folder.name == model)

    def write(self, *args, **options):
        run = finished(self.submit(*args, **options))
        assert not any(sample.error for sample in run.samples), run.samples[0].error
        return run

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


def started(engine: LocalEngine, seconds=200) -> LocalEngine:
    until(lambda: engine.ready() is None, seconds, engine.ready)
    return engine


@pytest.fixture(scope="session")
def writer(models) -> Writer:
    """One float32 engine for the whole session."""
    engine = LocalEngine(models, device=DEVICE, precision="float32").start("tiny")
    started(engine)
    yield Writer(engine)
    engine.close()


@pytest.fixture(scope="session")
def plain(models, writer) -> Writer:
    """An engine that computes step by step, with no graphs and nothing begun early: on a CPU every one."""
    if DEVICE == "cpu":
        yield writer
        return
    from engines import running

    with running(models) as stepwise:
        batch = stepwise.batch()
        batch.graphs, batch.look_ahead = None, False
        yield stepwise


@pytest.fixture(scope="session")
def forgetful(models) -> Writer:
    """An engine that remembers nothing, so that every prompt is read from its beginning."""
    from engines import running

    with running(models, prefix_memory=0) as writer:
        yield writer


@pytest.fixture(scope="session")
def postgresql():
    """The address of an empty PostgreSQL database."""
    import postgres

    if not postgres.postgres_programs():
        pytest.fail(
            "PostgreSQL is missing: install it for the tests (on Debian: apt install postgresql).", pytrace=False
        )
    with postgres.postgresql() as address:
        yield address


@pytest.fixture(scope="session")
def behind_an_address(models, writer, tmp_path_factory):
    """An engine that asks a second Rubric, whose engine is the session's."""
    from remotes import Upstream, remote

    server = Upstream(models, tmp_path_factory.mktemp("upstream"), writer.engine)
    engine = remote(models, server)
    started(engine)
    yield engine
    engine.close()
    server.stop()


@pytest.fixture(scope="session", params=["sqlite", "postgresql", pytest.param("remote", marks=pytest.mark.long)])
def app(models, writer, tmp_path_factory, request):
    """The page over the session's engine, with a database of its own, of both kinds in turn; or over a second Rubric that
    has that engine."""
    from flask_migrate import upgrade

    from generate import read_settings
    from webapp import create_app
    from webapp.runs.tables import db

    instance = tmp_path_factory.mktemp("instance")
    engine = request.getfixturevalue("behind_an_address") if request.param == "remote" else writer.engine
    settings = read_settings(
        {
            "RUBRIC_MODELS": str(models),
            "RUBRIC_MODEL": "tiny",
            "RUBRIC_INSTANCE": str(instance),
            "DATABASE_URL": request.getfixturevalue("postgresql") if request.param == "postgresql" else "",
            "RUBRIC_RATE_LIMIT": "100000 per minute",
            "RUBRIC_MAX_PROMPT": "20000",
            "RUBRIC_MAX_STREAMS": "20",
        }
    )
    app = create_app(settings, engine)
    with app.app_context():
        upgrade()
    state = app.extensions["rubric"]
    state.start()
    yield app
    for run_id in state.registry.entries():
        state.service.cancel(run_id)
    state.scheduler.engine = None  # it is the session's, and goes on
    state.close()
    with app.app_context():
        db.engine.dispose()


class Visitor:
    """One browser's worth of cookies, and the few things a visitor does."""

    def __init__(self, app):
        self.client = app.test_client()
        self.get = partial(self.client.get, buffered=True)  # reads and closes, as a server does
        self.post = partial(self.client.post, buffered=True)

    def start(self, prompt="Once upon a time", **fields) -> str:
        """Start a run; returns its address."""
        fields = {"prompt": prompt, "model": "tiny", "max_new_tokens": 20, "seed": 1} | fields
        answer = self.post("/runs", data=fields)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def events(self, run: str, **headers) -> list[dict]:
        """All events of a run until it is over: event, id, data."""
        return parse_events(self.get(f"{run}/events", headers=headers).text)

    def json(self, run: str) -> dict:
        return self.get(f"{run}.json").get_json()

    def finish(self, run: str) -> dict:
        self.events(run)
        return self.json(run)


def parse_events(text: str) -> list[dict]:
    blocks = [block for block in text.split("\n\n") if block]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def text_of(html: str, target: str = "#sample-0") -> str:
    """The text that htmx would append to `target` from an event's data."""
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        inside, text = False, ""

        def handle_starttag(self, tag, attrs):
            if tag == "hx-partial":
                self.inside = dict(attrs)["hx-target"] == target

        def handle_data(self, data):
            self.text += data if self.inside else ""

    reader = Reader()
    reader.feed(html)
    return reader.text


def taken_in(text: str, event: dict) -> str:
    """The text of a page's first sample once it has taken in one more event."""
    if "id" not in event or 'hx-target="#sample-0"' not in event["data"]:
        return text
    anew = 'hx-target="#sample-0" hx-swap="innerHTML"' in event["data"]
    return ("" if anew else text) + text_of(event["data"])


def pictured(text):
    """Control characters as the page shows them; HTML itself would drop or hide them."""
    return text.translate({c: 0x2400 + c for c in range(32) if c not in (9, 10, 13)} | {127: 0x2421})


def in_editor(text):
    """A text as a sheet's editor shows it: a picture stands for each control, also for one that a model's line ends with."""
    return pictured(text).replace("\r", "␍")


@pytest.fixture
def visitor(app) -> Visitor:
    return Visitor(app)


@pytest.fixture
def friend(app) -> Visitor:
    """Somebody else, with other cookies."""
    return Visitor(app)


@pytest.fixture(scope="session")
def server(models, tmp_path_factory):
    """One gunicorn for all tests that nobody else disturbs; whoever kills or configures a server has one of their own."""
    from browser import serving

    with serving(tmp_path_factory.mktemp("server"), models, RUBRIC_MODEL="tiny") as server:
        yield server


@pytest.fixture(scope="module")
def mortal(models, tmp_path_factory):
    """One for the tests of a file that kill it, or signal it; whichever does starts it again. Its model is slow."""
    from browser import serving

    with serving(tmp_path_factory.mktemp("mortal"), models, RUBRIC_MODEL="slow") as server:
        yield server


@pytest.fixture
def window(browser, server, request):
    """A window of the session's server; a test may set its options, as `viewport`."""
    from browser import opened

    with opened(browser, server, **getattr(request, "param", {})) as window:
        yield window


@pytest.fixture(scope="module")
def ports():
    """Those of proxies, which take turns: PUBLIC_URL names one address."""
    from browser import free_port

    return {"plain": free_port(), "tls": free_port()}


@pytest.fixture(scope="session")
def browser():
    from browser import chromium, chromium_path

    if not chromium_path():
        pytest.fail(
            "Chromium is missing: install it for the browser tests (on Debian: apt install chromium).", pytrace=False
        )
    with chromium() as browser:
        yield browser
