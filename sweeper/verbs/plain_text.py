"""Text from elsewhere, made safe for a terminal.

Labels, descriptions, paths and error messages may hold whatever somebody typed, or planted in a
results folder: escape sequences that recolour, move or retitle a terminal, or that rewrite lines.
"""


def plain(text: str) -> str:
    """One line of text without anything that steers a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def plain_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(plain(line) for line in text.replace("\t", "    ").split("\n"))
