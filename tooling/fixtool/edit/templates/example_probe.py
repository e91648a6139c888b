"""Is the bug in this tree? This example looks for a text in a file of the tree.

It runs as it is. Name it in a patch, with a file and a text that only the patch brings:

    Probe: probes/example.py src/server.py 'the text'

For a patch of your own, copy it to verify/probes/<slug>.py and let main() call the code that has
the bug. That is worth more: a text can be there and not work.
"""

import sys
from pathlib import Path

from fixtool.verify.answer import BROKE, DOES_NOT_APPLY, NOT_PRESENT, PRESENT, Answer, answer, tree


def main() -> Answer:
    if len(sys.argv) != 3:
        return Answer(BROKE, "usage: example.py FILE TEXT")
    name, text = sys.argv[1:]
    file = Path(tree(), name)
    if not file.is_file():
        return Answer(DOES_NOT_APPLY, f"the tree has no {name}")
    if text in file.read_text("utf-8", errors="replace"):
        return Answer(NOT_PRESENT, f"{name} holds {text!r}")
    return Answer(PRESENT, f"{name} does not hold {text!r}")


answer(main)  # prints what main() saw; any exception is exit 2, which proves nothing
