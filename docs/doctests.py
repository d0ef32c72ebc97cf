"""Examples in docstrings as code blocks: without this, `>>>` would be quotations."""

import re
from typing import Any

import griffe

# From a prompt to the next empty line.
_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).+)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts each example of a docstring into a block."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
