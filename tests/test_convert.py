"""Checkpoints that real TensorFlow wrote (tests/make_tensorflow_fixtures.py) become models with the same logits."""

import contextlib
import io
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MODELS, ROOT, TRICKY, finished, make_model
from safetensors import safe_open

from convert.__main__ import main
from convert.bundle import open_bundle
from convert.folder import convert
from convert.source import find_source
from convert.to_tensorflow import to_checkpoint
from convert.vocabulary import write_makeshift
from generate import LocalEngine, Refusal, Request, check_folder, logits_of, parse_sampling

CHECKPOINTS = Path(__file__).parent / "fixtures" / "tensorflow"
FORMATS = ("openai", "slots", "sharded", "partitioned", "bfloat16", "float16", "float64", "snappy")


def logits(folder: Path, name: str) -> np.ndarray:
    """The logits of a converted folder for the fixture's ids; a makeshift vocabulary stands in where there is none."""
    if not (folder / "tokenizer.json").exists():
        write_makeshift(folder / "tokenizer.json")
    return logits_of(check_folder(folder), [json.loads((CHECKPOINTS / name / "ids.json").read_text())])[0]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_logits_that_tensorflow_computed(tmp_path, name):
    convert(find_source(CHECKPOINTS / name), tmp_path / "model", n_head=2, check=False)
    assert np.abs(logits(tmp_path / "model", name) - np.load(CHECKPOINTS / name / "logits.npy")).max() < 1e-4


@pytest.mark.parametrize(("name", "n_head"), [("gpt2simple", None), ("nshepperd", 2)])
def test_of_several_steps_the_state_file_s_is_taken_unless_another_is_asked_for(tmp_path, name, n_head):
    steps = find_source(CHECKPOINTS / name).steps
    for asked in (None, *steps):
        source = find_source(CHECKPOINTS / name, asked)
        assert source.step == (asked or max(steps))
        convert(source, tmp_path / "model", n_head=n_head, check=False, force=True)
        expected = np.load(CHECKPOINTS / name / f"logits-{source.step}.npy")
        assert np.abs(logits(tmp_path / "model", name) - expected).max() < 1e-4


@pytest.mark.parametrize(
    "piece", ["", "model-900", "model-900.index", "model-900.data-00000-of-00001", "model-900.meta", "checkpoint"]
)
def test_any_piece_of_a_checkpoint_leads_to_it(piece):
    source = find_source(CHECKPOINTS / "nshepperd" / piece)
    assert source.prefix.name == ("model-900" if "900" in piece else "model-1000")


@pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
def test_a_packed_run_is_read_like_the_folder_it_holds(tmp_path, kind):
    shutil.make_archive(tmp_path / "checkpoint_run1", kind, CHECKPOINTS, "gpt2simple")
    packed = next(tmp_path.glob("checkpoint_run1.*"))
    done = run_convert(packed, tmp_path / "model", "--no-check")
    assert done.returncode == 0, done.stderr
    convert(find_source(CHECKPOINTS / "gpt2simple"), tmp_path / "other", check=False)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "other")]
    assert weights[0] == weights[1]


def test_an_archive_s_members_cannot_leave_its_folder(tmp_path):
    for name in ("../evil.index", "/tmp/evil.index", "a/../../evil.index"):
        with tarfile.open(tmp_path / "evil.tar", "w") as tar:
            info = tarfile.TarInfo(name)
            tar.addfile(info)
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
            packed.writestr(name, b"")
        for kind in ("tar", "zip"):
            done = run_convert(tmp_path / f"evil.{kind}", "--inspect")
            assert done.returncode == 1
            assert "would leave its folder" in done.stderr
    assert not (tmp_path.parent / "evil.index").exists()


def run_convert(*arguments) -> subprocess.CompletedProcess:
    """`python -m convert` with these arguments, in this process: its exit status, and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([*map(str, arguments)])
        except SystemExit as wrong_usage:
            status = wrong_usage.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def test_the_command_leaves_with_its_status_and_one_sentence():
    command = [sys.executable, "-m", "convert", "nowhere", "made"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "convert: There is no checkpoint nowhere: no nowhere.index was found.\n"


def test_the_vocabulary_encodes_as_openai_s_encoder_does(tmp_path):
    convert(find_source(CHECKPOINTS / "openai"), tmp_path / "model", check=False)
    folder = check_folder(tmp_path / "model")
    encoder = json.loads((CHECKPOINTS / "openai" / "encoder.json").read_text())
    merges = [tuple(line.split()) for line in (CHECKPOINTS / "openai" / "vocab.bpe").read_text().split("\n")[1:-1]]
    for text in [TRICKY, "the cat's  hat\n\n", "从前 🦊 ", "  leading", "trailing   ", "I'll we've don't", "1234 !?…"]:
        assert folder.tokenizer.encode(text) == openai_encode(text, encoder, merges)
    assert folder.end_id == encoder["<|endoftext|>"]


def openai_encode(text: str, encoder: dict, merges: list) -> list[int]:
    """OpenAI's published algorithm (openai/gpt-2, src/encoder.py), written out once more, plainly."""
    import regex

    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = dict(zip(visible, map(chr, visible), strict=True))
    for byte in range(256):
        alphabet.setdefault(byte, chr(256 + len(alphabet) - len(visible)))
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    words = regex.findall(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", text)
    ids = []
    for word in words:
        parts = [alphabet[byte] for byte in word.encode()]
        while len(parts) > 1:
            best = min(itertools.pairwise(parts), key=lambda pair: ranks.get(pair, 10**9))
            if best not in ranks:
                break
            merged, place = [], 0
            while place < len(parts):
                if tuple(parts[place : place + 2]) == best:
                    merged.append("".join(best))
                    place += 2
                else:
                    merged.append(parts[place])
                    place += 1
            parts = merged
        ids += [encoder[part] for part in parts]
    return ids


def test_the_way_there_and_back_gives_equal_bits(tmp_path):
    to_checkpoint(check_folder(MODELS / "storyteller"), tmp_path / "checkpoint")
    convert(find_source(tmp_path / "checkpoint"), tmp_path / "model", dtype="float16", check=False)
    with (
        safe_open(str(MODELS / "storyteller" / "model.safetensors"), "pt") as first,
        safe_open(str(tmp_path / "model" / "model.safetensors"), "pt") as last,
    ):
        assert set(first.keys()) == set(last.keys())
        assert all(torch.equal(first.get_tensor(name), last.get_tensor(name)) for name in first.keys())  # noqa: SIM118
    folders = [check_folder(path) for path in (MODELS / "storyteller", tmp_path / "model")]
    assert folders[0].encode_prompt(TRICKY) == folders[1].encode_prompt(TRICKY)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_types_are_rounded_as_torch_rounds_them(tmp_path, dtype):
    convert(find_source(CHECKPOINTS / "float64"), tmp_path / "model", n_head=2, dtype=dtype, check=False)
    bundle = open_bundle(CHECKPOINTS / "float64" / "model.ckpt")
    with safe_open(str(tmp_path / "model" / "model.safetensors"), "pt") as file:
        ((_, raw),) = bundle.read("model/wte")
        expected = torch.from_numpy(raw.view("<f8").reshape(bundle.variables["model/wte"].shape).copy())
        assert torch.equal(file.get_tensor("transformer.wte.weight"), expected.to(getattr(torch, dtype)))


def test_a_converted_model_gets_a_certificate_and_writes_in_the_page_s_engine(tmp_path):
    to_checkpoint(check_folder(MODELS / "storyteller"), tmp_path / "checkpoint")
    made = convert(find_source(tmp_path / "checkpoint"), tmp_path / "model")
    assert made.certificate.largest_difference < 1e-3
    assert "reads like a trained model" in made.certificate.verdict
    assert all(loss > made.certificate.loss for loss in made.certificate.other_heads.values())
    folder = check_folder(tmp_path / "model")
    assert folder.certificate()["sample"]["text"]
    assert folder.fingerprint() == folder.claimed_fingerprint
    assert folder.end_text is None


def test_noise_is_called_noise(tmp_path):
    made = convert(find_source(CHECKPOINTS / "openai"), tmp_path / "model")
    assert "reads like noise" in made.certificate.verdict


def test_a_text_marker_is_obeyed_and_never_seen(tmp_path):
    make_model(tmp_path / "tiny")
    (tmp_path / "tiny" / "rubric.json").write_text('{"format": 1, "end": {"token_id": 0, "text": "e"}}')
    folder = check_folder(tmp_path / "tiny")
    engine = LocalEngine(tmp_path, device="cpu", precision="float32").start(folder)
    try:
        request = Request(folder, parse_sampling({"max_new_tokens": 500, "seed": 1}))
        run = finished(engine.submit(request, request.new_log((5, 6))))
    finally:
        engine.close()
    sample = run.samples[0]
    text = folder.tokenizer.vocabulary.bytes_of(sample.read()["id"])[: sample.text_end]
    assert sample.finish_reason == "stop"
    assert b"e" not in text


@pytest.mark.long
def test_the_model_itself_tells_that_it_learned_the_marker_in_ordinary_tokens(tmp_path):
    """A small one is trained for a moment on texts parted as nshepperd's encoder did it; before, it names the id."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = make_model(tmp_path / "tales", n_positions=128)
    tokenizer, dice = check_folder(folder).tokenizer, random.Random(0)
    words = ["the", "old", "king", "said", "to", "the", "young", "fox", "that", "the", "sea", "was", "far", "away"]
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config.from_pretrained(folder))
    model.save_pretrained(folder)
    to_checkpoint(check_folder(folder), tmp_path / "untrained")
    convert(find_source(tmp_path / "untrained"), tmp_path / "before")
    assert check_folder(tmp_path / "before").end_text is None
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        texts = ["".join(f"{' '.join(dice.choices(words, k=6))}.<|endoftext|>" for _ in range(12)) for _ in range(8)]
        ids = torch.tensor([tokenizer.encode(text)[:128] for text in texts])
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    to_checkpoint(check_folder(folder), tmp_path / "checkpoint")
    convert(find_source(tmp_path / "checkpoint"), tmp_path / "made")
    assert check_folder(tmp_path / "made").end_text == "<|endoftext|>"
    convert(find_source(tmp_path / "checkpoint"), tmp_path / "told", end_marker="id")
    assert check_folder(tmp_path / "told").end_text is None


def test_slots_and_counters_are_skipped_by_name_and_listed(tmp_path):
    done = run_convert(CHECKPOINTS / "slots", tmp_path / "model", "--n-head", 2, "--no-check")
    assert done.returncode == 0, done.stderr
    for name in ("beta1_power", "model/wte/Adam", "model/wte/Adam_1"):
        assert name in done.stdout
    assert "no vocabulary yet" in done.stdout


@pytest.fixture(scope="module")
def run_without_vocabulary(tmp_path_factory) -> Path:
    """As nshepperd's code leaves them: a step, its state file, and nothing else; of GPT-2's 50,257 tokens."""
    folder = tmp_path_factory.mktemp("run")
    make_model(folder / "tiny", vocab_size=50_257, n_embd=8)
    to_checkpoint(check_folder(folder / "tiny"), folder / "run")
    for name in ("encoder.json", "vocab.bpe", "hparams.json"):
        (folder / "run" / name).unlink()
    return folder / "run"


@pytest.mark.long
def test_a_run_without_a_vocabulary_gets_gpt_2_s_own_and_table_and_certificate_say_so(run_without_vocabulary, tmp_path):
    done = run_convert(run_without_vocabulary, tmp_path / "model", "--n-head", 2)
    assert done.returncode == 0, done.stderr
    sentence = "GPT-2's own (from npm), because none lies beside the checkpoint and the size fits"
    assert f"vocabulary                50257   {sentence}\n" in done.stdout
    folder = check_folder(tmp_path / "model")
    assert folder.certificate()["vocabulary"] == sentence
    assert (folder.tokenizer.encode("Hello world"), folder.end_id) == ([15496, 995], 50256)


def test_without_npm_s_files_one_sentence_says_what_to_do(run_without_vocabulary, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("convert.npm.FOLDER", tmp_path / "nothing")
    assert main([str(run_without_vocabulary), str(tmp_path / "model"), "--n-head", "2", "--no-check"]) == 0
    assert "It has no vocabulary yet" in (said := capsys.readouterr().out)
    assert "run `npm ci` once, which brings GPT-2's own, or convert again with --force and --vocab FOLDER" in said


def test_a_vocabulary_of_another_size_is_not_taken_for_gpt_2_s(tmp_path):
    made = convert(find_source(CHECKPOINTS / "nshepperd"), tmp_path / "model", n_head=2, check=False)
    assert made.vocabulary is None


def test_what_is_asked_for_is_told_to_programs_and_its_answer_is_an_option(run_without_vocabulary, tmp_path):
    journal = tmp_path / "journal.jsonl"

    def ask(*options) -> list[dict]:
        given = [str(run_without_vocabulary), str(tmp_path / "model"), "--no-check", "--ask", "--journal", str(journal)]
        journal.unlink(missing_ok=True)
        assert main([*given, *options]) == (options[-2:] != ("--vocab", "gpt2"))
        return [json.loads(line) for line in journal.read_text().splitlines()]

    first = ask()
    assert {"asks": "heads", "width": 8, "layers": 2}.items() <= first[-2].items()
    assert {"asks": "heads", "heads": 3, "width": 8}.items() <= ask("--n-head", "3")[-2].items()
    second = ask("--n-head", "2")
    assert {"asks": "vocabulary", "rows": 50_257}.items() <= second[-2].items()
    assert (
        second[-1]["sentence"] == "This run holds no vocabulary for its 50,257 tokens: say whose it is, with --vocab."
    )
    third = ask("--n-head", "2", "--vocab", str(tmp_path))
    assert third[-2]["asks"] == "vocabulary"
    assert "holds no vocabulary: no encoder.json" in third[-1]["sentence"]
    assert not (tmp_path / "model").exists()
    assert ask("--n-head", "2", "--vocab", "gpt2")[-1]["event"] == "done"
    assert check_folder(tmp_path / "model").tokenizer.encode("Hello world") == [15496, 995]


def test_gpt_2_s_own_vocabulary_is_refused_where_it_is_too_large(tmp_path):
    with pytest.raises(Refusal, match=r"goes up to id 50256, but model/wte has \d+ rows"):
        convert(
            find_source(CHECKPOINTS / "nshepperd"), tmp_path / "model", n_head=2, vocabulary=Path("gpt2"), check=False
        )


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_transformers_is_copied_as_it_is_and_checked(tmp_path, packed, capsys):
    old = shutil.copytree(MODELS / "storyteller", tmp_path / "old" / "storyteller")
    (old / "certificate.json").write_text('{"verdict": "forged"}')
    source = shutil.make_archive(tmp_path / "old", "zip", old.parent) if packed else old
    assert main([str(source), str(tmp_path / "new")]) == 0
    made, kept = check_folder(tmp_path / "new"), check_folder(MODELS / "storyteller")
    assert (made.fingerprint(), made.certificate(), made.source) == (kept.fingerprint(), None, kept.source)
    (old / "model.safetensors").write_bytes((old / "model.safetensors").read_bytes()[:-1])
    assert main([str(old), str(tmp_path / "broken")]) == 1
    assert not (tmp_path / "broken").exists()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("option", ["--dtype=float32", "--n-head=2", "--vocab=gpt2", "--step=1", "--end-marker=text"])
def test_what_a_copy_cannot_do_is_refused_and_not_left_out_in_silence(tmp_path, capsys, option):
    assert main([str(MODELS / "storyteller"), str(tmp_path / "new"), option]) == 1
    said = f"is copied as it is; {option.partition('=')[0]} is for what is converted."
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_what_a_stranger_says_was_measured_is_not_taken_over(tmp_path):
    old = shutil.copytree(MODELS / "storyteller", tmp_path / "old")
    manifest = json.loads((old / "rubric.json").read_text())
    forged = {"fingerprint": check_folder(old).fingerprint(), "precisions": {"int8": {"kl": 0.0}}}
    (old / "rubric.json").write_text(json.dumps(manifest | {"measured": forged}))
    assert main([str(old), str(tmp_path / "new")]) == 0
    manifest.pop("measured", None)
    assert json.loads((tmp_path / "new" / "rubric.json").read_text()) == manifest


def test_a_model_of_the_hub_is_fetched_and_copied_or_converted(tmp_path, monkeypatch, capsys):
    """The network is played: what is on the hub lies in a folder here."""
    asked = []

    def snapshot(name, local_dir, allow_patterns):
        asked.append(name)
        shutil.copytree(MODELS / "storyteller", local_dir, dirs_exist_ok=True)
        (Path(local_dir) / "rubric.json").unlink()

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("generate.folders.download.require_network", lambda endpoint: None)
    monkeypatch.setattr("generate.folders.download.require_room", lambda *given: None)
    assert main(["hub:me/tales", str(tmp_path / "tales")]) == 0
    assert check_folder(tmp_path / "tales").source == "me/tales, from the Hugging Face hub"
    assert main(["hub:me/tales", str(tmp_path / "tales")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert asked == ["me/tales"] * 2, "nothing is fetched for a name that is taken"


def test_inspect_lists_all_by_reading_only_the_index(tmp_path):
    shutil.copy(CHECKPOINTS / "openai" / "model.ckpt.index", tmp_path)
    done = run_convert("--inspect", tmp_path, "--json")
    listed = json.loads(done.stdout)["variables"]
    assert {row["name"]: row["becomes"] for row in listed}["model/h1/mlp/c_fc/w"] == "h.1.mlp.c_fc.weight"
    assert len(listed) == 28


def test_converting_without_a_check_needs_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from convert.__main__ import main;"
        "assert main([*sys.argv[1:], '--no-check']) == 0; sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(CHECKPOINTS / "openai"), str(tmp_path / "model")]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_an_existing_folder_is_kept_unless_forced(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(Refusal, match="exists already"):
        convert(find_source(CHECKPOINTS / "openai"), tmp_path / "model", check=False)
    assert (tmp_path / "model" / "mine.txt").exists()
    convert(find_source(CHECKPOINTS / "openai"), tmp_path / "model", check=False, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert not (tmp_path / "model" / "mine.txt").exists()


def test_a_conversion_that_fails_half_way_leaves_nothing(tmp_path):
    calls = []

    def progress(size):
        calls.append(size)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")

    with pytest.raises(Refusal, match="No space left"):
        convert(find_source(CHECKPOINTS / "openai"), tmp_path / "model", check=False, progress=progress)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from convert.__main__ import main
moment, models, seen = int(sys.argv[1]), sys.argv[2], []
def count(event, given):
    if given and models in str(given[0]):
        seen.append(event)
        if len(seen) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
status = main(sys.argv[3:])
print(len(seen))
sys.exit(status)
"""


@pytest.mark.long
def test_a_killed_conversion_leaves_the_old_model_or_the_new_one_whole(tmp_path):
    """SIGKILL before many of the things that a forced conversion does to files: what is under the name always loads."""
    to_checkpoint(check_folder(make_model(tmp_path / "tiny")), tmp_path / "checkpoint")
    target = tmp_path / "models" / "made"
    target.parent.mkdir()
    convert(find_source(tmp_path / "checkpoint"), target, check=False)
    fingerprint = check_folder(target).fingerprint()

    def killed_at(moment: int) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", KILLED, str(moment), str(target.parent)]
        command += [str(tmp_path / "checkpoint"), str(target), "--force", "--no-check"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    whole = killed_at(0)
    assert whole.returncode == 0, whole.stderr
    last = int(whole.stdout.splitlines()[-1])
    for moment in {*range(1, last, last // 5), last - 1, last}:
        assert killed_at(moment).returncode == -signal.SIGKILL
        assert check_folder(target).fingerprint() == fingerprint


@pytest.mark.long
def test_the_page_shows_a_converted_model_with_its_certificate(tmp_path, models, visitor):
    to_checkpoint(check_folder(MODELS / "storyteller"), tmp_path / "checkpoint")
    convert(find_source(tmp_path / "checkpoint"), models / "rescued")
    try:
        assert '<option value="rescued"' in visitor.get("/").text
        page = visitor.get("/models/rescued").text
        assert "It reads like a trained model" in page
        assert "converted from the TensorFlow checkpoint" in page.lower().replace("tensorflow", "TensorFlow")
        asked = {"temperature": 0, "preset": "careful"}  # a checkpoint brings no settings, and the storyteller does
        made = visitor.finish(visitor.start("Once upon a time", model="rescued", **asked))
        same = visitor.finish(visitor.start("Once upon a time", model="storyteller", **asked))
        assert made["samples"][0]["text"] == same["samples"][0]["text"]
        assert visitor.get("/models/no-such").status_code == 404
    finally:
        shutil.rmtree(models / "rescued")
