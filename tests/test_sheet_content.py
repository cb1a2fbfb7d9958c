"""What a sheet holds, without a database or a model: any walk of changes against a plain list of characters."""

import copy
import json
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from generate import Refusal
from webapp.sheets.content import Content, closed, edited, flipped, put_back, retried, with_word, wrote
from webapp.sheets.history import change_between, done_again, taken_back
from webapp.sheets.pieces import Cell, Origin, Said, pieces_of, text_of, unfinished
from webapp.sheets.spans import PROMPT, Typed, Written, normal, spans_from_json, spans_to_json
from webapp.views.sheet_state import open_run

WORDS = [b"he", b" llo", b"\n", "界".encode(), "狐".encode()[:1], "狐".encode()[1:], "🦊".encode(), b"!"]
HALF = (4, 5)  # of WORDS: two tokens that are one character

texts = st.text(alphabet="ab \n界🦊é", max_size=4)
# whole characters, some of two tokens
sayings = st.lists(st.sampled_from([(0,), (1,), (2,), (3,), HALF, (6,), (7,)]), max_size=6)
tokens = st.lists(st.sampled_from(WORDS), max_size=8)


@dataclass
class Plain:
    """A sheet as a list of characters, each with the cell it is of, or None; and nothing clever."""

    text: list = field(default_factory=list)
    aside: list = field(default_factory=list)

    def cut(self, at):
        """Blacken the cell that a place lies within."""
        if 0 < at < len(self.text) and self.text[at - 1][1] == self.text[at][1] is not None:
            cell = self.text[at][1]
            self.text = [(c, None if of == cell else of) for c, of in self.text]

    def edit(self, at, removed, put):
        self.cut(at)
        self.cut(at + removed)
        self.text[at : at + removed] = [(c, None) for c in put]

    def write(self, at, cells):
        self.cut(at)
        if self.text[at:]:
            self.aside.insert(0, self.text[at:])
        self.text = self.text[:at] + cells


def cells_of(run, saying):
    """The characters of a run, each with its cell; and its tokens."""
    data, cells = [], []
    for number in saying:
        place = len(data)
        data += [WORDS[n] for n in number]
        text = b"".join(WORDS[n] for n in number).decode()
        cells += [(c, (run, 0, place)) for c in text]
    return data, cells


def inks(content, source):
    """Each character with the first token of its cell, or None."""
    found = []
    for piece in pieces_of(content.spans, source):
        origin = piece.origins[0] if isinstance(piece, Cell) else None
        found += [(c, origin and (origin.run, origin.sample, origin.place)) for c in piece.text]
    return found


class Made:
    """Runs that were made up, as a source."""

    def __init__(self):
        self.runs = {}

    def __call__(self, run, sample):
        return self.runs[run, sample]

    def add(self, data, sample=0, run=None):
        run = run or f"run{len(self.runs)}"
        self.runs[run, sample] = Said(data)
        return run


@given(st.data())
@settings(max_examples=150)
def test_any_walk_of_typing_and_writing_is_what_a_list_of_characters_says(data):
    source, content, plain = Made(), Content(), Plain()
    past = []
    for _ in range(data.draw(st.integers(1, 12))):
        length = len(plain.text)
        what = data.draw(st.sampled_from(["type", "type", "write", "undo", "back"]))
        before = content, copy.deepcopy(plain)
        if what == "type":
            at = data.draw(st.integers(0, length))
            removed, put = data.draw(st.integers(0, length - at)), data.draw(texts)
            content = edited(content, [(at, removed, put)], source)
            plain.edit(at, removed, put)
        elif what == "write":
            at = data.draw(st.integers(0, length))
            run = f"run{len(source.runs)}"
            said, cells = cells_of(run, data.draw(sayings))
            source.add(said, run=run)
            content = wrote(content, at, run, source)
            plain.write(at, cells)
        elif what == "back" and content.aside:
            piece = data.draw(st.integers(0, len(content.aside) - 1))
            content = put_back(content, piece)
            plain.text += plain.aside.pop(piece)
        elif what == "undo" and past:
            (content, plain), _ = past.pop()
            before = None
        if before is not None:
            past.append((before, change_between(before[0], content)))
            assert done_again(before[0], past[-1][1]) == content
            assert taken_back(content, past[-1][1]) == before[0]
        assert inks(content, source) == plain.text
        assert [[(c, o) for c, o in inks(Content(piece), source)] for piece in content.aside] == plain.aside


def some_change(data, content, source):
    """One change of any kind; raises Refusal where there is nothing to do it to."""
    pieces = pieces_of(content.spans, source)
    length = len(text_of(pieces))
    at = data.draw(st.integers(0, length))
    run, chosen = source.add(data.draw(tokens)), data.draw(st.sampled_from([None, 1]))
    source.add(data.draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=2)), PROMPT, run)
    match data.draw(st.sampled_from(["type", "write", "retry", "flip", "back", "word", "mind"])):
        case "mind":
            return replace(content, memory=data.draw(texts))
        case "type":
            return edited(content, [(at, data.draw(st.integers(0, length - at)), data.draw(texts))], source)
        case "write":
            return wrote(content, at, run, source)
        case "retry":
            return retried(content, run)
        case "flip":
            return flipped(content, data.draw(st.integers(0, 3)))
        case "back":
            return put_back(content, data.draw(st.integers(0, 2)))
    places = [origin for piece in pieces if isinstance(piece, Cell) for origin in piece.origins]
    return with_word(content, data.draw(st.sampled_from(places or [Origin("", 0, 0)])), run, chosen)


def walk(data, source):
    """Any changes one after the other: the contents that there were, and what led from each to the next."""
    contents, changes = [Content()], []
    for _ in range(data.draw(st.integers(1, 15))):
        try:
            after = some_change(data, contents[-1], source)
        except Refusal:
            continue
        changes.append(json.loads(json.dumps(change_between(contents[-1], after))))
        contents.append(after)
    return contents, changes


@given(st.data())
@settings(max_examples=150)
def test_undo_to_the_beginning_and_redo_to_the_end_are_exact_for_any_walk(data):
    """Half characters at the borders of runs included; and what is stored is what was there."""
    source = Made()
    contents, changes = walk(data, source)
    content = contents[-1]
    for before, change in zip(reversed(contents[:-1]), reversed(changes), strict=True):
        content = taken_back(content, change)
        assert content == before
    for after, change in zip(contents[1:], changes, strict=True):
        content = done_again(content, change)
        assert content == after
        assert after.spans == normal(after.spans) == spans_from_json(spans_to_json(after.spans))


@given(st.data())
@settings(max_examples=150)
def test_every_red_character_is_of_a_token_that_a_run_wrote_there(data):
    """Whatever was done: a cell's text is what its tokens say, and only runs that were started are named."""
    source = Made()
    for content in walk(data, source)[0]:
        for piece in pieces_of(content.spans, source):
            if isinstance(piece, Cell):
                said = b"".join(source.runs[o.run, o.sample].tokens[o.place] for o in piece.origins)
                assert piece.text == said.decode("utf-8", "replace")


@given(st.data())
@settings(max_examples=100)
def test_nothing_that_was_written_is_lost_by_another_try(data):
    """All tries can be shown again, each as it was left."""
    source = Made()
    content = wrote(edited(Content(), [(0, 0, "ab")], source), 2, source.add([b" one"]), source)
    seen = [inks(content, source)]
    for _ in range(data.draw(st.integers(1, 4))):
        content = retried(content, source.add([b" try", data.draw(st.sampled_from(WORDS[:4]))]))
        if data.draw(st.booleans()):
            content = edited(content, [(len(text_of(pieces_of(content.spans, source))), 0, "x")], source)
        seen.append(inks(content, source))
    for number in data.draw(st.permutations(range(len(seen)))):
        content = flipped(content, number)
        assert inks(content, source) == seen[number]


def test_a_change_stores_what_it_changes_and_not_all_that_was_ever_set_aside():
    source, content, sizes = Made(), Content(), []
    for _ in range(30):
        content = edited(content, [(0, 0, "x" * 100)], source)
        after = wrote(content, 0, source.add([b" one"]), source)
        sizes.append(len(json.dumps(change_between(content, after))))
        content = after
    for _ in range(10):
        after = retried(content, source.add([b" two"]))
        sizes.append(len(json.dumps(change_between(content, after))))
        content = after
    assert len(content.aside) == 30
    assert max(sizes[:30]) < 2 * sizes[0]
    assert sizes[-1] < 1.1 * sizes[31]


def test_typing_before_a_run_that_is_being_written_lets_it_go_on_and_typing_in_it_ends_it_there():
    source = Made()
    run = source.add([b" one", b" two", b" three"])
    source.runs[run, 0] = Said([b" one", b" two", b" three"], done=False)
    content = wrote(edited(Content(), [(0, 0, "ab")], source), 2, run, source)
    before = edited(content, [(1, 0, "X")], source, 2)
    assert before.spans == (Typed("aXb"), Written(run, 0, 0, None))
    within = edited(content, [(8, 0, "!")], source, 2)
    assert within.spans == (Typed("ab"), Written(run, 0, 0, 1), Typed(" t!wo"))
    behind = edited(content, [(10, 0, "!")], source, 2)
    assert behind.spans == (Typed("ab"), Written(run, 0, 0, 2), Typed("!"))
    at_its_start = edited(content, [(2, 0, "!")], source, 1)
    assert at_its_start.spans == (Typed("ab!"), Written(run, 0, 0, 1))
    assert closed(content, 0) == (Typed("ab"),)


def test_a_character_that_two_runs_share_stays_whole_while_the_second_is_written_and_one_types_before_it():
    source = Made()
    first, second = source.add([b"a", WORDS[4]]), source.add([WORDS[5], b"b"])
    source.runs[second, 0] = Said([WORDS[5], b"b"], done=False)
    content = wrote(wrote(Content(), 0, first, source), 2, second, source)
    for seen in (0, 1, 2):
        after = edited(content, [(0, 0, "X"), (1, 0, "Y")], source, seen)
        assert after.spans == (Typed("XY"), Written(first, 0, 0, 2), Written(second, 0, 0, None))


def test_a_half_character_at_the_end_of_a_run_is_completed_by_the_next():
    source = Made()
    first, second = source.add([b"a", WORDS[4]]), source.add([WORDS[5], b"b"])
    content = wrote(Content(), 0, first, source)
    assert text_of(pieces_of(content.spans, source)) == "a\ufffd"
    assert text_of(pieces_of(wrote(content, 2, second, source).spans, source)) == "a狐b"


def test_what_was_typed_behind_a_word_is_set_aside_with_the_tail_when_another_takes_its_place():
    source = Made()
    run, other = source.add([b" one", b" two"]), source.add([b" three"])
    content = edited(wrote(Content(), 0, run, source), [(4, 0, "!")], source)
    after = with_word(content, Origin(run, 0, 0), other, None)
    assert after.aside == ((Typed("!"), Written(run, 0, 1, 2)),)
    last = with_word(content, Origin(run, 0, 1), other, None)
    assert last.aside == ()


def test_a_byte_that_is_no_character_s_stays_while_the_next_run_is_written():
    """Its reader does not get it from there, as it is the half of none."""
    source = Made()
    first = source.add([b"a", b"\xff"])
    content = wrote(Content(), 0, first, source)
    run = source.add([])
    source.runs[run, 0] = Said([], done=False)
    after = wrote(content, 2, run, source)
    assert text_of(pieces_of(after.spans, source, growing=True)) == "a\ufffd"
    assert edited(after, [(1, 0, "X")], source, 0).spans[-1] == Written(run, 0, 0, None)


@given(st.lists(st.sampled_from([*WORDS, b"\xff", b"\xd5", b"\xf0", b"\xb0"]), max_size=6))
def test_what_a_text_has_not_said_yet_is_what_its_reader_gets_with_the_next_run(tokens):
    """Of any bytes: what a page shows of them while the next run has written nothing, and that, are the whole."""
    source = Made()
    shown = text_of(pieces_of((Written(source.add(tokens), 0, 0, None),), source, growing=True))
    assert shown + unfinished(tokens).decode("utf-8", "replace") == b"".join(tokens).decode("utf-8", "replace")


def test_of_a_run_that_is_being_written_all_tokens_are_shown_but_those_of_half_a_character_at_the_end():
    source = Made()
    run = source.add([b" one", b" two", WORDS[4]])
    content = wrote(edited(Content(), [(0, 0, "ab")], source), 2, run, source)
    assert open_run(content, pieces_of(content.spans, source, growing=True))["tokens"] == 2
    source.runs[run, 0] = Said([WORDS[4]], done=False)
    assert open_run(content, pieces_of(content.spans, source, growing=True))["tokens"] == 0
