"""What was measured, as one table: medians with quartiles, ratios to ours, and what was to be reached."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles

from tests.benchmarks.peers import EXPRESS, FASTAPI, FLOOR, OURS

Figures = Mapping[tuple[str, str], Sequence[float]]
"""By measure and peer: one figure for each round."""

# us-east-1, November 2026; where they are from, see docs/operations.md.
GB_SECOND, CALL = 0.0000133334, 0.20e-6
# Of a hundred requests; and how often API Gateway asks the authorizer for them.
MIX = {"get": 50, "list": 30, "create": 15, "update": 4, "login": 1, "authorize": 20}
MEMORY, WHOLE_CORE = 512, 1769  # MB; Lambda gives a function a core's time in proportion to its memory

FAR = ("get", "list", "create", "update")


@dataclass(frozen=True)
class Row:
    label: str
    measure: str
    digits: int = 2
    scale: float = 1000  # seconds to milliseconds
    most: Mapping[str, float] = field(default_factory=dict)  # ours at most so many times a peer's
    own_most: float | None = None


PLAIN = {FASTAPI: 0.15, EXPRESS: 0.45, FLOOR: 3.5}
SECTIONS: Mapping[str, Sequence[Row]] = {
    "Cold start, ms: process start to first answer": [
        Row("get a patient", "cold get", 0, most={FASTAPI: 0.5, EXPRESS: 1.2}),
        Row("get, the bare handler with our packages", "cold packages", 0),
        Row("log in (one bcrypt, keys fetched)", "cold login", 0),
        Row("authorizer (keys fetched)", "cold authorize", 0, most={FASTAPI: 0.35}),
        *(Row(name, f"cold {name}", 0) for name in ("doctors", "mappings", "audit", "health", "docs")),
        Row("imports alone, of get a patient", "imports get", 0),
        Row("imports alone, of the authorizer", "imports authorize", 0),
    ],
    "Warm, CPU time of the handler's process, ms": [
        *(Row(f"{route} a patient", f"cpu {route}", most=PLAIN) for route in ("get", "create")),
        Row("list 20 patients", "cpu list", most=PLAIN),
        Row("update a patient", "cpu update"),
        Row("authorizer", "cpu authorize", 3),
        Row("register", "cpu register", 0),
        Row("log in", "cpu login", 0),
    ],
    "Warm, from event to answer, PostgreSQL on the same machine, ms": [
        *(Row(f"{route} a patient", f"near {route}") for route in ("get", "create", "update")),
        Row("list 20 patients", "near list"),
    ],
    "The same with 1 ms more for each round trip to PostgreSQL, ms": [
        *(Row(f"{route} a patient", f"far {route}", most={FASTAPI: 0.4}) for route in ("get", "create", "update")),
        Row("list 20 patients", "far list", most={FASTAPI: 0.4}),
    ],
    "Round trips to PostgreSQL": [
        *(Row(f"{route} a patient", f"trips {route}", 0, 1, own_most=1) for route in ("get", "create", "update")),
        Row("list 20 patients", "trips list", 0, 1, own_most=1),
        Row("register", "trips register", 0, 1, own_most=1),
        Row("log in", "trips login", 0, 1),
    ],
    "Logins a second and core, bcrypt at cost 12": [Row("log in", "logins", 1, 1)],
    "Peak memory after 1,000 requests, MB": [
        Row("patients", "memory patients", 0, 1e-6),
        Row("auth", "memory auth", 0, 1e-6),
        Row("authorizer", "memory authorizer", 0, 1e-6),
    ],
    "Unpacked size of all that is uploaded, MB": [Row("layers and functions", "size", 1, 1e-6, own_most=35)],
    "Lambda's price of a million requests, $": [Row("a mix, see below", "price", 2, 1)],
}
COMPARED = {FASTAPI: "FastAPI", EXPRESS: "Express", FLOOR: "bare"}


def with_derived(measured: Figures) -> Figures:
    """And what is computed from what was measured."""
    found: dict[tuple[str, str], Sequence[float]] = dict(measured)
    for peer in (OURS, FASTAPI, EXPRESS):
        found["logins", peer] = [1 / seconds for seconds in measured["cpu login", peer]]
        request = sum(share / 100 * _price(route, measured, peer) for route, share in MIX.items())
        found["price", peer] = [request * 1_000_000]
    return found


def _price(route: str, measured: Figures, peer: str) -> float:
    """Of one call."""
    memory = WHOLE_CORE if route == "login" else MEMORY
    cpu = median(measured[f"cpu {route}", peer])
    # What is not the processor's time is waiting, which takes no longer with a smaller share of a core.
    waiting = max(0, median(measured[f"far {route}", peer]) - cpu) if route in FAR else 0
    billed = math.ceil((cpu * WHOLE_CORE / memory + waiting) * 1000) / 1000
    return CALL + billed * memory / 1024 * GB_SECOND


def table(figures: Figures) -> str:
    """In Markdown, and to be read as it is."""
    lines = [["", "this API", *(COMPARED[peer] for peer in COMPARED), *(f"÷ {COMPARED[peer]}" for peer in COMPARED)]]
    for title, rows in SECTIONS.items():
        lines.append([f"**{title}**", *[""] * (len(lines[0]) - 1)])
        lines += [_line(row, figures) for row in rows if (row.measure, OURS) in figures]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])


def missed(figures: Figures) -> list[str]:
    """What was to be reached and was not."""
    found = []
    for title, rows in SECTIONS.items():
        for row in rows:
            ours = median(figures[row.measure, OURS]) * row.scale
            if row.own_most is not None and ours > row.own_most:
                found.append(f"{title}: {row.label}: {ours:.1f} (≤ {row.own_most:g})")
            ratios = {peer: _ratio(row, figures, peer) for peer in row.most}
            found += [
                f"{title}: {row.label}: {ratio:.2f} of {COMPARED[peer]} (≤ {row.most[peer]:g})"
                for peer, ratio in ratios.items()
                if ratio is not None and ratio > row.most[peer]
            ]
    return found


def _line(row: Row, figures: Figures) -> list[str]:
    ours = _cell(row, figures[row.measure, OURS])
    if row.own_most is not None:
        ours += f" (≤ {row.own_most:g})"
    others = [_cell(row, figures.get((row.measure, peer), ())) for peer in COMPARED]
    ratios = [_ratio_cell(row, figures, peer) for peer in COMPARED]
    return [row.label, ours, *others, *ratios]


def _cell(row: Row, values: Sequence[float]) -> str:
    if not values:
        return ""
    scaled = [value * row.scale for value in values]
    text = f"{median(scaled):.{row.digits}f}"
    if len(set(scaled)) > 1:
        low, _, high = quantiles(scaled, n=4, method="inclusive")
        text += f" ({low:.{row.digits}f} to {high:.{row.digits}f})"
    return text


def _ratio(row: Row, figures: Figures, peer: str) -> float | None:
    """The median of the rounds' ratios: what a round was slow in, it was slow in for both."""
    ours, theirs = figures.get((row.measure, OURS), ()), figures.get((row.measure, peer), ())
    if not theirs:
        return None
    return median(own / other for own, other in zip(ours, theirs, strict=True))


def _ratio_cell(row: Row, figures: Figures, peer: str) -> str:
    ratio = _ratio(row, figures, peer)
    if ratio is None:
        return ""
    most = row.most.get(peer)
    return f"{ratio:.2f}" if most is None else f"{ratio:.2f} (≤ {most:g}{'' if ratio <= most else ', missed'})"
