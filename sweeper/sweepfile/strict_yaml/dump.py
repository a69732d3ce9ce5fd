"""Plain values as YAML text."""

from typing import Any

import yaml

from sweeper.sweepfile.strict_yaml.scalars import scalar
from sweeper.sweepfile.strict_yaml.values import MAX_SNIPPET_WIDTH


def dump(value: Any) -> str:
    """YAML text of plain dictionaries, lists and scalars, which reads as the same values."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,  # innermost lists and mappings in a line
        width=MAX_SNIPPET_WIDTH,
    )


class _Dumper(yaml.SafeDumper):
    """Writes what `scalar` would take for something else in quotes, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 -- the name is PyYAML's
        return True


def _represented(dumper: _Dumper, text: str) -> Any:
    is_plain = scalar(text) == text  # YAML 1.1 takes 12e3456 for text
    style = None if is_plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represented)
