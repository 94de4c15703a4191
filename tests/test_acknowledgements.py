"""The credits of the book name everybody, say what is missing, and take nobody's name for markup."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import noise
from test_african_storybook import write_story

from storylib.download import DownloadError
from storylib.sources.acknowledgements import acknowledge, main, table


@pytest.fixture
def bank(tmp_path) -> Path:
    for number, licence in (("0001", "[CC-BY]"), ("0002", "[CC-BY]"), ("0003", "CC BY-NC-SA")):
        write_story(tmp_path / "bank", number, ["One.", "Two."], 3, licence)
    return tmp_path / "bank"


def test_credits_name_everybody_and_trust_nobody(cache, bank):
    where = f"african_storybook:{bank}"
    evil = bank / "asp-source" / "en" / "0002_a-tale.md"
    text = evil.read_text().replace("A _tale_", "<script>x</script> [a](b) | {eval}`x` $y$ www.z.com")
    evil.write_text(text.replace("B. Painter, C. Painter", "").replace("A. Writer", "![i](j) **b** &amp; \\| c"))
    (bank / "asp-imagebank" / "README.md").write_text(
        "ID# | Title | Illustrator | License\n--- | --- | --- | ---\n"
        "0002 | _A | b_ | **D. Painter, C. Painter** | CC BY\nx\n"
    )
    page = acknowledge(where)
    assert "africanstorybook.org" in page and "## Illustrators" in page
    assert r"| A tale | A\. Writer | B\. Painter\, C\. Painter |  |  | CC\-BY |" in page
    assert r"B\. Painter (2), C\. Painter (3), D\. Painter (1)." in page
    (row,) = (line for line in page.splitlines() if "script" in line)
    assert row.startswith(r"| \<script\>x\<\/script\> \[a\]\(b\) \| \{eval\}\`x\` \$y\$ www\.z\.com | \!\[i\]\(j\)")
    assert "CC\\-BY\\-NC\\-SA" in page and "CC\\-BY\\-NC\\-SA" not in acknowledge(f"{where}?licences=CC-BY")
    (bank / "asp-imagebank" / "README.md").unlink()
    assert "D\\. Painter" not in acknowledge(where)


EVIL = [
    "{{ x }}", "$a$ $$b$$", "[a](b)", "<script>", "{ref}`x`", "`y`{.c}", "https://evil.com www.evil.com a@b.co",
    "**b** _i_", "[^1]", "| pipe |", "# h", "&amp; &lt; &#60;", "\\", "--- ...", "(x)=", "% c", "- [ ] t", "```",
    "!{a}", "<https://a.b>",
]  # fmt: skip


def test_escaped_text_means_nothing_to_the_book():
    from docutils import nodes
    from docutils.core import publish_doctree
    from myst_parser.docutils_ import Parser

    parse = yaml.safe_load((Path(__file__).parents[1] / "_config.yml").read_text())["parse"]
    page = publish_doctree(table(["head"], [[text] for text in EVIL]), parser=Parser(), settings_overrides=parse)
    assert [cell.astext() for cell in page.findall(nodes.entry)] == ["head", *EVIL]
    kinds = {node.tagname for node in page.findall(nodes.Element)}
    assert kinds == {"document", "table", "tgroup", "colspec", "thead", "tbody", "row", "entry", "paragraph"}


def test_a_made_up_world_owes_nobody_and_says_how_to_get_the_real_stories(cache):
    page = acknowledge("storyworld", limit=1)
    assert "built from Storyworld" in page and "CC0 1.0" in page
    assert "make book SOURCE=african_storybook" in page and "STORYLIB_AFRICAN_STORYBOOK" in page
    assert not cache.exists()  # nothing was drawn for it


def test_absent_stories_are_said_to_be_absent(cache, tmp_path, monkeypatch):
    page = acknowledge(f"african_storybook:{tmp_path / 'no_where'}`")
    assert "are not on the machine" in page and r"no\_where" in page and "make book SOURCE=african" in page

    def unreachable():
        raise DownloadError("https://x.org cannot be reached. <b>")

    monkeypatch.setattr("storylib.sources.african_storybook.find_root", unreachable)
    assert r"https\:\/\/x\.org cannot be reached\. \<b\>" in acknowledge("african_storybook")


def test_other_sources_are_credited_by_what_their_columns_say(cache, tmp_path):
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


def test_the_command_writes_the_page_or_one_line(cache, tmp_path, capsys):
    assert main(["storyworld", str(tmp_path / "new" / "credits.md")]) == 0
    assert (tmp_path / "new" / "credits.md").read_text() == acknowledge("storyworld")
    assert main(["storyword", str(tmp_path / "x.md")]) == 2
    assert "Did you mean 'storyworld'" in capsys.readouterr().err and not (tmp_path / "x.md").exists()
    assert main(["storyworld", str(tmp_path / "x.md"), "--profile", "quik"]) == 2


def test_every_real_story_and_illustrator_is_named(cache, real_stories_folder):
    page = acknowledge(f"african_storybook:{real_stories_folder}")
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 308 and not any(line.split(" | ")[2].strip() == "" for line in rows)
