"""Whatever file people have, its documents come out whole, and what cannot be read has its sentence."""

import csv
import gzip
import hashlib
import io
import json
import os
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pyarrow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tokenizers.pre_tokenizers import ByteLevel

from finetune import documents, formats, tables
from finetune.data import assumptions, encoded, load
from finetune.documents import MOST, PIECE, SPACE, START, Reading, pieces
from finetune.encoding import write_encoding
from finetune.options import Options
from finetune.sources import find_sources
from finetune.start import from_folder
from generate import END, Refusal, check_folder

ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
PARTS = ["\n", "\r", "\r\n", " ", "\t", "a", "fox", "从前", "🦊", "%%", END, START, END[:5], END[5:], "\x85", "\u2028"]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=30).map("".join)


def read(source: Path, **reading) -> list[str]:
    """The documents of a file."""
    found, text = [], ""
    for piece, ends in pieces(source, Reading(**reading)):
        assert piece
        text += piece
        if ends:
            found.append(text)
            text = ""
    assert text == "", "the last document ends with the file"
    return found


def read_in_blocks(source: Path, size: int, **reading) -> list[str]:
    """The same with blocks of `size` bytes."""
    with mock.patch.multiple(formats, BLOCK=size, SNIFF=size):
        return read(source, **reading)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    content = content.encode() if isinstance(content, str) else content
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return file


def refusal(source: Path, **reading) -> str:
    with pytest.raises(Refusal) as refused:
        read(source, **reading)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def plain(text: str) -> str:
    """The text with the line endings that Python's own reader gives it."""
    return io.StringIO(text, newline=None).read()


def kept(texts) -> list[str]:
    """What is left of some documents once old beginnings and those without a word are gone."""
    texts = [re.sub(rf"\A(?:{re.escape(START)}\n?)+", "", text) for text in texts]
    return [text for text in texts if text.strip()]


def by_lines(text: str) -> list[str]:
    """The lines as Python's own reader sees them, without their endings."""
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


# --- text -------------------------------------------------------------------------------------------------------------


@given(TEXTS, st.integers(1, 40))
@ANY
def test_a_document_ends_at_the_old_marker_and_with_the_file_however_it_is_read(tmp_path, text, size):
    expected = kept(re.split(rf"\n?{re.escape(END)}\n?", plain(text)))
    assert read_in_blocks(written(tmp_path, "a.txt", text), size) == expected


@given(TEXTS, st.integers(1, 40))
@ANY
def test_a_document_ends_at_a_separator(tmp_path, text, size):
    expected = kept(re.split(rf"\n?(?:%%|{re.escape(END)})\n?", plain(text)))
    assert read_in_blocks(written(tmp_path, "a.txt", text), size, documents="%%") == expected


@given(TEXTS, st.integers(1, 40))
@ANY
def test_each_line_is_a_document(tmp_path, text, size):
    expected = [part for line in by_lines(text) for part in line.split(END)]
    expected = [re.sub(rf"\A(?:{re.escape(START)})+", "", part) for part in expected]
    found = read_in_blocks(written(tmp_path, "a.txt", text), size, documents="line")
    assert found == [part for part in expected if part.strip()]


@given(TEXTS.filter(lambda text: END not in text and START not in text), st.integers(1, 40))
@example("\n\n\na\nb\n \t\n\n\nc\n", 3)
@ANY
def test_blank_lines_separate_documents(tmp_path, text, size):
    expected, document = [], ""
    for line in [*io.StringIO(text, newline=None), "\n"]:
        if line.strip(" \t\n"):
            document += line
        else:
            expected.append(document.removesuffix("\n"))
            document = ""
    found = read_in_blocks(written(tmp_path, "a.txt", text), size, documents="blank-line")
    assert found == [text for text in expected if text.strip()]


def test_every_space_and_newline_of_a_document_is_kept(tmp_path):
    text = "  one\n\n\ttwo  \n\n three \u2028 four\x85\n\n"
    assert read(written(tmp_path, "a.txt", text)) == [text]


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_the_line_endings_of_windows_and_of_old_macs_are_those_of_all_others(tmp_path, ending):
    rows = 'id,text\n1,"one\n\ntwo"\n2,three\n'
    assert read(written(tmp_path, "a.txt", "one\n\ntwo\n".replace("\n", ending))) == ["one\n\ntwo\n"]
    assert read(written(tmp_path, "a.csv", rows.replace("\n", ending)), column="text") == ["one\n\ntwo", "three"]
    lines = json.dumps({"text": f"one{ending}two"}) + ending
    assert read(written(tmp_path, "a.jsonl", lines)) == read(written(tmp_path, "a.json", f"[{lines}]")) == ["one\ntwo"]
    parquet.write_table(pyarrow.table({"text": [f"\ufeffone{ending}two"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["one\ntwo"]
    separated = written(tmp_path, "b.txt", f"one{ending}--{ending}two")
    assert read(separated, documents=r"\r\n--\r\n", format=r"<\r\n{text}>") == ["<\none>", "<\ntwo>"]


def test_a_separator_may_be_typed_with_escapes(tmp_path):
    source = written(tmp_path, "a.txt", "one\n\n---\t\n\ntwo\\n")
    assert read(source, documents=r"\n---\t\n") == ["one", "two\\n"]
    assert read(written(tmp_path, "b.txt", r"one\ntwo"), documents=r"\\n") == ["one", "two"]


def test_a_format_wraps_every_document_and_other_braces_stay(tmp_path):
    source = written(tmp_path, "a.txt", "one {x}\ntwo {text}\n\n")
    assert read(source, documents="line", format=r"{JOKE}:\n{text} {}") == [
        "{JOKE}:\none {x} {}",
        "{JOKE}:\ntwo {text} {}",
    ]


def test_a_document_of_spaces_is_none_unless_there_is_more(tmp_path):
    assert read(written(tmp_path, "a.txt", " \n" * 10), format="x{text}") == []
    with mock.patch.object(documents, "MOST", 8):
        assert read_in_blocks(written(tmp_path, "b.txt", " " * 30 + "a"), 4, format="<{text}>") == [f"<{' ' * 30}a>"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_the_text_and_outranks_the_encoding(tmp_path, encoding):
    source = written(tmp_path, "a.txt", "从前 é\r\n".encode(encoding))
    for size in (1, 5, 7, 2**16):
        assert read_in_blocks(source, size, encoding="latin-1") == ["从前 é\n"]
    assert read(written(tmp_path, "b.txt", "é".encode("utf-16-be")), encoding="utf-16-be") == ["é"]
    assert read(written(tmp_path, "c.txt", "é".encode("utf-16-le")), encoding="utf-16") == ["é"]


def test_an_encoding_may_be_named(tmp_path):
    source = written(tmp_path, "a.txt", "狐狸".encode("gb18030"))
    assert read_in_blocks(source, 1, encoding="gb18030") == ["狐狸"]


@pytest.mark.parametrize("size", [1, 7, 2**16])
def test_a_byte_that_does_not_decode_is_named_with_its_line(tmp_path, size):
    source = written(tmp_path, "friends.txt", b"caf\xc3\xa9\n" * 11 + b"caf\xe9\n")
    with mock.patch.multiple(formats, BLOCK=size, SNIFF=size):
        assert refusal(source) == (
            "friends.txt, line 12: byte 0xe9 is not utf-8; the rest is UTF-8: correct that place."
        )


def test_half_a_character_at_the_end_is_refused(tmp_path):
    assert "line 2: byte 0xc3 is not utf-8" in refusal(written(tmp_path, "a.txt", b"a\n\xc3"))
    assert "is not utf-16-le" in refusal(written(tmp_path, "b.txt", b"\xff\xfea\0b"))


QUOTED = "It was late.\n\u201cCome in,\u201d said the fox. He didn\u2019t.\n"
CHINESE = "从前有一个国王，他有三个女儿。\n"


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        (QUOTED, "cp1252", "cp1252"),
        ("Die K\u00f6nigin s\u00e4umte.\n", "latin-1", "cp1252"),
        (CHINESE, "gbk", "gb18030"),
        ("從前有一個國王，他有三個女兒。\n", "big5", "big5"),
        ("むかしむかし、あるところに\n", "shift_jis", "cp932"),
        ("Жили-были старик со старухой\n", "cp1251", "cp1251"),
        ("It was late.\n", "utf-16-le", "utf-16-le"),
        (CHINESE, "utf-16-be", "utf-16-be"),
    ],
)
def test_an_encoding_is_advised_by_what_the_text_looks_like_in_it_and_reads_it(tmp_path, text, encoding, named):
    source = written(tmp_path, "a.txt", text.encode(encoding))
    told = refusal(source)
    assert f"it reads like {named}" in told
    assert f"give --encoding {named}." in told
    assert read(source, encoding=named) == [text]
    assert refusal(written(tmp_path, "b.txt", ("x y\n" * 2**17 + text).encode(encoding))).count(named) == 2


def test_an_encoding_that_makes_control_characters_of_letters_is_refused(tmp_path):
    source = written(tmp_path, "a.txt", QUOTED.encode("cp1252"))
    for size in (1, 2**16):
        with mock.patch.multiple(formats, BLOCK=size, SNIFF=size):
            told = refusal(source, encoding="latin-1")
            assert told.startswith("a.txt, line 2: in iso8859-1 it has a control character, U+0093; ")
    assert "reads like cp1252 (“Come in,” said the" in told.replace("““", "“")
    assert "give --encoding utf-8" in refusal(written(tmp_path, "b.txt", QUOTED), encoding="latin-1")
    assert read(written(tmp_path, "c.txt", "é".encode("latin-1")), encoding="latin-1") == ["é"]


@pytest.mark.parametrize(
    ("text", "written_in", "given", "guess"),
    [
        (CHINESE, "gbk", "latin-1", "gb18030"),
        (CHINESE, "gbk", "cp1251", "gb18030"),
        ("Die K\u00f6nigin s\u00e4umte.\n", "utf-8", "cp1252", "utf-8"),
        (CHINESE, "gbk", "gb18030", None),
        (CHINESE, "utf-8", "utf-8", None),
        ("Die K\u00f6nigin s\u00e4umte.\n", "latin-1", "latin-1", None),
        (QUOTED, "cp1252", "cp1252", None),
        ("plain\n", "utf-8", "latin-1", None),
    ],
)
def test_an_encoding_in_which_any_bytes_are_letters_is_doubted_where_they_look_like_another(
    tmp_path, text, written_in, given, guess
):
    source = written(tmp_path, "a.txt", text.encode(written_in))
    told = documents.misread(source, Reading(encoding=given))
    assert (guess is None) if told is None else str(told).startswith(f"a.txt reads more like {guess} (“{text[:9]}")
    told = assumptions(Options(encoding=given), tmp_path, [str(source)])
    assert len(told) == (guess is not None)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.json", "a.jsonl", "a.parquet"])
def test_a_nul_is_refused_however_far_it_is(tmp_path, name):
    many, texts = "text\n" * 2**15, ["one", "two\0"]
    content = {"a.json": json.dumps(texts), "a.jsonl": "\n".join(map(json.dumps, texts))}.get(name, f"{many}a\0b\n")
    source = written(tmp_path, name, content)
    if name == "a.parquet":
        parquet.write_table(pyarrow.table({"text": texts}), source)
    assert "NUL" in refusal(source)


@pytest.mark.parametrize(
    "content",
    [
        b"text\0text",
        b"\x89PNG\r\n",
        b"%PDF-1.7 text",
        b"PK\x03\x04",
        gzip.compress(b"a", mtime=0),
        b"PAR1",
        b"\xff\xd8\xff",
    ],
)
def test_a_binary_file_is_said_to_be_one(tmp_path, content):
    assert "looks like a binary file" in refusal(written(tmp_path, "a.txt", content))


# --- cuts -------------------------------------------------------------------------------------------------------------

GPT2 = ByteLevel(add_prefix_space=False)


def test_the_spaces_before_which_we_cut_are_those_of_gpt2():
    suspects = {chr(c) for c in range(0x110000) if chr(c).isspace()} | set("\x1b\u180e\u200b\u2060\ufeff")
    spaces = {c for c in suspects if len(GPT2.pre_tokenize_str(f"!{c}")) == 2}  # other signs would go with the "!"
    assert {c for c in suspects if re.fullmatch(f"[{SPACE}]", c)} == spaces
    assert all(c.isspace() for c in spaces)


@given(st.text(st.sampled_from("a1!'sé从🦊 \n\t\r\x1c\x85\xa0\u2028\u3000"), max_size=60), st.integers(1, 9))
@ANY
def test_a_cut_lies_where_gpt2_cuts_anyway(text, size):
    with mock.patch.object(documents, "PIECE", size):
        found = [piece for piece, _ in documents.cut([(text[:20], False), (text[20:] + "x", True)])]
    whole = GPT2.pre_tokenize_str(text + "x")
    assert [word for piece in found for word, _ in GPT2.pre_tokenize_str(piece)] == [word for word, _ in whole]


def test_a_text_without_a_space_is_cut_somewhere(tmp_path):
    source = written(tmp_path, "a.txt", "狐" * (2 * MOST + 10) + " a" * PIECE)
    sizes = [len(text) for text, _ in pieces(source, Reading())]
    assert sizes == [MOST, MOST, PIECE, PIECE, 10]


# --- rows -------------------------------------------------------------------------------------------------------------

CELLS = st.text(st.sampled_from('a,"\t\r\n 从🦊'), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=6), st.sampled_from([".csv", ".tsv", ".csv.gz"]), st.integers(1, 9))
@ANY
def test_a_table_that_python_wrote_is_read_cell_by_cell(tmp_path, rows, ending, size):
    table, tabs = io.StringIO(newline=""), ending == ".tsv"
    # where not all is quoted, a tab in a cell may mean two things: see the next test but one
    quoting = csv.QUOTE_ALL if tabs else csv.QUOTE_MINIMAL
    csv.writer(table, "excel-tab" if tabs else "excel", quoting=quoting).writerows([("id", "text"), *rows])
    source = written(tmp_path, f"a{ending}", "\ufeff" + table.getvalue())
    expected = [plain(text) for _, text in rows if text.strip()]
    assert read_in_blocks(source, size, column="text") == expected
    assert read_in_blocks(source, size, column="1") == expected


def test_the_only_column_needs_no_name_and_an_empty_row_is_skipped(tmp_path):
    assert read(written(tmp_path, "a.csv", 'joke\r\n"one\r\ntwo"\r\n\r\n""\r\nthree')) == ["one\ntwo", "three"]
    assert read(written(tmp_path, "b.csv", "id,joke\n1,one\n\n3,\n4,nan\n"), column="joke") == ["one", "nan"]
    assert read(written(tmp_path, "mac.csv", "joke\rone\rtwo\r")) == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "line", "cells", "columns"),
    [
        ("text\nOnce upon a time, in a far land\n", 2, 2, 1),
        ('sep=,\ntext\n\n"a\nb"\nc,d\n', 6, 2, 1),
        ("id,text\n1,one\n2\n", 3, 1, 2),
        ("id;text\n1;one, two\n2;three; four\n3;five\n", 3, 3, 2),
        ("id\ttext\n1\tone\n2\ttwo\tthree\n4\tfive\n", 3, 3, 2),
        ("id,text\n" + "1,one\n" * 2**16 + "2,two, three\n", 2**16 + 2, 3, 2),
    ],
)
def test_a_row_that_does_not_fit_its_header_is_named_with_both_counts(tmp_path, content, line, cells, columns):
    for column in ("text", "1" if columns == 2 else "0"):
        told = refusal(written(tmp_path, "a.csv", content), column=column)
        assert told.startswith(
            f"a.csv, line {line}: the row has {cells} cell(s), where the first row has {columns}, with "
        )


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("first", "delimiter"), [("", ","), ("", ";"), ("", "\t"), ("sep=;\n", ";"), ('"sep=|"\n', "|")]
)
def test_cells_are_found_between_what_excel_puts_between_them(tmp_path, name, encoding, first, delimiter):
    rows = [("text", "label"), ("Hello, world", "1"), ("so; and so", "2"), ("a\tb | c", "3")]
    table = io.StringIO(first, newline="")
    table.seek(0, io.SEEK_END)
    csv.writer(table, delimiter=delimiter).writerows(rows)
    source = written(tmp_path, name, table.getvalue().encode(encoding))
    assert read(source, column="text") == ["Hello, world", "so; and so", "a\tb | c"]
    assert read(source, column="1") == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (['1\t"Hello', '2\tthere"'], ['"Hello', 'there"']),
        (['1\t"Come," he said', '2\t"Go'], ['"Come," he said', '"Go']),
        (['1\t"say ""hi"""', "2\tfine"], ['say "hi"', "fine"]),
        (['1\t"two\nlines"', "2\tfine"], ["two\nlines", "fine"]),
        (['1\t"a\tb"', "2\tfine"], ["a\tb", "fine"]),
        (["1\tno mark", '2\t5" and 6"'], ["no mark", '5" and 6"']),
    ],
)
def test_a_quotation_mark_joins_cells_of_a_tsv_only_where_the_rows_show_that_it_does(tmp_path, rows, expected):
    for name in ("a.tsv", "a.csv"):
        assert read(written(tmp_path, name, "\n".join(["id\ttext", *rows, ""])), column="text") == expected


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        (["Once upon a time", "The king had three daughters"], False),
        (['"Go," he said.', "Where?"], False),
        (["1|Hello", "2|there"], False),
        (["2024-01-31|Hello", "2024-02-01|there"], False),
        (["Nummer|Witz", "1|Hello", "2|there"], True),
        (["Zeit|Was ist Ihre Geschichte?", "31.1.2024 10:00:00|Once", "1.2.2024 9:00:00|Twice"], True),
        (["text", "Hello"], True),
        (["Witz", "Treffen sich zwei J\u00e4ger im Wald", "Kommt ein Mann zum Arzt"], True),
        (["Emma", "Olivia", "Ava"], None),
        (["Hello", "Hi", "How do you do my dear old friend"], None),
    ],
)
def test_a_first_row_is_taken_for_a_header_only_where_the_rows_show_it(tmp_path, rows, header):
    cells = [row.split("|") for row in rows]
    column, texts = str(len(cells[0]) - 1), [row[-1] for row in cells]
    table = io.StringIO(newline="")
    csv.writer(table).writerows(cells)
    source = written(tmp_path, "a.csv", table.getvalue())
    if header is None:
        assert "nothing tells whether its first row" in refusal(source, column=column)
    else:
        assert read(source, column=column) == texts[header:]
        assert ("no header" in str(documents.layout(source, Reading(column=column)).told)) != header
    assert read(source, column=column, header="no") == texts
    if header is not False:
        assert read(source, column=column, header="yes") == texts[1:]


def test_an_old_marker_within_a_row_is_a_border_too(tmp_path):
    source = written(tmp_path, "a.csv", f"joke\n{START}one{END}\n{START}two{END}three\n")
    assert read(source) == ["one", "two", "three"]


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=6)), st.integers(1, 9))
@ANY
def test_json_lines_are_read_field_by_field(tmp_path, texts, size):
    texts = [text.replace("<|", "") for text in texts]
    lines = "\n\n".join(json.dumps({"id": 1, "text": t}, ensure_ascii=len(texts) % 2 == 0) for t in texts)
    for name in ("a.jsonl", "a.ndjson.gz"):
        source = written(tmp_path, name, lines)
        assert read_in_blocks(source, size, field="text") == [plain(text) for text in texts if text.strip()]


@given(
    st.lists(st.text(st.characters(exclude_characters="\0"), max_size=6)), st.integers(1, 9), st.sampled_from([None, 1])
)
@ANY
def test_a_json_array_is_read_value_by_value_and_so_are_lines(tmp_path, texts, size, indent):
    texts = [text.replace("<|", "") for text in texts]
    expected = [plain(text) for text in texts if text.strip()]
    for values, field in ((texts, None), ([{"id": [1, "]"], "text": t} for t in texts], "text")):
        for content in (json.dumps(values, indent=indent), "\n".join(map(json.dumps, values))):
            source = written(tmp_path, "a.json", f"\n {content}\n")
            assert read_in_blocks(source, size, field=field) == expected


def test_a_field_inside_another_is_named_with_a_dot(tmp_path):
    lines = '{"a": {"b": {"c": "one"}}}\n{"a": {"b": {"c": null}}}\n{"a": {"b": null}}\n{"a": {"b.c": "two"}}\n{"a.b.c": "three"}'
    assert read(written(tmp_path, "a.jsonl", lines), field="a.b.c") == ["one", "two", "three"]


def test_the_only_field_needs_no_name_and_null_is_empty(tmp_path):
    assert read(written(tmp_path, "a.jsonl", '{"t": "one"}\n{"t": null}\n{"t": "two"}')) == ["one", "two"]


@pytest.mark.parametrize(
    "kind", [pyarrow.string(), pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())]
)
def test_a_column_of_parquet_is_read_row_by_row(tmp_path, kind):
    texts = [f"text {n}\n" for n in range(700)] + ["", None, "last"]
    column = pyarrow.array(texts).cast(kind)
    parquet.write_table(pyarrow.table({"id": range(703), "a.b": column}), tmp_path / "a.parquet", row_group_size=300)
    seen = []
    found = [text for text, _ in pieces(tmp_path / "a.parquet", Reading(column="a.b"), seen.append)]
    assert found == [*texts[:700], "last"]
    assert sum(seen) == (tmp_path / "a.parquet").stat().st_size
    assert "column id is no text, but int64" in refusal(tmp_path / "a.parquet", column="0")
    assert "columns id, a.b; choose one" in refusal(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path):
    with mock.patch.dict("sys.modules", {"pyarrow": None}):
        assert "pip install pyarrow" in refusal(written(tmp_path, "a.parquet", b"PAR1"))


@pytest.mark.parametrize(
    ("name", "content", "reading", "sentence"),
    [
        ("a.csv", "id,joke\n1,a", {}, "has the columns id, joke; choose one with --column"),
        ("a.csv", "id,joke\n1,a", {"column": "jok"}, "has no column jok; it has id, joke"),
        ("a.csv", "id,joke\n1,a", {"column": "2"}, "has no column 2"),
        ("a.csv", "x,x\n1,a", {"column": "x"}, "several columns x"),
        ("a.csv", 'joke\n"never closed\n' + "a\n" * 5, {}, "line 7: unexpected end of data"),
        ("a.csv", 'joke\n"a" b\n', {}, "line 2: "),
        ("a.csv", "joke\na", {"documents": "line"}, "--documents is for text files"),
        ("a.csv", "joke\na", {"field": "joke"}, "name a column with --column"),
        ("a.jsonl", '{"a": "x", "b": "y"}', {}, "line 1 has the fields a, b; choose one with --field"),
        ("a.jsonl", '{"a": "x"}\n\n{"b": "y"}', {"field": "a"}, "line 3 has no field a; it has b"),
        ("a.jsonl", '{"a": 1}', {"field": "a"}, "line 1: a is no text, but 1"),
        ("a.jsonl", '{"a": {"b": 1}}', {"field": "a.b"}, "line 1: a.b is no text, but 1"),
        ("a.jsonl", '{"a": {"b": "x"}}', {"field": "a.c"}, "line 1, in a has no field c; it has b"),
        ("a.jsonl", '{"a": "x"}', {"field": "a.c"}, "line 1: a is no object that could have a field c, but 'x'"),
        ("a.jsonl", '{"a": "x"}', {"field": "b.c"}, "line 1 has no field b.c; it has a"),
        ("a.jsonl", "[1]", {"field": "a"}, "line 1: it holds no object, but an array"),
        ("a.jsonl", '"x"', {"field": "a"}, "line 1: it holds no object, but a text"),
        ("a.jsonl", '{"a": "x", "a": "y"}', {}, "line 1 is not JSON (an object has several fields 'a')"),
        ("a.json", '["x",\n\n 1]', {}, "line 3: it holds no object, but a number"),
        ("a.json", '[{"a": "x", "b": "y"}]', {}, "line 1 has the fields a, b; choose one with --field"),
        ("a.json", '["x"\n"y"]', {}, "line 2 is not JSON (, or ] is missing)"),
        ("a.json", '["x"', {}, "line 1 is not JSON (, or ] is missing)"),
        ("a.json", '\n["x",\n{"a": ', {}, "line 3 is not JSON"),
        ("a.json", '["x"] "y"', {}, "line 1 is not JSON (something follows the array)"),
        ("a.json", '{"data":\n["x"]}', {}, "give an array of objects or texts, or one of them a line"),
        ("a.json", '{"data": ["x"]}', {}, "line 1: data is no text, but ['x']"),
        ("a.json", "[" * 10**6, {}, "line 1 is not JSON"),
        ("a.txt", "x", {"header": "no"}, "has no header"),
        ("a.jsonl", '{"a": "x"', {"field": "a"}, "line 1 is not JSON"),
        ("a.jsonl", "[" * 10**6, {"field": "a"}, "line 1 is not JSON"),
        ("a.jsonl", '{"a": "x"}', {"column": "a"}, "name a field with --field"),
        ("a.txt", "x", {"column": "a"}, "has no columns"),
        ("a.txt", "x", {"field": "a"}, "has no fields"),
        ("a.parquet", "x", {}, "cannot be read as Parquet"),
        ("a.parquet.gz", "x", {}, "unpack it first"),
        ("a.npz", "x", {}, "their tokenizer only"),
    ],
)
def test_a_row_that_cannot_be_read_has_its_sentence(tmp_path, name, content, reading, sentence):
    assert sentence in refusal(written(tmp_path, name, content), **reading)


def test_a_line_or_cell_that_never_ends_does_not_fill_the_memory(tmp_path):
    with mock.patch.object(formats, "LONGEST", 1000):
        assert "a line of more than 1,000" in refusal(written(tmp_path, "a.jsonl", "[" + "1," * 10**5), field="a")
    csv.field_size_limit(1000)
    with mock.patch.object(tables, "LONGEST", 1000):
        assert "field larger than field limit" in refusal(written(tmp_path, "a.csv", 'joke\n"' + "a\n" * 10**4))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"x" + data, lambda data: data[:30] + b"xx" + data[32:]]
)
def test_a_damaged_gzip_is_refused(tmp_path, damage):
    source = tmp_path / "a.txt.gz"
    source.write_bytes(damage(gzip.compress(os.urandom(100).hex().encode())))
    assert "is not gzip, or damaged" in refusal(source) or "is not utf-8" in refusal(source)


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        ({"format": "JOKE"}, "must hold {text} exactly once"),
        ({"format": "{text}{text}"}, "must hold {text} exactly once"),
        ({"format": "{text}" + END}, "Leave"),
        ({"documents": ""}, "separator of --documents is empty"),
        ({"encoding": "utf-9"}, "There is no encoding 'utf-9'"),
        ({"encoding": "base64"}, "There is no encoding"),
        ({"encoding": "a\0b"}, "There is no encoding"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(reading, sentence):
    with pytest.raises(Refusal, match=re.escape(sentence)):
        Reading(**reading)


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A working folder with data/ in it, and scratch/."""
    for name in ("data/b.txt", "data/a.txt", "data/.hidden", "data/sub/c.txt", "data/.git/d.txt", "scratch/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*given: str) -> list[str]:
    return [path.as_posix() for path in find_sources(given, Path("scratch"))]


def test_folders_and_globs_give_their_files_sorted_and_each_once(data):
    assert found("data") == ["data/a.txt", "data/b.txt", "data/sub/c.txt"]
    assert found("data/*.txt") == ["data/a.txt", "data/b.txt"]
    assert found("data/*", "data/a.txt") == ["data/a.txt", "data/b.txt", "data/sub/c.txt"]
    assert found("data/**/c*") == ["data/sub/c.txt"]
    assert found("data/b.txt", "data") == ["data/b.txt", "data/a.txt", "data/sub/c.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_itself(data):
    Path("data/[a].txt").write_text("x")
    assert found("data/[a].txt") == ["data/[a].txt"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("no.txt", "There is no no.txt"),
        ("*.pdf", "No file is named like"),
        ("empty", "no file in empty"),
        (None, "No file was given"),
    ],
)
def test_what_is_not_there_is_named(data, given, sentence):
    Path("empty").mkdir()
    with pytest.raises(Refusal, match=re.escape(sentence)):
        find_sources([given] if given else [], Path("scratch"))


def test_stdin_and_pipes_are_copied_to_be_read_twice(data):
    with mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO("从前".encode()))):
        (source,) = find_sources(["-", "-"], Path("scratch"))
    assert read(source) == read(source) == ["从前"]
    with piped("pipe", "piped"):
        (source,) = find_sources(["pipe"], Path("scratch"))
    assert read(source) == read(source) == ["piped"]


@contextmanager
def piped(name: str, text: str):
    """A named pipe, into which `text` is written once."""
    Path(name).parent.mkdir(exist_ok=True)
    os.mkfifo(name)
    writer = threading.Thread(target=lambda: Path(name).write_text(text))
    writer.start()
    yield
    writer.join(10)
    assert not writer.is_alive(), "nobody has read it"


def test_a_pipe_whose_writer_has_gone_is_the_copy_that_was_made_of_it(data):
    with piped("pipe", "piped"):
        first = find_sources(["pipe"], Path("scratch"))
    assert find_sources(["pipe"], Path("scratch")) == first
    assert find_sources(["data/a.txt", "./pipe"], Path("scratch")) == [Path("data/a.txt"), *first]
    assert found("*", "data/a.txt")[0] == "data/a.txt", "no pattern means a pipe"


def test_two_pipes_of_one_name_are_two_texts(data, model):
    start = from_folder(check_folder(model), Options())
    with piped("one/x", "the old king\n" * 20), piped("two/x", "the young fox\n" * 20):
        loaded = load(["one/x"], ["two/x"], Options(), start, Path("cache"), Path("scratch"), False)
    (ours,), (theirs,) = loaded.sources, loaded.validation_sources
    assert ours["name"] == theirs["name"] == "x"
    assert ours["sha256"] == hashlib.sha256(b"the old king\n" * 20).hexdigest()
    assert theirs["sha256"] == hashlib.sha256(b"the young fox\n" * 20).hexdigest()


def test_only_text_is_looked_at_for_tables(data, model):
    start = from_folder(check_folder(model), Options())
    Path("held.csv").write_text("text,n\none,1\n")
    encoded(["data"], Options(), start, Path("made"), Path("scratch"), False, write_encoding)
    (told,) = assumptions(Options(), Path("scratch"), ["made"], ["held.csv"])
    assert str(told).startswith("held.csv: ")
    assert assumptions(Options(), Path("scratch"), ["made"], []) == ()


def test_the_bytes_read_are_told_as_they_are_on_the_disk(tmp_path):
    for name in ("a.txt", "a.txt.gz", "a.csv"):
        source, seen = written(tmp_path, name, "text\n" * 300_000), []
        assert sum(1 for _ in pieces(source, Reading(), seen.append))
        assert sum(seen) == source.stat().st_size
        assert all(n >= 0 for n in seen)
