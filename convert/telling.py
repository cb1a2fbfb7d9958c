"""What the terminal says of a conversion: sizes and where they come from, what was left out, the certificate."""

import json

from convert.bundle import Bundle
from convert.certificate import Certificate
from convert.names import to_transformers
from convert.sizes import Sizes
from convert.source import Source
from generate import counted


def print_sizes(sizes: Sizes) -> None:
    """Print each hyper-parameter and where its value comes from."""
    for name, origin in sizes.origins.items():
        print(f"{name:20} {getattr(sizes, name):>10}   {origin}")


def print_skipped(bundle: Bundle) -> None:
    """Name the variables that were left out, if any."""
    skipped = [name for name in bundle.variables if name not in to_transformers(bundle.variables)]
    if skipped:
        print(f"\nSkipped, because they are no weights of a GPT-2: {', '.join(map(printable, skipped))}")


def print_certificate(found: Certificate) -> None:
    """Print what was measured, the verdict, and the model's sample."""
    how = "bit by bit" if found.exact else "rounded to the type you asked for"
    print(
        f"\nCertificate: {counted(found.tensors, 'tensor')}, {how}; the largest difference of a logit is {'not a number' if found.largest_difference is None else f'{found.largest_difference:.1e}'}."
    )
    if found.loss is not None:
        others = "".join(f"; with {counted(heads, 'head')} {loss:.2f}" for heads, loss in found.other_heads.items())
        print(f"Loss on a short text: {found.loss:.2f} nats a token (chance: {found.chance:.2f}{others}).")
    print(found.verdict)
    if found.sample:
        print(f"\nA sample:\n{printable(found.sample['prompt'] + found.sample['text'], keep=chr(10))}")


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
    steps = f"; steps here: {', '.join(map(str, source.steps))}" if source.steps else ""
    print(f"{source.prefix}: {len(rows)} variables in {bundle.shards} data file(s){steps}\n")
    width = max((len(printable(row["name"])) for row in rows), default=4)
    for row in rows:
        shape = "x".join(map(str, row["shape"])) or "scalar"
        print(
            f"{printable(row['name']):{width}}  {row['dtype']:9} {shape:>16} {row['bytes']:>13,}  {row['becomes'] or 'skipped'}"
        )
