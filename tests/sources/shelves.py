"""Stand-ins for real picture books, in the layouts of their sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from tests.stand_in import blobs

RIGHTS = "Licensed under a [Licence](http://creativecommons.org/licenses/by/4.0/). You are free to share."


def write_book(root: Path, slug: str, pages: Sequence[tuple[str, str]], rights: str = RIGHTS) -> Path:
    """One book in the layout of Book Dash. pages: description and text. Returns its text file."""
    folder, meta = root / "bookdash-books" / slug / "en", root / "bookdash-books" / "_data" / "meta.yml"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    head = f"---\nstylesheet: screen.css\ntitle: {slug}\n---\n\n# A title\n"
    blocks = [f"![{said}]({{{{ site.image-set }}}}/{i:02d}.jpg)\n\n{text}\n" for i, (said, text) in enumerate(pages, 1)]
    (folder / "index.md").write_text("\n".join([head, *blocks]), encoding="utf-8")
    for i in range(1, len(pages) + 1):
        blobs(np.random.default_rng(len(slug) * 100 + i), (48, 32)).save(folder / "images" / f"{i:02d}.jpg")
    titles = yaml.safe_load(meta.read_text(encoding="utf-8"))["titles"] if meta.exists() else {}
    facts = {"title": f"The {slug}", "creator": "A. Writer, B. Painter", "contributor": "Volunteers", "rights": rights}
    meta.parent.mkdir(exist_ok=True)
    meta.write_text(yaml.safe_dump({"titles": titles | {slug: facts}}), encoding="utf-8")
    return folder / "index.md"
