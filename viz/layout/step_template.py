"""One block laid out by dot: the template that is stamped for every time step of its kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from viz.graphviz import render
from viz.graphviz.dot import Point, edge, node
from viz.picture.picture import Block, Item
from viz.style import BACKWARD, FORWARD, NODE, SHAPES, SUBSCRIPTS

MARGIN = 11.0  # between a frame and what is in it, in points
TITLE = 22.0  # the strip for "t = 1"
ARROWS = FORWARD + BACKWARD  # wide letters

Curve = tuple[list[Point], Point | None]  # the points of a spline, and the tip of its arrow


@dataclass(eq=False)
class Box:
    """Where a node is: its centre and its size, in points."""

    x: float
    y: float
    width: float
    height: float

    def turned(self) -> Box:
        """The same where to the right means down, and up means to the right."""
        return Box(self.y, -self.x, self.height, self.width)

    def foot(self, x: float) -> float:
        """The height of its lower edge at x: a small circle's is higher than at its middle."""
        r, low = self.width / 2, self.y - self.height / 2
        if self.width > 20 or abs(self.width - self.height) > 0.5:
            return low
        return low + r - (r * r - min(r, abs(x - self.x)) ** 2) ** 0.5

    def moved(self, dx: float, dy: float) -> Box:
        """A box of this size, moved by (dx, dy)."""
        return Box(self.x + dx, self.y + dy, self.width, self.height)


@dataclass
class Needs:
    """What a block's template must leave room for, by the number of the item.

    left, right  what is linked to blocks on the left, and on the right
    up, down     what is linked to blocks above and below
    taps         how many rails of parameters an item reads
    loops        how many delays it reads or feeds
    tall         how high an item is at least, in points
    """

    left: set[int] = field(default_factory=set)
    right: set[int] = field(default_factory=set)
    up: set[int] = field(default_factory=set)
    down: set[int] = field(default_factory=set)
    taps: Counter[int] = field(default_factory=Counter)
    loops: Counter[int] = field(default_factory=Counter)
    tall: dict[int, float] = field(default_factory=dict)

    def add(self, other: Needs) -> None:
        """Take in what another block of the same template needs."""
        for mine, theirs in ((self.left, other.left), (self.right, other.right), (self.up, other.up)):
            mine |= theirs
        self.down |= other.down
        self.taps |= other.taps
        self.loops |= other.loops
        self.tall |= {i: max(height, self.tall.get(i, 0.0)) for i, height in other.tall.items()}


@dataclass(eq=False)
class Template:
    """A block laid out. Its lower left corner is (0, 0)."""

    boxes: list[Box]
    curves: dict[tuple[int, int], Curve]
    up: dict[int, Curve]
    down: dict[int, Curve]
    width: float
    height: float
    title: Point | None
    tracks: dict[int, list[tuple[str, int]]] = field(default_factory=dict)

    def clear(self, i: int, side: int) -> bool:
        """Can a level line leave an item to the right (side 1) or to the left (-1) without touching another?"""
        me = self.boxes[i]
        return not any(
            (b.x - me.x) * side > 0 and abs(b.y - me.y) < b.height / 2 + 3 for k, b in enumerate(self.boxes) if k != i
        )

    def track(self, i: int, name: tuple[str, int]) -> float:
        """The height of a level line just below the row of an item; each name has its own."""
        row = round(self.boxes[i].y)
        names = self.tracks.setdefault(row, [])
        if name not in names:
            names.append(name)
        bottom = min(b.y - b.height / 2 for b in self.boxes if abs(b.y - row) <= 1)
        return bottom - 9 - 5 * names.index(name)


def lay_out(
    block: Block, labels: list[str], title: str, needs: Needs, ranksep: float = 0.25, sizes: list[Box] | None = None
) -> Template:
    """Lay out a block.

    labels, title: the widest of all blocks that this template is for
    sizes: of the items, for a drawing that will be turned; else they follow from the labels

    In two passes: the first tells which items stand in one row, the second puts what is read from the left leftmost
    in its row and what is read on the right rightmost, so that lines between steps meet nothing on their way.
    """
    first = _run_dot(_statements(block, labels, needs, [], sizes), block, ranksep)
    order = list(_sides(first, needs))
    template = _run_dot(_statements(block, labels, needs, order, sizes), block, ranksep) if order else first
    most = _busiest(template, needs)
    if most > 2:
        template = _run_dot(_statements(block, labels, needs, order, sizes), block, ranksep + 0.07 * (most - 2))
    return _with_margins(template, title if block.framed else "", needs, turned=sizes is not None)


def _busiest(template: Template, needs: Needs) -> int:
    """The most level lines that run below one row."""
    rows: Counter[int] = Counter()
    for i, n in needs.taps.items():
        rows[round(template.boxes[i].y)] += n
    for i, n in needs.loops.items():
        rows[round(template.boxes[i].y)] += 0 if template.clear(i, 1) else n
    for items, side in ((needs.left, -1), (needs.right, 1)):
        rows.update(round(template.boxes[i].y) for i in items if not template.clear(i, side))
    return max(rows.values(), default=0)


def _with_margins(template: Template, title: str, needs: Needs, turned: bool) -> Template:
    """Set a margin around it, and the title at its foot."""
    boxes = template.boxes
    points = [
        p for curves in (template.curves, template.up, template.down) for points, _ in curves.values() for p in points
    ]
    left = min([b.x - b.width / 2 for b in boxes] + [x for x, _ in points])
    right = max([b.x + b.width / 2 for b in boxes] + [x for x, _ in points])
    bottom = min(b.y - b.height / 2 for b in boxes)
    low = {i for i, b in enumerate(boxes) if b.y - b.height / 2 < bottom + 5}
    lines = sum(
        not template.clear(i, side) for items, side in ((needs.left, -1), (needs.right, 1)) for i in items & low
    )
    rails = max((n for i, n in needs.taps.items() if i in low), default=0)
    bottom -= 5.0 * (rails + lines) + (7 if lines else 0)  # room for what runs below the lowest row
    top = max(b.y + b.height / 2 for b in boxes)
    along, across = 7.0 * len(title), TITLE if title else 0.0  # no font is wider at this size
    if turned:
        along, across = across, along
    side = MARGIN + max(0.0, along - (right - left)) / 2
    template = _moved(template, side - left, MARGIN + across - bottom)
    template.width, template.height = right - left + 2 * side, top - bottom + 2 * MARGIN + across
    if title:
        template.title = (template.width / 2, MARGIN / 2 + across / 2 if turned else TITLE - 3)
    _trim(template)
    return template


def _moved(template: Template, dx: float, dy: float) -> Template:
    curves = {k: moved(curve, dx, dy) for k, curve in template.curves.items()}
    up = {k: moved(curve, dx, dy) for k, curve in template.up.items()}
    down = {k: moved(curve, dx, dy) for k, curve in template.down.items()}
    return Template([b.moved(dx, dy) for b in template.boxes], curves, up, down, 0, 0, None)


def moved(curve: Curve, dx: float, dy: float) -> Curve:
    """A curve moved by (dx, dy)."""
    points, tip = curve
    return [(x + dx, y + dy) for x, y in points], tip and (tip[0] + dx, tip[1] + dy)


def _trim(template: Template) -> None:
    """Lines that leave straight up end at the frame; if others were led round something, the frame goes up to them."""
    ends = {i: points for i, (points, _) in template.up.items()}
    if not all(abs(x - points[0][0]) < 1 for points in ends.values() for x, _ in points):
        template.height = max(template.height, *(points[-1][1] for points in ends.values()))
    for i, points in ends.items():
        if all(abs(x - points[0][0]) < 1 for x, _ in points):
            (x, y), top = points[0], template.height
            template.up[i] = [(x, y), (x, y + (top - y) / 3), (x, y + (top - y) * 2 / 3), (x, top)], None
    for i, (points, tip) in template.down.items():
        (_, foot), (x, y) = points[0], points[-1]
        if foot < 0 and all(abs(x - a) < 1 for a, _ in points):
            template.down[i] = [(x, 0), (x, y / 3), (x, y * 2 / 3), (x, y)], tip


def _statements(block: Block, labels: list[str], needs: Needs, order: list[str], sizes: list[Box] | None) -> list[str]:
    number = {item: i for i, item in enumerate(block.items)}
    looks = [_size(item, label, needs.tall.get(i, 0.0)) if sizes is None else _fixed(sizes[i])
             for i, (item, label) in enumerate(zip(block.items, labels, strict=True))]  # fmt: skip
    labels = labels if sizes is None else [""] * len(labels)
    made = [node(str(i), labels[i], item.kind, item.shape, **looks[i])
            for i, item in enumerate(block.items)]  # fmt: skip
    for tail, head, kind in block.edges:
        back = kind == "cell" and {tail, head} <= block.leftward
        ends = [str(number[i]) for i in ((head, tail) if back else (tail, head))]
        more = {"dir": "back"} if back else {}
        made.append(edge(ends[0], ends[1], kind, weight=_weight(kind, tail.kind), **more))
    for lower, upper in block.rising:
        made.append(edge(str(number[lower]), str(number[upper]), "flow", style="invis", weight=2))
    for row in block.level:
        made.append("{ rank=same; " + " ".join(f'"{number[item]}";' for item in row) + " }")
    made += _ports("^", sorted(needs.up), "max") + _ports("_", sorted(needs.down), "min")
    return [*made, *order]


def _size(item: Item, label: str, tall: float) -> dict[str, object]:
    """Circles close to their text: Graphviz' own are drawn round a box round it."""
    if item.shape != "circle":
        usual = float(str(SHAPES[item.shape].get("height", NODE["height"])))
        return {"height": f"{tall / 72:.4f}"} if tall > 72 * usual else {}
    text = sum(4.6 if c in SUBSCRIPTS else 11.0 if ord(c) > 0x2E80 else 9.4 if c in ARROWS else 6.8 for c in label)
    size = f"{max(24.0, text + 10) / 72:.4f}"
    return {"width": size, "height": size, "fixedsize": "true"}


def _fixed(box: Box) -> dict[str, object]:
    return {"width": f"{box.width / 72:.4f}", "height": f"{box.height / 72:.4f}", "fixedsize": "true"}


def _weight(kind: str, tail: str) -> int:
    """How much dot should strive to keep an edge short and straight: the spine of a step counts most."""
    return 20 if kind == "cell" else 4 if tail in ("input", "hidden") else 1


def _ports(mark: str, items: list[int], rank: str) -> list[str]:
    """Invisible ends at the frame for the lines to other blocks, so that dot leads these round the nodes."""
    if not items:
        return []
    made = [node(f"{mark}{i}", "", "", "port") for i in items]
    ends = [(f"{i}", f"{mark}{i}") if mark == "^" else (f"{mark}{i}", f"{i}") for i in items]
    made += [edge(a, b, "flow", weight=3, **({"arrowhead": "none"} if mark == "^" else {})) for a, b in ends]
    return [*made, f"{{ rank={rank}; " + " ".join(f'"{mark}{i}";' for i in items) + " }"]


def _sides(template: Template, needs: Needs) -> Iterable[str]:
    """Invisible edges that order rows: what is read from the left comes first, what is read on the right last."""
    rows: dict[int, list[int]] = {}
    for i, box in enumerate(template.boxes):
        rows.setdefault(round(box.y), []).append(i)
    left = needs.left - needs.right
    for row in rows.values():
        pairs = [(i, k) for i in row for k in row if i != k and i in left and k not in left]
        pairs += [(i, k) for i in row for k in row if i != k and k in needs.right and i not in needs.right]
        for i, k in dict.fromkeys(p for p in pairs if not {p, p[::-1]} & {*template.curves} and p[::-1] not in pairs):
            yield f'{{ rank=same; "{i}" -> "{k}" [style="invis"]; }}'


def _run_dot(statements: list[str], block: Block, ranksep: float) -> Template:
    """Run dot, and read where it puts nodes and edges."""
    found = render.layout(statements, rankdir="BT", newrank="true", ranksep=ranksep, nodesep=0.16)
    nodes = {o["name"]: o for o in found["objects"]}
    names = {o["_gvid"]: o["name"] for o in found["objects"]}
    result = Template([_box(nodes[str(i)]) for i in range(len(block.items))], {}, {}, {}, 0, 0, None)
    for e in found.get("edges", ()):
        if e.get("style") != "invis":
            ends = names[e["tail"]], names[e["head"]]
            _keep(result, *(ends[::-1] if e.get("dir") == "back" else ends), _curve(e["pos"]))
    return result


def _keep(template: Template, tail: str, head: str, curve: Curve) -> None:
    if head.startswith("^"):
        template.up[int(tail)] = curve
    elif tail.startswith("_"):
        template.down[int(head)] = curve
    else:
        template.curves[int(tail), int(head)] = curve


def _box(found: dict[str, Any]) -> Box:
    x, y = map(float, found["pos"].split(","))
    return Box(x, y, float(found["width"]) * 72, float(found["height"]) * 72)


def _curve(pos: str) -> Curve:
    """The spline in an edge's `pos`, as Graphviz writes it."""
    points, tip = [], None
    for word in pos.split():
        x, y = map(float, word.lstrip("es,").split(","))
        if word[0] in "es":
            tip = (x, y)
        else:
            points.append((x, y))
    return points[::-1] if pos.startswith("s,") else points, tip
