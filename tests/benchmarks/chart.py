"""A bar chart of the ratios, as SVG: how many times the peer's rate ours is, and what the target was."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from xml.sax.saxutils import escape

from tests.benchmarks.comparisons import Row
from tests.benchmarks.report import describe

_LABELS = 330
_BARS = 440
_VALUES = 70
_LINE = 34
_TOP = 44
_BOTTOM = 34
_OCTAVES = 4
"""The axis reaches from 1/16 to 16; what lies beyond is drawn at its end."""
_WON, _LOST = "#2e7d32", "#c62828"


def ratio_chart(rows: Sequence[Row]) -> str:
    """Return the SVG: a bar from 1× to the median, a whisker from minimum to maximum, and a mark at the target."""
    width, height = _LABELS + _BARS + _VALUES, _TOP + _LINE * len(rows) + _BOTTOM
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size} font-family="sans-serif">',
        f"<rect {size} fill='white'/>",
        f'<text x="8" y="22" font-size="15" font-weight="bold">{escape("Rate of Preheat ÷ rate of the peer")}</text>',
        *_axis(height - _BOTTOM),
        *(part for index, row in enumerate(rows) for part in _bar(row, _TOP + _LINE * index)),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def position(ratio: float) -> float:
    """Return the x of a ratio on the axis, which is logarithmic: 2× and ½× are equally far from 1×."""
    octaves = min(max(log2(ratio), -_OCTAVES), _OCTAVES)
    return round(_LABELS + _BARS * (octaves + _OCTAVES) / (2 * _OCTAVES), 1)


def _axis(bottom: int) -> list[str]:
    parts = []
    for octave in range(-_OCTAVES, _OCTAVES + 1):
        x = position(2.0**octave)
        colour = "#555" if octave == 0 else "#ddd"
        label = f"{2**octave}×" if octave >= 0 else f"1/{2**-octave}×"
        parts += [
            f'<line x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{bottom}" stroke="{colour}"/>',
            f'<text x="{x}" y="{bottom + 18}" font-size="12" text-anchor="middle" fill="#555">{label}</text>',
        ]
    return parts


def _bar(row: Row, top: int) -> list[str]:
    one, end = position(1.0), position(row.ratio.median)
    low, high, target = position(row.ratio.low), position(row.ratio.high), position(row.comparison.target)
    middle = top + _LINE // 2 - 4
    colour = _WON if row.won else _LOST
    bar = f'x="{min(one, end)}" y="{middle - 8}" width="{round(abs(end - one), 1)}" height="16"'
    mark = f'x1="{target}" y1="{middle - 12}" x2="{target}" y2="{middle + 12}"'
    title = f"<title>target {row.comparison.target:g}×</title>"
    value = f'x="{_LABELS + _BARS + 8}" y="{middle + 4}" font-size="13" fill="{colour}"'
    return [
        f'<text x="{_LABELS - 8}" y="{middle + 4}" font-size="13" text-anchor="end">{escape(describe(row))}</text>',
        f'<rect {bar} fill="{colour}" fill-opacity="0.75"/>',
        f'<line x1="{low}" y1="{middle}" x2="{high}" y2="{middle}" stroke="black" stroke-width="1.5"/>',
        f'<line {mark} stroke="#1565c0" stroke-width="3">{title}</line>',
        f"<text {value}>{row.ratio.median:.2f}×</text>",
    ]
