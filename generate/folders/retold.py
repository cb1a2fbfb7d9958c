"""Sentences that are kept with models, in English, and told in the language of whoever reads them.

They were made of the messages below; what is none of them, as in a manifest that somebody else wrote, stays as it is unless
the catalogue has the whole of it.
"""

import re
from functools import cache

from generate.languages import N_, gettext
from generate.text.counts import counted

FROM_TENSORFLOW = N_("converted from the TensorFlow checkpoint {name}")
FROM_TENSORFLOW_AT = N_("converted from the TensorFlow checkpoint {name}, step {step}")
FROM_GGUF = N_("converted from the GGUF {name}")
FROM_PYTORCH = N_("converted from the PyTorch file {name}")
FROM_PYTORCH_AT = N_("converted from the PyTorch file {name}, step {step}")
BROUGHT = N_("brought as a folder of transformers")
FROM_HUB = N_("{name}, from the Hugging Face hub")
FINE_TUNED = N_("fine-tuned from {model} on {files}")
FROM_NOTHING = N_("trained from nothing on {files}")
A_FOLDER = N_("a Hugging Face folder")

DIFFERS = N_(
    "The logits differ by {difference} from the checkpoint's own, which rounding does not explain: do not use it."
)
AGREES = N_("The logits agree with the checkpoint's own; without a vocabulary no text could be read.")
NOISE = N_(
    "The logits agree with the checkpoint's own, but it reads like noise: is n_head right, and the vocabulary its own?"
)
OTHER_HEADS = N_("It reads like a trained model, but better with {heads}: is n_head right?")
GOOD = N_("It reads like a trained model, and the logits agree with the checkpoint's own.")

FROM_NPM = N_("GPT-2's own (from npm), because none lies beside the checkpoint and the size fits")
AS_ASKED = N_("GPT-2's own (from npm), as was asked for")
BESIDE = N_("beside the checkpoint")
FROM_FOLDER = N_("from {given}")

MESSAGES = (
    *(FROM_TENSORFLOW_AT, FROM_TENSORFLOW, FROM_GGUF, FROM_PYTORCH_AT, FROM_PYTORCH, BROUGHT, FROM_HUB, FINE_TUNED),
    *(FROM_NOTHING, A_FOLDER, DIFFERS, AGREES, NOISE, OTHER_HEADS, GOOD, FROM_NPM, AS_ASKED, BESIDE, FROM_FOLDER),
)
COUNT = re.compile(r"([0-9][0-9,]*) ([a-z]+?)s?")


def retold(sentence: str) -> str:
    """A kept sentence in the current language."""
    for message in MESSAGES:
        if found := pattern(message).fullmatch(sentence):
            return gettext(message, **{name: amount(text) for name, text in found.groupdict().items()})
    return gettext(sentence)


@cache
def pattern(message: str) -> re.Pattern:
    """What a message looks like with its values filled in."""
    parts = re.split(r"\{(\w+)\}", message)
    return re.compile("".join(f"(?P<{part}>.+)" if n % 2 else re.escape(part) for n, part in enumerate(parts)), re.S)


def amount(text: str) -> str:
    """A value, counted anew where it is a number of things."""
    if (found := COUNT.fullmatch(text)) is None:
        return text
    return counted(int(found[1].replace(",", "")), found[2])
