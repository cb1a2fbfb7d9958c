"""What the terminal says of a conversion: sizes and where they come from, what was left out, the certificate."""

import json

from convert.bundle import Bundle
from convert.certificate import Certificate
from convert.names import to_transformers
from convert.sizes import Sizes
from convert.source import Source
from generate import N_, counted, gettext, retelling


def print_sizes(sizes: Sizes) -> None:
    """Print each hyper-parameter and where its value comes from."""
    for name, origin in sizes.origins.items():
        print(f"{name:20} {getattr(sizes, name):>10}   {retelling.retold(origin)}")


def print_skipped(bundle: Bundle) -> None:
    """Name the variables that were left out, if any."""
    skipped = [name for name in bundle.variables if name not in to_transformers(bundle.variables)]
    if skipped:
        names = ", ".join(map(printable, skipped))
        print(gettext("\nSkipped, because they are no weights of a GPT-2: {names}", names=names))


def print_certificate(found: Certificate) -> None:
    """Print what was measured, the verdict, and the model's sample."""
    how = gettext("bit by bit") if found.exact else gettext("rounded to the type you asked for")
    largest = found.largest_difference
    told = gettext(
        "\nCertificate: {tensors}, {how}; the largest difference of a logit is {difference}.",
        tensors=counted(found.tensors, "tensor"),
        how=how,
        difference=gettext("not a number") if largest is None else f"{largest:.1e}",
    )
    print(told)
    if found.loss is not None:
        others = "".join(
            gettext("; with {heads} {loss:.2f}", heads=counted(heads, "head"), loss=loss)
            for heads, loss in found.other_heads.items()
        )
        told = N_("Loss on a short text: {loss:.2f} nats a token (chance: {chance:.2f}{others}).")
        print(gettext(told, loss=found.loss, chance=found.chance, others=others))
    print(retelling.retold(found.verdict))
    if found.sample:
        text = printable(found.sample["prompt"] + found.sample["text"], keep="\n")
        print(gettext("\nA sample:\n{text}", text=text))


def printable(text: str, keep: str = "") -> str:
    """Text from a file or a model without anything that could move the cursor."""
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def inspect(bundle: Bundle, source: Source, as_json: bool) -> None:
    """List the variables by reading only the index."""
    weights = to_transformers(bundle.variables)
    rows = [
        {
            "name": v.name,
            "dtype": v.dtype,
            "shape": list(v.shape),
            "bytes": v.size,
            "shards": sorted({piece.shard for piece in v.pieces}),
            "becomes": weights.get(v.name),
        }
        for v in bundle.variables.values()
    ]
    if as_json:
        facts = {"prefix": str(source.prefix), "step": source.step, "steps": source.steps, "data_files": bundle.shards}
        print(json.dumps(facts | {"variables": rows}, indent=2))
        return
    steps = ", ".join(map(str, source.steps))
    steps = gettext("; steps here: {steps}", steps=steps) if steps else ""
    told = N_("{source}: {count} variables in {files} data file(s){steps}\n")
    print(gettext(told, source=source.prefix, count=len(rows), files=bundle.shards, steps=steps))
    width = max((len(printable(row["name"])) for row in rows), default=4)
    for row in rows:
        shape = "x".join(map(str, row["shape"])) or "scalar"
        print(
            f"{printable(row['name']):{width}}  {row['dtype']:9} {shape:>16} {row['bytes']:>13,}  {row['becomes'] or gettext('skipped')}"
        )
