"""The workshop's pages: what a person gives, what was found in it, and how the job stands."""

import io
import re
from dataclasses import fields

import pytest
from workshops import enter

from finetune import options
from finetune.presets import PRESETS
from webapp.jobs.tables import JobState
from webapp.views import teach_form

GIVEN = {"text": "The old king said to the fox.\n" * 60, "model": "tiny", "makes": "friends", "minutes": "10"}


@pytest.fixture
def operator(workshop, model):
    (workshop.jobs.models / "tiny").symlink_to(model)
    return enter(workshop.server.app)


def teach(operator, **more) -> str:
    """Send the form; returns the job's id."""
    answer = operator.post("/workshop/teach", data=GIVEN | more, content_type="multipart/form-data")
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"].rpartition("/")[2]


def test_what_was_found_in_a_text_is_shown_before_anything_is_learned(workshop, operator):
    job = teach(operator, documents="line")
    assert "Looking at it…" in operator.get(f"/workshop/jobs/{job}").text
    workshop.until(job, JobState.DRAFT)
    page = operator.get(f"/workshop/jobs/{job}").text
    assert re.search(r"To learn from</dt><dd>54 documents, [\d,]+ tokens", page)
    assert re.search(r"Held out</dt><dd>6 documents, [\d,]+ tokens", page)
    assert page.count("The old king said to the fox.") > 2
    assert "Train</button>" in page
    assert not (workshop.jobs.models / "friends").exists()
    assert operator.post(f"/workshop/jobs/{job}/begin").status_code == 303
    assert workshop.job(job).state == JobState.WAITING


def test_the_command_is_the_one_that_a_terminal_would_be_given(workshop, operator):
    job = teach(operator, documents="line", sample_prompt="--out=/tmp/x", freeze_embeddings="on", steps="40")
    assert workshop.job(job).arguments == [
        "texts/text.txt",
        "--model=tiny",
        "--steps=40",
        "--documents=line",
        "--sample-prompt=--out=/tmp/x",
        "--freeze-embeddings",
    ]
    workshop.until(job, JobState.DRAFT)
    command = "python -m finetune texts/text.txt --model=tiny --steps=40 --documents=line"
    assert command in operator.get(f"/workshop/jobs/{job}").text


def test_files_of_all_kinds_are_taken_by_names_that_lead_nowhere_else(workshop, operator):
    names = ["../../etc/tales.jsonl", "-x.txt", "my texts/a b.csv", "说.txt", "a b.csv"]
    files = [(io.BytesIO(b'{"text": "once"}\n'), name) for name in names]
    job = teach(operator, files=files, text="")
    kept = sorted(path.name for path in (workshop.folder(job) / "texts").iterdir())
    assert kept == sorted(["tales.jsonl", "x.txt", "a_b.csv", "说.txt", "5-a_b.csv"])
    assert workshop.job(job).title == "tiny learns tales.jsonl and 4 more"


@pytest.mark.parametrize("given", ["", "..", "/", "a/", "C:\\x\\lock", "--out=x", ".hidden", "a\0b", "x" * 300])
def test_no_name_of_a_file_leads_elsewhere(given):
    assert re.fullmatch(r"\w[\w.-]{0,79}", teach_form.file_name(given, []))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"text": " \n"}, "Paste a text, or choose a file."),
        ({"makes": "a/b"}, "A model&#39;s name has 1 to 80 letters"),
        ({"makes": "tiny"}, "There is a model called tiny already"),
        ({"makes": ""}, "makes is missing from the form."),
        ({"model": "none"}, "There is no model called &#39;none&#39; here"),
        ({"steps": "1\0"}, "steps must have at most 2,000 characters, and no NUL among them."),
    ],
)
def test_a_wrong_field_is_named_and_the_words_stay_in_the_box(workshop, operator, wrong, sentence):
    kept = {"sample_prompt": "So it was that", "text": "A text of mine."}
    answer = operator.post("/workshop/teach", data=GIVEN | kept | wrong)
    assert answer.status_code == 422
    assert sentence in answer.text
    assert 'value="So it was that"' in answer.text
    assert ("A text of mine." in answer.text) == ("text" not in wrong)
    with workshop.server.app.app_context():
        assert workshop.jobs.all() == []


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"learning_rate": "7"}, "--learning-rate must be from 0 to 1, not 7.0."),
        ({"steps": "x"}, "argument --steps: invalid whole number value: &#39;x&#39;"),
        ({"text": "too short"}, "tokens are too few to train on; at least 32 are needed."),
        ({"column": "3"}, "text.txt has no columns."),
    ],
)
def test_what_the_terminal_refuses_the_page_refuses_with_its_sentence_and_it_can_be_changed(
    workshop, operator, wrong, sentence
):
    job = teach(operator, **wrong)
    workshop.until(job, JobState.DRAFT)
    page = operator.get(f"/workshop/jobs/{job}").text
    assert sentence in page
    assert "Train</button>" not in page
    change = operator.get(f"/workshop/teach/{job}").text
    assert "text.txt" in change
    assert all(f'value="{value}"' in change for name, value in wrong.items() if name != "text")


def test_a_draft_that_was_changed_is_looked_at_again(workshop, operator):
    job = teach(operator, learning_rate="7")
    workshop.until(job, JobState.DRAFT)
    sent = {"model": "tiny", "makes": "others", "learning_rate": "0.001", "documents": "line"}
    assert operator.post(f"/workshop/teach/{job}", data=sent).status_code == 303
    workshop.until(job, JobState.DRAFT)
    assert "Train</button>" in operator.get(f"/workshop/jobs/{job}").text
    assert workshop.job(job).makes == "others"


def test_a_text_beyond_the_limit_is_refused_and_one_below_it_is_taken_though_no_prompt_could_be_so_long(operator):
    text = "Once upon a time. " * 60_000
    teach(operator, text=text)
    assert operator.post("/workshop/teach", data=GIVEN | {"text": text * 40}).status_code == 413
    assert operator.post("/runs", data={"prompt": text}).status_code == 413


def test_a_page_lists_jobs_and_each_is_stopped_begun_and_thrown_away_there(workshop, operator):
    job, other = workshop.submit("9999", makes="m1"), workshop.submit("9999", makes="m2")
    workshop.until_counting(job)
    listed = operator.get("/workshop").text
    assert listed.index(job) < listed.index(other)
    page = operator.get(f"/workshop/jobs/{job}").text
    assert re.search(r"\d+ of 9,999 steps", page)
    assert f'hx-get="/workshop/jobs/{job}/now"' in page
    assert "It waits in line, behind 1 other." in operator.get(f"/workshop/jobs/{other}").text
    assert operator.post(f"/workshop/jobs/{job}/stop").headers["Location"] == f"/workshop/jobs/{job}"
    assert "It saves what it has, and stops…" in operator.get(f"/workshop/jobs/{job}/now").text
    workshop.until(job, JobState.STOPPED)
    page = operator.get(f"/workshop/jobs/{job}").text
    assert "It goes on from there when you like." in page
    assert "hx-get" not in page
    assert operator.post(f"/workshop/jobs/{job}/begin").headers["Location"] == f"/workshop/jobs/{job}"
    operator.post(f"/workshop/jobs/{job}/throw-away")
    workshop.until(job, None)
    assert operator.get(f"/workshop/jobs/{job}").status_code == 404


def test_what_a_model_wrote_and_a_title_are_shown_and_not_run(workshop, operator):
    evil = "<script>alert(1)</script>"
    job = workshop.submit("9999", kind="slow_job", makes="m")
    told = {"event": "samples", "step": 1, "prompt": evil, "text": evil}
    workshop.ask(
        "move", job, tuple(JobState), title=evil, kind="finetune", progress={"samples": [told], "says": [evil]}
    )
    for page in ("/workshop", f"/workshop/jobs/{job}"):
        assert evil not in operator.get(page).text
    workshop.ask("move", job, tuple(JobState), kind="slow_job")


def test_the_form_has_the_options_of_the_terminal_and_their_choices():
    ours = {field.name: field for field in teach_form.FIELDS}
    theirs = {field.name for field in fields(options.Options)}
    apart = {
        "minutes",
        "width",
        "heads",
        "vocab",
        "zero_init",
        "distill_weight",
    }  # of its own; from nothing; of teachers
    assert set(ours) == theirs - apart
    assert {name: field.choices for name, field in ours.items() if field.choices} == options.CHOICES
    assert {name for name, field in ours.items() if field.tick} == {
        field.name for field in fields(options.Options) if field.type is bool and field.name in ours
    }
    assert tuple(PRESETS) == teach_form.PRESETS
