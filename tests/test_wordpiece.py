"""Chinese GPT-2s with BERT's vocabulary: read as BertTokenizer reads them, written, streamed, forked, stored and trained."""

import random
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from chinese import CHARACTERS, PIECES, SIGNS, WORDS, make_chinese, vocabulary
from conftest import taken_in, until
from test_convert_gguf import write
from test_sheet_beginnings import opened, typed_behind
from test_sheets import Page
from transformers import BertTokenizer, GPT2LMHeadModel
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from convert.folder import convert
from convert.source import find_source
from convert.to_gguf import to_gguf
from convert.to_tensorflow import to_checkpoint
from generate import Refusal, check_folder, logits_of
from webapp.views.hints import brings_spaces, script_hint
from webapp.views.tokens import cells

RUBBISH = [
    "\x00",
    "\ufffd",
    "\u200b",
    "\u3000",
    "\t",
    "\n",
    "\r",
    "\x7f",
    "\u202e",
    "\ufe0f",
    "𠀀",
    "龘",
    "ß",
    "İ",
    "ﬁ",
    "가",
    "か",
    "ｶ",
]
EMOJI = ["🦊", "👨‍👩‍👧", "🇨🇳", "❤️"]


def strings(count: int) -> list[str]:
    """Chinese, Latin, signs, emoji and rubbish, with and without spaces between."""
    dice = random.Random(3)
    pools = [
        list(CHARACTERS),
        WORDS,
        [p.removeprefix("##") for p in PIECES],
        SIGNS,
        EMOJI,
        RUBBISH,
        ["Café", "İstanbul", "x" * 120],
    ]
    pools += [["[CLS]", "[SEP]", "[UNK]", "##s", "HELLO", "2020年", "unaffable"]]
    made = []
    for _ in range(count):
        some = [dice.choice(dice.choice(pools)) for _ in range(dice.randint(0, 14))]
        made.append("".join(part + dice.choice(["", "", " ", "  "]) for part in some))
    return made


@pytest.fixture(scope="module")
def chinese(tmp_path_factory) -> Path:
    """A folder that nobody may change."""
    return make_chinese(tmp_path_factory.mktemp("chinese") / "zh")


@pytest.mark.parametrize(
    "told",
    [{}, {"do_lower_case": False}, {"tokenize_chinese_chars": False}, {"do_lower_case": False, "strip_accents": True}],
    ids=["as usual", "cased", "words", "cased without accents"],
)
def test_ten_thousand_strings_have_the_ids_that_bert_s_tokenizer_gives_them(tmp_path, told):
    folder = make_chinese(tmp_path / "zh", **told)
    ours = check_folder(folder).tokenizer
    theirs = BertTokenizer.from_pretrained(folder, split_special_tokens=True, **told)
    texts = strings(10_000 if not told else 2000)
    wanted = theirs(texts, add_special_tokens=False)["input_ids"]
    different = [text for text, ids in zip(texts, wanted, strict=True) if ours.encode(text) != ids]
    assert different == []


def test_streamed_text_is_stored_text_for_each_of_them(chinese):
    """A token's bytes are whole characters, so what is shown token by token is what all of them say together."""
    tokenizer = check_folder(chinese).tokenizer
    vocabulary = tokenizer.vocabulary
    for text in strings(10_000):
        ids = tokenizer.encode(text)
        streamed = "".join(cell.text for cell in cells(np.array(ids), vocabulary))
        assert streamed == vocabulary.bytes_of(ids).decode(), text


def test_bert_s_first_tokenizer_in_python_agrees_too(chinese):
    ours, theirs = check_folder(chinese).tokenizer, BertTokenizerLegacy(str(chinese / "vocab.txt"))
    texts = [text for text in strings(3000) if "[" not in text]  # its own way with names of marks
    different = [t for t in texts if ours.encode(t) != theirs.convert_tokens_to_ids(theirs.tokenize(t))]
    assert different == []


def test_texts_begin_with_cls_and_end_with_sep_or_where_another_begins_whatever_the_config_says(chinese):
    folder = check_folder(chinese)
    cls, sep = (vocabulary().index(name) for name in ("[CLS]", "[SEP]"))
    assert (folder.begin_id, folder.end_ids, folder.end_name) == (cls, (sep, cls), "[SEP]")
    assert folder.encode_prompt("从前") == [cls, *map(vocabulary().index, "从前")]
    assert folder.encode_prompt("") == [cls]
    assert folder.tokenizer.encode("[SEP]", parse_special=True) == [sep]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("从前有一只狐狸", "从前有一只狐狸"),
        ("我爱hello world", "我爱 hello world"),
        ("2020年3月", "2020年3月"),
        ("unaffable foxs", " unaffable foxs"),
        ("hello, world!", " hello, world!"),
        ("我  爱\n你", "我爱你"),
        ("CAFÉ", " cafe"),
        ("龘我", "[UNK]我"),
    ],
)
def test_what_is_read_of_a_text_is_shown(chinese, text, read):
    tokenizer = check_folder(chinese).tokenizer
    assert tokenizer.vocabulary.bytes_of(tokenizer.encode(text)).decode() == read


def test_what_the_vocabulary_cannot_say_is_told_beside_the_model(chinese, tmp_path):
    assert "no capitals, line breaks or repeated spaces, and [UNK] where" in str(check_folder(chinese).remarks[0])
    cased = make_chinese(tmp_path / "zh", do_lower_case=False)
    assert "reads no line breaks or repeated spaces, and [UNK]" in str(check_folder(cased).remarks[0])


@pytest.mark.parametrize(
    ("lines", "told", "sentence"),
    [
        ("[CLS]\n[SEP]\na\n", {}, r"vocab\.txt has no \[UNK\]"),
        ("a\nb\n", {}, r"vocab\.txt has no \[CLS\], \[SEP\], \[UNK\]"),
        ("", {}, r"vocab\.txt has no"),
        (None, {"do_lower_case": "yes"}, r"do_lower_case in tokenizer_config\.json must be true or false, not 'yes'"),
    ],
)
def test_a_vocabulary_that_is_none_of_bert_s_is_refused(tmp_path, lines, told, sentence):
    folder = make_chinese(tmp_path / "zh", **told)
    if lines is not None:
        (folder / "vocab.txt").write_text(lines)
    with pytest.raises(Refusal, match=sentence):
        check_folder(folder)


def test_the_tokenizer_json_that_transformers_makes_of_it_is_the_same(chinese, tmp_path):
    folder = Path(shutil.copytree(chinese, tmp_path / "zh"))
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "vocab.txt").unlink(missing_ok=True)
    first, last = check_folder(chinese), check_folder(folder)
    assert (first.begin_id, first.end_ids) == (last.begin_id, last.end_ids)
    assert first.tokenizer.vocabulary.tokens == last.tokenizer.vocabulary.tokens
    assert first.tokenizer.vocabulary.special == last.tokenizer.vocabulary.special
    assert all(first.tokenizer.encode(text) == last.tokenizer.encode(text) for text in strings(500))


def test_it_converts_from_a_pickle(chinese, tmp_path):
    made = convert(find_source(make_chinese(tmp_path / "old", "pytorch_model.bin")), tmp_path / "made")
    assert made.certificate.largest_difference < 1e-4
    first, last = check_folder(chinese), check_folder(tmp_path / "made")
    assert (first.begin_id, first.end_ids) == (last.begin_id, last.end_ids)
    ids = first.encode_prompt("从前有一只狐狸")
    assert np.abs(logits_of(first, [ids])[0] - logits_of(last, [ids])[0]).max() < 1e-5
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "made").eval()
    with torch.inference_mode():
        assert np.abs(theirs(torch.tensor([ids])).logits[0].numpy() - logits_of(last, [ids])[0]).max() < 1e-4


def test_it_goes_to_tensorflow_and_back(chinese, tmp_path):
    to_checkpoint(check_folder(chinese), tmp_path / "old")
    convert(find_source(tmp_path / "old"), tmp_path / "made", check=False)
    first, last = check_folder(chinese), check_folder(tmp_path / "made")
    assert (first.begin_id, first.end_ids) == (last.begin_id, last.end_ids)
    assert all(first.encode_prompt(text) == last.encode_prompt(text) for text in strings(200))


def test_a_list_of_words_of_any_name_is_the_vocabulary_that_is_asked_for(chinese, tmp_path):
    """GPT2-Chinese has several in one folder; the one beside it, of another model, is not taken."""
    source = make_chinese(tmp_path / "run", "pytorch_model.bin")
    lists = tmp_path / "cache"
    lists.mkdir()
    (source / "vocab.txt").rename(lists / "vocab_small.txt")
    (lists / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na\nb\n", "utf-8")
    convert(find_source(source), tmp_path / "made", vocabulary=lists / "vocab_small.txt", check=False)
    first, last = check_folder(chinese), check_folder(tmp_path / "made")
    assert first.tokenizer.vocabulary.tokens == last.tokenizer.vocabulary.tokens
    (lists / "vocab_small.txt").write_text("a\nb\n")
    with pytest.raises(Refusal, match=r"vocab_small\.txt has no \[CLS\], \[SEP\], \[UNK\]"):
        convert(find_source(source), tmp_path / "other", vocabulary=lists / "vocab_small.txt", check=False)


def test_no_gguf_is_written_of_it_as_llama_would_close_every_prompt(chinese, tmp_path):
    with pytest.raises(
        Refusal, match=r"zh has BERT's vocabulary, and llama\.cpp ends every prompt of such a model with \[SEP\]"
    ):
        to_gguf(check_folder(chinese), tmp_path / "zh.gguf", "f16")
    assert not list(tmp_path.iterdir())


def test_a_gguf_of_it_wants_the_list_of_words_and_is_the_model_then(chinese, tmp_path):
    """Whether capitals and accents count is in no GGUF."""
    write(tmp_path / "zh.gguf", chinese, gguf.GGMLQuantizationType.F32, tokenizer="bert", pre="default")
    with pytest.raises(Refusal, match=r"a vocabulary of the kind 'bert', .*; bring the model's own with --vocab"):
        convert(find_source(tmp_path / "zh.gguf"), tmp_path / "made", check=False)
    convert(find_source(tmp_path / "zh.gguf"), tmp_path / "made", vocabulary=chinese / "vocab.txt", check=False)
    first, last = check_folder(chinese), check_folder(tmp_path / "made")
    assert (first.begin_id, first.end_ids) == (last.begin_id, last.end_ids)
    ids = first.encode_prompt("从前有一只狐狸")
    assert last.encode_prompt("从前有一只狐狸") == ids
    assert np.abs(logits_of(first, [ids])[0] - logits_of(last, [ids])[0]).max() < 1e-5


@pytest.fixture(scope="module")
def served(models, chinese):
    """The name of the model in the folder of the session's server."""
    shutil.copytree(chinese, models / "zh")
    yield "zh"
    shutil.rmtree(models / "zh")


PROMPT = "从前有一只 Fox 龘，\n它说：hello  world"


def test_streamed_text_is_stored_text_and_the_prompt_stays_as_it_was_typed(visitor, served):
    run = visitor.start(PROMPT, model=served, max_new_tokens=40, top_k=0, temperature=1)
    text = ""
    for event in visitor.events(run):
        text = taken_in(text, event)
    told = visitor.json(run)
    assert text == told["samples"][0]["text"]
    assert text
    assert told["prompt"]["typed"] == PROMPT
    assert told["prompt"]["text"] == "从前有一只 fox[UNK]，[UNK]说： hello world"
    page = visitor.get(run).text
    assert "In 2 places the prompt has what the model&#39;s vocabulary does not know" in page.replace("'", "&#39;")
    assert '<dd class="typed" dir="auto">从前有一只 Fox 龘，&#10;'.replace("&#10;", "\n") in page
    assert PROMPT in visitor.get(f"/?parent={run.rsplit('/', 1)[-1]}").text.replace("&#10;", "\n")
    assert visitor.get(f"{run}.txt").text == PROMPT + text
    assert "<title>从前有一只 Fox 龘， 它说：hello world" in page


def test_a_run_is_found_by_words_that_its_tokens_do_not_say(visitor, served):
    run = visitor.start("从前 Fox 龖，", model=served, max_new_tokens=3)
    visitor.finish(run)
    until(lambda: run in visitor.get("/runs?q=Fox 龖").text, what="the run among those that are found")


def test_a_run_of_it_is_continued_forked_retried_and_edited(visitor, served):
    run = visitor.start(PROMPT, model=served, max_new_tokens=12, top_k=0, temperature=1)
    told = visitor.finish(run)
    ids = [token["id"] for token in told["prompt"]["tokens"] + told["samples"][0]["tokens"]]
    further = visitor.finish(visitor.post(f"{run}/continue", data={"sample": 0}).headers["Location"])
    assert [token["id"] for token in further["prompt"]["tokens"]] == ids
    again = visitor.finish(visitor.post(f"{run}/retry").headers["Location"])
    assert again["prompt"] | {"tokens": None} == told["prompt"] | {"tokens": None}
    other = told["samples"][0]["tokens"][3]["alternatives"][2]["id"]
    fork = {"sample": 0, "place": 3, "token": other}
    forked = visitor.finish(visitor.post(f"{run}/fork", data=fork).headers["Location"])
    assert [token["id"] for token in forked["prompt"]["tokens"]] == [*ids[: len(ids) - 12 + 3], other]
    key = run.rsplit("/", 1)[-1]
    edited = visitor.finish(visitor.start(PROMPT + "！", model=served, parent=key))
    assert edited["prompt"]["typed"] == PROMPT + "！"
    assert [token["id"] for token in edited["prompt"]["tokens"]] == [*ids[: len(ids) - 12], vocabulary().index("！")]


def said(chinese: Path, ids: list[int]) -> str:
    """What some tokens say."""
    return check_folder(chinese).tokenizer.vocabulary.bytes_of(ids).decode()


def test_what_goes_on_from_a_prompt_keeps_it_as_it_was_typed(visitor, served, chinese):
    run = visitor.start(PROMPT, model=served, max_new_tokens=6, top_k=0, temperature=1)
    written = visitor.finish(run)["samples"][0]
    ids = [token["id"] for token in written["tokens"]]
    further = visitor.finish(visitor.post(f"{run}/continue", data={"sample": 0}).headers["Location"])
    assert further["prompt"]["typed"] == PROMPT + written["text"]
    other = written["tokens"][2]["alternatives"][2]["id"]
    for place, token in ((2, other), (3, None)):
        data = {"sample": 0, "place": place} | ({} if token is None else {"token": token})
        forked = visitor.finish(visitor.post(f"{run}/fork", data=data).headers["Location"])
        assert forked["prompt"]["typed"] == PROMPT + said(chinese, [*ids[:place], *([] if token is None else [token])])


@pytest.mark.parametrize(
    ("word", "kept"),
    [("[UNK]", "从前有一只 Fox 龘，\n"), ("world", "从前有一只 Fox 龘，\n它说：hello  "), ("fox", "从前有一只 ")],
)
def test_another_word_in_a_prompt_leaves_what_was_typed_before_it(visitor, served, chinese, word, kept):
    """Spaces, capitals, line breaks and what is [UNK] before the place stay; the space that a word brings is not doubled."""
    run = visitor.start(PROMPT, model=served, max_new_tokens=0)
    tokens = visitor.finish(run)["prompt"]["tokens"]
    ids = [token["id"] for token in tokens]
    place = max(n for n, index in enumerate(ids) if index == vocabulary().index(word))
    other = tokens[place]["alternatives"][1]["id"]
    data = {"sample": "prompt", "place": place, "token": other}
    forked = visitor.finish(visitor.post(f"{run}/fork", data=data).headers["Location"])
    assert forked["prompt"]["typed"] == kept + said(chinese, [other]).lstrip(" ")
    assert [token["id"] for token in forked["prompt"]["tokens"]] == [*ids[:place], other]


def test_a_run_becomes_a_sheet_with_what_was_typed_and_goes_on_from_the_same_tokens(visitor, served):
    run = visitor.start(PROMPT, model=served, max_new_tokens=6, top_k=0, temperature=1)
    first = visitor.finish(run)
    page = Page(visitor).open("", **{"from": {"run": run.rsplit("/", 1)[-1], "sample": 0}})
    assert page.text == PROMPT + first["samples"][0]["text"]
    page.type(len(page.text), 0, "\n我  爱你")
    page.write(model=served)
    later = page.state["versions"][0]["run"]
    told = visitor.json(f"/r/{later}")
    assert told["prompt"]["typed"] == f"{PROMPT}{first['samples'][0]['text']}\n我  爱你"
    ids = [token["id"] for part in (first["prompt"], first["samples"][0]) for token in part["tokens"]]
    assert [token["id"] for token in told["prompt"]["tokens"]][: len(ids)] == ids
    opened = Page(visitor).open("", **{"from": {"run": later}})
    assert opened.text == told["prompt"]["typed"]
    assert [where is None for _, where in opened.inks].count(True) == len(PROMPT) + len("\n我  爱你")


def test_a_sheet_keeps_what_was_typed_and_writes_on_behind_it(visitor, served):
    page = Page(visitor).open(PROMPT)
    page.write(model=served)
    assert page.text.startswith(PROMPT)
    written = page.text.removeprefix(PROMPT)
    assert written
    assert [where for _, where in page.inks[: len(PROMPT)]] == [None] * len(PROMPT)
    page.type(len(page.text), 0, "\n我爱你")
    page.write(model=served)
    assert page.text.startswith(f"{PROMPT}{written}\n我爱你")
    told = visitor.json(f"/r/{page.state['versions'][0]['run']}")
    assert told["prompt"]["typed"] == f"{PROMPT}{written}\n我爱你"


def test_another_word_in_a_sheet_is_part_of_what_its_run_says_was_typed(visitor, served, chinese):
    tokens = check_folder(chinese).tokenizer.vocabulary.tokens
    page = Page(visitor).open(PROMPT)
    page.write(model=served, top_k="0", temperature="1")
    before, span = page.text, page.state["spans"][1]
    token = visitor.json(f"/r/{span['run']}")["samples"][0]["tokens"][3]
    other = next(one for one in token["alternatives"] if one["id"] != token["id"] and one["id"] > 5)
    wish = {"model": served, "max_new_tokens": "4", "min_new_tokens": "4"}
    page.do("word", run=span["run"], sample=0, place=3, token=other["id"], options=wish)
    page.rest()
    prompt = visitor.json(f"/r/{page.state['versions'][0]['run']}")["prompt"]
    first = "".join(text for text, *_ in span["cells"][:3])
    assert before.startswith(PROMPT + first)
    assert prompt["typed"] == PROMPT + first + tokens[other["id"]].decode()
    assert page.text.startswith(prompt["typed"])


@pytest.mark.parametrize("sample", ["", "&sample=0"])
def test_a_sheet_that_goes_on_from_a_run_shows_what_was_typed_and_can_be_typed_in(visitor, served, sample):
    run = visitor.start("我  爱\n你", model=served, max_new_tokens=5, top_k=0, temperature=1)
    said = visitor.finish(run)["samples"][0]["text"] if sample else ""
    page = opened(visitor, f"/?parent={run[3:]}{sample}")
    assert page.text == "我  爱\n你" + said
    made = typed_behind(page)
    assert made.inks == [*page.inks, ("!", None)]
    again = opened(visitor, f"/?parent={made.write(model=served).state['versions'][0]['run']}&sample=0")
    assert again.text == made.text
    assert again.inks[:5] == made.inks[:5]
    assert [bool(where) for _, where in again.inks] == [bool(where) for _, where in made.inks]


def test_a_completion_that_is_kept_keeps_its_prompt_as_it_was_given(visitor, served):
    asked = {"model": served, "prompt": PROMPT, "max_tokens": 3, "store": True}
    answer = visitor.post("/v1/completions", json=asked).get_json()
    told = visitor.json(answer["rubric"]["url"].removeprefix("http://localhost"))
    assert told["prompt"]["typed"] == PROMPT
    assert answer["choices"][0]["text"] == told["samples"][0]["text"]


def test_what_a_vocabulary_says_losslessly_is_not_stored_twice(visitor):
    assert "typed" not in visitor.finish(visitor.start("Once upon a time"))["prompt"]


def test_its_page_and_the_first_page_are_whole(visitor, served):
    page = visitor.get(f"/models/{served}")
    assert page.status_code == 200
    assert "Its vocabulary is BERT" in page.text.replace("&#39;", "'")
    assert served in visitor.get("/").text


def test_its_first_page_offers_beginnings_in_its_language(visitor, served):
    page = visitor.get(f"/?model={served}").text
    assert "从前有座山，山里有座庙" in page
    assert "The king had three daughters" not in page
    assert "The king had three daughters" in visitor.get("/?model=tiny").text


def test_it_is_never_said_to_stumble_over_chinese_but_over_what_it_reads_as_unknown(chinese):
    folder = check_folder(chinese)
    assert script_hint("从前有一只狐狸，住在河边的山上。他说：“我爱你，中国。”", folder) == ""
    assert "hardly knows this script" in script_hint("从前，Жил-был лис", folder)
    assert not brings_spaces(folder)


def test_it_is_trained_and_its_documents_begin_and_end_as_they_should(bench, chinese, capsys):
    bench.text.write_text("从前有一只狐狸，住在河边。\n老人走到那里，发现龙船。\n" * 30, "utf-8")
    folder = check_folder(bench.made("out", "--steps", 4, "--documents", "line", model=chinese))
    told = capsys.readouterr()
    assert " are [UNK]: the vocabulary has nothing for what stands there." in told.out + told.err
    known = check_folder(chinese)
    assert (folder.begin_id, folder.end_ids) == (known.begin_id, known.end_ids)
    assert all(folder.tokenizer.encode(text) == known.tokenizer.encode(text) for text in strings(200))
