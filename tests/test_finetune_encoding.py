"""Tokens of a stream are the tokens of the whole, made once, and nothing half-made is ever taken for them."""

import errno
import functools
import gzip
import io
import json
import os
import re
import resource
import subprocess
import sys
import textwrap
import time
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tokenizers
from conftest import MODELS, ROOT, TRICKY
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetune import documents, encoding, formats, old_npz
from finetune.documents import Reading
from finetune.encoding import LOCK, encode, open_encoding, write_encoding
from generate import END, Refusal

ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
STORYTELLER = MODELS / "storyteller" / "tokenizer.json"
TOKENIZER = tokenizers.Tokenizer.from_file(str(STORYTELLER))
END_ID = TOKENIZER.token_to_id(END)
WORDS = [
    "the king's fox",
    "I'll we've don't",
    "  ",
    " ",
    "\r\n",
    "\n\n",
    "\t",
    "从前有一只狐狸。",
    "🦊👨‍👩‍👧",
    "é",
    "\x85",
    "\u2028",
    "\xa0",
]
WORDS += ["\u3000", "Жили-были", "١٢٣", "हिन्दी", "\x1c", "12,345", "...!?", "'", "'s", "<|endof", "\x00"]
CODEC = encoding.Codec(TOKENIZER, None, END_ID)
TEXTS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), max_size=25).map("".join)


@contextmanager
def in_small_blocks(size: int):
    """Read, cut and tokenise `size` at a time."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(formats, BLOCK=size, SNIFF=max(4, size)))
        stack.enter_context(mock.patch.object(documents, "PIECE", size))
        stack.enter_context(mock.patch.object(encoding, "BATCH", size * 3))
        stack.enter_context(mock.patch.object(old_npz, "COUNT", size))
        yield


def ids_of(text: str, tokenizer: tokenizers.Tokenizer = TOKENIZER) -> list[int]:
    """The whole text's ids, encoded at once; the end marker is ordinary text."""
    return plain(tokenizer).encode(text, add_special_tokens=False).ids


@functools.cache
def plain(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A copy that knows no end marker."""
    whole = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    whole.encode_special_tokens = True
    return whole


def written(folder: Path, name: str, text: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def made(source: Path | list[Path], begin: int | None = None, tokenizer=TOKENIZER, end: int = END_ID, **reading):
    """The encoding of some files, in the folder cache/ beside the first."""
    sources = source if isinstance(source, list) else [source]
    return encode(sources, Reading(**reading), tokenizer, begin, end, sources[0].parent / "cache", lambda _: None)


def rows(found) -> list[list[int]]:
    """The ids of each document."""
    return [part.tolist() for part in np.split(found.tokens, found.ends[:-1])]


def refusal(source, **options) -> str:
    """The sentence with which an encoding is refused; checks that nothing is left in the cache."""
    with pytest.raises(Refusal) as refused:
        made(source, **options)
    cache = (source[0] if isinstance(source, list) else source).parent / "cache"
    assert not cache.exists() or list(cache.iterdir()) == []
    assert "\n" not in str(refused.value)
    return str(refused.value)


# --- tokens -----------------------------------------------------------------------------------------------------------


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(1, 50))
@example([TRICKY], 3)
@ANY
def test_the_tokens_of_a_stream_are_those_of_the_whole_text(tmp_path, texts, size):
    texts = [text for text in (t.replace(END, "").replace("\0", "") for t in texts) if text.strip()] or ["fox"]
    plain = [io.StringIO(text.removeprefix("\ufeff"), newline=None).read() for text in texts]
    sources = [written(tmp_path, f"{n}.txt", text) for n, text in enumerate(texts)]
    with in_small_blocks(size):
        found = write_encoding(sources, Reading(), TOKENIZER, None, END_ID, tmp_path / "out", lambda _: None)
    assert rows(found) == [[*ids_of(text), END_ID] for text in plain]
    assert found.ends.dtype == np.int64
    assert found.tokens.dtype == np.uint16


def test_an_old_marker_becomes_the_one_end_token(tmp_path):
    found = made(written(tmp_path, "a.txt", f"One.\n{END}\nTwo!{END}{END}Three"))
    assert rows(found) == [[*ids_of(text), END_ID] for text in ("One.", "Two!", "Three")]
    assert list(found.tokens).count(END_ID) == 3


def test_the_begin_token_stands_before_every_document_however_long(tmp_path):
    texts = ["one " * 50, "two", "three " * 70]
    source = written(tmp_path, "a.txt", "\n".join(texts))
    with in_small_blocks(10):
        found = made(source, begin=7, documents="line", format="<{text}>")
    assert rows(found) == [[7, *ids_of(f"<{text}>"), END_ID] for text in texts]


def test_half_a_surrogate_pair_in_json_is_a_replacement_character(tmp_path):
    found = made(written(tmp_path, "a.jsonl", r'{"t": "a \ud83e b \ud83e\udd8a"}'))
    assert rows(found) == [[*ids_of("a \ufffd b 🦊"), END_ID]]


def test_a_name_that_is_not_utf8_is_no_harm(tmp_path):
    found = made(written(tmp_path, os.fsdecode(b"caf\xe9.txt"), "fox"), format=os.fsdecode(b"\xe9{text}"))
    assert rows(found) == [[*ids_of("\ufffdfox"), END_ID]]
    assert open_encoding(found.path).sources[0]["name"] == "caf\ufffd.txt"


def test_many_ids_need_four_bytes(tmp_path):
    found = made(written(tmp_path, "a.txt", "fox"), end=70_000)
    assert found.tokens.dtype == np.uint32
    assert rows(found) == [[*ids_of("fox"), 70_000]]


def test_the_given_tokenizer_stays_as_it_is(tmp_path):
    tokenizer = tokenizers.Tokenizer.from_file(str(STORYTELLER))
    tokenizer.enable_truncation(2)
    before = tokenizer.to_str(), tokenizer.encode_special_tokens
    assert rows(made(written(tmp_path, "a.txt", "the old king and the fox"), tokenizer=tokenizer)) == [
        [*ids_of("the old king and the fox"), END_ID]
    ]
    assert (tokenizer.to_str(), tokenizer.encode_special_tokens) == before


def changed(**parts) -> tokenizers.Tokenizer:
    """The storyteller's tokenizer with other parts."""
    return tokenizers.Tokenizer.from_str(json.dumps(json.loads(STORYTELLER.read_text()) | parts))


def test_a_tokenizer_that_changes_or_loses_text_is_refused(tmp_path):
    source = written(tmp_path, "friends.txt", "the Old king")
    lower = changed(normalizer={"type": "Lowercase"})
    assert "friends.txt: this model's tokenizer cannot write 'O'" in refusal(source, tokenizer=lower)
    model = json.loads(STORYTELLER.read_text())["model"]
    kept = {token: index for token, index in model["vocab"].items() if "k" not in token}
    poor = changed(model=model | {"vocab": kept, "merges": []}, added_tokens=[])
    assert "cannot write 'k'" in refusal(source, tokenizer=poor)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"从": 0}, unk_token="从"))
    assert "not a byte-level BPE" in refusal(source, tokenizer=words)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_same_is_encoded_once(tmp_path):
    source, seen = written(tmp_path, "a.txt", "the fox"), []
    first = made(source)
    with mock.patch.object(encoding, "write", side_effect=AssertionError("encoded again")):
        renamed = source.rename(tmp_path / "b.txt")
        again = encode([renamed], Reading(), TOKENIZER, None, END_ID, tmp_path / "cache", seen.append)
    assert again.path == first.path
    assert rows(again) == rows(first)
    assert [s["name"] for s in again.sources] == ["b.txt"]
    assert sum(seen) == 7


def test_whatever_changes_the_tokens_changes_the_key(tmp_path):
    source = written(tmp_path, "a.txt", "text\nthe fox")
    other = tokenizers.Tokenizer.from_file(str(STORYTELLER))
    other.add_tokens(["fox"])
    paths = [
        made(source).path,
        made(source, begin=1).path,
        made(source, end=1).path,
        made(source, documents="line").path,
        made(source, format="a {text}").path,
        made(source, encoding="latin-1").path,
        made(source, tokenizer=other).path,
        made([source, source]).path,
        made(written(tmp_path, "a.csv", "text\nthe fox")).path,
        made(written(tmp_path, "a.txt", "text\nthe fix")).path,
    ]
    assert len(set(paths)) == len(paths)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(p.name for p in paths)


@pytest.mark.parametrize("damage", ["encoding.json", "tokens.bin", "ends.bin"])
def test_a_cache_that_was_damaged_is_made_anew(tmp_path, damage):
    source = written(tmp_path, "a.txt", "the fox")
    path = made(source).path
    os.truncate(path / damage, 4)
    with pytest.raises(Refusal):
        open_encoding(path)
    assert rows(made(source)) == [[*ids_of("the fox"), END_ID]]


def test_an_encoding_is_opened_only_with_its_own_tokenizer(tmp_path):
    found = made(written(tmp_path, "a.txt", "the fox"))
    assert rows(open_encoding(found.path, TOKENIZER)) == rows(found)
    other = tokenizers.Tokenizer.from_file(str(STORYTELLER))
    other.add_tokens(["fox"])
    with pytest.raises(Refusal, match="another tokenizer"):
        open_encoding(found.path, other)
    with pytest.raises(Refusal, match="holds no encoded text"):
        open_encoding(tmp_path)


def test_a_full_disk_has_its_sentence_and_leaves_nothing(tmp_path):
    source = written(tmp_path, "a.txt", "the fox " * 10_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a file may not grow past this: a disk full at once
    try:
        sentence = refusal(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot be written: {os.strerror(errno.EFBIG)}" in sentence


def test_a_killed_process_leaves_nothing_that_is_taken_for_a_cache(tmp_path):
    source = written(tmp_path, "a.txt", "the fox " * 10**6)
    code = f"""
        import os, tokenizers
        from pathlib import Path
        from finetune.encoding import Reading, encode
        tokenizer = tokenizers.Tokenizer.from_file({str(STORYTELLER)!r})
        seen = []
        def progress(size):
            seen.append(size)
            if len(seen) == 4:
                os.kill(os.getpid(), 9)
        encode([Path({str(source)!r})], Reading(), tokenizer, None, 0, Path({str(tmp_path / "cache")!r}), progress)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=False).returncode == -9
    (left,) = (tmp_path / "cache").iterdir()
    assert left.name.startswith(".")
    (tmp_path / "cache" / ".precious").mkdir()
    small = written(tmp_path, "b.txt", "the fox")
    made(small)
    assert left.exists(), "it might be a process that has not locked it yet"
    os.utime(left / LOCK, (time.time() - 1000,) * 2)
    found = made(small, begin=3)
    assert not left.exists()
    assert (tmp_path / "cache" / ".precious").exists()
    assert found.path.exists()


def test_what_a_living_process_is_writing_is_left_alone(tmp_path):
    part = tmp_path / "cache" / ".abc-123"
    part.mkdir(parents=True)
    with encoding.locked(part):
        os.utime(part / LOCK, (0, 0))
        made(written(tmp_path, "a.txt", "the fox"))
        assert (part / LOCK).exists()


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    source = written(tmp_path, "a.txt", "the fox")
    with pytest.raises(Refusal, match="was changed while it was read"):
        encode(
            [source], Reading(), TOKENIZER, None, END_ID, tmp_path / "cache", lambda _: source.write_text("and more")
        )
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ([""], "0.txt: empty; there is nothing to learn from"),
        (["", ""], "0.txt and 1 more: empty"),
        ([" \n "], "0.txt: no document with any text is in there"),
    ],
)
def test_without_a_word_there_is_nothing_to_learn_from(tmp_path, texts, sentence):
    sources = [written(tmp_path, f"{n}.txt", text) for n, text in enumerate(texts)]
    assert sentence in refusal(sources)


def test_an_error_late_in_the_file_leaves_nothing(tmp_path):
    source = written(tmp_path, "a.txt", b"fox\n" * 200_000 + b"\xe9")
    assert "a.txt, line 200001: byte 0xe9 is not utf-8" in refusal(source, documents="line")
    assert "cannot be read" in refusal(tmp_path / "no.txt")


def test_one_empty_file_among_others_is_no_harm(tmp_path):
    found = made([written(tmp_path, "a.txt", ""), written(tmp_path, "b.txt", "fox")])
    assert rows(found) == [[*ids_of("fox"), END_ID]]
    assert [s["bytes"] for s in found.sources] == [0, 3]


# --- old encodings ----------------------------------------------------------------------------------------------------


def npz(folder: Path, *arrays, **named) -> Path:
    np.savez_compressed(folder / "old.npz", *arrays, **named)
    return folder / "old.npz"


@pytest.mark.long
@given(st.lists(st.lists(st.one_of(TEXTS, st.just(END), st.just(f".\n{END}\n")), max_size=5), max_size=4), st.data())
@ANY
def test_an_old_encoding_holds_what_its_files_hold(tmp_path, chunks, data):
    dtype = data.draw(st.sampled_from(["<u2", "<i4", ">i8"]))
    texts = ["".join(chunk).replace("\0", "").removeprefix("\ufeff") for chunk in [*chunks, ["fox"]]]
    # the marker as seven tokens, or others where it touches punctuation
    source = npz(tmp_path, *(np.array(ids_of(text), dtype) for text in texts))
    with in_small_blocks(data.draw(st.integers(1, 30))):
        old = write_encoding([source], Reading(), TOKENIZER, None, END_ID, tmp_path / "old", lambda _: None)
        sources = [written(tmp_path, f"{n}.txt", text) for n, text in enumerate(texts)]
        new = write_encoding(sources, Reading(), TOKENIZER, None, END_ID, tmp_path / "new", lambda _: None)
    assert rows(old) == rows(new)


def test_an_old_marker_is_found_where_its_tokens_are_joined_to_others(tmp_path):
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(["one.< two.< three.<"] * 9, vocab_size=300, special_tokens=[END])
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    ids = ids_of(f"one.{END}two", tokenizer)
    assert tokenizer.token_to_id(".<") in ids
    found = made(npz(tmp_path, np.array(ids)), tokenizer=tokenizer, end=0)
    assert rows(found) == [[*ids_of(text, tokenizer), 0] for text in ("one.", "two")]


def test_a_real_end_token_in_an_old_encoding_is_a_border_too(tmp_path):
    source = npz(tmp_path, np.array([*ids_of("one"), END_ID, *ids_of(f"two.{END}three")], np.int32))
    assert rows(made(source)) == [[*ids_of(text), END_ID] for text in ("one", "two.", "three")]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([1.0]), "float64 of shape [1]"),
        (np.array([["fox"]]), "of shape [1, 1]"),
        (np.array([[1]]), "int64 of shape [1, 1]"),
        (np.array([{"a": 1}], object), "holds objects"),
        (np.array([3, 8192]), "the id 8192, but this model's tokenizer has 8192 tokens"),
        (np.array([3, -1]), "the id -1"),
        (np.array(ids_of("狐")[:1]), "spell no text with this model's tokenizer"),
        (np.array([], np.int32), "no document with any text"),
    ],
)
def test_what_is_no_old_encoding_of_this_model_has_its_sentence(tmp_path, array, sentence):
    assert sentence in refusal(npz(tmp_path, array))


def test_a_damaged_old_encoding_is_refused(tmp_path):
    whole = npz(tmp_path, np.arange(1000)).read_bytes()
    for data in (b"", whole[:-30], whole[:40] + b"\xff" * 20 + whole[60:], b"x" * 100):
        sentence = refusal(written(tmp_path, "old.npz", data))
        assert "damaged" in sentence or "empty" in sentence
    with zipfile.ZipFile(tmp_path / "old.npz", "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<i4', ")
    assert "damaged" in refusal(tmp_path / "old.npz")
    assert "--documents is for text files" in refusal(npz(tmp_path, np.arange(3)), documents="line")


KINDS = {
    ".txt": f"the fox\n{END}".encode(),
    ".txt.gz": gzip.compress(b"the fox " * 9),
    ".csv": b'text\n"the fox"\n',
    ".jsonl": b'{"text": "the fox"}\n',
    ".parquet": b"PAR1PAR1",
    ".npz": None,
}


@pytest.mark.parametrize("ending", KINDS)
@given(st.data())
@ANY
def test_no_file_whatever_is_in_it_brings_more_than_a_sentence(tmp_path, ending, data):
    content = KINDS[ending] or npz(tmp_path, np.arange(9)).read_bytes()
    place = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 4))
    source = written(
        tmp_path, f"a{ending}", content[:place] + data.draw(st.binary(max_size=4)) + content[place + length :]
    )
    with in_small_blocks(8), suppress(Refusal):
        for _ in encoding.batches([source], Reading(), CODEC, lambda _: None):
            pass


# --- memory -----------------------------------------------------------------------------------------------------------

CHILD = """
    import sys, threading, time, tokenizers
    from pathlib import Path
    from finetune.encoding import Reading, encode

    peak = 0

    def watch():
        global peak
        while True:
            status = Path("/proc/self/status").read_text()
            peak = max(peak, next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")))
            time.sleep(0.02)  # between two looks at its own memory

    threading.Thread(target=watch, daemon=True).start()
    tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
    start = time.perf_counter()
    found = encode([Path(sys.argv[2])], Reading(sys.argv[3]), tokenizer, None, 0, Path(sys.argv[4]), lambda _: None)
    print(peak * 1024, time.perf_counter() - start, len(found.tokens), len(found.ends))
"""


def varied(file: Path, size: int) -> None:
    """Write about `size` bytes of lines that differ."""
    random = np.random.default_rng(0)
    words = [*re.findall(r"\w+", (ROOT / "README.md").read_text()), "从前", "狐狸", "🦊", "don't", "1984", "…"]
    with file.open("w", encoding="utf-8") as out:
        while out.tell() < size:
            chosen = random.choice(words, (2000, 12))
            out.write("".join(" ".join(line) + f" {random.integers(10**9)}.\n" for line in chosen))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("documents", "size"), [("file", 10**9), ("line", 10**8)])
def test_a_file_of_a_gigabyte_is_encoded_in_less_than_400_megabytes(tmp_path, documents, size):
    varied(tmp_path / "large.txt", size)
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(CHILD),
        STORYTELLER,
        tmp_path / "large.txt",
        documents,
        tmp_path / "cache",
    ]
    child = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=True)
    peak, seconds, tokens, ends = map(float, child.stdout.split())
    print(f"\n{documents}: {tokens:,.0f} tokens, {size / 1e6 / seconds:.1f} MB/s, at most {peak / 1e6:.0f} MB")
    assert peak < 400e6
    assert ends == (1 if documents == "file" else (tmp_path / "large.txt").read_bytes().count(b"\n"))
