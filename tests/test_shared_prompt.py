"""Four samples and more of a long prompt read its keys and values from one place, and write what each would alone."""

import pytest
import torch
from conftest import finished
from engines import ids_of, running, stop, until_written, watch
from transformers import GPT2LMHeadModel
from waiting import until

PROMPT = "Once upon a time there was a king who had seven sons, and he was fond of them. " * 5  # some 110 tokens


@pytest.fixture(scope="module")
def sharing(models):
    with running(models, "storyteller", max_rows=8, prefix_memory=0) as writer:
        yield writer


def each_alone(writer, **wish) -> list[list[int]]:
    count = wish.pop("samples")
    return [writer.ids(first_sample=number, **wish)[0] for number in range(count)]


def test_the_prompt_is_kept_once(sharing):
    batch, seen = sharing.batch("storyteller"), []

    def look(batch):
        slots = batch.cache.slots
        seen.append([(id(slot.shared), slot.shared.length, slot.length) for slot in slots])

    watch(batch, look)
    run = finished(sharing.submit(PROMPT, "storyteller", samples=6, max_new_tokens=10))
    del batch.step
    slots = seen[-1]
    assert len(slots) == 6
    assert len({prompt for prompt, *_ in slots}) == 1
    assert slots[0][1] == len(run.prompt) > 64
    assert all(length < 64 for *_, length in slots)  # their own part lies in the shortest bucket


@pytest.mark.parametrize(("text", "samples"), [(PROMPT, 3), ("Once upon a time", 6)])
def test_few_samples_or_a_short_prompt_are_copied(sharing, text, samples):
    batch, seen = sharing.batch("storyteller"), []
    watch(batch, lambda batch: seen.append([slot.shared for slot in batch.cache.slots]))
    sharing.write(text, "storyteller", samples=samples, max_new_tokens=10)
    del batch.step
    assert seen[-1] == [None] * samples


@pytest.mark.parametrize(
    "options",
    [{"temperature": 1}, {"top_k": 40, "temperature": 0.8}, {"repetition_penalty": 1.3, "top_p": 0.9}],
    ids=["plain", "top_k", "penalty"],
)
def test_each_sample_is_what_it_is_alone(sharing, options):
    wish = {"text": PROMPT, "model": "storyteller", "samples": 4, "max_new_tokens": 30, "seed": 2} | options
    assert sharing.ids(**wish) == each_alone(sharing, **wish)


def test_also_when_some_end_early(sharing):
    """A stop string that most samples come upon sooner or later."""
    wish = {"text": PROMPT, "model": "storyteller", "samples": 6, "max_new_tokens": 60, "stop": ["."], "seed": 3}
    found = sharing.ids(**wish)
    assert len({len(ids) for ids in found}) > 3
    assert found == each_alone(sharing, **wish)


def test_also_when_more_samples_than_rows_take_turns(sharing):
    wish = {"text": PROMPT, "model": "storyteller", "samples": 10, "max_new_tokens": 6, "seed": 4}
    assert sharing.ids(**wish) == each_alone(sharing, **wish)


@pytest.mark.long
def test_also_across_a_restart_of_the_window(sharing):
    """A prompt of some 500 tokens fills the window of 512, so that all samples restart theirs on the way."""
    wish = {"text": PROMPT * 5, "model": "storyteller", "samples": 4, "max_new_tokens": 30, "seed": 5}
    run = sharing.write(**wish)
    assert 64 < len(run.prompt) < 512 < len(run.prompt) + 30
    assert ids_of(run) == each_alone(sharing, **wish)


def test_also_beside_strangers_who_come_and_go(sharing):
    wish = {"text": PROMPT, "model": "storyteller", "samples": 4, "max_new_tokens": 30, "seed": 6}
    alone = each_alone(sharing, **wish)
    stranger = sharing.submit("The fox", "storyteller", max_new_tokens=4096)
    until_written(stranger, 3)
    run = sharing.submit(**wish)
    until_written(run, 5)
    stop(sharing, stranger)
    another = sharing.submit(PROMPT[9:], "storyteller", samples=4, max_new_tokens=30, seed=7)
    assert ids_of(finished(run)) == alone
    finished(another)


def test_two_runs_share_each_its_own_prompt(sharing):
    wishes = [
        {"text": text, "model": "storyteller", "samples": 4, "max_new_tokens": 15} for text in (PROMPT, PROMPT[9:])
    ]
    runs = [sharing.submit(**wish) for wish in wishes]
    for run, wish in zip(runs, wishes, strict=True):
        assert ids_of(finished(run)) == each_alone(sharing, **wish)


def test_a_shared_prompt_and_rows_are_given_back_when_the_run_ends(sharing):
    sharing.write(PROMPT, "storyteller", samples=5, max_new_tokens=3)
    batch = sharing.batch("storyteller")
    until(lambda: not batch.busy and not batch.prefills, what="rest")
    assert batch.cache.slots == []


def test_logprobs_agree_with_transformers_within_1e_4(sharing, models):
    run = sharing.write(PROMPT, "storyteller", samples=5, max_new_tokens=30)
    model = GPT2LMHeadModel.from_pretrained(models / "storyteller", dtype=torch.float32).eval()
    prompt = run.prompt["id"].tolist()
    for sample in run.samples:
        written = sample.read()
        ids = torch.tensor([[*prompt, *written["id"].tolist()]])
        with torch.inference_mode():
            right = model(ids).logits[0].double().log_softmax(-1)[len(prompt) - 1 : -1]
        expected = right.gather(1, ids[0, len(prompt) :, None])[:, 0]
        assert written["logprob"] == pytest.approx(expected.numpy(), abs=1e-4)


def test_a_continuation_of_a_sample_that_shared_its_prompt_goes_on_as_it_would_have(models):
    """What such a sample wrote is remembered together with its prompt."""
    with running(models, "storyteller", prefix_memory=16) as writer:
        long = writer.write(PROMPT, "storyteller", samples=4, max_new_tokens=30, seed=8)
        short = writer.write(PROMPT, "storyteller", samples=4, max_new_tokens=15, seed=8)
        for number in range(4):
            ids = [*short.prompt["id"].tolist(), *ids_of(short)[number]]
            rest = writer.ids(ids=ids, model="storyteller", first_sample=number, max_new_tokens=15, seed=8)[0]
            assert ids_of(short)[number] + rest == ids_of(long)[number]


@pytest.mark.long
def test_bfloat16_is_hardly_less_exact_for_sharing(models):
    """The two parts of an attention are joined by the logarithm of a sum, which has few digits in bfloat16."""
    gaps = {}
    model = GPT2LMHeadModel.from_pretrained(models / "storyteller", dtype=torch.float32).eval()
    with running(models, "storyteller", precision="bfloat16", prefix_memory=0) as writer:
        for samples in (3, 5):
            run = writer.write(PROMPT, "storyteller", samples=samples, max_new_tokens=50, seed=9)
            prompt = run.prompt["id"].tolist()
            found = []
            for sample in run.samples[:3]:
                written = sample.read()
                ids = torch.tensor([[*prompt, *written["id"].tolist()]])
                with torch.inference_mode():
                    right = model(ids).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
                found.append(abs(written["logprob"] - right.gather(1, ids[0, len(prompt) :, None])[:, 0].numpy()))
            gaps[samples] = float(sum(part.mean() for part in found) / 3)
    assert gaps[5] < 2 * gaps[3], gaps
