"""`python -m generate` as people run it: in a pipe, in a terminal, to a file, and with mistakes."""

import http.server
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading

import pytest
from conftest import ROOT, edit_json, make_model

from generate import LISTS, OPTIONS, PRESETS, find_preset
from generate.__main__ import main

SHORT = ("--max-new-tokens", "12", "--seed", "3", "--top-k", "0", "--temperature", "1")
QUICK = {"RUBRIC_MODEL": "tiny", "RUBRIC_PRECISION": "float32", "RUBRIC_THREADS": "1"}  # and nothing is measured
SAME = {"max_new_tokens": 12, "seed": 3, "top_k": 0, "temperature": 1}


@pytest.fixture
def generate(models, tmp_path, monkeypatch):
    """Call the command in an empty folder; returns its exit status, output and errors as text, line ends untouched.

    `output` may be a file descriptor to write to instead, as that of a terminal.
    """
    monkeypatch.chdir(tmp_path)
    settings = QUICK | {"RUBRIC_MODELS": str(models)}

    def run(*arguments, stdin=b"", output=None, **environ):
        out = io.BytesIO() if output is None else io.FileIO(output, "w", closefd=False)
        pipes = (io.BytesIO(stdin if isinstance(stdin, bytes) else stdin.encode()), out, io.BytesIO())
        with monkeypatch.context() as patch:
            for name, value in (settings | environ).items():
                patch.setenv(name, value)
            for name, pipe in zip(("stdin", "stdout", "stderr"), pipes, strict=True):
                patch.setattr(sys, name, io.TextIOWrapper(pipe, "utf-8", newline="\n", write_through=True))
            try:
                status = main([os.fsdecode(argument) for argument in arguments])
            except SystemExit as left:
                status = left.code
            return status, *(pipe.getvalue().decode() if isinstance(pipe, io.BytesIO) else "" for pipe in pipes[1:])

    return run


@pytest.fixture
def command(models, tmp_path):
    """The same in a process of its own, whose output may be a terminal."""

    def run(*arguments, output=subprocess.PIPE, **environ):
        settings = QUICK | {"PYTHONPATH": str(ROOT), "RUBRIC_MODELS": str(models), "http_proxy": "", "https_proxy": ""}
        done = subprocess.run(
            [sys.executable, "-m", "generate", *arguments],
            cwd=tmp_path,
            env=os.environ | settings | environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=100,
        )
        return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()

    return run


def refused(result: tuple[int, str, str], sentence: str, output: str = "") -> None:
    """Exit 1, nothing but `output` on stdout, and one sentence on stderr."""
    status, out, err = result
    assert "Traceback" not in err
    assert re.fullmatch(rf"generate: [^\n]*{sentence}[^\n]*\.\n", err), err
    assert (status, out) == (1, output)


def test_piped_output_is_the_prompt_and_its_continuation_in_plain_text_and_repeats_with_the_seed(
    generate, command, writer
):
    expected = writer.text(writer.write("the old king", **SAME))
    first = command("the old king", *SHORT)
    assert first == (0, f"the old king{expected}\n", "")
    assert generate("the old king", *SHORT) == first
    assert generate("the old king", *SHORT, "--no-include-prompt") == (0, f"{expected}\n", "")


def test_a_prompt_from_standard_input_comes_in_as_on_the_page_without_the_newline_that_ends_it(generate, writer):
    typed, prompt = "\ufeff\n the old\r\n\nking\r 从前🦊 \r\n\r\n", "\n the old\n\nking\n 从前🦊 \n"
    run = writer.write(prompt, **SAME, samples=2)
    one, two = (writer.text(run, sample=n) for n in (0, 1))
    status, out, err = generate(*SHORT, "--samples", "2", stdin=typed)
    assert out == f"======== sample 1 ========\n{prompt}{one}\n\n======== sample 2 ========\n{prompt}{two}\n"
    assert (status, err) == (0, "")
    assert generate(*SHORT, "--samples", "2", stdin=typed[1:].encode("utf-16")) == (0, out, "")
    assert generate(*SHORT, "--samples", "2", prompt.replace("\n", "\r\n")) == (0, out, ""), "an argument, all of it"


def test_a_newline_from_echo_changes_nothing(generate):
    piped = generate(*SHORT, stdin="the old king\n")
    assert piped == generate(*SHORT, stdin="the old king") == generate(*SHORT, "the old king")
    assert piped[0] == 0


def test_interactive_continues_line_after_line(generate, writer):
    lines = ["the old king", "one two"]
    texts = [writer.text(writer.write(line, **SAME)) for line in lines]
    status, out, err = generate(*SHORT, "--interactive", stdin="".join(line + "\n" for line in lines))
    assert (status, out, err) == (0, "".join(f"{a}{b}\n" for a, b in zip(lines, texts, strict=True)), "")
    long = generate(*SHORT, "--interactive", stdin="a long line\n", RUBRIC_MAX_PROMPT="5")
    refused(long, "prompt may have at most 5 bytes, not 11")


def test_interactive_says_what_is_wrong_with_a_line_and_goes_on_with_the_next(generate, writer):
    texts = [writer.text(writer.write(line, **SAME)) for line in ("one two", "the fox")]
    typed = b"one two\na line that is by far too long\ncaf\xe9\nthe fox\n"
    status, out, err = generate(*SHORT, "--interactive", stdin=typed, RUBRIC_MAX_PROMPT="20")
    assert (status, out) == (1, f"one two{texts[0]}\nthe fox{texts[1]}\n")
    long, broken = err.splitlines()
    assert long == "generate: prompt may have at most 20 bytes, not 30."
    assert "byte 0xe9 is not utf-8; it reads like cp1252 (“café”)" in broken


def test_a_model_may_be_named_by_its_folder(generate, writer, models, tmp_path):
    named = generate(*SHORT, "the old king")
    assert named == generate(*SHORT, "the old king", "--model", str(models / "tiny"))
    shutil.copytree(models / "tiny", tmp_path / "elsewhere" / "mine")
    assert named == generate(*SHORT, "the old king", "--model", "elsewhere/mine")
    refused(
        generate("a", "--model", "elsewhere"), "--model elsewhere cannot be used: elsewhere: config.json is missing"
    )


def test_unconditional_starts_from_nothing_and_ends_before_a_stop(generate, writer):
    whole = writer.text(writer.write("", "storyteller", **SAME), "storyteller")
    stop = whole[5:8]
    typed = stop.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    off = ("--min-p", "0", "--repetition-penalty", "1", "--dry-multiplier", "0")  # what the model brings
    result = generate(
        "--unconditional", "--model", "storyteller", *SHORT, *off, "--stop", "never said", "--stop", typed
    )
    assert result == (0, whole[: whole.index(stop)] + "\n", "")


def test_a_file_gets_what_the_pipe_gets(generate, writer, tmp_path):
    run = writer.write("the old king", **SAME, samples=2)
    texts = [writer.text(run, sample=n) for n in (0, 1)]
    status, out, _ = generate("the old king", *SHORT, "--samples", "2", "--to-file", "a.txt")
    assert (status, out) == (0, "")
    shown = "\n".join(f"======== sample {n} ========\nthe old king{text}\n" for n, text in enumerate(texts, 1))
    assert (tmp_path / "a.txt").read_bytes().decode() == shown
    refused(generate("the old king", *SHORT, "--to-file", "a.txt"), "a.txt exists already; choose another name, or add")
    assert (tmp_path / "a.txt").read_bytes().decode() == shown
    assert generate("one", *SHORT, "--to-file", "a.txt", "--force", "--no-include-prompt")[0] == 0
    assert (tmp_path / "a.txt").read_bytes().decode() == writer.text(writer.write("one", **SAME)) + "\n"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_lines_hold_every_token_of_every_sample(generate, writer, tmp_path):
    run = writer.write("the 狐", **SAME, samples=2)
    status, out, _ = generate("the 狐", *SHORT, "--samples", "2", "--to-file", "b.jsonl")
    assert (status, out, os.listdir(tmp_path)) == (0, "", ["b.jsonl"])
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text("utf-8").splitlines()]
    assert [line["sample"] for line in lines] == [0, 1]
    for n, line in enumerate(lines):
        assert (line["prompt"], line["model"], line["finish_reason"]) == ("the 狐", "tiny", "length")
        assert line["text"] == writer.text(run, sample=n)
        assert [token["id"] for token in line["tokens"]] == run.samples[n].read()["id"].tolist()
        assert (
            bytes(byte for token in line["tokens"] for byte in token["bytes"]).decode("utf-8", "replace")
            == line["text"]
        )
        assert len(line["tokens"][0]["alternatives"]) == 10
        usual = {option.name: option.default for option in OPTIONS} | {o.name: list(o.default) for o in LISTS}
        assert line["options"] == usual | SAME | {"samples": 2}


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["a", "--top-k", "-5"], "top_k must be a whole number from 0 to 1,000,000, not '-5'"),
    (["a", "--temperature", "nan"], "temperature must be a number from 0 to 5, not 'nan'"),
    (["a", *(x for n in range(9) for x in ("--stop", str(n)))], "stop takes at most 8 strings, one on a line, not 9"),
    (["a", "--model", "nope"], "There is no model called 'nope' here; the models are: "),
    (["a", "--interactive"], "give a prompt, or --interactive, or --unconditional: only one of them"),
    (["a", "--unconditional"], "give a prompt, or --interactive, or --unconditional: only one of them"),
    (["", "--unconditional"], "only one of them"),
    (["--interactive", "--to-file", "c.txt"], "--to-file does not go with --interactive"),
    (["a", "--to-file", "no/such/c.txt"], "there is no folder /.*/no/such"),
    (["download", "a", "--as", "../b"], "'../b' cannot be the name of a folder in models/"),
    (["download", ".."], "'..' cannot be the name of a folder in models/"),
])  # fmt: skip
def test_what_cannot_be_done_is_refused_in_one_sentence(models, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUBRIC_MODELS", str(models))
    status = main(arguments)
    refused((status, *capsys.readouterr()), sentence)
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_a_refusal_leaves_the_process_with_status_1(command):
    refused(command("a", "--seed", "x"), "seed must be a whole number from 0 to 4,294,967,295, not 'x'")


def test_wrong_settings_and_broken_models_are_refused_in_one_sentence(generate, tmp_path):
    refused(generate("a", RUBRIC_THREADS="many"), "RUBRIC_THREADS is 'many'")
    refused(generate(*SHORT, stdin="abcdef", RUBRIC_MAX_PROMPT="5"), "prompt may have at most 5 bytes, not 6")
    folder = make_model(tmp_path / "models" / "odd")
    (folder / "rubric.json").write_text('{"fingerprint": "1234"}')
    result = generate("a", "--model", "odd", "--no-include-prompt", RUBRIC_MODELS=str(folder.parent))
    refused(result, "odd: model.safetensors is not the file that rubric.json describes", output="\n")
    edit_json(folder / "config.json", n_head=3)
    result = generate("a", "--model", "odd", RUBRIC_MODELS=str(folder.parent))
    refused(result, "The model odd cannot be used: odd: n_head 3 does not divide")


def test_a_file_that_cannot_be_written_is_refused_and_leaves_nothing(generate, tmp_path):
    (tmp_path / "folder").mkdir()
    refused(generate("a", *SHORT, "--to-file", "folder", "--force"), "folder")
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.long
def test_bytes_that_are_no_text_are_refused_and_not_replaced(generate, command, tmp_path):
    told = r"line 1: byte 0xff is not utf-8; it reads like cp1252 \(“aÿb”\): save it as UTF-8, for instance with iconv"
    refused(generate(b"a\xffb", *SHORT), f"prompt, {told}")
    refused(generate(*SHORT, stdin=b"a\xffb"), f"standard input, {told}")
    refused(command(b"a\xffb", *SHORT, PYTHONIOENCODING="utf-8:strict", PYTHONUTF8="1"), f"prompt, {told}")
    refused(generate(b"a\xffb", *SHORT, "--to-file", "d.txt"), f"prompt, {told}")
    refused(generate(*SHORT, stdin="the old\nking".encode("utf-16-le")), "it reads like utf-16-le")
    assert os.listdir(tmp_path) == []


def test_a_stop_string_that_is_no_text_is_refused(generate):
    refused(generate("a", *SHORT, "--stop", b"\xff"), "stop strings must be text that UTF-8 can write")


@pytest.mark.long
def test_a_reader_that_leaves_early_is_no_error_to_shout_about(models):
    command = [sys.executable, "-m", "generate", "a", "--max-new-tokens", "4000", "--seed", "1"]
    environ = os.environ | QUICK | {"RUBRIC_MODELS": str(models)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(1) == b"a"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 130


@pytest.mark.long
@pytest.mark.parametrize("colour", ["", "1"])
def test_on_a_terminal_the_continuation_is_red_unless_no_color_is_set(generate, command, writer, colour):
    ours, theirs = pty.openpty()
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(iter(lambda: read(ours), b"")), daemon=True)
    reader.start()
    run = generate if colour else command  # one of them with a terminal from its process's beginning on
    status, _, err = run("the old king", *SHORT, output=theirs, NO_COLOR=colour)
    os.close(theirs)
    reader.join(60)
    os.close(ours)
    out = b"".join(seen).decode().replace("\r\n", "\n")
    expected = writer.text(writer.write("the old king", **SAME))
    red = re.findall(r"\x1b\[31m([^\x1b]*)\x1b\[39m", out)
    assert (status, err) == (0, "")
    assert "".join(red) == ("" if colour else expected)
    shown = expected if colour else "".join(f"\x1b[31m{piece}\x1b[39m" for piece in red)
    assert out == f"the old king{shown}\n"


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_help_names_every_option(generate):
    status, out, _ = generate("--help")
    assert (status, [o.name for o in OPTIONS + LISTS if f"--{o.name.replace('_', '-')}" not in out]) == (0, [])


@pytest.mark.long
def test_a_download_without_a_network_is_refused_and_leaves_nothing(command, tmp_path):
    for environ in ({"HF_ENDPOINT": "http://127.0.0.1:9"}, {"https_proxy": "http://127.0.0.1:9"}):
        result = command("download", "gpt2", RUBRIC_MODELS=str(tmp_path), HF_HUB_OFFLINE="0", **environ)
        refused(result, r"The Hugging Face hub \(127.0.0.1\) cannot be reached: Connection refused")
    assert os.listdir(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<html>log in",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"",
    ],
    ids=["not found", "login page", "cut", "hangs up"],
)
def test_a_download_from_a_hub_that_answers_badly_is_refused_and_leaves_nothing(command, tmp_path, answer):
    class Hub(http.server.BaseHTTPRequestHandler):
        def handle(self):
            self.request.recv(4096)
            self.wfile.write(answer)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{hub.server_port}"
        result = command("download", "gpt2", RUBRIC_MODELS=str(tmp_path), HF_ENDPOINT=address, HF_HUB_OFFLINE="0")
        hub.shutdown()
    assert os.listdir(tmp_path) == []
    refused(result, "")


def test_a_preset_writes_what_its_options_write_and_what_is_given_beside_it_comes_first(generate, writer, tmp_path):
    wish = dict(find_preset("steady").options) | {"temperature": 1.1, "max_new_tokens": 12, "seed": 3}
    expected = writer.text(writer.write("the old king", **wish))
    arguments = ("--preset", "steady", "--temperature", "1.1", "--max-new-tokens", "12", "--seed", "3", "the old king")
    assert generate(*arguments) == (0, f"the old king{expected}\n", "")
    assert generate(*arguments, "--to-file", "king.jsonl")[0] == 0
    options = json.loads((tmp_path / "king.jsonl").read_text())["options"]
    assert (options["preset"], options["temperature"], options["dry_multiplier"]) == (
        "steady",
        1.1,
        wish["dry_multiplier"],
    )


def test_a_preset_that_there_is_not_is_refused_and_help_lists_those_there_are(generate):
    refused(generate("--preset", "stedy", "x"), r"these: model, careful, lively, wild, steady; not 'stedy'")
    told = " ".join(generate("--help")[1].split())
    assert all(f"{preset.name}: {preset.meaning}" in told for preset in PRESETS)
