"""The look of every figure, readable on a white and on a dark page; and figures saved as SVG with a description."""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from storylib.config import environment_folder, project_root
from storylib.data.pictures import PictureLike, open_picture
from storylib.data.store import write_atomically

INK = "#767676"  # of all text: a contrast of 4.5 on white and on black, so that one file serves both themes
SMALLEST = 9  # points, of text; the book shows every figure with at least one pixel per point
PHONE = 4.9  # inches: the width of the narrow form of a figure, which a phone shows whole

# Okabe and Ito (2008): safe for colour-blind readers.
ON, OFF, TRUTH = "#0072B2", "#E69F00", "#009E73"
MORE = ("#CC79A7", "#56B4E9", "#D55E00", "#009E73", "#F0E442")  # arms beyond the two of the ablation

MODEL_COLOUR, BASELINE_COLOUR = ON, "#A0A0A0"


def subplots(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure in the style of the report with its axes, (rows, columns). size: width and height in inches."""
    coloured = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = dict.fromkeys(coloured, INK) | {
        "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans"],
        "font.size": 11,
        "axes.titlesize": 12,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "storylib",  # the same bytes every time
        "text.parse_math": False,
        "figure.constrained_layout.use": True,
    }
    mpl.rcParams.update(settings)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, **options)


def panels(count: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels in rows of ``columns``. size: of one panel in inches."""
    rows = -(-count // columns)
    figure, axes = subplots(rows, columns, (size[0] * columns, size[1] * rows), **options)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def describe(figure: Figure, alt: str, caption: str) -> Figure:
    """Attach the description for readers who cannot see the figure, and its caption."""
    figure.set_label(" ".join(alt.split()))
    figure.set_gid(" ".join(caption.split()))
    return figure


class Drawing(NamedTuple):
    """A saved figure as a notebook shows it: the SVG with its description."""

    svg: str
    alt: str
    caption: str
    name: str

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        metadata = {"alt": self.alt, "caption": self.caption, "name": self.name}  # the book puts them on the page
        return {"image/svg+xml": self.svg, "text/plain": self.alt}, {"image/svg+xml": metadata}


def save(figure: Figure, name: str, folder: Path | None = None) -> Drawing:
    """Write a figure as ``<name>.svg`` into STORYLIB_FIGURES, where the book finds it, and return it for display.

    A wide figure has a narrow form beside it, ``<name>-phone.svg``. All text is in INK and at least SMALLEST.
    """
    folder = folder or environment_folder("STORYLIB_FIGURES") or project_root() / "_build" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    alt, caption = str(figure.get_label()), str(figure.get_gid() or "")
    figure.set_gid(None)  # otherwise the caption would become an id in the file
    for text in figure.findobj(Text):
        text.set(color=INK, fontsize=max(text.get_fontsize(), SMALLEST))
    forms = {}
    for form in (name, f"{name}-phone"):
        if form != name and not _stack(figure):
            break
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Title": name, "Description": alt})
        svg = re.sub(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", _as_jpeg, file.getvalue())
        # Browsers that show the file itself, as Jupyter and Colab do, read the description from its root element.
        forms[form] = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)
        write_atomically(folder / f"{form}.svg", forms[form])
    plt.close(figure)
    return Drawing(forms[name], alt, caption, name)


def _stack(figure: Figure) -> bool:
    """Put the panels of each row below each other, as many beside each other as fit a phone, if that changes any."""
    places = {axis: place for axis in figure.axes if axis.axison and (place := axis.get_subplotspec())}
    rows, columns = next(iter(places.values())).get_gridspec().get_geometry() if places else (1, 1)
    beside, height = int(PHONE * columns / figure.get_figwidth()), figure.get_figheight() / rows
    if not 0 < beside < columns:
        return False
    lines: list[list[Axes]] = []
    for _, row in itertools.groupby(places, key=lambda axis: places[axis].rowspan.start):
        panels = list(row)
        lines += [panels[start : start + beside] for start in range(0, len(panels), beside)]
    grid = figure.add_gridspec(len(lines), beside)
    for i, line in enumerate(lines):
        for j, axis in enumerate(line):
            axis.set_subplotspec(grid[i, j])
            axis.tick_params(labelleft=True)  # of axes that shared the ticks of their neighbour
    figure.set_size_inches(PHONE, len(lines) * height)
    return True


def _as_jpeg(png: re.Match[str]) -> str:
    """An embedded picture as JPEG where that is smaller: a page of photographs would have many megabytes."""
    data, jpeg = base64.b64decode(png[1]), io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(jpeg, "JPEG", quality=85, optimize=True)
    smaller = len(jpeg.getvalue()) < len(data)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}" if smaller else png[0]


def show_frame(axis: Axes, image: PictureLike | None, text: str) -> None:
    """A picture, at most 160 pixels per side, with its text below."""
    if image is not None:
        picture = open_picture(image)
        picture.thumbnail((160, 160))
        axis.imshow(picture, interpolation="none")  # embedded without resampling to four times the size
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_xlabel(textwrap.fill(text, 22, max_lines=6, placeholder=" …"), fontsize=8, color=INK)


def beside_samples(pictures: np.ndarray) -> Image.Image:
    """The first of some pictures (n, S, S, 3), and the others half as large in a column beside it."""
    size = pictures.shape[1]
    image = Image.new("RGB", (size + size // 2 * (len(pictures) > 1), size), "white")
    image.paste(Image.fromarray(pictures[0]))
    for i, picture in enumerate(pictures[1:]):
        image.paste(Image.fromarray(picture).resize((size // 2, size // 2)), (size, i * size // 2))
    return image
