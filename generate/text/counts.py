"""Numbers of things in words."""

from generate.languages import ngettext


def counted(count: int, one: str = "token", many: str | None = None) -> str:
    """As in `1 token` and `1,234 tokens`; `many` where a mere s does not make the plural."""
    return ngettext(f"{{count:,}} {one}", f"{{count:,}} {many or f'{one}s'}", count)
