from __future__ import annotations

import pytest
from conftest import noise

from storylib.cache import cache_sizes, clear_cache, describe_cache, main
from storylib.download import DownloadError
from storylib.features import encode
from storylib.sources import african_storybook, storyworld
from storylib.stories import Frame, Story


def test_the_cache_is_described_and_cleared(cache, tmp_path, capsys):
    assert cache_sizes() == {} and main([]) == 0 and main(["--clear", "all"]) == 0
    for name, size in (("features/a/vectors.npy", 2000), ("storyworld/1.png", 3000), ("picture-hashes-0.json", 10)):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(bytes(size))
    (cache / "picture-hashes-1.json").write_bytes(bytes(5))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("keep")
    (cache / "link").symlink_to(outside)
    assert cache_sizes() == {"storyworld": 3000, "features": 2000, "picture-hashes": 15, "link": 0}
    told = describe_cache()
    assert str(cache) in told and "STORYLIB_CACHE" in told and "0.0 MB  storyworld         drawn pictures" in told
    with pytest.raises(ValueError, match="Did you mean 'features'"):
        clear_cache("feature")
    assert main(["--clear", "nothing"]) == 2 and "Unknown part" in capsys.readouterr().err
    assert clear_cache("picture-hashes") == 15 and set(cache_sizes()) == {"storyworld", "features", "link"}
    assert clear_cache("all") == 5000 and list(cache.iterdir()) == [] and (outside / "mine.txt").exists()


@pytest.mark.parametrize("make", [
    lambda: storyworld.load(limit=1, size=32),
    lambda: encode([Story("s", "s", (Frame(noise(1), "A fox."),))], image_size=8),
    lambda: african_storybook.download(base="http://127.0.0.1:9"),
])  # fmt: skip
def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch, make):
    file = tmp_path / "file"  # in the place of the folder; a superuser may write to any folder
    file.touch()
    monkeypatch.setenv("STORYLIB_CACHE", str(file))
    with pytest.raises(DownloadError, match=rf"{file}/.* cannot be written.*set STORYLIB_CACHE to a folder"):
        make()
