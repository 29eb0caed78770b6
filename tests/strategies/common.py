"""What the strategies of both documents share."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Data = dict[str, Any]
Draw = Any

TEXT = st.text(
    st.characters(
        min_codepoint=0x20, max_codepoint=0x2FFF, exclude_categories=("Cc", "Cf", "Cs", "Cn")
    ),
    min_size=8,
    max_size=40,
).filter(lambda t: len(t.strip()) >= 8)


def maybe(draw: Draw, into: Data, key: str, value: st.SearchStrategy[Any], odds: int = 3) -> None:
    if draw(st.integers(1, odds)) == 1:
        into[key] = draw(value)
