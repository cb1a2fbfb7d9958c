"""Where the files lie that are no Python modules, in a checkout and in an installed wheel. The only module that looks for them.

A wheel puts what lies at the top of a checkout into a folder `rubric/` beside the packages (pyproject.toml says what goes
there). That folder may be read-only, so an installed Rubric keeps the user's models and database in the user's data
folder, on Linux ~/.local/share/rubric.
"""

from pathlib import Path

import platformdirs

BESIDE = Path(__file__).parent.parent  # the checkout, or site-packages
INSTALLED = (BESIDE / "rubric").is_dir()
ROOT = BESIDE / "rubric" if INSTALLED else BESIDE
DATA = platformdirs.user_data_path("rubric", appauthor=False) if INSTALLED else ROOT

TEMPLATES = ROOT / "templates"
STATIC = ROOT / "static"
TRANSLATIONS = ROOT / "translations"  # catalogues of other languages, made by `make translations`
NODE_MODULES = ROOT / "node_modules"  # what npm brought
PACKAGE_JSON = ROOT / "package.json"
MIGRATIONS = BESIDE / "webapp/migrations"
SHIPPED_MODELS = ROOT / "models"
MODELS = DATA / "models"  # unless RUBRIC_MODELS says otherwise; in a checkout the same as SHIPPED_MODELS
INSTANCE = DATA / "instance"  # the database and the secret key, unless RUBRIC_INSTANCE says otherwise
