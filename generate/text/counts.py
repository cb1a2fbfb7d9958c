"""Numbers of things in words."""


def counted(count: int, one: str = "token", many: str | None = None) -> str:
    """As in `1 token` and `1,234 tokens`; `many` where a mere s does not make the plural."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
