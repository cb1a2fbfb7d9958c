"""`python -m finetune encode`: the encoding of a text alone, to be trained on later or elsewhere."""

import sys
import tempfile
from pathlib import Path

from finetune import data
from finetune.encoding import Encoding, write_encoding
from finetune.options import Options
from finetune.start import find_folder, from_folder
from generate import Refusal, check_folder, check_target, counted, gettext


def encode_to(given: dict, options: Options, models: Path) -> Encoding:
    """Make the folder `given["target"]`; raises Refusal."""
    target = given["target"]
    for source in given["data"]:
        check_target(target, given.get("force", False), Path(source))
    if data.is_encoding(given["data"]):
        raise Refusal("{path} is encoded already; give the text itself.", path=given["data"][0])
    start = from_folder(check_folder(find_folder(given["model"], models)), options)
    with tempfile.TemporaryDirectory(prefix="rubric-") as scratch:
        shows = sys.stderr.isatty()
        found = data.encoded(given["data"], options, start, target, Path(scratch), shows, write_encoding)
        for line in data.assumptions(options, Path(scratch), given["data"]):
            print(line, file=sys.stderr)
    documents, tokens = counted(len(found.ends), "document"), counted(len(found.tokens))
    print(gettext("{target}: {documents}, {tokens}.", target=target, documents=documents, tokens=tokens))
    return found
