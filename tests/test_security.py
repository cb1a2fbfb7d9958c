"""What docs/security.md says is held by tests that exist; and what no other test held before it was written."""

import ast
import re
import stat

import pytest
from conftest import ROOT
from workshops import enter

from webapp.http.visitors import secret_key

OURS = ("generate", "webapp", "convert", "finetune")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
POLICY = {
    *("default-src 'none'", "script-src 'self'", "style-src 'self'", "font-src 'self'", "img-src 'self'"),
    *("connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
}


def functions(name: str) -> set[str]:
    """The functions in a file of tests."""
    tree = ast.parse((ROOT / "tests" / name).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_the_security_pass_names_exists():
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())
    assert len(named) > 100
    there = {name: functions(name) for name in {name for name, _ in named}}
    assert [(name, test) for name, test in named if test not in there[name]] == []


def calls():
    """(file, call) of everything that our packages call."""
    for file in (file for package in OURS for file in sorted((ROOT / package).rglob("*.py"))):
        yield from ((file, node) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))


def test_no_shell_is_asked():
    called = {(file, ast.unparse(call.func)) for file, call in calls()}
    assert any(name == "subprocess.Popen" for _, name in called)
    assert {name for _, name in called} & {"os.system", "os.popen", "subprocess.getoutput"} == set()
    assert [file for file, call in calls() if any(keyword.arg == "shell" for keyword in call.keywords)] == []


def assigned(file, name: str) -> ast.expr:
    """What a name is, where a file says it once."""
    tree = ast.walk(ast.parse(file.read_text()))
    (value,) = (node.value for node in tree if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name)
    return value


def test_no_statement_is_put_together_of_strings():
    """What is no literal in a statement of SQL's is a constant of ours: by its name in capitals, or each of some pragmas."""
    statements = [
        (file, call.args[0]) for file, call in calls() if ast.unparse(call.func) in ("text", "sqlalchemy.text")
    ]
    statements += [
        (file, call.args[0])
        for file, call in calls()
        if ast.unparse(call.func).endswith((".execute", "exec_driver_sql")) and call.args
        if isinstance(call.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)
    ]
    assert len(statements) > 5
    for file, statement in statements:
        if isinstance(statement, ast.Name):
            statement = assigned(file, statement.id)
        if re.match(r"[A-Z_]+\.get\(", ast.unparse(statement)):  # one of a table of ours
            continue
        parts = statement.values if isinstance(statement, ast.JoinedStr) else [statement]
        assert all(
            isinstance(part, ast.Constant)
            or (isinstance(part, ast.FormattedValue) and re.fullmatch(r"[A-Z_]+|pragma", ast.unparse(part.value)))
            for part in parts
        ), f"{file}: {ast.unparse(statement)}"


def test_every_answer_has_the_headers(app, visitor):
    run = visitor.start(max_new_tokens=3)
    sheet = visitor.post("/sheets", json={"key": "k" * 22}).get_json()["id"]
    paths = ["/", "/?temperature=x", "/runs", "/v1", "/healthz", "/readyz", "/static/rubric.css", "/nope", "/workshop"]
    paths += [
        run,
        *(f"{run}{more}" for more in ("/events", ".json", ".txt", ".png", "/qr.svg", "/share")),
        f"/s/{sheet}",
    ]
    answers = [visitor.get(path) for path in paths]
    answers += [visitor.post("/runs", data={"model": "none"}), visitor.post("/nope"), enter(app).get("/workshop")]
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, answer.request.path
        policy = re.sub(r" 'nonce-[\w-]{22}'", "", answer.headers["Content-Security-Policy"])
        assert set(policy.split("; ")) == POLICY, answer.request.path
        assert answer.headers["Cache-Control"], answer.request.path


@pytest.mark.parametrize(("public", "secure"), [("https://rubric.example", True), ("http://rubric.example", False)])
def test_the_visitor_s_cookie_is_for_this_site_and_no_script(serve, public, secure):
    visitor = serve(PUBLIC_URL=public).visitor
    answer = visitor.post("/runs", data={"prompt": "Once", "model": "tiny", "max_new_tokens": "1"})
    (cookie,) = (value.split("; ") for value in answer.headers.getlist("Set-Cookie"))
    assert cookie[0].startswith("rubric=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie)
    assert ("Secure" in cookie) is secure


def test_the_key_that_signs_cookies_is_its_owner_s_alone(tmp_path):
    key = secret_key(tmp_path)
    assert len(bytes.fromhex(key.decode())) == 32
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert secret_key(tmp_path) == key


def test_all_that_has_a_model_write_counts_for_one_limit(app, visitor, monkeypatch):
    limits = {name: getattr(view, "limited", ("none of ours",)) for name, view in app.view_functions.items()}
    limited = sorted(name for name, (limit, *_) in limits.items() if limit is None)  # none of its own
    assert {"home.create", "sheet.write", "suggestions.suggest", "comparison.score", "replay.begin"} <= set(limited)
    monkeypatch.setitem(app.config["SETTINGS"], "RUBRIC_RATE_LIMIT", f"{len(limited)} per 7 hours")
    asked = [rule for rule in app.url_map.iter_rules() if rule.endpoint in limited]
    addresses = [rule.build(dict.fromkeys(rule.arguments, "x"), append_unknown=False)[1] for rule in asked]
    assert len(addresses) == len(limited)
    assert {visitor.post(address).status_code for address in addresses} <= {303, 400, 401, 404, 422}
    assert {visitor.post(address).status_code for address in addresses} == {429}
