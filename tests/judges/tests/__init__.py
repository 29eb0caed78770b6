"""Each judge takes what is good, reads it back, and refuses each broken twin of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.judges.refusal import Refused


def refuses(
    judge: Callable[[str], object], good: str, before: str, after: str, said: str
) -> Refused:
    """The verdict on `good` with `after` in place of `before`; fails where there is none, or
    where it does not match `said`."""
    assert before in good
    with pytest.raises(Refused, match=said) as caught:
        judge(good.replace(before, after))
    return caught.value
