"""Charts as inline SVG: pure, without styles of their own, each with a sentence that says what it shows.

They are as wide as their place. Curves stand in an inner drawing that is stretched; words and dots are placed
by percent in the outer one, which is not, so that text keeps its size from a telephone to paper. The scale
has a drawing of its own beside them, as wide as its longest word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup, escape

from impact_schemas.wording import short_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

TOP, HEIGHT = 8.0, 80.0  # percent of the drawing that the curves take; below are the dates
GRID_LINES = 4
FINEST = 1e-9  # numbers have nine decimals
NOTHING = Markup()
_RIGHT = 85.0  # percent: words that begin further right would leave the drawing


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a moment; None where it is not known: the curve is broken there."""

    at: datetime
    value: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the value may be at a later moment."""

    at: datetime
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be reached, and by when."""

    at: datetime
    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened."""

    at: datetime
    label: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """A value over time, with the path to its target, what is to be expected, and what happened."""

    says: str
    points: Sequence[Point]
    shown: Callable[[float], str]
    path: Sequence[Point] = ()
    target: Aim | None = None
    forecast: Forecast | None = None
    marks: Sequence[Mark] = ()
    limit: float | None = None
    limit_says: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """The value of a span of time; `complete`: the span is over."""

    label: str
    value: float
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Bet:
    """A dot of the two-by-two; 1 is what was hoped for."""

    label: str
    impact: float
    business: float
    certain: bool


def line(chart: LineChart) -> Markup:
    """Empty where there are not two moments to draw between."""
    moments = [point.at for point in (*chart.points, *chart.path)]
    moments += [one.at for one in (chart.forecast, chart.target) if one is not None]
    if len(set(moments)) < 2:
        return NOTHING
    frame = _Frame(min(moments), max(moments), _ticks(_values(chart)))
    parts = [
        *(_grid_line(frame.level(tick)) for tick in frame.ticks),
        *_limit(frame, chart),
        *_marks(frame, chart.marks),
        _stretched(frame, chart),
        *_last_dot(frame, chart.points),
        *_target(frame, chart),
        *_dates(frame),
    ]
    return _plot(chart.says, [(frame.level(tick), chart.shown(tick)) for tick in frame.ticks], parts)


def sparkline(says: str, values: Sequence[float | None]) -> Markup:
    """A curve without axes; empty where there are not two values."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return NOTHING
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    middle = 0.5 if high == low else 0.0
    points = [
        None
        if value is None
        else (100 * place / (len(values) - 1), 4 + 92 * (1 - (value - low) / span - middle))
        for place, value in enumerate(values)
    ]
    curve = Markup('<svg viewBox="0 0 100 100" preserveAspectRatio="none">{}</svg>').format(
        _path("curve", _move(points))
    )
    return _svg("spark", says, [curve])


def bars(says: str, rows: Sequence[Bar], shown: Callable[[float], str]) -> Markup:
    """A bar for each row, from left to right in time; first and last are named."""
    if not rows:
        return NOTHING
    ticks = _ticks([0.0, *(row.value for row in rows)])
    low, high = ticks[0], ticks[-1]
    width = 100 / len(rows)
    drawn = []
    for place, row in enumerate(rows):
        top, bottom = (_level(edge, low, high) for edge in (max(row.value, 0.0), min(row.value, 0.0)))
        drawn.append(
            Markup(
                '<rect class="{}" x="{}%" y="{}%" width="{}%" height="{}%"><title>{}: {}</title></rect>'
            ).format(
                "bar" if row.complete else "bar open",
                _n(place * width + width * 0.15),
                _n(top),
                _n(width * 0.7),
                _n(max(bottom - top, 0.4)),
                row.label,
                shown(row.value),
            )
        )
    levels = [(_level(tick, low, high), shown(tick)) for tick in ticks]
    grid = [_grid_line(level) for level, _ in levels]
    names = [_text("axis", 0, 99, rows[0].label, "start"), _text("axis", 100, 99, rows[-1].label, "end")]
    return _plot(says, levels, [*grid, *drawn, *(names if len(rows) > 1 else names[:1])])


def share_bar(share: float, *, against: float | None = None) -> Markup:
    """A bar of a share of the greatest value in its column, with the reference as a line; decoration."""
    mark = Markup()
    if against is not None:
        x = _n(100 * _clamp(against))
        mark = Markup('<line class="reference" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(x)
    return Markup(
        '<svg class="share" width="100%" height="12" aria-hidden="true"><rect class="rest" width="100%"'
        ' height="100%"/><rect class="part" width="{}%" height="100%"/>{}</svg>'
    ).format(_n(100 * _clamp(share)), mark)


_CORNERS = (
    ("end", 98, 6, "deserves a yes"),
    ("start", 2, 6, "business, not the mission"),
    ("end", 98, 97, "the mission, at a cost"),
    ("start", 2, 97, "evidence for a no"),
)


def two_by_two(says: str, bets: Sequence[Bet]) -> Markup:
    """Impact to the right, business upwards; full dots are certain, rings are not; each has its number."""
    if not bets:
        return NOTHING
    reach_x = max(1.0, *(abs(bet.impact) for bet in bets)) * 1.15
    reach_y = max(1e-9, *(abs(bet.business) for bet in bets)) * 1.15
    parts = [
        Markup('<line class="axis-line" x1="0" x2="100%" y1="50%" y2="50%"/>'),
        Markup('<line class="axis-line" x1="50%" x2="50%" y1="0" y2="100%"/>'),
        *(_text("corner", x, y, words, anchor) for anchor, x, y, words in _CORNERS),
    ]
    for place, bet in enumerate(bets, 1):
        x, y = 50 + 44 * bet.impact / reach_x, 50 - 40 * bet.business / reach_y
        kind = "dot" if bet.certain else "dot ring"
        parts.append(
            Markup('<circle class="{}" cx="{}%" cy="{}%" r="11"><title>{}</title></circle>').format(
                kind, _n(x), _n(y), bet.label
            )
        )
        parts.append(
            Markup('<text class="{} number" x="{}%" y="{}%" dy="4" text-anchor="middle">{}</text>').format(
                kind, _n(x), _n(y), place
            )
        )
    return _svg("square", says, parts)


# --- how a chart is drawn -------------------------------------------------------------------------------


class _Known(NamedTuple):
    """A moment whose value is known."""

    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class _Frame:
    begins: datetime
    ends: datetime
    ticks: list[float] = field(default_factory=list)

    def x(self, at: datetime) -> float:
        """Percent from the left."""
        return 100 * ((at - self.begins) / (self.ends - self.begins))

    def y(self, value: float) -> float:
        """Percent of the curves' height, from above."""
        return 100 * (1 - (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0]))

    def level(self, value: float) -> float:
        """Percent of the whole height, from above."""
        return TOP + self.y(value) * HEIGHT / 100


def _level(value: float, low: float, high: float) -> float:
    return TOP + HEIGHT * (1 - (value - low) / (high - low))


def _values(chart: LineChart) -> list[float]:
    values = [point.value for point in (*chart.points, *chart.path) if point.value is not None]
    if chart.forecast is not None:
        values += [chart.forecast.low, chart.forecast.high]
    if chart.target is not None:
        values.append(chart.target.value)
    if chart.limit is not None:
        values.append(chart.limit)
    return values


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers that span the values, two at least (Heckbert, Graphics Gems 1990: nice numbers)."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    size = max(abs(low), abs(high))
    if high - low <= max(size, 1.0) * FINEST:
        low, high = (low - size / 10, high + size / 10) if size > FINEST else (low, low + 1.0)
    raw = (high - low) / GRID_LINES
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(nice * magnitude for nice in (1, 2, 2.5, 5, 10) if nice * magnitude >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def _stretched(frame: _Frame, chart: LineChart) -> Markup:
    curves = []
    last = _last(chart.points)
    if chart.forecast is not None and last is not None:
        start = (frame.x(last.at), frame.y(last.value))
        x = frame.x(chart.forecast.at)
        high, low = (x, frame.y(chart.forecast.high)), (x, frame.y(chart.forecast.low))
        curves.append(_path("cone", _move([start, high, low]) + "Z"))
        curves.append(_path("forecast", _move([start, (x, frame.y(chart.forecast.value))])))
    curves.append(_path("path", _move(_placed(frame, chart.path))))
    curves.append(_path("curve", _move(_placed(frame, chart.points))))
    return Markup(
        '<svg x="0" y="{}%" width="100%" height="{}%" viewBox="0 0 100 100" preserveAspectRatio="none"'
        ' overflow="visible">{}</svg>'
    ).format(_n(TOP), _n(HEIGHT), Markup().join(curves))


def _placed(frame: _Frame, points: Iterable[Point]) -> list[tuple[float, float] | None]:
    return [None if point.value is None else (frame.x(point.at), frame.y(point.value)) for point in points]


def _grid_line(level: float) -> Markup:
    return Markup('<line class="grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"/>').format(_n(level))


def _limit(frame: _Frame, chart: LineChart) -> list[Markup]:
    if chart.limit is None:
        return []
    level = _n(frame.level(chart.limit))
    return [
        Markup('<line class="limit" x1="0" x2="100%" y1="{0}%" y2="{0}%"/>').format(level),
        Markup('<text class="axis" x="100%" y="{}%" dy="-4" text-anchor="end">{}</text>').format(
            level, chart.limit_says
        ),
    ]


def _marks(frame: _Frame, marks: Iterable[Mark]) -> list[Markup]:
    parts = []
    for place, mark in enumerate(marks, 1):
        if not frame.begins <= mark.at <= frame.ends:
            continue
        x = _n(frame.x(mark.at))
        parts.append(
            Markup(
                '<line class="mark" x1="{0}%" x2="{0}%" y1="{1}%" y2="{2}%"><title>{3}</title></line>'
            ).format(x, _n(TOP), _n(TOP + HEIGHT), mark.label)
        )
        parts.append(
            Markup('<text class="axis mark" x="{}%" y="{}%" text-anchor="middle" dy="-3">{}</text>').format(
                x, _n(TOP), place
            )
        )
    return parts


def _last(points: Sequence[Point]) -> _Known | None:
    found = next((point for point in reversed(points) if point.value is not None), None)
    return None if found is None or found.value is None else _Known(found.at, found.value)


def _last_dot(frame: _Frame, points: Sequence[Point]) -> list[Markup]:
    last = _last(points)
    if last is None:
        return []
    return [
        Markup('<circle class="now" cx="{}%" cy="{}%" r="4"/>').format(
            _n(frame.x(last.at)), _n(frame.level(last.value))
        )
    ]


def _target(frame: _Frame, chart: LineChart) -> list[Markup]:
    """A ring at its day, named on the side from which the curve does not come."""
    if chart.target is None:
        return []
    x, level = frame.x(chart.target.at), frame.level(chart.target.value)
    last = _last(chart.points)
    is_below = last is not None and last.value > chart.target.value
    return [
        Markup('<circle class="aim" cx="{}%" cy="{}%" r="4.5"/>').format(_n(x), _n(level)),
        Markup('<text class="aim" x="{}%" y="{}%" dx="{}" dy="{}" text-anchor="{}">{}</text>').format(
            *(_n(x), _n(level), 5 if x > _RIGHT else 0, 20 if is_below else -11),
            *("end" if x > _RIGHT else "middle", chart.target.label),
        ),
    ]


def _dates(frame: _Frame) -> list[Markup]:
    middle = frame.begins + (frame.ends - frame.begins) / 2
    return [
        _text("axis", 0, 99, short_day(frame.begins), "start"),
        _text("axis middle", 50, 99, short_day(middle), "middle"),
        _text("axis", 100, 99, short_day(frame.ends), "end"),
    ]


def _text(kind: str, x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text class="{}" x="{}%" y="{}%" text-anchor="{}">{}</text>').format(
        kind, _n(x), _n(y), anchor, words
    )


def _move(points: Iterable[tuple[float, float] | None]) -> str:
    """Path data through the points, with a new start after each None."""
    commands, draws = [], False
    for point in points:
        if point is not None:
            commands.append(f"{'L' if draws else 'M'}{_n(point[0])} {_n(point[1])}")
        draws = point is not None
    return "".join(commands)


def _path(kind: str, data: str) -> Markup:
    if not data:
        return NOTHING
    return Markup('<path class="{}" vector-effect="non-scaling-stroke" d="{}"/>').format(kind, data)


_PLOT = Markup(
    '<div class="chart" role="img" aria-label="{}">'
    '<svg class="scale" width="{}ch" aria-hidden="true">{}</svg>'
    '<svg class="plot" aria-hidden="true">{}</svg></div>'
)
_TICK = Markup('<text class="axis" x="100%" y="{}%" dy="4" text-anchor="end">{}</text>')


def _plot(says: str, levels: Sequence[tuple[float, str]], parts: Iterable[Markup]) -> Markup:
    """The scale, as wide as its longest word (in digits: letters are about as wide), and the plot."""
    widest = max((len(words) for _, words in levels), default=0)
    ticks = Markup().join(_TICK.format(_n(level), words) for level, words in levels)
    return _PLOT.format(says, widest, ticks, Markup().join(parts))


def _svg(kind: str, says: str, parts: Iterable[Markup]) -> Markup:
    return Markup('<svg class="{}" role="img" aria-label="{}">{}</svg>').format(
        kind, escape(says), Markup().join(parts)
    )


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _clamp(share: float) -> float:
    return min(1.0, max(0.0, share))
