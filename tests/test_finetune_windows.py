"""Documents become windows: no token is dropped, none counts twice, the end is learned and padding is not."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.split import split, whole
from finetune.windows import IGNORED, collate, windows
from generate import Refusal

END = 0
documents = st.lists(st.lists(st.integers(1, 200), max_size=30), min_size=1, max_size=12)


def encoded(texts):
    """A part of documents that each end in the end token, as `encode` writes them."""
    tokens = np.array([i for text in texts for i in [*text, END]], np.uint16)
    return whole(tokens, np.cumsum([len(text) + 1 for text in texts]))


def predicted(window):
    """The tokens that a window's labels ask for: `transformers` shifts labels by one."""
    batch = collate([window], pad=END)
    return [label for label in batch["labels"][0, 1:].tolist() if label != IGNORED]


@given(documents, st.integers(2, 40))
def test_packing_asks_for_every_token_exactly_once_and_in_order(texts, block_size):
    part = encoded(texts)
    packed = windows(part, block_size, END, line_by_line=False, begins=False)
    asked = [label for n in range(len(packed)) for label in predicted(packed[n])]
    assert asked == part.tokens.tolist()
    assert all(2 <= len(packed[n]) <= block_size for n in range(len(packed)))
    assert all(len(packed[n]) == block_size for n in range(len(packed) - 1)), "only the last may be short"


@given(documents, st.integers(2, 40), st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_each_epoch_packs_the_same_documents_in_an_order_of_its_own(texts, block_size, seed, epoch):
    """The order is a function of seed and epoch alone, whatever epochs were asked for before."""
    packed = windows(encoded(texts), block_size, END, line_by_line=False, begins=False, seed=seed)
    count = len(packed)
    packed.set_epoch(epoch + 1)
    packed.set_epoch(epoch)
    order = np.random.default_rng([seed, epoch, 1]).permutation(len(texts))
    expected = [token for n in order for token in [*texts[n], END]]
    assert [label for n in range(len(packed)) for label in predicted(packed[n])] == expected
    assert len(packed) == count


def test_orders_of_documents_differ_between_epochs():
    packed = windows(encoded([[n] * 3 for n in range(1, 40)]), 200, END, line_by_line=False, begins=False, seed=1)
    orders = []
    for epoch in range(3):
        packed.set_epoch(epoch)
        orders.append(tuple(packed[0].tolist()))
    assert len(set(orders)) == 3


@given(documents, st.integers(2, 40))
def test_line_by_line_asks_for_every_token_exactly_once_too(texts, block_size):
    part = encoded(texts)
    lines = windows(part, block_size, END, line_by_line=True, begins=False)
    asked = [label for n in range(len(lines)) for label in predicted(lines[n])]
    assert asked == part.tokens.tolist()


@given(documents, st.integers(2, 40))
def test_line_by_line_never_mixes_two_documents(texts, block_size):
    lines = windows(encoded(texts), block_size, END, line_by_line=True, begins=False)
    whole_documents = [[END, *text, END] for text in texts]
    for n in range(len(lines)):
        window = lines[n].tolist()
        assert any(window == d[i : i + len(window)] for d in whole_documents for i in range(len(d)))


@given(documents, st.integers(0, 2**32 - 1))
def test_a_part_of_the_documents_is_packed_like_those_documents_alone(texts, seed):
    part = encoded(texts)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(texts))[: max(1, len(texts) // 2)])
    some = type(part)(part.tokens, part.starts[chosen], part.lengths[chosen])
    alone = encoded([texts[n] for n in chosen])
    one, other = (windows(p, 7, END, line_by_line=False, begins=False) for p in (some, alone))
    assert [w.tolist() for w in map(one.__getitem__, range(len(one)))] == [
        w.tolist() for w in map(other.__getitem__, range(len(other)))
    ]


@given(documents, st.integers(2, 40))
def test_for_training_every_other_line_begins_at_the_first_position(texts, block_size):
    part = encoded(texts)
    lines = windows(part, block_size, END, line_by_line=True, begins=False, alternate=True)
    asked = [label for n in range(len(lines)) for label in predicted(lines[n])]
    assert asked == [i for n, text in enumerate(texts) for i in [*text, END][n % 2 :]]


def test_the_end_token_is_in_the_loss_and_padding_is_not():
    lines = windows(encoded([[5, 6, 7], [8]]), 64, END, line_by_line=True, begins=False)
    batch = collate([lines[0], lines[1]], pad=END)
    assert batch["input_ids"].tolist() == [[END, 5, 6, 7, END], [END, 8, END, END, END]]
    assert batch["labels"].tolist() == [[IGNORED, 5, 6, 7, END], [IGNORED, 8, END, IGNORED, IGNORED]]


def test_a_document_that_brings_its_own_beginning_gets_no_other():
    begin = 9
    part = encoded([[begin, 5, 6], [begin, 7]])
    lines = windows(part, 64, END, line_by_line=True, begins=True)
    assert [lines[n].tolist() for n in range(2)] == [[begin, 5, 6, END], [begin, 7, END]]
    assert predicted(lines[0]) == [5, 6, END]


def test_one_process_with_nothing_to_do_gets_a_batch_without_labels():
    batch = collate([], pad=END)
    assert batch["input_ids"].shape == (1, 2)
    assert (batch["labels"] == IGNORED).all()


@given(st.integers(10, 200), st.sampled_from(["90/10", "70/20/10", "50/50", "99/1", "1/99"]), st.integers(0, 100))
def test_a_split_deals_out_every_document_once(count, shares, seed):
    part = encoded([[n % 200 + 1] * (n % 5) for n in range(count)])
    parts, cut = split(part, shares, seed)
    assert not cut
    assert sorted(int(s) for p in parts.values() for s in p.starts) == part.starts.tolist()
    assert sum(p.size for p in parts.values()) == part.size
    again, _ = split(part, shares, seed)
    assert all((parts[name].starts == again[name].starts).all() for name in parts)


def test_another_seed_deals_out_others():
    part = encoded([[n % 200 + 1] for n in range(50)])
    one, other = (split(part, "50/50", seed)[0]["validation"].starts.tolist() for seed in (1, 2))
    assert one != other


@given(st.lists(st.integers(1, 300), min_size=1, max_size=9))
def test_a_few_documents_are_cut_so_that_their_ends_are_held_out(lengths):
    part = encoded([[7] * length for length in lengths])
    parts, cut = split(part, "70/20/10", 1)
    assert cut
    assert sum(p.size for p in parts.values()) == part.size
    pieces = sorted((int(p.starts[n]), name, int(p.lengths[n])) for name, p in parts.items() for n in range(len(p)))
    assert [start for start, _, _ in pieces] == [0, *np.cumsum([length for _, _, length in pieces])[:-1]], (
        "no gap, no overlap"
    )
    order = ["train", "validation", "test"]
    for (_, before, _), (start, name, _) in itertools.pairwise(pieces):
        assert start in part.starts or order.index(name) > order.index(before), "what is held out is a document's end"


@pytest.mark.parametrize("wrong", ["90", "90/20", "0/100", "a/b", "nan/100", "-10/110", "40/30/20/10", ""])
def test_shares_that_cannot_be_are_refused_with_their_value(wrong):
    with pytest.raises(Refusal, match="--split must") as refused:
        split(encoded([[1]]), wrong, 1)
    assert repr(wrong) in str(refused.value)


def test_all_of_it_may_be_trained_on():
    parts, cut = split(encoded([[1, 2]] * 20), "100/0", 1)
    assert list(parts) == ["train"]
    assert not cut
