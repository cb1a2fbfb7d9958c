"""Text comes in by one rule, whatever door it takes: page, terminal, training text, the files of a model."""

import io
import json
import shutil

import pytest
from conftest import make_model
from hypothesis import given
from hypothesis import strategies as st

from generate import Refusal, TextDecoder, check_folder, plain_text
from webapp.runs import derivation

PARTS = ["\r", "\n", "\r\n", "a", "é", "从", "🦊", "\ufeff", "\x85", "\u2028"]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=20).map("".join)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030"]


def python_reads(text: str) -> str:
    """The second opinion: Python's own universal newlines."""
    return io.StringIO(text, newline=None).read()


@given(TEXTS)
def test_text_that_is_decoded_already_has_plain_line_endings_and_no_mark(text):
    assert plain_text(text) == python_reads(text.removeprefix("\ufeff"))


@given(TEXTS, st.sampled_from(ENCODINGS), st.integers(1, 9))
def test_bytes_in_blocks_of_any_size_are_the_same_text(text, encoding, size):
    text = text.lstrip("\ufeff").replace("\x85", "")
    data = text.encode(encoding)
    decoder = TextDecoder("a.txt", "gb18030" if encoding == "gb18030" else "utf-8")
    blocks = [data[place : place + size] for place in range(0, len(data), size)]
    found = "".join(map(decoder.decode, blocks)) + decoder.decode(b"", last=True)
    assert found == python_reads(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_a_nul_is_found_on_its_line_in_every_encoding(encoding):
    with pytest.raises(Refusal, match=r"^a\.txt looks like a binary file \(line 3: it has NUL bytes\)\.$"):
        TextDecoder("a.txt").decode("one\ntwo\nthr\0ee\n".encode(encoding), last=True)


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_the_files_of_a_model_may_begin_with_a_byte_order_mark(tmp_path, mark):
    folder = make_model(tmp_path / "tiny")
    whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    (folder / "generation_config.json").write_text('{"top_k": 7}')
    before = check_folder(folder)
    pair = shutil.copytree(folder, tmp_path / "pair")
    (pair / "tokenizer.json").unlink()
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in whole["merges"]]
    (pair / "merges.txt").write_text("\r\n".join(["#version: 0.2", *merges, ""]), "utf-8", newline="")
    (pair / "vocab.json").write_text(json.dumps(whole["vocab"]))
    for changed in (folder, pair):
        for file in changed.iterdir():
            if file.suffix in (".json", ".txt"):
                file.write_bytes(file.read_bytes().decode().encode(mark))
        found = check_folder(changed)
        assert (found.config, found.defaults) == (before.config, before.defaults)
        assert found.encode_prompt("the old king\n") == before.encode_prompt("the old king\n")


def test_a_file_of_a_model_in_another_encoding_is_named(tmp_path):
    folder = make_model(tmp_path / "tiny")
    (folder / "generation_config.json").write_bytes(b'{"a": "caf\xe9"}')
    with pytest.raises(Refusal, match=r"generation_config\.json, line 1: byte 0xe9 is not utf-8; it reads like cp1252"):
        check_folder(folder)


LINES = "Once\n\nupon a time, said the fox.\n\nThe end"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_the_page_takes_every_line_ending_as_one(visitor, ending):
    typed = {"prompt": f"\ufeff{LINES}".replace("\n", ending), "stop": ending.join("ab")}
    made = visitor.finish(visitor.start(**typed, max_new_tokens=2))
    assert made["prompt"]["text"] == LINES
    assert made["options"]["stop"] == ["a", "b"]


WRITTEN = "The old\r\n\r\nking\rspoke to the\r\nfox"


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ("The old\n\nking\nspoke to the\nfox", WRITTEN),
        ("The old\n\nking\nspoke to a\nfox", "The old\r\n\r\nking\rspoke to a\nfox"),
        ("The old\n\nking\n\nspoke", "The old\r\n\r\nking\n\nspoke"),
        ("The new\n\nking", "The new\n\nking"),
    ],
)
def test_an_edit_keeps_the_tokens_of_a_model_that_ends_its_lines_otherwise(models, edited, expected):
    folder = check_folder(models / "storyteller")
    ids, vocabulary = folder.tokenizer.encode(WRITTEN), folder.tokenizer.vocabulary
    kept, place = derivation.common_tokens([vocabulary.tokens[i] for i in ids], edited.encode())
    assert (vocabulary.bytes_of(ids[:kept]) + edited.encode()[place:]).decode() == expected
    assert kept == len(ids) or expected != WRITTEN
