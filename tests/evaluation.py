"""Four tasks for lm-evaluation-harness, from a text: made as local files, run against a server and against transformers.

`python tests/evaluation.py ADDRESS MODEL_FOLDER TEXT [SHARE]` prints how far apart the two are (see `compare`).
"""

import html
import json
import random
import re
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from environments import LM_EVAL, environment

NAMES = ("rolling", "cloze", "choice", "pairs")
COUNTS = {"rolling": 24, "cloze": 400, "choice": 260, "pairs": 400}  # documents; some 2,400 requests
WINDOW = 512
CHINESE = (
    "从前有一只狐狸住在森林里。",
    "老国王有三个女儿，最小的最美。",
    "大海很深，水像蓝宝石一样。",
    "他走了很远的路，来到一座城堡。",
    "母亲告诉孩子不要打开那扇门。",
    "夜里月亮升起来，照着雪地。",
    "裁缝带着剑和一块面包出发了。",
    "巨人睡着了，狐狸偷走了金苹果。",
)
TASKS = {
    "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: byte_perplexity}]
""",
    "cloze": """
output_type: loglikelihood
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+text.split(' ')[-1]}}"
metric_list: [{metric: perplexity}, {metric: acc}]
""",
    "choice": """
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
metric_list: [{metric: acc}]
""",
    "pairs": """
output_type: multiple_choice
doc_to_text: ""
doc_to_choice: "{{[good, bad]}}"
doc_to_target: 0
metric_list: [{metric: acc}]
""",
}


def write_tasks(folder: Path, text: str, share: float) -> None:
    """Write the tasks and their documents, a share of all that there can be, always the same ones."""
    dice, words = random.Random(0), [word for word in text.split(" ") if re.search(r"\w", word)]
    documents = {
        "rolling": lambda: {"text": passage(dice, words, 60, 800)},
        "cloze": lambda: {"text": passage(dice, words, 20, 300)},
        "choice": lambda: choice(dice, words),
        "pairs": lambda: pair(dice, words),
    }
    for name, make in documents.items():
        lines = [json.dumps(make(), ensure_ascii=False) for _ in range(max(3, round(COUNTS[name] * share)))]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        where = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/{name}.jsonl}}}}\n"
        (folder / f"{name}.yaml").write_text(where + "test_split: test" + TASKS[name])


def passage(dice: random.Random, words: list[str], least: int, most: int) -> str:
    """So many words in a row, the last of which has letters; the longest ones do not fit into the window."""
    count = dice.randint(least, most)
    start = dice.randrange(max(1, len(words) - count))
    return re.sub(r"\W+$", "", " ".join(words[start : start + count]).strip())


def choice(dice: random.Random, words: list[str]) -> dict:
    """A beginning, sometimes as long as the window, and four ways on, of which one is its own."""
    whole = passage(dice, words, 30, 420).split(" ")
    cut = max(1, len(whole) - dice.randint(3, 12))
    others = [" " + passage(dice, words, 3, 12) for _ in range(3)]
    answer = dice.randrange(4)
    others.insert(answer, " " + " ".join(whole[cut:]))
    return {"text": " ".join(whole[:cut]), "choices": others, "answer": answer}


def pair(dice: random.Random, words: list[str]) -> dict:
    """A sentence, and the same with two neighbours in the wrong order; a third of them in Chinese."""
    if dice.random() < 1 / 3:
        good = "".join(dice.sample(CHINESE, dice.randint(1, 6)))
        parts, between = list(good), ""
    else:
        good = passage(dice, words, 6, 40)
        parts, between = good.split(" "), " "
    at = dice.randrange(len(parts) - 1)
    parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return {"good": good, "bad": between.join(parts)}


def evaluate(python: Path, model: str, arguments: str, folder: Path, tasks: tuple[str, ...] = NAMES) -> dict:
    """Run lm-eval; returns its samples as {(task, document, number): (log-likelihood, whether it is the likeliest)}.

    A text that is rolled over has one number; the harness tells nothing else of it.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [python, "-m", "lm_eval", "--model", model, "--model_args", arguments, "--tasks", ",".join(tasks)]
        command += [
            "--include_path",
            folder,
            "--log_samples",
            "--output_path",
            out,
            "--batch_size",
            "1",
            "--device",
            "cpu",
        ]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found = {}
        for task in tasks:
            (file,) = Path(out).rglob(f"samples_{task}_*.jsonl")
            for line in file.read_text().splitlines():
                sample = json.loads(line)
                for number, answers in enumerate(sample["resps"]):
                    (answer,) = answers if isinstance(answers[0], list) else [answers]
                    value, greedy = (answer[0], answer[1]) if len(answer) > 1 else (answer[0], "")
                    found[task, sample["doc_id"], number] = float(value), str(greedy)
    return found


@dataclass
class Compared:
    """What one task's numbers are beside each other."""

    count: int = 0
    worst: float = 0.0
    other_greedy: int = 0
    likeliest: int = 0
    mean: float = 0.0
    values: list[float] = field(default_factory=list)


def compare(ours: dict, theirs: dict) -> dict[str, Compared]:
    """By task: how many log-likelihoods, the largest difference, and how many are called greedy by one of the two alone."""
    assert ours.keys() == theirs.keys()
    found: dict[str, Compared] = {}
    for key, (value, greedy) in ours.items():
        one, (other, their_greedy) = found.setdefault(key[0], Compared()), theirs[key]
        one.count += 1
        one.worst = max(one.worst, abs(value - other))
        one.other_greedy += greedy != their_greedy
        one.likeliest += greedy == "True"
        one.values.append(value)
    for one in found.values():
        one.mean = sum(one.values) / one.count
    return found


def example(address: str) -> str:
    """The arguments of the example that a server's page has for the harness, which tokenizes by the server."""
    page = html.unescape(urllib.request.urlopen(f"{address}/v1").read().decode())
    (found,) = re.findall(r"--model_args (\S+)", page)
    assert "tokenizer" not in found
    return found


def against_transformers(address: str, model: Path, text: str, share: float = 1.0) -> dict[str, Compared]:
    """Evaluate a server's model both ways, in float32, eight requests at once; prints the table."""
    python = environment("lm-eval", LM_EVAL, shares=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tasks(folder, text, share)
        api = f"model={model.name},base_url={address}/v1/completions,tokenizer={model},max_length={WINDOW},num_concurrent=8"
        ours = evaluate(python, "local-completions", api, folder)
        theirs = evaluate(python, "hf", f"pretrained={model},dtype=float32,max_length={WINDOW - 2}", folder)
        found = compare(ours, theirs)
        shown = evaluate(python, "local-completions", example(address), folder, ("pairs",))
        pairs = {key: value for key, value in theirs.items() if key[0] == "pairs"}
        found["pairs, as /v1 shows it"] = compare(shown, pairs)["pairs"]
    print(f"\n{'task':32} {'numbers':>8} {'mean':>10} {'worst difference':>17} {'greedy':>7} {'told apart':>11}")
    for task, one in found.items():
        print(f"{task:32} {one.count:8} {one.mean:10.3f} {one.worst:17.6f} {one.likeliest:7} {one.other_greedy:11}")
    return found


if __name__ == "__main__":
    where, model_folder, text_file, *rest = sys.argv[1:]
    against_transformers(where, Path(model_folder).resolve(), Path(text_file).read_text(), *map(float, rest))
