"""Every way of being broken has its sentence, and none of them leaves anything behind."""

import contextlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import edit_json, make_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_convert import CHECKPOINTS, run_convert

from convert import proto, snappy
from convert.archive import unpacked
from convert.bundle import open_bundle, parse
from convert.folder import convert
from convert.proto import Damaged
from convert.source import find_source
from convert.table import entries, masked_crc
from convert.to_tensorflow import field, number, table, to_checkpoint
from generate import Refusal, check_folder

OPENAI = CHECKPOINTS / "openai"


@pytest.fixture
def run(tmp_path) -> Path:
    """A copy of OpenAI's kind of folder, to be broken."""
    return Path(shutil.copytree(OPENAI, tmp_path / "run"))


def refusal(run: Path, **options) -> str:
    """The sentence with which a conversion is refused; checks that nothing is left at or beside the target."""
    target = run.parent / "models" / "made"
    target.parent.mkdir(exist_ok=True)
    with pytest.raises(Refusal) as refused:
        convert(find_source(run), target, check=False, **options)
    assert list(target.parent.iterdir()) == []
    assert "\n" not in str(refused.value)
    return str(refused.value)


def data(run: Path) -> Path:
    return run / "model.ckpt.data-00000-of-00001"


def index(run: Path) -> Path:
    return run / "model.ckpt.index"


def flip(file: Path, place: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[place] ^= 1
    file.write_bytes(bytes(raw))


def rewrite(run: Path, change) -> None:
    """Write the index anew, its checksums right, with the entries that `change` makes of the old ones."""
    index(run).write_bytes(table(sorted(change(dict(entries(index(run).read_bytes()))).items())))


def with_entry(run: Path, name: str, value: bytes) -> None:
    rewrite(run, lambda old: old | {name.encode(): value})


def shape_of(*lengths: int) -> bytes:
    return field(2, b"".join(field(2, field(1, length)) for length in lengths))


@pytest.mark.parametrize("place", [0, 1000, 47_000])
def test_a_flipped_bit_in_the_data_is_named_with_its_variable(run, place):
    flip(data(run), place)
    assert "is damaged: its checksum" in refusal(run)


def test_a_flipped_bit_anywhere_in_the_index_is_noticed(run):
    original = index(run).read_bytes()
    for place in range(0, len(original), 7):
        index(run).write_bytes(original)
        flip(index(run), place)
        try:
            found = open_bundle(run / "model.ckpt")
        except Refusal:
            continue
        assert found.variables == open_bundle(OPENAI / "model.ckpt").variables, f"byte {place} was not noticed"


def test_truncated_data_is_refused(run):
    data(run).write_bytes(data(run).read_bytes()[:20_000])
    assert "is cut short" in refusal(run)


@pytest.mark.parametrize("size", [0, 10, 47, 48, 500])
def test_a_truncated_index_is_refused(run, size):
    index(run).write_bytes(index(run).read_bytes()[:size])
    assert "model.ckpt.index is damaged" in refusal(run)


def test_missing_files_are_named(run):
    data(run).unlink()
    assert "data-00000-of-00001, which is missing" in refusal(run)
    index(run).unlink()
    assert "holds no checkpoint" in refusal(run)


def test_a_missing_shard_is_named(tmp_path):
    run = Path(shutil.copytree(CHECKPOINTS / "sharded", tmp_path / "run"))
    (run / "model.ckpt.data-00001-of-00002").unlink()
    assert "data-00001-of-00002, which is missing" in refusal(run, n_head=2)


def test_data_without_an_index_is_told_apart_from_nothing(run):
    index(run).unlink()
    (run / "checkpoint").unlink()
    assert "holds data of a checkpoint but no .index" in refusal(run)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 938\n"


@pytest.mark.parametrize("file", [index, data, lambda run: run / "hparams.json", lambda run: run / "vocab.bpe"])
@pytest.mark.parametrize(
    ("content", "sentence"), [(POINTER, "is a Git LFS pointer"), ("<!doctype html>\n", "is a web page")]
)
def test_a_pointer_and_a_page_in_the_place_of_a_file_are_recognised(run, file, content, sentence):
    file(run).write_text(content)
    assert f"{file(run).name} {sentence}, not the file itself" in refusal(run)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (field(1, 1) + shape_of(300, 2**62) + field(5, 16), "model/wte: 16 bytes do not make a tensor of shape"),
        (
            field(1, 1) + shape_of(2**40, 16) + field(5, 2**46),
            "is cut short: model/wte ends at byte 70,368,744,177,664",
        ),
        (field(1, 1) + shape_of(2**64 - 5, 16) + field(5, 16), r"model/wte has the impossible shape \[-5, 16\]"),
        (field(1, 1) + shape_of(*[1] * 9) + field(5, 4), "more than 8 dimensions"),
        (field(1, 1) + shape_of(300), "two dimensions"),
    ],
)
def test_absurd_shapes_are_refused_before_anything_is_allocated(run, entry, sentence):
    with_entry(run, "model/wte", entry)
    assert re.search(sentence, refusal(run))


def changed(run: Path, name: str, **changes) -> bytes:
    """The entry of a variable with some of its numbers replaced."""
    v = open_bundle(run / "model.ckpt").variables[name]
    facts = {"dtype": 1, "shard": 0, "offset": v.pieces[0].offset, "size": v.pieces[0].size} | changes
    return (
        field(1, facts["dtype"])
        + shape_of(*v.shape)
        + field(3, facts["shard"])
        + field(4, facts["offset"])
        + field(5, facts["size"])
        + b"\x35"
        + v.pieces[0].crc.to_bytes(4, "little")
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"offset": 2**62}, "is cut short"),
        ({"offset": 2**64 - 8}, "is cut short"),
        ({"size": 2**64 - 4}, "do not make a tensor"),
        ({"size": 4}, "do not make a tensor"),
        ({"shard": 7}, "which is missing"),
        ({"shard": 2**64 - 1}, "which is missing"),
        ({"dtype": 7}, "stored as string"),
        ({"dtype": 99}, "stored as type 99"),
        ({"dtype": 19}, "do not make a tensor"),
        ({"offset": 4}, "checksum"),
    ],
)
def test_lying_numbers_are_refused(run, changes, sentence):
    with_entry(run, "model/ln_f/g", changed(run, "model/ln_f/g", **changes))
    assert sentence in refusal(run)


@pytest.mark.parametrize("name", ["model/wte", "model/wpe", "model/h1/mlp/c_fc/w", "model/ln_f/b"])
def test_a_missing_variable_is_named(run, name):
    rewrite(run, lambda old: {key: value for key, value in old.items() if key != name.encode()})
    assert f"{name} is missing" in refusal(run)


def test_a_missing_layer_is_named(run):
    rewrite(run, lambda old: {key: value for key, value in old.items() if b"/h0/" not in key})
    assert "Layer 0 is missing" in refusal(run)


def test_a_layer_number_beyond_reason_is_no_layer(run):
    with_entry(run, "model/h2000000000/ln_1/g", changed(run, "model/ln_f/g"))
    bundle = open_bundle(run / "model.ckpt")
    assert "model/h2000000000/ln_1/g" in bundle.variables
    convert(find_source(run), run.parent / "made", check=False)


@pytest.mark.parametrize("poison", [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff"])
def test_nan_and_infinity_are_refused_by_name(run, poison):
    piece = open_bundle(run / "model.ckpt").variables["model/ln_f/g"].pieces[0]
    raw = bytearray(data(run).read_bytes())
    raw[piece.offset + 8 : piece.offset + 12] = poison
    data(run).write_bytes(bytes(raw))
    crc = masked_crc(bytes(raw[piece.offset : piece.offset + piece.size]))
    entry = changed(run, "model/ln_f/g")[:-4] + crc.to_bytes(4, "little")
    with_entry(run, "model/ln_f/g", entry)
    assert "model/ln_f/g holds NaN or infinity" in refusal(run)


@pytest.mark.parametrize(
    ("hparams", "sentence"),
    [
        ("not json", "not JSON"),
        ("[1, 2]", "must hold a JSON object"),
        ('{"n_head": -1}', "n_head in hparams.json must be a whole number above 0"),
        ('{"n_head": "2"}', "whole number"),
        ('{"n_head": 3}', "does not divide"),
        ('{"n_embd": 1e400, "n_head": 2}', "n_embd"),
        ('{"n_layer": 12, "n_head": 2}', "hparams.json says n_layer is 12, but the checkpoint's shapes say 2"),
        ('{"vocab_size": 5, "n_vocab": 6, "n_head": 2}', "two values for vocab_size"),
        ('{"n_head": 2, "layer_norm_epsilon": NaN}', "layer_norm_epsilon"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_hparams_that_cannot_be_are_refused(run, hparams, sentence):
    (run / "hparams.json").write_text(hparams)
    assert sentence in refusal(run)


def test_without_hparams_the_number_of_heads_is_asked_for_and_not_guessed(run):
    (run / "hparams.json").unlink()
    assert "give it with --n-head" in refusal(run)
    assert "does not divide" in refusal(run, n_head=7)


def test_contradicting_heads_are_refused(run):
    told = json.loads((run / "hparams.json").read_text())["n_head"]
    assert f"hparams.json says n_head is {told}" in refusal(run, n_head=told * 2)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("encoder.json", "[", "not JSON"),
        ("encoder.json", "[]", "must map tokens to ids"),
        ("encoder.json", '{"a": 0, "b": 0}', "one id to several tokens"),
        ("encoder.json", '{"a": 0, "b": 99999}', "model/wte has"),
        ("vocab.bpe", "#version: 0.2\na b c\n", "line 2 must hold two tokens"),
        ("vocab.bpe", "#version: 0.2\nno such\n", "do not belong together"),
        ("vocab.bpe", "no such\n", "do not belong together"),
        ("vocab.bpe", "404: Not Found\n", "line 1 must hold two tokens"),
        ("vocab.bpe", "", "43 of the vocabulary's 300 tokens can be reached by no merge"),
        ("vocab.bpe", "#version: 0.2\n", "43 of the vocabulary's 300 tokens can be reached by no merge"),
    ],
)
def test_a_broken_vocabulary_is_refused(run, file, content, sentence):
    (run / file).write_text(content)
    assert sentence in refusal(run)


def test_half_of_the_merges_are_refused_with_the_number_of_tokens_that_nothing_reaches(run):
    lines = (run / "vocab.bpe").read_text().split("\n")
    (run / "vocab.bpe").write_text("\n".join(lines[: len(lines) // 2]))
    assert re.search(r"^2\d of the vocabulary's 300 tokens can be reached by no merge", refusal(run))


def test_the_first_merge_is_kept_where_no_line_tells_the_version(run, tmp_path):
    convert(find_source(run), tmp_path / "first", check=False)
    (run / "vocab.bpe").write_text((run / "vocab.bpe").read_text().split("\n", 1)[1])
    convert(find_source(run), tmp_path / "second", check=False)
    assert (tmp_path / "first" / "merges.txt").read_bytes() == (tmp_path / "second" / "merges.txt").read_bytes()


def test_a_state_file_that_names_a_checkpoint_which_is_not_there_is_refused_with_those_that_are(tmp_path):
    run = Path(shutil.copytree(CHECKPOINTS / "nshepperd", tmp_path / "run"))
    (run / "checkpoint").write_text('model_checkpoint_path: "/content/checkpoint/run1/model-1200"\n')
    sentence = refusal(run, n_head=2)
    assert sentence.startswith("checkpoint names 'model-1200', which is not there; ")
    assert "holds model-1000, model-900" in sentence
    assert find_source(run, 900).step == 900


def test_slices_that_the_index_leaves_out_or_makes_up_are_refused(tmp_path):
    run = Path(shutil.copytree(CHECKPOINTS / "partitioned", tmp_path / "run"))
    original = index(run).read_bytes()
    shape = open_bundle(run / "model.ckpt").variables["model/wte"].shape
    whole = [(0, 67), (67, 67), (134, 66)]
    for listed in ([(0, 67), (67, 67)], [(0, 67), (67, 67), (134, 60)], [*whole, (0, 67)], [(0, 200)]):
        index(run).write_bytes(original)
        slices = b"".join(field(7, field(1, field(1, s) + field(2, n)) + field(1, b"")) for s, n in listed)
        with_entry(run, "model/wte", field(1, 1) + shape_of(*shape) + slices)
        assert f"it lists {len(listed)} slices of model/wte and holds 3, which are not the same" in refusal(
            run, n_head=2
        )
    index(run).write_bytes(original)
    slices = b"".join(field(7, field(1, field(1, s) + field(2, n)) + field(1, b"")) for s, n in whole)
    with_entry(run, "model/wte", field(1, 1) + shape_of(*shape) + slices)
    convert(find_source(run), tmp_path / "made", n_head=2, check=False)


def test_one_folder_above_a_run_leads_to_it_and_above_several_their_names_are_told(tmp_path):
    shutil.copytree(OPENAI, tmp_path / "checkpoint" / "run1")
    (tmp_path / "checkpoint" / ".ipynb_checkpoints").mkdir()
    for above in (tmp_path, tmp_path / "checkpoint"):
        assert find_source(above).prefix == tmp_path / "checkpoint" / "run1" / "model.ckpt"
    shutil.copytree(CHECKPOINTS / "nshepperd", tmp_path / "checkpoint" / "run2")
    with pytest.raises(Refusal, match=r"checkpoint holds several checkpoints \(run1, run2\); name one of them"):
        find_source(tmp_path / "checkpoint")
    shutil.rmtree(tmp_path / "checkpoint" / "run1")
    assert find_source(tmp_path, 900).step == 900


def test_a_part_of_a_split_archive_is_recognised(tmp_path):
    whole = Path(shutil.make_archive(tmp_path / "run", "zip", OPENAI)).read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    parts = dict.fromkeys(("run.zip.001", "run.zip.02", "run.tar.gz.aa", "run.z01"), whole[:5000])
    parts["last.zip"] = whole[5000 : end + 4] + b"\x01\0\x01\0" + whole[end + 8 :]  # counts itself as the second
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
        done = run_convert(tmp_path / name, tmp_path / "made")
        assert done.stderr.startswith(f"convert: {name} is one part of a split archive; put the parts together first")
        assert done.stderr.count("\n") == 1


def test_an_archive_with_the_data_alone_says_that_the_rest_is_in_another(tmp_path):
    with zipfile.ZipFile(tmp_path / "run-001.zip", "w") as packed:
        packed.write(OPENAI / "model.ckpt.data-00000-of-00001", "run/model.ckpt.data-00000-of-00001")
    done = run_convert(tmp_path / "run-001.zip", tmp_path / "made")
    assert "holds data of a checkpoint but no .index; where its files came in several archives" in done.stderr


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon 1e-06, where OpenAI's GPT-2 has 1e-05"),
        ({"activation_function": "relu"}, "activation 'relu', where OpenAI's GPT-2 has 'gelu_new'"),
        ({"scale_attn_weights": False}, "scale_attention False, where OpenAI's GPT-2 has True"),
    ],
)
def test_what_openai_s_graph_would_compute_otherwise_does_not_become_its_checkpoint(tmp_path, config, sentence):
    edit_json(make_model(tmp_path / "tiny") / "config.json", **config)
    with pytest.raises(Refusal, match=sentence):
        to_checkpoint(check_folder(tmp_path / "tiny"), tmp_path / "run")


def test_grover_s_checkpoint_is_called_one(run):
    rewrite(run, lambda old: {name.replace(b"model/", b"newslm/"): value for name, value in old.items()})
    assert refusal(run) == "model.ckpt is of a Grover, and no GPT-2; other kinds of models cannot be converted."


def test_other_things_given_by_mistake_are_recognised(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, sentence in [
        (empty, "holds no checkpoint"),
        (tmp_path / "nowhere" / "at all", "There is no"),
        (tmp_path / "typo", "There is no checkpoint"),
        (CHECKPOINTS / "v1", "V1 format"),
        (CHECKPOINTS / "v1" / "model.ckpt", "V1 format"),
        (CHECKPOINTS / "object_based", "object-based checkpoint of TensorFlow 2"),
    ]:
        done = run_convert(source, tmp_path / "model", "--no-check")
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_target_that_holds_the_source_is_refused_also_by_force(run):
    for target in (run, run.parent):
        with pytest.raises(Refusal, match="holds what is to be read"):
            convert(find_source(run), target, check=False, force=True)
    assert index(run).is_file()


def test_numbers_too_large_for_the_type_are_refused(tmp_path):
    make_model(tmp_path / "tiny")
    to_checkpoint(check_folder(tmp_path / "tiny"), tmp_path / "run")
    file = tmp_path / "run" / "model.ckpt.data-00000-of-00001"
    piece = open_bundle(tmp_path / "run" / "model.ckpt").variables["model/wte"].pieces[0]
    raw = bytearray(file.read_bytes())
    raw[piece.offset : piece.offset + 4] = np.float32(1e6).tobytes()
    file.write_bytes(bytes(raw))
    crc = masked_crc(bytes(raw[piece.offset : piece.offset + piece.size])).to_bytes(4, "little")
    with_entry(tmp_path / "run", "model/wte", changed(tmp_path / "run", "model/wte")[:-4] + crc)
    assert "model/wte holds numbers too large for float16" in refusal(tmp_path / "run", dtype="float16")


@pytest.mark.parametrize("window", [1, 2, 8, 31])
def test_the_smallest_windows_get_a_certificate(tmp_path, window):
    make_model(tmp_path / "tiny", n_positions=window)
    to_checkpoint(check_folder(tmp_path / "tiny"), tmp_path / "run")
    assert convert(find_source(tmp_path / "run"), tmp_path / "made").certificate.largest_difference < 1e-3


def test_a_damaged_archive_is_refused_in_one_sentence_unless_it_says_the_same(tmp_path):
    packed = Path(shutil.make_archive(tmp_path / "run", "zip", OPENAI))
    original, refused = packed.read_bytes(), 0
    convert(find_source(OPENAI), tmp_path / "whole", check=False)
    places = range(40, len(original), len(original) // 12)
    for place in places:
        packed.write_bytes(original[:place] + b"\xff\x00\xff" + original[place + 3 :])
        done = run_convert(packed, tmp_path / "made", "--no-check", "--force")
        assert "Traceback" not in done.stderr
        assert done.stderr.count("\n") == done.returncode
        refused += done.returncode
        if done.returncode == 0:
            made, whole = (tmp_path / name / "model.safetensors" for name in ("made", "whole"))
            assert made.read_bytes() == whole.read_bytes()
    assert refused > len(places) / 2


def test_what_a_mac_adds_to_its_archives_is_passed_over(tmp_path):
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as packed:
        for file in OPENAI.iterdir():
            packed.write(file, f"run/{file.name}")
            packed.writestr(f"__MACOSX/run/._{file.name}", b"junk")
    with unpacked(tmp_path / "run.zip") as folder:
        assert find_source(folder).prefix.name == "model.ckpt"


def test_wrong_usage_exits_with_2():
    assert run_convert("only-a-source").returncode == 2
    assert run_convert("--inspect", "a", "b").returncode == 2


def test_a_decompression_bomb_is_refused():
    with pytest.raises(Damaged, match="claims to hold"):
        snappy.decompress(number(2**30) + b"\x00a")
    with pytest.raises(Damaged, match="more than it claims"):
        snappy.decompress(number(20) + b"\x00a" + b"\xfe\x01\x00" * 5)


def test_no_footer_makes_the_reader_hang_or_crash():
    """Every small offset and size, blocks that point at themselves or at each other among them."""
    file = bytearray(table([(b"", field(1, 1)), (b"a", b"")]))
    for offset in range(0, 60):
        for size in range(0, 60):
            footer = number(0) + number(0) + number(offset) + number(size)
            whole = bytes(file[:-48]) + footer.ljust(40, b"\0") + bytes(file[-8:])
            with contextlib.suppress(Damaged):
                parse(Path("x"), whole)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.binary(min_size=1, max_size=12), st.binary(max_size=40), max_size=60))
def test_any_table_reads_back_as_it_was_written(pairs):
    wanted = sorted({b"": b"x", **pairs}.items())
    assert list(entries(table(wanted))) == wanted


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_damaged(raw):
    with contextlib.suppress(Damaged):
        list(proto.fields(raw))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.binary(min_size=1, max_size=30), st.binary(max_size=60), max_size=20), st.binary(max_size=20))
def test_any_index_with_right_checksums_is_a_bundle_or_damaged(pairs, head):
    with contextlib.suppress(Damaged):
        parse(Path("x"), table(sorted({b"": head, **pairs}.items())))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_snappy_or_damaged(raw):
    with contextlib.suppress(Damaged):
        assert len(snappy.decompress(raw)) <= 24 * len(raw)
