"""`python -m finetune encode`: the encoding of a text alone, to be trained on later or elsewhere."""

import shutil
import sys
import tempfile
from pathlib import Path

from finetune import data
from finetune.encoding import Encoding
from finetune.options import Options
from finetune.start import find_folder, from_folder
from generate import check_folder, check_target, in_place_of


def encode_to(given: dict, options: Options, models: Path) -> Encoding:
    """Make the folder `given["target"]`; raises Refusal."""
    target = given["target"]
    for source in given["data"]:
        check_target(target, given.get("force", False), Path(source))
    start = from_folder(check_folder(find_folder(given["model"], models)), options)
    with (
        in_place_of(target) as part,
        tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as cache,
    ):
        found = data.encoded(given["data"], options, start, Path(cache), Path(cache), sys.stderr.isatty())
        for file in found.path.iterdir():
            shutil.move(file, part / file.name)
    print(f"{target}: {len(found.ends):,} documents, {len(found.tokens):,} tokens.")
    return found
