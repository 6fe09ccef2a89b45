"""Draw the diagrams of the documentation.

    python docs/diagrams/draw.py

Colours are CSS variables. Each file defines them for light and dark mode; on the site, assets/site.css defines them.
Drawings are 440 units wide, so that their text stays legible on a phone.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).parent
WIDTH = 440
LIGHT = "--ink:#1b1d21;--muted:#5b6169;--surface:#fff;--rule:#c4c6c4;--accent:#1d5bb8;--soft:#e1ebfa;--second:#a8480d;"
DARK = (
    "--ink:#eae8e4;--muted:#aeb4bc;--surface:#171a1e;--rule:#4a515a;--accent:#86b4fa;--soft:#1d3353;--second:#f2a36b;"
)
STYLE = f"<style>svg{{{LIGHT}--warm:#fbe8da}}@media(prefers-color-scheme:dark){{svg{{{DARK}--warm:#4a2b17}}}}</style>"
KINDS = {  # fill, edge, further attributes
    "plain": ("surface", "rule", ""),
    "there": ("soft", "accent", ""),
    "estimated": ("warm", "second", ' stroke-dasharray="5 3"'),
    "gone": ("surface", "rule", ' stroke-dasharray="3 4"'),
}
CORRELATION = ((1.0, 0.9, 0.7), (0.9, 1.0, 0.9), (0.7, 0.9, 1.0))
"""Correlation of R, G and B in the example; neighbouring colours correlate more."""


def text(x: float, y: float, words: str, *, size: int = 15, colour: str = "ink", anchor: str = "middle") -> str:
    """Return a text element whose middle is at (x, y), or whose ``anchor`` is at x."""
    return (
        f'<text x="{x:g}" y="{y + size * 0.35:g}" font-size="{size}" fill="var(--{colour})" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, width: float, height: float, words: str = "", kind: str = "plain", size: int = 15) -> str:
    """Return a rectangle with a label in its middle."""
    fill, edge, more = KINDS[kind]
    colour = {"gone": "muted"}.get(kind, "ink")
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="var(--{fill})" '
        f'stroke="var(--{edge})" stroke-width="1.5"{more}/>'
    ) + (text(x + width / 2, y + height / 2, words, size=size, colour=colour) if words else "")


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a straight arrow. The head is a polygon, so drawings on one page share no marker ids."""
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    along, across = ((x2 - x1) / length, (y2 - y1) / length), (-(y2 - y1) / length, (x2 - x1) / length)
    back = (x2 - 7 * along[0], y2 - 7 * along[1])
    corners = [(back[0] + side * 4 * across[0], back[1] + side * 4 * across[1]) for side in (1, -1)]
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(x2, y2), *corners])
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{back[0]:.1f}" y2="{back[1]:.1f}" stroke="var(--muted)" '
        f'stroke-width="1.5"/><polygon points="{head}" fill="var(--muted)"/>'
    )


def network() -> tuple[int, str, list[str]]:
    """Draw one network that accepts any subset of its channels."""
    parts = []
    for row, (held, note) in enumerate((("RGB", "all channels"), ("RB", "one missing"), ("G", "two missing"))):
        for column, name in enumerate("RGB"):
            there = name in held
            parts.append(box(8 + 38 * column, 12 + 62 * row, 32, 32, name, "there" if there else "gone"))
        parts.append(text(62, 55 + 62 * row, note, size=12, colour="muted"))
        parts.append(arrow(126, 28 + 62 * row, 158, 74 + 16 * row))
    parts += [box(162, 60, 66, 60, "stem", "there"), arrow(230, 90, 250, 90), box(254, 60, 92, 60, "backbone")]
    parts += [arrow(348, 90, 368, 90), text(404, 90, "heron", size=17)]
    parts += [text(195, 136, "any subset", size=12, colour="muted")]
    parts += [
        text(300, 136, "unchanged", size=12, colour="muted"),
        text(404, 136, "a class", size=12, colour="muted"),
    ]
    return 200, "Images with R, G and B, with R and B, and with G only pass through one stem and one backbone.", parts


def stem() -> tuple[int, str, list[str]]:
    """Draw the kernel's slices for all channels, and for static and completion with one channel missing."""
    rows = (
        ("all channels", ("W_R", "W_G", "W_B"), ("there", "there", "there"), "an ordinary convolution"),
        ("static, G missing", ("W_R", "dropped", "W_B"), ("there", "gone", "there"), "G contributes nothing"),
        (
            "completion, G missing",
            ("W_R + a·W_G", "", "W_B + b·W_G"),
            ("estimated", "", "estimated"),
            "G is estimated, at no cost",
        ),
    )
    parts = []
    for row, (title, slices, kinds, note) in enumerate(rows):
        top = 12 + 84 * row
        parts.append(text(8, top + 10, title, anchor="start"))
        parts.append(text(432, top + 10, note, size=13, colour="muted", anchor="end"))
        wide = sum(map(bool, slices))
        width, x = (136, 8) if wide == 3 else (208, 8)
        for words, kind in zip(slices, kinds, strict=True):
            if words:
                parts.append(box(x, top + 26, width, 36, words.replace("_", ""), kind))
                x += width + 8
    return (
        256,
        "The kernel has one slice for each channel: WR, WG and WB. Without G, static drops WG; completion adds "
        "a share of WG to WR and to WB.",
        parts,
    )


def estimate(present: tuple[int, int], missing: int) -> tuple[float, float]:
    """Compute C[missing, S] C[S, S]^-1 for two present channels, by Cramer's rule."""
    i, j = present
    shared = CORRELATION[i][j]
    to_i, to_j = CORRELATION[missing][i], CORRELATION[missing][j]
    spread = 1 - shared**2
    return (to_i - shared * to_j) / spread, (to_j - shared * to_i) / spread


def completion() -> tuple[int, str, list[str]]:
    """Draw the matrix M_S of an example, and how it is folded into the kernel."""
    share = estimate((0, 2), 1)
    matrix = ((1.0, 0.0), share, (0.0, 1.0))
    parts = [
        text(8, 18, "1  correlations C", anchor="start"),
        text(252, 18, "2  linear estimate M", anchor="start"),
    ]
    for row, name in enumerate("RGB"):
        top = 50 + 40 * row
        parts += [text(16, top + 17, name, colour="muted"), text(260, top + 17, name, colour="muted")]
        for column in range(3):
            kind = "there" if row != 1 and column != 1 else ("estimated" if row == 1 and column != 1 else "plain")
            parts.append(box(32 + 62 * column, top, 56, 34, f"{CORRELATION[row][column]:g}", kind))
        for column in range(2):
            kind = "estimated" if row == 1 else "there"
            parts.append(box(280 + 78 * column, top, 72, 34, f"{matrix[row][column]:.2f}", kind))
    parts += [text(60 + 62 * column, 40, name, size=13, colour="muted") for column, name in enumerate("RGB")]
    parts += [text(316 + 78 * column, 40, name, size=13, colour="muted") for column, name in enumerate("RB")]
    parts.append(text(8, 196, "3  folded into the kernel, W M", anchor="start"))
    for x, name, part in ((8, "R", share[0]), (226, "B", share[1])):
        parts.append(box(x, 212, 206, 40, f"W{name} + {part:.2f} · WG", "estimated"))
    parts.append(text(220, 272, "two slices for the two present channels", size=13, colour="muted"))
    words = f"A missing G is estimated as {share[0]:.2f} R + {share[1]:.2f} B, and the kernel includes this estimate."
    return 286, words, parts


def split() -> tuple[int, str, list[str]]:
    """Draw one batch with the sampler split: parts, stems, concatenation."""
    shown = (
        (8, 206, "R, G, B", "half of the batch: all channels"),
        (222, 99, "R, B", "two channels"),
        (329, 103, "G", "one channel"),
    )
    parts = [text(8, 14, "one batch, split into parts", anchor="start")]
    for x, width, words, note in shown:
        parts += [box(x, 30, width, 36, words, "there"), text(x + width / 2, 80, note, size=12, colour="muted")]
        parts += [arrow(x + width / 2, 92, x + width / 2, 112), box(x, 114, width, 34, "stem")]
        parts.append(arrow(x + width / 2, 150, x + width / 2, 172))
    parts += [box(8, 174, 424, 36, "concatenated: one batch of features", "estimated"), arrow(220, 212, 220, 234)]
    parts.append(box(8, 236, 424, 36, "batch norm, backbone, loss"))
    return (
        284,
        "Half of the batch has all channels, the rest has fewer; after the stem all parts are one batch again.",
        parts,
    )


def norms() -> tuple[int, str, list[str]]:
    """Draw which batch norm each subset uses, for the five kinds."""
    subsets = ("RGB", "RG", "RB", "GB", "R", "G", "B")
    groups = {
        "shared": ((7, "one for all subsets"),),
        "size": ((1, "3"), (3, "2 channels"), (3, "1 channel")),
        "statistics": tuple((1, "μ, σ") for _ in subsets),
        "subset": tuple((1, name) for name in subsets),
        "stem": tuple((1, name) for name in subsets),
    }
    parts = [text(108 + 47 * column, 14, name, size=13, colour="muted") for column, name in enumerate(subsets)]
    for row, (name, banks) in enumerate(groups.items()):
        top, x = 32 + 48 * row, 87.0
        parts.append(text(8, top + 17, name, anchor="start"))
        for span, words in banks:
            parts.append(box(x, top, 47 * span - 5, 34, words, "there", 13))
            x += 47 * span
    parts.append(arrow(249, 260, 249, 278))
    parts.append(box(87, 280, 324, 34, "later batch norms: one for all subsets", "there", 13))
    return (
        324,
        "The batch norm that each subset uses. statistics keeps a mean and a variance for each subset and shares scale "
        "and shift; stem keeps one batch norm for each subset after the stem, and shares all later ones.",
        parts,
    )


DRAWINGS = {"network": network, "stem": stem, "completion": completion, "split": split, "norms": norms}


def draw(name: str) -> str:
    """Return one drawing as the text of an SVG file."""
    height, description, parts = DRAWINGS[name]()
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(description)}" font-family="system-ui, sans-serif">\n{STYLE}\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    for drawing in DRAWINGS:
        (HERE / f"{drawing}.svg").write_text(draw(drawing), encoding="utf-8")
