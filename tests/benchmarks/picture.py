"""The main figures as bars, in SVG that follows a reader's light or dark."""

from collections.abc import Mapping, Sequence
from statistics import median
from xml.sax.saxutils import escape

from tests.benchmarks.peers import PEERS, TITLES
from tests.benchmarks.table import Figures

CHARTS: Mapping[str, Sequence[tuple[str, str, int]]] = {
    "Cold start: milliseconds from process start to first answer": [
        ("get a patient", "cold get", 0),
        ("authorizer", "cold authorize", 0),
    ],
    "Warm: milliseconds of processor time for a request": [
        ("get a patient", "cpu get", 2),
        ("list 20 patients", "cpu list", 2),
        ("create a patient", "cpu create", 2),
    ],
    "Warm: milliseconds for a request, when each round trip to PostgreSQL takes 1 ms more": [
        ("get a patient", "far get", 1),
        ("list 20 patients", "far list", 1),
        ("create a patient", "far create", 1),
    ],
}
WIDTH, LEFT, BARS = 760, 130, 540
BAR, GAP, TITLE = 13, 10, 34
STYLE = """
text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .label { text-anchor: end }
.ours { fill: #1a7f37 } .fastapi { fill: #8250df } .express { fill: #bf8700 } .floor { fill: #818b98 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .ours { fill: #3fb950 } .fastapi { fill: #ab7df8 } .express { fill: #d29922 } .floor { fill: #768390 }
}
"""


def picture(figures: Figures) -> str:
    shapes: list[str] = []
    left = 0
    for peer in PEERS:
        shapes.append(_bar(peer, left, 2, 12))
        shapes.append(_text(left + 18, 12, TITLES[peer]))
        left += 44 + 7 * len(TITLES[peer])
    y = 20
    for title, groups in CHARTS.items():
        shapes.append(_text(0, y + TITLE - 12, title, "title"))
        y += TITLE
        most = max(
            median(figures[measure, peer]) for _, measure, _ in groups for peer in PEERS if (measure, peer) in figures
        )
        for label, measure, digits in groups:
            there = [peer for peer in PEERS if (measure, peer) in figures]
            shapes.append(_text(LEFT - 10, y + len(there) * BAR / 2 + 4, label, "label"))
            for peer in there:
                value = median(figures[measure, peer])
                width = max(1, value / most * BARS)
                shapes.append(
                    f'<rect class="{peer}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" rx="2"/>'
                )
                shapes.append(_text(LEFT + width + 6, y + BAR - 3, f"{value * 1000:.{digits}f}"))
                y += BAR
            y += GAP
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    title = "<title>Cold starts and warm requests of this API beside FastAPI, Express and a bare handler</title>"
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">', title, f"<style>{STYLE}</style>"]
    return "\n".join([*lines, *shapes, "</svg>", ""])


def _bar(peer: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{peer}" x="{x:.0f}" y="{y:.0f}" width="{width:.1f}" height="{BAR - 2}" rx="2"/>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'
