"""What only whoever runs the server can mend is told to them alone; a visitor from elsewhere hears of no file and no command."""

import shutil
from pathlib import Path

import pytest
from operating import operator_cookie
from test_curve import RUN

from generate import write_json

AWAY = {"Host": "rubric.example"}
FAR = {"Host": "localhost", "X-Forwarded-For": "192.0.2.1"}


@pytest.fixture
def broken(models):
    """A model whose weights are missing, in the folder of the others."""
    path = shutil.copytree(models / "tiny", models / "cut-short")
    (path / "model.safetensors").unlink()
    yield path.name
    shutil.rmtree(path)


@pytest.mark.parametrize("page", ["/", "/models/cut-short"])
def test_what_is_wrong_with_a_model_is_told_on_this_machine_and_to_the_operator_alone(visitor, broken, page):
    assert "model.safetensors is missing" in visitor.get(page).text
    for headers in (AWAY, FAR):
        told = visitor.get(page, headers=headers).text
        assert "cannot be used on this server" in told
        assert "safetensors" not in told
        cookie = operator_cookie(Path(visitor.client.application.instance_path))
        visitor.client.set_cookie(*cookie, domain=headers["Host"])
        assert "model.safetensors is missing" in visitor.get(page, headers=headers).text


def test_a_press_is_answered_without_files(visitor, broken):
    answer = visitor.post("/runs", data={"prompt": "x", "model": broken}, headers={"Accept": "application/json"})
    assert answer.status_code == 422
    assert answer.get_json()["problem"] == "The model cut-short cannot be used on this server just now."


def test_the_command_of_a_training_is_told_on_this_machine_alone(visitor, models):
    trained = shutil.copytree(models / "tiny", models / "learned")
    try:
        write_json(trained / "run.json", RUN)
        assert RUN["command"] in visitor.get("/models/learned").text
        told = visitor.get("/models/learned", headers=AWAY).text
    finally:
        shutil.rmtree(trained)
    assert "How it was trained" in told
    assert RUN["command"] not in told
    assert '<time datetime="2' in told
