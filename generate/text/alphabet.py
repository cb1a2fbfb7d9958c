"""How GPT-2's vocabulary files write bytes."""

from functools import cache


@cache
def byte_alphabet() -> dict[str, int]:
    """Map each of the 256 printable characters by which GPT-2's vocabulary files write a byte to that byte.

    Source: `bytes_to_unicode` in openai/gpt-2, src/encoder.py.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}
