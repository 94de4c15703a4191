from __future__ import annotations

import pytest

from storylib.cache import cache_sizes, clear_cache, describe_cache, main


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
