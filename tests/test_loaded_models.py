"""Several models in memory at once: loading goes on beside the writing, and who was used last makes room last."""

import gc
import shutil
import threading
import weakref

import pytest
import torch
from conftest import finished, make_model
from engines import running, stop, until_written
from waiting import until

import generate.scheduling.loaded_models
from generate import Refusal, find_model
from generate.scheduling.loaded_models import SPARE, LoadedModels, size_of
from generate.scheduling.memory import free_in_group, loading_bytes, model_bytes

LONG = 4096


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, models):
    """A models folder of four small ones."""
    root = tmp_path_factory.mktemp("four")
    for name in ("tiny", "other"):
        shutil.copytree(models / name, root / name)
    make_model(root / "third", seed=8)
    make_model(root / "big", seed=9, n_embd=64, n_layer=4)
    return root


@pytest.fixture
def room(shelf):
    """A writer over the four; `tiny` is in memory."""
    with running(shelf) as writer:
        yield writer


class Memory:
    """So many bytes, of which each model in memory takes what was counted for it; `others` take the rest."""

    def __init__(self, writer, total):
        self.writer, self.total, self.asked = writer, total, 0

    def __call__(self, device) -> int:
        self.asked += 1
        residents = self.writer.loaded_models.all.values()
        return self.total - sum(map(size_of, residents))


def size(shelf, *names) -> int:
    """What it takes to load the last of these models while the others are in memory."""
    *there, last = (find_model(shelf, name) for name in names)
    return sum(model_bytes(folder.config, "float32") for folder in there) + loading_bytes(last, "float32")


def test_models_stay_in_memory_side_by_side_and_write_at_the_same_time(room):
    runs = [room.submit(model=name, max_new_tokens=LONG) for name in ("tiny", "other", "third")]
    for run in runs:
        until_written(run, 3)
    assert set(room.engine.loaded) == {"tiny", "other", "third"}
    assert [run.fingerprint for run in runs] == [
        find_model(room.engine.models, name).fingerprint() for name in ("tiny", "other", "third")
    ]
    stop(room, *runs)


def test_who_writes_goes_on_while_another_model_is_loaded(room, monkeypatch):
    """The load takes as long as the test wants, and the running one writes fifty tokens meanwhile."""
    go_on, real = threading.Event(), LoadedModels.load
    monkeypatch.setattr(LoadedModels, "load", lambda self, folder: go_on.wait(60) and real(self, folder))
    try:
        base = room.submit(max_new_tokens=LONG)
        until_written(base, 3)
        run = room.submit(model="other", max_new_tokens=5)
        until(lambda: run.state == "loading", what="loading")
        until_written(base, len(base.samples[0]) + 50)
        assert room.write(max_new_tokens=3).done
        assert run.state == "loading"
        assert room.engine.loaded == ["tiny"]
    finally:
        go_on.set()
    assert finished(run).samples[0].finish_reason == "length"
    stop(room, base)


def test_a_run_that_is_cancelled_while_its_model_is_loaded_ends_at_once(room, monkeypatch):
    go_on, real = threading.Event(), LoadedModels.load
    monkeypatch.setattr(LoadedModels, "load", lambda self, folder: go_on.wait(60) and real(self, folder))
    try:
        run = room.submit(model="other", max_new_tokens=5)
        until(lambda: run.state == "loading", what="loading")
        stop(room, run)
        assert run.samples[0].finish_reason == "cancelled"
    finally:
        go_on.set()


def test_a_model_whose_loading_fails_ends_only_the_runs_that_wait_for_it(room, monkeypatch):
    base = room.submit(max_new_tokens=LONG)
    real = LoadedModels.load

    def load(self, folder):
        if folder.name == "other":
            raise OSError("the disk is gone")
        return real(self, folder)

    monkeypatch.setattr(LoadedModels, "load", load)
    bad = [room.submit(model="other") for _ in range(2)]
    good = room.submit(model="third", max_new_tokens=5)
    for run in bad:
        assert finished(run).samples[0].finish_reason == "error"
        assert "the disk is gone" in str(run.samples[0].error)
    assert finished(good).samples[0].finish_reason == "length"
    until_written(base, len(base.samples[0]) + 3)
    monkeypatch.undo()
    assert room.write(model="other", max_new_tokens=3).done  # and it is tried again for whoever asks again
    stop(room, base)


def test_the_model_used_least_recently_makes_room(room, monkeypatch):
    for name in ("other", "third", "tiny"):
        room.write(model=name, max_new_tokens=1)
    assert room.engine.loaded == ["tiny", "third", "other"]
    memory = Memory(room, size(room.engine.models, "tiny", "third", "big") + SPARE)
    monkeypatch.setattr(generate.scheduling.loaded_models, "free_bytes", memory)
    room.write(model="big", max_new_tokens=1)
    assert room.engine.loaded == ["big", "tiny", "third"]
    assert memory.asked


def test_a_model_that_writes_never_makes_room(room, monkeypatch):
    room.write(model="other", max_new_tokens=1)
    base = room.submit(max_new_tokens=LONG)
    until_written(base, 1)
    monkeypatch.setattr(
        generate.scheduling.loaded_models, "free_bytes", Memory(room, size(room.engine.models, "tiny", "third") + SPARE)
    )
    room.write(model="third", max_new_tokens=1)
    assert set(room.engine.loaded) == {"tiny", "third"}
    assert not base.done
    stop(room, base)


def test_a_model_that_can_never_fit_is_refused_with_both_sizes(room, monkeypatch):
    monkeypatch.setattr(generate.scheduling.loaded_models, "free_bytes", lambda device: 200_000_000)
    run = finished(room.submit(model="big"))
    assert run.samples[0].finish_reason == "error"
    assert "The model big needs 0.3 GB of memory and 0.2 GB are free." in str(run.samples[0].error)
    monkeypatch.undo()
    assert room.write(max_new_tokens=3).done


def test_a_model_that_can_never_fit_drives_out_nobody(room, monkeypatch):
    """Else anybody who asks for it empties the memory for all the others."""
    room.write(model="other", max_new_tokens=1)
    monkeypatch.setattr(
        generate.scheduling.loaded_models, "free_bytes", Memory(room, size(room.engine.models, "tiny", "other") + 9)
    )
    finished(room.submit(model="big"))
    assert set(room.engine.loaded) == {"tiny", "other"}


def test_a_run_that_waits_for_memory_is_not_passed_for_ever_by_runs_of_the_loaded_model(room, monkeypatch):
    """Somebody always has a run of `tiny` to send; the one for `other` comes in when the first of them is through."""
    base = room.submit(max_new_tokens=1500, owner="ada")
    until_written(base, 1)
    memory = Memory(room, size(room.engine.models, "tiny") + SPARE)
    monkeypatch.setattr(generate.scheduling.loaded_models, "free_bytes", memory)
    run = room.submit(model="other", max_new_tokens=5, owner="ben")
    until(lambda: memory.asked, what="a look for memory")
    later = [room.submit(max_new_tokens=20, owner=owner) for owner in ("cleo", "dan", "eve")]
    assert finished(run).samples[0].finish_reason == "length"
    assert base.samples[0].finish_reason == "length"  # nobody who wrote was disturbed
    for one in later:
        assert finished(one).samples[0].finish_reason == "length"


def test_a_run_that_waits_for_memory_and_is_cancelled_blocks_nobody(room, monkeypatch):
    base = room.submit(max_new_tokens=LONG, owner="ada")
    until_written(base, 1)
    memory = Memory(room, size(room.engine.models, "tiny") + SPARE)
    monkeypatch.setattr(generate.scheduling.loaded_models, "free_bytes", memory)
    run = room.submit(model="other", owner="ben")
    until(lambda: memory.asked, what="a look for memory")
    later = room.submit(max_new_tokens=5, owner="cleo")
    stop(room, run)
    assert finished(later).samples[0].finish_reason == "length"
    stop(room, base)


def test_what_auto_loads_to_measure_is_counted_too(shelf):
    """It holds the float32 model while it loads the next precision: that is the most there ever is at a time."""
    folder = find_model(shelf, "big")
    residents = LoadedModels(torch.device("cpu"), "auto", None, None)
    needed = model_bytes(folder.config, "float32") + loading_bytes(folder, "bfloat16")
    assert needed > loading_bytes(folder, "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate.scheduling.loaded_models, "free_bytes", lambda device: needed + SPARE - 1)
        with pytest.raises(Refusal):
            residents.start_loading(folder, set())


def test_a_model_that_goes_frees_its_memory_at_once(models):
    """Nothing in a batch holds the batch: else its model would stay until the garbage collector comes by."""
    with running(models) as writer:
        writer.write(max_new_tokens=5)
        loaded = next(iter(writer.loaded_models.all.values()))
        gc.collect()
        gc.disable()
        try:
            gone = weakref.ref(loaded.model), weakref.ref(loaded.batch)
            writer.engine.close()
            writer.loaded_models.drop(loaded)
            assert [one() for one in gone] == [None, None]
        finally:
            gc.enable()


@pytest.mark.parametrize(("limit", "used", "free"), [("max", "5", 1 << 62), ("100", "40", 60), ("100", "140", 0)])
def test_a_control_group_s_limit_counts(tmp_path, limit, used, free):
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(used + "\n")
    assert free_in_group(tmp_path) == free
    assert free_in_group(tmp_path / "none") == 1 << 62
