"""The credits name everybody, say what is missing, and take nobody's name for markup."""

from __future__ import annotations

import yaml
from conftest import noise

from storylib.config import project_root
from storylib.data.types import Story
from storylib.report.acknowledgements import acknowledge, credits, escaped
from storylib.report.pages import table

EVIL = [
    "{{ x }}", "$a$ $$b$$", "[a](b)", "<script>", "{ref}`x`", "`y`{.c}", "https://evil.com www.evil.com a@b.co",
    "**b** _i_", "[^1]", "| pipe |", "# h", "&amp; &lt; &#60;", "\\", "--- ...", "(x)=", "% c", "- [ ] t", "```",
    "!{a}", "<https://a.b>",
]  # fmt: skip


def test_escaped_text_means_nothing_to_the_book():
    from docutils import nodes
    from docutils.core import publish_doctree
    from myst_parser.docutils_ import Parser

    parse = yaml.safe_load((project_root() / "_config.yml").read_text())["parse"]
    markdown = table(["head"], [[escaped(text)] for text in EVIL])
    page = publish_doctree(markdown, parser=Parser(), settings_overrides=parse)
    assert [cell.astext() for cell in page.findall(nodes.entry)] == ["head", *EVIL]
    kinds = {node.tagname for node in page.findall(nodes.Element)}
    assert kinds == {"document", "table", "tgroup", "colspec", "thead", "tbody", "row", "entry", "paragraph"}


def test_each_licence_and_credit_is_a_row(cache, tmp_path):
    rows = ["file_name,text,story_id,position,title,licence,credit"]
    for i, credit in enumerate(["<b>Ada</b>", "Bo | Co", "Bo | Co", ""]):
        noise(i).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,A fox.,s{i},1,Tale {i},{'CC-BY' if credit else ''},{credit}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    page = acknowledge(f"folder:{tmp_path}").splitlines()
    assert page[0] == "| Stories | Titles | Credit | Licence |" and len(page) == 5
    assert page[2:] == [
        r"| 1 | Tale 0 | \<b\>Ada\<\/b\> | CC\-BY |",
        r"| 2 | Tale 1\; Tale 2 | Bo \| Co | CC\-BY |",
        "| 1 | Tale 3 | not named | not named |",
    ]


def test_many_titles_are_shortened():
    stories = [Story(f"s{i}", f"Tale {i}", ()) for i in range(51)]
    assert credits(stories[:50])["titles"][0].endswith("; Tale 49")
    assert credits(stories)["titles"][0] == "Tale 0; Tale 1; Tale 2; Tale 3; Tale 4; …"


def test_every_real_story_names_its_illustrator(cache, real_stories_folder):
    page = acknowledge(f"african_storybook:{real_stories_folder}")
    rows = [line.split(" | ") for line in page.splitlines()][2:]
    assert sum(int(row[0].strip("| ")) for row in rows) == 308
    assert all("Illustration" in row[2] and row[3].startswith("CC") for row in rows)
