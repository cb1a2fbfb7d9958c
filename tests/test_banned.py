"""Banned phrases never appear, and nothing that was shown is taken back."""

import random
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from conftest import Visitor, finished, text_of
from engines import running, until_written
from hypothesis import given
from hypothesis import strategies as st
from test_resume import go_on, half_done, told
from transformers import GPT2LMHeadModel

from generate import RunLog, Sampling, Vocabulary, find_model, unknown_records
from generate.scheduling.delivery import Delivery
from generate.scheduling.held_back import MOST_BLOCKED, HeldBack
from generate.scheduling.past import Past
from generate.scheduling.sequence import Sequence
from generate.scheduling.window import window_start
from generate.text.ending import Ending
from generate.text.phrases import Phrases

PROMPT = "the old king and the old fox and the old 从"


def places(text: bytes, phrases: list[bytes]) -> list[tuple[int, int]]:
    """Where phrases end and begin in a text, whatever the case of its ASCII letters."""
    found = {
        (m.start() + len(p), m.start()) for p in phrases for m in re.finditer(b"(?=%s)" % re.escape(p), text.lower())
    }
    return sorted((end, -begin) for end, begin in found)


# The phrases themselves

letters = st.text("abAB é", min_size=1, max_size=4)


@given(st.lists(letters, min_size=1, max_size=5), st.lists(letters, max_size=8), st.integers(1, 5))
def test_phrases_are_found_wherever_they_begin_and_end(phrases, words, cut):
    wanted = [form.encode() for phrase in phrases for form in {phrase.lower(), phrase.upper().lower()}]
    text, state, size = "".join(words).encode(), b"", 0
    looking = Phrases(phrases)
    for start in range(0, len(text), cut):
        part = text[start : start + cut]
        state, found = looking.follow(state, part)
        size += len(part)
        small = text[:size].replace("É".encode(), "é".encode()).lower()
        ends = [(end, begin) for end, begin in places(small, wanted) if end > start]
        assert found == ((-ends[0][1] - start, ends[0][0] - start) if ends else None)
        begun = (
            size - n for n in range(size, 0, -1) if any(p.startswith(small[size - n :]) and len(p) > n for p in wanted)
        )
        held = next(begun, size)
        assert small[held:] == state.replace("É".encode(), "é".encode())


def test_capitals_make_no_difference():
    looking = Phrases(["über alles", "KING"])
    for text in ("Über Alles", "ÜBER ALLES", "über alles", "kInG", "King"):
        assert looking.follow(b"", text.encode())[1] == (0, len(text.encode()))
    assert looking.follow(b"", b"uber alles")[1] is None


# What is written


class Plain:
    """A second opinion: `transformers`' numbers, the likeliest token, and a text that is searched anew each time."""

    def __init__(self, models):
        folder = find_model(models, "tiny")
        self.tokens, self.config = folder.tokenizer.vocabulary.tokens, folder.config
        self.encode = folder.encode_prompt
        self.model = GPT2LMHeadModel.from_pretrained(models / "tiny", dtype=torch.float32).eval()

    def write(self, prompt, phrases, count, penalty=1.0, presence=0.0) -> tuple[list[int], dict[int, tuple[int, ...]]]:
        ids, first, blocked = list(prompt), len(prompt), {}
        wanted = [phrase.lower().encode() for phrase in phrases]
        while len(ids) < first + count:
            ids.append(self.next(ids, blocked.get(len(ids), []), penalty, presence))
            sizes = [len(self.tokens[token]) for token in ids]
            found = [one for one in places(b"".join(self.tokens[i] for i in ids), wanted) if one[0] > sum(sizes[:-1])]
            if found:
                begin = -found[0][1]
                back = max(first, next(n for n in range(len(ids)) if sum(sizes[: n + 1]) > begin))
                blocked = {place: some for place, some in blocked.items() if place <= back}
                blocked.setdefault(back, []).append(ids[back])
                del ids[back:]
        return ids[first:], {place - first: tuple(some) for place, some in blocked.items()}

    @torch.inference_mode()
    def next(self, ids, blocked, penalty, presence) -> int:
        logits = (
            self.model(torch.tensor([ids[window_start(len(ids), self.config.n_positions) :]])).logits[0, -1].double()
        )
        seen = sorted(set(ids))
        logits[seen] = torch.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty) - presence
        logits[blocked] = -torch.inf
        return int(logits.argmax())


@pytest.fixture(scope="module")
def plain(models):
    return Plain(models)


def some_phrases(text: str, dice: random.Random, count: int) -> list[str]:
    """Some of what stands in a text."""
    starts = [dice.randrange(len(text) - 4) for _ in range(count)]
    return [text[start : start + dice.randint(2, 4)] for start in starts]


@pytest.mark.parametrize(
    "more", [{}, {"repetition_penalty": 1.5, "presence_penalty": 0.5}], ids=["greedy", "penalised"]
)
@pytest.mark.parametrize("seed", range(4))
def test_the_likeliest_text_without_them_is_that_of_a_plain_loop(writer, plain, seed, more):
    """Far enough that the window of 64 tokens restarts, and with phrases that the text would have had."""
    wish, dice = {"temperature": 0, "max_new_tokens": 90} | more, random.Random(seed)
    phrases = some_phrases(writer.text(writer.write(PROMPT, **wish)), dice, 6)
    run = writer.write(PROMPT, banned_phrases=phrases, **wish)
    penalties = [more.get(name, off) for name, off in (("repetition_penalty", 1.0), ("presence_penalty", 0.0))]
    ids, blocked = plain.write(run.prompt_ids, phrases, 90, *penalties)
    assert run.samples[0].read()["id"].tolist() == ids
    assert run.samples[0].blocked == blocked
    assert blocked, "nothing had to be taken back"


def test_a_phrase_that_the_prompt_began_is_not_completed(writer):
    wish = {"temperature": 0, "max_new_tokens": 12}
    usual = writer.text(writer.write("the old king", **wish))
    ruled = writer.text(writer.write("the old king", banned_phrases=["old king" + usual[:2]], **wish))
    assert not ruled.startswith(usual[:2])
    whole = writer.text(writer.write("the old king", banned_phrases=["old king"], **wish))
    assert whole == usual, "what stands in the prompt is not the model's"


def test_where_nothing_is_met_the_text_is_the_one_without(writer):
    wish = {"max_new_tokens": 60, "samples": 3}
    assert told(writer.write(PROMPT, banned_phrases=["🦊", "no such words"], **wish)) == told(
        writer.write(PROMPT, **wish)
    )


def test_a_phrase_that_a_stop_string_hides_is_not_taken_back(writer):
    wish = {"model": "storyteller", "max_new_tokens": 40, "top_k": 40}
    usual = writer.text(writer.write("Once upon a time", **wish), "storyteller")
    run = writer.write("Once upon a time", stop=[usual[30:36]], banned_phrases=[usual[32:42]], **wish)
    assert (writer.text(run, "storyteller"), run.samples[0].finish_reason) == (usual[:30], "stop")
    run = writer.write("Once upon a time", stop=[usual[30:36]], banned_phrases=[usual[22:30]], **wish)
    assert not writer.text(run, "storyteller").startswith(usual[:30])


BANS = ["e", "ing", "the ", "fo", "ox a", "在", "11", "a k"]


def shown_of(log: RunLog, tokens, into: list) -> None:
    """Note what may be shown of each sample, whenever the log changes."""
    version = -1
    while not log.done:
        version = log.wait(version, 1)
        with log.changed:
            into.append([b"".join(tokens[i] for i in s.read(0, s.released)["id"]) for s in log.samples])


@pytest.mark.parametrize("model", ["tiny", "storyteller"])
def test_none_is_ever_seen_and_what_was_seen_stays(writer, model):
    tokens, bans = find_model(writer.engine.models, model).tokenizer.vocabulary.tokens, BANS
    if model == "storyteller":
        bans = ["king", "the princess", "said", "and then", "mother", "e f", "once", "beautiful"]
    log, seen = writer.submit("Once upon a time", model, samples=16, banned_phrases=bans, max_new_tokens=60), []
    shown_of(log, tokens, seen)
    last = [b""] * 16
    for texts in seen:
        assert all(text.startswith(before) for text, before in zip(texts, last, strict=True))
        assert not places(b"\n".join(texts), [ban.encode() for ban in bans])
        last = texts
    assert any(sample.blocked for sample in log.samples)
    assert all(sample.finish_reason == "length" for sample in log.samples)


def test_a_run_that_was_interrupted_goes_on_as_it_would_have(writer):
    wish = {"samples": 3, "max_new_tokens": 90, "banned_phrases": BANS, "frequency_penalty": 0.2}
    whole, dice = writer.write(PROMPT, **wish), random.Random(2)
    for _ in range(6):
        log = half_done(writer, whole, dice)
        cuts = [len(sample) for sample in log.samples]
        assert told(go_on(writer, log, wish)) == told(whole)
        for sample, full, cut in zip(log.samples, whole.samples, cuts, strict=True):
            assert sample.blocked == {place: ids for place, ids in full.blocked.items() if place >= cut}


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=pytest.mark.long)])
def test_a_run_is_the_same_a_second_time_and_among_others(models, precision):
    wish = {"samples": 2, "max_new_tokens": 90, "banned_phrases": BANS}
    with running(models, precision=precision) as writer:
        alone = writer.write(PROMPT, **wish)
        others = [writer.submit(f"{n} foxes", seed=n, **(wish if n % 2 else {"max_new_tokens": 80})) for n in range(6)]
        among = writer.write(PROMPT, **wish)
        for run in others:
            finished(run)
    assert told(among) == told(alone)
    assert [s.blocked for s in among.samples] == [s.blocked for s in alone.samples]
    if precision == "int8":
        assert [s.read().tobytes() for s in among.samples] == [s.read().tobytes() for s in alone.samples]


def test_a_run_that_was_stopped_holds_only_what_a_longer_one_would_hold(writer):
    """Its text could have ended in the beginning of a phrase that is not completed in the longer one."""
    wish = {
        "model": "storyteller",
        "max_new_tokens": 300,
        "banned_phrases": ["o", "e" * 3, "the king of the"],
        "top_k": 40,
    }
    whole = writer.write("Once upon a time", **wish)
    for count in (5, 20, 60):
        run = writer.submit("Once upon a time", **wish)
        until_written(run, count)
        writer.engine.cancel(run)
        [stopped], [full] = finished(run).samples, whole.samples
        assert stopped.finish_reason == "cancelled"
        ids = stopped.read()["id"].tolist()
        assert ids == full.read()["id"].tolist()[: len(ids)]
        assert stopped.text_end == len(b"".join(writer_tokens(writer)[i] for i in ids))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_of_a_thousand_runs_none_shows_a_banned_phrase_or_takes_anything_back_and_all_repeat(app, models):
    bans = ["king", "the princess", "said", "and then", "mother", "e f", "once", "beautiful"]
    wanted, fields = [ban.encode() for ban in bans], {"model": "storyteller", "banned_phrases": "\n".join(bans)}
    tokens = find_model(models, "storyteller").tokenizer.vocabulary.tokens

    def write(seed) -> list[int]:
        visitor = Visitor(app)
        run = visitor.start("There lived", seed=seed, max_new_tokens=24, **fields)
        text = ""
        for event in visitor.events(run):
            if "#sample-0" in event.get("data", ""):
                assert 'hx-target="#sample-0" hx-swap="innerHTML"' not in event["data"]
                text += text_of(event["data"])
                assert not places(text.encode(), wanted)
        [sample] = visitor.json(run)["samples"]
        assert text == sample["text"]
        return [token["id"] for token in sample["tokens"]]

    with ThreadPoolExecutor(16) as threads:
        first, again = (list(threads.map(write, range(1000))) for _ in range(2))
    assert first == again
    assert len(set(map(tuple, first))) > 990
    assert all(not places(b"".join(tokens[i] for i in ids), wanted) for ids in first)


def test_where_no_way_on_is_left_the_run_ends_with_a_sentence_and_keeps_what_was_sure(writer):
    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    bans = [*letters, " ", "\n", *"0123456789.,'"]
    [sample] = finished(writer.submit("the old king", model="storyteller", banned_phrases=bans)).samples
    assert sample.finish_reason == "error"
    assert str(sample.error) == "The text ends here: each way on that was tried leads to a banned phrase."
    text = b"".join(writer_tokens(writer)[i] for i in sample.read()["id"])
    assert sample.text_end == len(text)
    assert not places(text, [ban.encode() for ban in bans])


def writer_tokens(writer):
    return find_model(writer.engine.models, "storyteller").tokenizer.vocabulary.tokens


def shown_by(tokens: list[bytes], order: list[int], stop: list[bytes], bans: list[str]) -> list[bytes]:
    """What may be shown after each token that a model chooses, of a text of these tokens."""
    vocabulary, run = Vocabulary(tokens), RunLog(unknown_records([0], len(tokens)), 1)
    request = SimpleNamespace(sampling=Sampling(max_new_tokens=50), only_reads=False, yields=False)
    held_back = HeldBack(Phrases(bans), b"", 0, len(tokens))
    sequence = Sequence(run, run.samples[0], request, 0, [0], Ending(stop), 0, Past(None, None), 1, held_back=held_back)
    delivery, shown = Delivery(vocabulary, [], lambda run: None), []
    for token in order:
        delivery.append(sequence, unknown_records([token], len(tokens))[0], token)
        text = vocabulary.bytes_of(sequence.log.read(0, sequence.log.released)["id"].tolist())
        shown.append(text[: sequence.log.text_end])
    return shown


def test_what_is_taken_back_lets_nothing_be_shown_before_it():
    """A stop string's beginning, and a half character, become neither by tokens that may still go."""
    tokens = [b"x", b"a", b"b c", b"at", b"b!"]
    assert shown_by(tokens, [1, 2, 3, 4], [b"ab!"], ["axe", " cat"]) == [b"", b"", b"", b""]
    tokens = [b"x", b"\xe9\xbe", b"\x8e\xe9\x86\x92", b"\xe4\xbe\x86", b"\x8f"]
    shown = shown_by(tokens, [1, 2, 3, 4], [], ["醒來", "龍"])
    assert all("\ufffd" not in text.decode("utf-8", "replace") for text in shown)


def test_the_work_is_bounded_whatever_is_drawn():
    """A model that offers nothing but one phrase's letters, each time other tokens for them."""
    held_back, ending, draws, letters = HeldBack(Phrases(["ab"]), b"", 0, 2**15), Ending(), 0, 0
    goes_on = True
    while goes_on:
        before, ending = ending, Ending()
        ending.size, draws, letters = before.size + 1, draws + 1, letters + 1
        count = held_back.add(unknown_records([draws], 2**15)[0], b"ab"[letters - 1 : letters], before, ending)
        if count:
            letters -= count
            ending, goes_on = held_back.take_back(count)
    assert draws <= 2 * (MOST_BLOCKED + 1)
    assert held_back.rest() == []


def test_pages_and_exports_tell_what_was_kept_out(visitor, writer):
    usual = writer.text(writer.write("the old king", temperature=0, max_new_tokens=8))
    run = visitor.start("the old king", temperature=0, max_new_tokens=8, banned_phrases=usual[:2])
    kept = visitor.finish(run)
    assert not kept["samples"][0]["text"].lower().startswith(usual[:2].lower())
    first = kept["samples"][0]["tokens"][0]
    assert usual.startswith(first["blocked"][0]["token"])
    assert "blocked" not in kept["samples"][0]["tokens"][-1]
    child = visitor.post(f"{run}/continue").headers["Location"]
    grown = visitor.finish(child)
    place = len(kept["prompt"]["tokens"])
    assert grown["prompt"]["tokens"][place]["blocked"] == first["blocked"]
    for page in (f"{run}/token?sample=0&place=0", f"{child}/token?sample=prompt&place={place}"):
        panel = visitor.get(page).text
        assert "Blocked here, as a banned phrase would have followed" in panel
        assert '<span class="share allowed">banned_phrases</span>' in panel
