"""Tables of text for a terminal."""

from collections.abc import Container, Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Container[int] = ()) -> str:
    """Lay rows out in columns, two spaces apart.

    Args:
        headings: The first line, in capitals.
        rows: Texts of each line, as many as there are headings.
        right: Columns that are aligned to the right, counted from 0.
    """
    lines = [[heading.upper() for heading in headings], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
