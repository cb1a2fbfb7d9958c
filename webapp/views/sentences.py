"""A text that was only read: how well its model predicts it, in one sentence."""

from typing import TYPE_CHECKING

from generate import perplexity

if TYPE_CHECKING:
    from webapp.view import RunView


def verdict(view: "RunView") -> str:
    """The sentence under a text that was read whole: `Read: 412 tokens. Perplexity 23.4, 1.25 bits per byte.`

    A token without a prediction (the first) counts neither with its probability nor with its bytes.
    """
    records = view.log.prompt
    score = perplexity(records, view.vocabulary)
    read = f"Read: {counted(len(records))}."
    if score.perplexity is None:
        return f"{read} Nothing came before it that could predict it." if len(records) == 1 else read
    bits = "" if score.bits_per_byte is None else f", {score.bits_per_byte:.2f} bits per byte"
    return f"{read} Perplexity {rounded(score.perplexity)}{bits}."


def counted(tokens: int) -> str:
    return f"{tokens:,} token{'' if tokens == 1 else 's'}"


def rounded(perplexity: float) -> str:
    """A perplexity as a person reads it: three digits, or all before the point."""
    if perplexity >= 1e7:
        return f"{perplexity:.1e}"
    return f"{perplexity:,.0f}" if perplexity >= 99.95 else f"{perplexity:#.3g}"
