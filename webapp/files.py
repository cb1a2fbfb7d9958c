"""Where the files lie that the page serves or reads. The only module that looks for them."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
TEMPLATES = ROOT / "templates"
STATIC = ROOT / "static"
NODE_MODULES = ROOT / "node_modules"  # what npm brought
PACKAGE_JSON = ROOT / "package.json"
MIGRATIONS = ROOT / "webapp/migrations"
INSTANCE = ROOT / "instance"  # the database and the secret key, unless RUBRIC_INSTANCE says otherwise
