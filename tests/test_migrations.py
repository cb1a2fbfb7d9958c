"""The tables of older versions are brought up to date with what is in them."""

import json

from flask_migrate import downgrade, upgrade
from rounds import Server, told
from sqlalchemy import text, update

from generate import Problem
from webapp import create_app
from webapp.runs.tables import Run, Sample, db


def test_the_tables_of_the_first_version_are_brought_up_to_date_and_back_with_what_is_in_them(new_database, a, writer):
    made, original = new_database(), a.write(max_new_tokens=30, samples=2)
    first = "id created owner state model fingerprint vocabulary_id vocab_size n_positions precision device options"
    first += " prompt authors first_sample relation parent_id parent_sample"
    columns = {
        "vocabulary": ["id", "tokens"],
        "run": first.split(),
        "sample": ["run_id", "number", "finish_reason", "text_end", "error"],
        "block": ["run_id", "number", "start", "tokens"],
    }

    def rows(name, where=""):
        query = f"SELECT {', '.join(columns[name])} FROM {name} {where} ORDER BY 1, 2"
        return [tuple(row) for row in db.session.execute(text(query))]

    with a.app.app_context():
        mine = {"vocabulary": ("id", a.row(original, Run.vocabulary_id)), "run": ("id", original[3:])}
        mine |= dict.fromkeys(("sample", "block"), ("run_id", original[3:]))
        kept = {name: rows(name, f"WHERE {column} = '{value}'") for name, (column, value) in mine.items()}
    app = create_app(made, writer.engine)
    with app.app_context():
        upgrade(revision="0001")
        for name, found in kept.items():
            places = ", ".join(f":{column}" for column in columns[name])
            for row in found:
                values = {
                    k: json.dumps(v) if isinstance(v, dict | list) else v
                    for k, v in zip(columns[name], row, strict=True)
                }
                db.session.execute(text(f"INSERT INTO {name} ({', '.join(columns[name])}) VALUES ({places})"), values)
        db.session.commit()
        upgrade()
        assert {name: rows(name) for name in columns} == kept
        db.session.remove()
    assert told(Server(made, writer.engine), original) == told(a, original)
    with app.app_context():
        downgrade(revision="0001")
        assert {name: rows(name) for name in columns} == kept
        db.session.remove()
        upgrade()
        assert {name: rows(name) for name in columns} == kept
        db.session.remove()
        db.engine.dispose()
    server = Server(made, writer.engine)
    assert told(server, original) == told(a, original)
    server.close()


def test_what_went_wrong_is_one_sentence_in_the_tables_of_the_version_before(new_database, writer):
    server = Server(new_database(), writer.engine)
    with server.app.app_context():
        upgrade()
    run = server.write(max_new_tokens=3, samples=3)
    lost = Problem("The model {name} needs {needed:.1f} GB.", name="a {b}", needed=2.55)
    problems = [Problem("{reason} What was written is kept.", reason=lost), Problem("Out of {range}."), None]
    with server.app.app_context():
        for number, problem in enumerate(problems):
            db.session.execute(update(Sample).where(Sample.number == number).values(**Sample.told(problem)))
        db.session.commit()
        said = [problem and str(problem) for problem in problems]
        assert [sample["error"] for sample in server.visitor.json(run)["samples"]] == said
        db.session.remove()
        downgrade(revision="0002")
        found = db.session.execute(text("SELECT error FROM sample ORDER BY number")).scalars().all()
        assert found == said == ["The model a {b} needs 2.5 GB. What was written is kept.", "Out of {range}.", None]
        db.session.remove()
        upgrade()
        assert [sample["error"] for sample in server.visitor.json(run)["samples"]] == said
        db.session.remove()
    server.close()
