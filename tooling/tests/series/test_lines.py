"""Where lines stand among other lines: the same places as by comparing at each index, in less time."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fixtool.series import lines as lines_module
from fixtool.series.lines import Lines

LINES = st.lists(st.sampled_from(["a\n", "b\n"]), max_size=25)


@given(lines=LINES, wanted=LINES.filter(lambda lines: len(lines) < 7), near=st.integers(-3, 30))
@hypothesis_settings(max_examples=300, deadline=None)
def test_places_are_those_of_a_plain_comparison(
    lines: list[str], wanted: list[str], near: int
) -> None:
    size = len(wanted)
    plain = [
        index for index in range(len(lines) - size + 1) if lines[index : index + size] == wanted
    ]
    expected = plain if wanted else []
    for many in (0, 1_000_000):
        before, lines_module._MANY = lines_module._MANY, many
        try:
            assert Lines("".join(lines)).places(wanted) == expected
            found = Lines("".join(lines)).find(wanted, near)
        finally:
            lines_module._MANY = before
        nearest = min((abs(index - near) for index in expected), default=None)
        assert (None if found is None else abs(found - near)) == nearest


def test_the_same_lines_again_and_again_take_linear_time() -> None:
    def seconds(size: int) -> float:
        best = 1e9
        for _ in range(3):
            start = time.process_time()
            Lines("x\n" * size).places(["x\n"] * (size // 2) + ["y\n"])
            Lines("x\ny\n" * size).places(["x\n", "y\n"] * (size // 2))
            best = min(best, time.process_time() - start)
        return best

    assert seconds(80_000) < 30 * max(seconds(10_000), 0.001)
