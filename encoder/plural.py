"""A count and what is counted, in words."""


def plural(count: int, noun: str) -> str:
    """Return `1 row`, `2,000 rows` or `2 more queries` of a count and what one of it is called."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1] + 'ie' if noun.endswith('y') and noun[-2] not in 'aeou' else noun}s"
