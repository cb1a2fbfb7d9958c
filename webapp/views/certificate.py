"""What `convert` found when it made a model, for the model's page.

What is not as it should be in the file is left out, never refused: it may be older than this page, or somebody else's.
"""

from collections.abc import Iterator

from generate import N_, ModelFolder, Refusal, counted, gettext, retelling
from webapp.views.training import Fact
from webapp.views.training_record import number, part, words

HEADS = 10  # other numbers of heads named at most


def find_certificate(folder: ModelFolder) -> dict | None:
    """What the page says of a conversion: `verdict`, `facts`, `prompt` and `text`; None where nothing is known of one."""
    try:
        raw = folder.certificate()
    except Refusal as refusal:
        return {"verdict": str(refusal), "facts": [], "prompt": "", "text": ""}
    if not raw:
        return None
    sample = part(raw.get("sample"))
    return {
        "verdict": retelling.retold(words(raw.get("verdict")))
        or gettext("certificate.json does not say what came of it."),
        "facts": list(facts(raw)),
        "prompt": words(sample.get("prompt")),
        "text": words(sample.get("text")),
    }


def heads_of(text: str) -> str:
    """As in "1 head" and "12 heads"; JSON's keys are text."""
    return counted(int(text), "head") if text.isascii() and text.isdigit() and len(text) < 6 else gettext("other heads")


def facts(raw: dict) -> Iterator[Fact]:
    """Lines of what was measured, as far as it is there."""
    how = {
        True: gettext("each bit by bit as in the checkpoint"),
        False: gettext("each rounded from the checkpoint to another type"),
    }.get(raw.get("exact") if isinstance(raw.get("exact"), bool) else None)
    if count := number(raw.get("tensors")):
        yield Fact(N_("tensors"), gettext(", ").join(filter(None, (f"{count:,.0f}", how))))
    difference = number(raw.get("largest_difference"))
    if difference is not None or ("largest_difference" in raw and raw["largest_difference"] is None):
        differ = gettext("more than can be told") if difference is None else f"{difference:.1e}"
        text = N_(
            "differ by {differ} at most from a second forward pass, in double precision, over the checkpoint itself"
        )
        yield Fact(N_("logits"), gettext(text, differ=differ))
    if vocabulary := words(raw.get("vocabulary")):
        yield Fact(N_("vocabulary"), retelling.retold(vocabulary))
    if (loss := number(raw.get("loss"), 1e6)) is not None:
        said = [gettext("{loss:.2f} nats a token on a short text", loss=loss)]
        if (chance := number(raw.get("chance"), 1e6)) is not None:
            said.append(gettext("; chance is {chance:.2f}", chance=chance))
        for heads, other in list(part(raw.get("other_heads")).items())[:HEADS]:
            if (other := number(other, 1e6)) is not None:
                said.append(
                    gettext(", with {heads} it would be {other:.2f}", heads=heads_of(words(heads)), other=other)
                )
        yield Fact(N_("loss"), "".join(said))
