from __future__ import annotations

import io
import re
import shutil
import socket
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import flip

from storylib.data import download
from storylib.data.download import Archive, WrongFileError, fetch, unpack
from storylib.data.store import StoreError, file_sha256
from storylib.sources import african_storybook, book_dash, load_stories
from tests.sources.shelves import write_book
from tests.stand_in import write_story


class Hub(ThreadingHTTPServer):
    """Serves ``files`` (path -> bytes); notes every request; can cut off, lack Range support, or fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []  # path and Range header
        self.sent = 0  # bytes of content
        self.cuts: list[int] = []  # the next answers end after so many bytes
        self.ranges = True
        self.status: list[int] = []  # of the next answers
        self.base = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, requested = self.server, self.headers.get("Range")
        hub.requests.append((self.path, requested))
        content = hub.files.get(self.path)
        if hub.status or content is None:
            return self.send_error(hub.status.pop() if hub.status else 404)
        start = int(re.fullmatch(r"bytes=(\d+)-", requested)[1]) if requested and hub.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start : start + hub.cuts.pop(0)] if hub.cuts else content[start:]
        hub.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


LARGE = np.random.default_rng(0).bytes(400_000)  # a picture that does not compress
BODY = bytes(range(256)) * 2000  # 512,000 bytes


def fetched(url, path):
    fetch(url, path, "Use a copy.")
    return path.read_bytes()


def test_a_cut_off_download_is_resumed(hub, tmp_path):
    hub.files["/file"] = BODY
    hub.cuts = [300_000]
    path = tmp_path / "file"
    fetch(f"{hub.base}/file", path, "Use a copy.")
    assert path.read_bytes() == BODY
    (_, first), (_, second) = hub.requests
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert first is None and 200_000 < start <= 300_000
    assert hub.sent == 300_000 + len(BODY) - start  # only what was missing was sent again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
    fetch(f"{hub.base}/file", path, "Use a copy.")
    assert len(hub.requests) == 2  # there already


def test_a_killed_download_is_resumed_by_the_next_call(hub, tmp_path):
    hub.files["/file"] = BODY
    (tmp_path / "file.partial").write_bytes(BODY[:100_000])
    assert fetched(f"{hub.base}/file", tmp_path / "file") == BODY
    assert hub.requests == [("/file", "bytes=100000-")]
    (tmp_path / "whole.partial").write_bytes(BODY)  # killed between the last byte and the renaming
    assert fetched(f"{hub.base}/file", tmp_path / "whole") == BODY
    (tmp_path / "long.partial").write_bytes(BODY + b"more")  # of something else
    assert fetched(f"{hub.base}/file", tmp_path / "long") == BODY


def test_a_server_without_ranges_starts_again(hub, tmp_path):
    hub.files["/file"], hub.ranges, hub.cuts = BODY, False, [300_000]
    assert fetched(f"{hub.base}/file", tmp_path / "file") == BODY
    assert hub.sent == 300_000 + len(BODY)


def test_it_tries_again_but_not_forever(hub, tmp_path):
    hub.files["/file"], hub.status = BODY, [503, 503, 429]
    assert fetched(f"{hub.base}/file", tmp_path / "file") == BODY
    hub.status = [503] * 9
    with pytest.raises(StoreError, match="503"):
        fetch(f"{hub.base}/file", tmp_path / "other", "Use a copy.")
    assert len(hub.status) == 4  # one attempt and four more
    hub.status, hub.requests = [], []
    with pytest.raises(StoreError, match=r"/none cannot be downloaded \(404 .*\)\. Use a copy\."):
        fetch(f"{hub.base}/none", tmp_path / "none", "Use a copy.")
    assert len(hub.requests) == 1


def test_an_unreachable_hub_names_the_alternative(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(StoreError) as caught:
            fetch(f"http://127.0.0.1:{port}/x", tmp_path / "x", "Without network, use a copy.")
    message = str(caught.value)
    assert message.startswith(f"http://127.0.0.1:{port}/x cannot be downloaded (") and "refused" in message
    assert message.endswith("Without network, use a copy.")


def make_tar(
    members: dict[str, bytes | tarfile.TarInfo], comment: str | None = "c0ffee", top: str = "repo-c0ffee/"
) -> bytes:
    """As ``git archive`` writes it: gzip, a pax header with the commit, everything below one folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", pax_headers={"comment": comment} if comment else None) as tar:
        folder = tarfile.TarInfo(top)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(top + name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def linked(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def test_only_wanted_files_are_unpacked(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(make_tar({"in/a.txt": b"a", "in/b.jpg": b"b", "out.txt": b"c"}))
    folder = tmp_path / "out"
    folder.mkdir()
    unpack(tmp_path / "a.tar.gz", folder, r"in/.*\.txt", "c0ffee")
    assert sorted(p.name for p in folder.rglob("*.*")) == ["a.txt"] and (folder / "in" / "a.txt").read_bytes() == b"a"


@pytest.mark.parametrize(("content", "message"), [
    (make_tar({"../../evil.txt": b"x"}), "outside the destination"),
    (make_tar({"l": linked("repo-c0ffee/l", "/etc/passwd")}), "none of the expected files"),
    (make_tar({"l": linked("repo-c0ffee/l", "repo-c0ffee/x", tarfile.LNKTYPE)}), "none of the expected files"),
    (make_tar({"a": b"x"}, comment="beef"), "has commit beef, expected c0ffee"),
    (make_tar({"a": b"x"}, comment=None), "has commit unknown, expected c0ffee"),
    (make_tar({}), "none of the expected files"),
    (make_tar({"a": b"x"})[:-9], "damaged"),
    (make_tar({"a": b"x"})[:-8] + bytes(8), "damaged"),  # another checksum than its content has
    (make_tar({"a": BODY, "b": BODY})[:2000], "damaged"),
    (b"<html>sorry</html>", "damaged or not an archive"),
], ids=lambda value: value if isinstance(value, str) else "archive")  # fmt: skip
def test_bad_archives_are_refused(tmp_path, content, message):
    (tmp_path / "a.tar.gz").write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(WrongFileError) as caught:
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", ".*", "c0ffee")
    assert message in str(caught.value) and len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def upstream(hub, cache, tmp_path, monkeypatch):
    """Both repositories as GitHub serves them, with stories of our own, and the digests of their English texts."""
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path / "home"))  # so that there is no copy beside the project
    monkeypatch.delenv("STORYLIB_AFRICAN_STORYBOOK", raising=False)
    root = tmp_path / "upstream"
    for number in ("0001", "0002"):
        write_story(root, number, [f"Page {i}." for i in range(1, 7)], 8)
    for pinned in (african_storybook.TEXTS, african_storybook.PICTURES):
        serve(hub, pinned, files_below(root / pinned.name) | {"README.md": b"readme", "0001/01.jpg": LARGE})
    digests = tmp_path / "digests"
    texts = sorted((root / "asp-source").rglob("0*.md"))
    digests.write_text("".join(f"{file_sha256(f)}  {f.relative_to(root / 'asp-source')}\n" for f in texts))
    monkeypatch.setattr(download, "GITHUB", hub.base)
    monkeypatch.setattr(african_storybook, "TEXTS", replace(african_storybook.TEXTS, digests=digests))
    return hub


def archive_of(pinned: Archive) -> str:
    return f"/{pinned.repository}/archive/{pinned.commit}.tar.gz"


def serve(hub: Hub, pinned: Archive, files: dict[str, bytes]) -> None:
    hub.files[archive_of(pinned)] = make_tar(files, pinned.commit, f"{pinned.name}-{pinned.commit}/")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*.*")) if f.is_file()}


def test_the_storybook_is_downloaded_resumed_and_kept(upstream, cache):
    pictures = archive_of(african_storybook.PICTURES)
    upstream.cuts = [10**9, len(upstream.files[pictures]) // 2]  # the texts come whole, the pictures half
    stories = load_stories("african_storybook")
    assert [s.id for s in stories] == ["0001_a-tale", "0002_a-tale"]
    assert [path for path, _ in upstream.requests] == [archive_of(african_storybook.TEXTS), pictures, pictures]
    assert upstream.requests[-1][1] is not None  # resumed, not begun again
    (readme,) = cache.rglob("README.md")  # the table of illustrators
    assert readme.parent.name == "asp-imagebank" and not list(cache.rglob("*.partial"))
    before = len(upstream.requests)
    assert len(load_stories("african_storybook")) == 2 and len(upstream.requests) == before


FILES = ["asp-source/en/0001_a-tale.md", "asp-imagebank/medium/0002/03.jpg", "asp-imagebank/SHA256SUMS"]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_of_what_was_unpacked_is_noticed_and_mended(upstream, cache, caplog, name):
    before = load_stories("african_storybook")
    requests = len(upstream.requests)
    (path,) = cache.glob(f"african_storybook/*/{name}")
    good = path.read_bytes()
    flip(path, 30)
    assert load_stories("african_storybook") == before and path.read_bytes() == good
    (warning,) = caplog.messages
    assert f"the cache is damaged, {path.parents[len(Path(name).parts) - 2]}" in warning
    assert len(upstream.requests) == requests  # the archive was still there


@pytest.mark.parametrize("name", FILES)
def test_what_is_damaged_and_cannot_be_had_again_is_refused(upstream, cache, caplog, name):
    load_stories("african_storybook")
    (path,) = cache.glob(f"african_storybook/*/{name}")
    flip(path, 30)
    there = sorted(cache.rglob("*.jpg"))
    shutil.rmtree(cache / "downloads")
    upstream.shutdown()
    upstream.server_close()
    with pytest.raises(StoreError, match=r"cannot be downloaded.*STORYLIB_AFRICAN_STORYBOOK"):
        load_stories("african_storybook")
    assert f"the cache is damaged, {path.parents[len(Path(name).parts) - 2]}" in caplog.text
    assert sorted(cache.rglob("*.jpg")) == there  # the rest may be worth copying


def test_what_an_older_version_unpacked_is_not_believed(upstream, cache):
    before = load_stories("african_storybook")
    for manifest in cache.glob("african_storybook/*/*/SHA256SUMS"):
        manifest.unlink()
    (path,) = cache.glob("african_storybook/*/asp-source/en/0001_a-tale.md")
    path.write_text(path.read_text().replace("Page 1", "Page one"))
    assert load_stories("african_storybook") == before


def test_a_damaged_archive_is_deleted_and_downloaded_again(upstream, cache):
    before = load_stories("african_storybook")
    (archive,) = (cache / "downloads").glob("*asp-source*")
    shutil.rmtree(cache / "african_storybook")
    flip(archive, -6)  # in its checksum
    with pytest.raises(WrongFileError, match=r"is damaged .*It was deleted; try again later"):
        load_stories("african_storybook")
    assert load_stories("african_storybook") == before


def test_two_at_once_download_once(upstream, cache):
    with ThreadPoolExecutor(3) as pool:
        stories = list(pool.map(lambda _: load_stories("african_storybook"), range(3)))
    assert stories[0] == stories[1] == stories[2] and len(stories[0]) == 2
    urls = [archive_of(pinned) for pinned in (african_storybook.TEXTS, african_storybook.PICTURES)]
    assert [path for path, _ in upstream.requests] == urls and not list(cache.rglob("*.partial"))


@pytest.mark.parametrize("wrong", ["another commit", "a web page", "a changed text"])
def test_a_wrong_archive_is_named_deleted_and_downloaded_again(upstream, cache, wrong):
    url = archive_of(african_storybook.TEXTS)
    right = upstream.files[url]
    commit = african_storybook.TEXTS.commit
    files, other = {"en/0001_a-tale.md": b"# A tale\n\n##\nChanged.\n\n##\n* License: [CC-BY]\n"}, "f" * 40
    upstream.files[url], message = {
        "another commit": (make_tar(files, other), f"has commit {other}, expected {commit}"),
        "a web page": (b"<html>rate limit</html>", "damaged or not an archive"),
        "a changed text": (make_tar(files, commit), r"en/0001_a-tale\.md differs from the pinned file"),
    }[wrong]
    with pytest.raises(WrongFileError, match=message) as caught:
        load_stories("african_storybook")
    assert upstream.base + url in str(caught.value)
    assert {p.name for p in cache.rglob("*") if p.is_file()} <= {"asp-source.lock"}
    upstream.files[url] = right
    assert len(load_stories("african_storybook")) == 2


def test_without_network_the_way_out_is_named(upstream, cache):
    upstream.shutdown()
    upstream.server_close()
    with pytest.raises(StoreError, match=r"cannot be downloaded.*STORYLIB_AFRICAN_STORYBOOK"):
        load_stories("african_storybook")


@pytest.fixture
def shelf(hub, cache, tmp_path, monkeypatch) -> Hub:
    """The repository of Book Dash as GitHub serves it, with a book of our own, covers, a translation and a website."""
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path / "home"))  # so that there is no copy beside the project
    monkeypatch.delenv("STORYLIB_BOOK_DASH", raising=False)
    root = tmp_path / "upstream"
    text = write_book(root, "a-red-hat", [("A fox.", "A fox sat."), ("A hat.", "A hat flew.")])
    files = files_below(root / "bookdash-books")
    files |= {"a-red-hat/en/images/cover.jpg": LARGE, "a-red-hat/fr/index.md": b"Un renard", "_site/x/en/index.md": b""}
    files |= {"README.md": b"readme", "a-red-hat/index.md": b"", "_sass/en/index.md": b""}
    digests = tmp_path / "digests"
    digests.write_text(f"{file_sha256(text)}  a-red-hat/en/index.md\n")
    monkeypatch.setattr(download, "GITHUB", hub.base)
    monkeypatch.setattr(book_dash, "BOOKS", replace(book_dash.BOOKS, digests=digests))
    serve(hub, book_dash.BOOKS, files)
    return hub


def test_the_books_are_downloaded_resumed_and_kept(shelf, cache):
    url = archive_of(book_dash.BOOKS)
    shelf.cuts = [len(shelf.files[url]) // 2]
    (book,) = load_stories("book_dash")
    assert [f.text for f in book.frames] == ["A fox sat.", "A hat flew."]
    assert [path for path, _ in shelf.requests] == [url, url] and shelf.requests[1][1] is not None
    (folder,) = cache.glob("book_dash/*/bookdash-books")
    assert files_below(folder).keys() == {
        "_data/meta.yml", "a-red-hat/en/index.md", "a-red-hat/en/images/01.jpg", "a-red-hat/en/images/02.jpg",
    }  # fmt: skip
    assert load_stories("book_dash") == [book] and len(shelf.requests) == 2


@pytest.mark.parametrize("wrong", ["another commit", "a web page", "a changed text"])
def test_wrong_books_are_named_deleted_and_downloaded_again(shelf, cache, wrong):
    url = archive_of(book_dash.BOOKS)
    right, commit = shelf.files[url], book_dash.BOOKS.commit
    files = {"_data/meta.yml": b"titles: {}", "a-red-hat/en/index.md": b"![A fox.](01.jpg) Changed."}
    shelf.files[url], message = {
        "another commit": (make_tar(files, "f" * 40), f"has commit {'f' * 40}, expected {commit}"),
        "a web page": (b"<html>rate limit</html>", "damaged or not an archive"),
        "a changed text": (make_tar(files, commit), r"a-red-hat/en/index\.md differs from the pinned file"),
    }[wrong]
    with pytest.raises(WrongFileError, match=rf"{message}.*copy bookdash-books .*STORYLIB_BOOK_DASH"):
        load_stories("book_dash")
    assert not list((cache / "downloads").glob("*.gz"))
    shelf.files[url] = right
    assert [book.id for book in load_stories("book_dash")] == ["a-red-hat"]
