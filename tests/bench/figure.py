"""What a case finds: a figure, with the runs that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench.measure import Series


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: `value` in `unit`, with the series it comes from, and the `target` it is held
    to, if any: a promise is kept where `value` is at most that."""

    case: str
    what: str
    value: float
    unit: str
    target: float | None = None
    series: Mapping[str, Series] = field(default_factory=dict)

    @property
    def missed(self) -> bool:
        """Is the promise broken? Without a target there is none."""
        return self.target is not None and self.value > self.target

    def as_json(self) -> Mapping[str, object]:
        """The figure with all that it comes from."""
        return {
            "case": self.case,
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "series": {name: series.as_json() for name, series in self.series.items()},
        }


def ratio(
    case: str, what: str, ours: Series, name: str, other: Series, target: float | None
) -> Figure:
    """How much longer ours takes than another's series, called `name`."""
    value = ours.seconds / other.seconds
    return Figure(case, what, value, "×", target, {"ours": ours, name: other})
