"""The second opinion: `transformers`' own GPT-2 on the same weights."""

import numpy as np
import pytest
import torch
from conftest import DEVICE, TRICKY, Writer, make_model, started
from transformers import GPT2LMHeadModel, GPT2TokenizerFast, LogitsProcessorList
from transformers import RepetitionPenaltyLogitsProcessor as Penalty
from transformers import TemperatureLogitsWarper as Temperature
from transformers import TopKLogitsWarper as TopK
from transformers import TopPLogitsWarper as TopP

from generate import LocalEngine, find_model

PROMPTS = ["Once upon a time", "The fox", TRICKY, "从前", "a", "\n\n"]


@pytest.fixture(scope="module")
def reference(models):
    loaded = {}

    def get(name):
        if name not in loaded:
            loaded[name] = GPT2LMHeadModel.from_pretrained(models / name, dtype=torch.float32).eval()
        return loaded[name]

    return get


def greedy(model, ids, count):
    with torch.inference_mode():
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
            temperature=None,
            top_k=None,
            min_p=None,
            repetition_penalty=1.0,
        )
    return out[0, len(ids) :].tolist()


@pytest.mark.long
@pytest.mark.parametrize("model", ["storyteller", "tiny", "other"])
def test_greedy_text_equals_transformers_generate(writer, models, reference, model):
    folder = find_model(models, model)
    for prompt in PROMPTS:
        ids = folder.encode_prompt(prompt)
        count = min(60, folder.config.n_positions - len(ids)) if model != "storyteller" else 120
        if count > 0:
            assert writer.ids(prompt, model, temperature=0, max_new_tokens=count)[0] == greedy(
                reference(model), ids, count
            )


@pytest.mark.long
def test_greedy_text_equals_transformers_generate_at_the_124m_shape(tmp_path):
    make_model(tmp_path / "big", seed=3, vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12)
    model = GPT2LMHeadModel.from_pretrained(tmp_path / "big").eval()
    engine = started(LocalEngine(tmp_path, device=DEVICE, precision="float32").start("big"))
    try:
        got = Writer(engine).ids("the old king", "big", temperature=0, max_new_tokens=24)[0]
    finally:
        engine.close()
    ids = find_model(tmp_path, "big").encode_prompt("the old king")
    assert got == greedy(model, ids, 24)


def test_prompts_are_tokenised_as_transformers_does_but_the_end_marker_is_plain_text(models):
    theirs = GPT2TokenizerFast.from_pretrained(models / "storyteller", split_special_tokens=True)
    folder = find_model(models, "storyteller")
    for prompt in PROMPTS:
        assert folder.encode_prompt(prompt) == theirs(prompt)["input_ids"]
        assert folder.tokenizer.vocabulary.bytes_of(folder.encode_prompt(prompt)) == prompt.encode()
    assert folder.end_id not in folder.encode_prompt("a <|endoftext|> b")


def logits_of(model, ids):
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].double()


@pytest.mark.parametrize("model", ["storyteller", "tiny"])
def test_logprob_rank_entropy_and_alternatives_agree_within_1e_4(writer, reference, model):
    run = writer.write("The old king said", model, max_new_tokens=40, seed=5)
    prompt, written = run.prompt, run.samples[0].read()
    ids = [*prompt["id"].tolist(), *written["id"].tolist()]
    logprobs = logits_of(reference(model), ids).log_softmax(-1)
    records = np.concatenate([prompt, written])
    for place in range(1, len(ids)):
        expected, record = logprobs[place - 1], records[place]
        assert record["logprob"] == pytest.approx(expected[ids[place]].item(), abs=1e-4)
        assert record["rank"] == 1 + (expected > expected[ids[place]]).sum().item()
        assert record["entropy"] == pytest.approx(-(expected.exp() * expected).sum().item(), abs=1e-4)
        top = expected.topk(10)
        assert record["alt_logprobs"] == pytest.approx(top.values.numpy(), abs=1e-4)
        assert record["alt_ids"].tolist() == top.indices.tolist()
    assert np.isnan(records[0]["logprob"])


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7, "top_k": 5},
        {"temperature": 1.3, "top_p": 0.6},
        {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.5},
        {"temperature": 1, "top_k": 200, "top_p": 0.95},
        {"temperature": 2, "repetition_penalty": 0.7},
    ],
)
def test_the_sampler_s_probabilities_agree_with_transformers_filters(writer, reference, options):
    filters = LogitsProcessorList()
    if options.get("repetition_penalty", 1) != 1:
        filters.append(Penalty(options["repetition_penalty"]))
    filters.append(Temperature(float(options["temperature"])))
    if options.get("top_k"):
        filters.append(TopK(options["top_k"]))
    if options.get("top_p", 1) != 1:
        filters.append(TopP(options["top_p"]))
    run = writer.write("The old king said", max_new_tokens=30, **options)
    prompt, written = run.prompt["id"].tolist(), run.samples[0].read()
    ids = prompt + written["id"].tolist()
    logits = logits_of(reference("tiny"), ids).float()
    for place, record in enumerate(written, len(prompt)):
        known = torch.tensor([ids[:place]])
        scores = filters(known, logits[place - 1][None].clone())[0]
        expected = scores.log_softmax(-1)
        assert record["sampled_logprob"] == pytest.approx(expected[ids[place]].item(), abs=1e-4)
        for i, alternative in enumerate(record["alt_ids"]):
            assert bool(record["cut"] >> i & 1) == bool(expected[alternative] == -torch.inf)
            if options.get("repetition_penalty", 1) == 1 and expected[alternative] > -torch.inf:
                ours = record["alt_logprobs"][i] / options["temperature"] - record["filter_norm"]
                assert ours == pytest.approx(expected[alternative].item(), abs=1e-4)
