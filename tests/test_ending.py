"""Stop strings are found wherever tokens cut them, and what is released is never taken back."""

import itertools

import pytest
from conftest import TRICKY
from hypothesis import example, given, settings
from hypothesis import strategies as st

from generate import CharacterGate, Refusal, Vocabulary, find_model, split_half_character
from generate.text.alphabet import byte_alphabet
from generate.text.ending import Ending

# Few different bytes, among them whole characters, parts of them and bytes that UTF-8 never has, so that stops do occur.
PIECES = [b"a", b"b", b"ab", b"\n", b"\xff", b"\xc3", b"\xa9", *("é", "狐", "🦊", "👨‍👩‍👧", "e\u0301")]
PIECES = [piece if isinstance(piece, bytes) else piece.encode() for piece in PIECES]
scraps = st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join)
texts = st.lists(st.sampled_from(["a", "b", "\n", "é", "狐", "狸", "🦊", "\u200d"]), min_size=1, max_size=4).map(
    "".join
)
stop_lists = st.lists(st.one_of(texts.map(str.encode), st.sampled_from([b"aba", b"ab", b"b", b"aab"])), max_size=4)


@st.composite
def cut_up(draw, whole=scraps) -> list[bytes]:
    """Bytes cut into tokens at random places; some tokens are empty, as special ones are."""
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[low:high] for low, high in itertools.pairwise([0, *cuts, len(data)])]


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def earliest(data: bytes, stops: list[bytes]) -> int | None:
    return min((place for stop in stops if stop and (place := data.find(stop)) >= 0), default=None)


@given(cut_up(), stop_lists)
@example([b"xab", b"cd"], [b"abcd", b"b"])
@example([b"aaab"], [b"aab"])
@example([b"a", b"", b"b"], [b"ab"])
def test_the_stop_found_is_the_earliest_in_the_text_up_to_the_token_that_completes_it(tokens, stops):
    ending = Ending(stops)
    for count, token in enumerate(tokens, 1):
        ending.feed(token)
        so_far = b"".join(tokens[:count])
        assert ending.stop_at == earliest(so_far, stops)
        assert (ending.tokens, ending.size) == (count, len(so_far))
        if ending.stop_at is not None:
            break


def follow(tokens: list[bytes], stops=(), before=b"") -> tuple[list[int], bytes]:
    """Feed tokens until the stop; return what was released after each, and the visible bytes."""
    ending, released, data = Ending(stops, before), [], b""
    for token in tokens:
        ending.feed(token)
        released.append(ending.released)
        data += token
        if ending.stop_at is not None:
            return released, data[: ending.stop_at]
    return released, data


@given(cut_up(), stop_lists)
def test_what_is_released_is_the_beginning_of_the_final_text_and_never_reaches_the_stop(tokens, stops):
    released, visible = follow(tokens, stops)
    assert released == sorted(released)
    for place, count in enumerate(released, 1):
        assert count <= place
        data = b"".join(tokens[:count])
        assert visible.startswith(data)
        assert decoded(visible).startswith(decoded(data))


@given(cut_up(), stop_lists)
def test_no_more_is_held_back_than_may_still_change(tokens, stops):
    """What is held back is a half character, or a tail that some continuation turns into a stop string."""
    released, visible = follow(tokens, stops)
    if earliest(b"".join(tokens), stops) is None:
        held = visible[len(b"".join(tokens[: released[-1]])) :]
        tails = [held[low:] for low in range(len(held))]
        assert not held or split_half_character(held)[1] or any(stop.startswith(t) for stop in stops for t in tails)


@given(cut_up(), st.sampled_from(["é", "狐", "🦊"]), st.integers(1, 3))
def test_a_half_character_of_the_prompt_is_completed_by_the_text(tokens, character, size):
    before = split_half_character(b"so " + character.encode()[:size])[1]
    released, visible = follow([character.encode()[size:], *tokens], before=before)
    for count in released:
        shown = b"".join([character.encode()[size:], *tokens][:count])
        assert decoded(before + visible).startswith(decoded(before + shown) if count else "")


@pytest.mark.parametrize("text", ["从前有一只狐狸", "🦊👨‍👩‍👧", "aé狐🦊\u200d"])
def test_every_way_to_cut_a_character_releases_whole_characters_only(text):
    data = text.encode()
    for size in range(1, 9):
        for first in range(size + 1):
            cuts = sorted({0, *range(first, len(data), size), len(data)})
            tokens = [data[low:high] for low, high in itertools.pairwise(cuts)]
            for place, count in enumerate(follow(tokens)[0], 1):
                assert text.startswith(b"".join(tokens[:count]).decode())
                assert count == max(n for n in range(place + 1) if is_whole(b"".join(tokens[:n])))


def is_whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("stop", ["狐狸", "🦊", "👩", "a狐", "\u200d"])
def test_a_stop_of_wide_characters_is_found_however_it_is_cut(stop):
    text = "从前有一只a狐狸🦊👨\u200d👩\u200d👧。"
    data = text.encode()
    at = data.index(stop.encode())
    for low, high in itertools.combinations(range(len(data) + 1), 2):
        tokens = [data[:low], data[low:high], data[high:]]
        released, visible = follow(tokens, [stop.encode()])
        assert visible == data[:at]
        assert all(visible.startswith(b"".join(tokens[:count])) for count in released)


def test_a_tail_that_may_become_a_stop_is_held_and_let_go_when_it_does_not():
    assert follow([b"x", b"\n", b"y"], [b"\n\n"])[0] == [1, 1, 3]
    assert follow([b"x\n", b"\n"], [b"\n\n"]) == ([0, 0], b"x")
    assert follow([b"a", b"a", b"a", b"c"], [b"aab"])[0] == [0, 0, 1, 4]
    assert follow([b"a", b"b"], [b"", b"c"])[0] == [1, 2]


@given(cut_up())
def test_without_stops_only_half_characters_are_held_back(tokens):
    released, visible = follow(tokens)
    assert visible == b"".join(tokens)
    for place, count in enumerate(released, 1):
        whole = [n for n in range(place + 1) if not split_half_character(b"".join(tokens[:n]))[1]]
        assert count == max(whole)


@given(st.binary(max_size=12), st.binary(max_size=6))
def test_whole_characters_decode_the_same_whatever_follows(data, more):
    whole, half = split_half_character(data)
    assert whole + half == data
    assert len(half) <= 3
    assert decoded(whole + half + more).startswith(decoded(whole))
    if half:
        assert not is_whole(half)


@given(cut_up())
def test_the_gate_counts_the_same_whether_bytes_come_at_once_or_in_pieces(tokens):
    gate, whole = CharacterGate(), b""
    for token in tokens:
        whole += token
        assert gate.feed(token) == CharacterGate().feed(whole)


def test_the_byte_alphabet_names_every_byte_once():
    assert sorted(byte_alphabet().values()) == list(range(256))
    assert (byte_alphabet()["Ġ"], byte_alphabet()["Ċ"], byte_alphabet()["a"]) == (32, 10, 97)


@given(st.integers(0, 12), st.lists(st.sampled_from([b"a", b"b", b"ab", b"", b"ba"]), max_size=12))
def test_a_stop_string_that_is_complete_before_its_time_is_as_any_other_text(least, tokens):
    ending, text = Ending([b"ab", b"bb"], least=least), b""
    for number, token in enumerate(tokens, 1):
        before, text = text, text + token
        ends = [at for stop in (b"ab", b"bb") for at in range(len(text)) if text.startswith(stop, at)]
        new = [at for at in ends if at + 2 > len(before)]
        ending.feed(token)
        if new and number >= least:
            assert ending.stop_at == min(new)
            return
        assert ending.stop_at is None


def test_special_tokens_have_no_bytes():
    vocabulary = Vocabulary([b"", b"a", b"\xe7"], [0])
    assert (len(vocabulary), vocabulary.special) == (3, {0})
    assert vocabulary.bytes_of([1, 0, 2, 1]) == b"a\xe7a"


@settings(deadline=None)
@given(st.text(max_size=40))
@example(TRICKY)
def test_every_text_comes_back_from_its_tokens_byte_for_byte(models, text):
    for name in ("storyteller", "tiny"):
        tokenizer = find_model(models, name).tokenizer
        ids = tokenizer.encode(text)
        assert tokenizer.vocabulary.bytes_of(ids) == text.encode()
        assert not tokenizer.vocabulary.special & set(ids)


def test_a_lone_surrogate_becomes_one_replacement_character(models):
    tokenizer = find_model(models, "tiny").tokenizer
    assert tokenizer.vocabulary.bytes_of(tokenizer.encode("a\ud800b\udfffc")).decode() == "a\ufffdb\ufffdc"


def test_a_tokenizer_without_every_byte_refuses_what_it_cannot_write(models, tmp_path):
    from tokenizers import Tokenizer
    from tokenizers import models as kinds

    from generate import open_tokenizer
    from generate.text.tokenizer import Tokenizer as Ours

    Tokenizer(kinds.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])).save(str(tmp_path / "tokenizer.json"))
    assert Ours(open_tokenizer(tmp_path), 3).encode("abba") == [2, 1, 0]
    with pytest.raises(Refusal, match="cannot write every character") as caught:
        Ours(open_tokenizer(tmp_path), 3).encode("abc")
    assert caught.value.field == "prompt"
