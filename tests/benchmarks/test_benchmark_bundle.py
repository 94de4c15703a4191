"""The bundled networks: each is written where it is looked for, and read again."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import bundle
from storylib.report.your_story import load_storyteller, read_frames
from storylib.sources.storyworld import probe


def test_frames_are_kept_with_small_pictures(tiny_data, tmp_path, monkeypatch):
    frames = [(story, frame) for story in tiny_data.stories[:2] for frame in story.frames]
    monkeypatch.setattr(bundle, "SIZE", 12)
    bundle.write_frames(frames, tmp_path / "known.parquet")
    for (story, frame), (kept, small) in zip(frames, read_frames(tmp_path / "known.parquet"), strict=True):
        facts = (story.id, story.title, story.licence, frame.text, frame.number)
        assert (kept.id, kept.title, kept.licence, small.text, small.number) == facts
        assert max(small.image.size) == 12


def test_a_bundle_is_written_and_found_again(tiny_runs, tiny_data, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "bundle"
    monkeypatch.setattr(bundle, "prepare", lambda config: tiny_data)
    monkeypatch.setattr(bundle, "train", lambda config, data: tiny_runs[1.0, 0])
    monkeypatch.setattr(bundle, "BUNDLED", folder)
    bundle.main(["storyteller"])
    assert capsys.readouterr().out == f"{sum(file.stat().st_size for file in folder.iterdir()):,} bytes\n"
    monkeypatch.setattr("storylib.report.your_story.BUNDLED", folder)
    storyteller, known = load_storyteller()
    assert storyteller.settings.model.width == 16 and len(known.sources) == len(known.vectors)


@pytest.fixture
def trained(cache, tmp_path, monkeypatch):
    """Write a network that is hardly trained on a few pictures: trained("probe") -> the file."""
    pictures = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    scenes = [{name: values[i % len(values)] for name, values in probe.VALUES.items()} for i in range(6)]
    monkeypatch.setattr(bundle, "drawings", lambda: (pictures, scenes))
    monkeypatch.setattr(bundle, "PROBE", tmp_path / "picture_probe.safetensors")
    monkeypatch.setattr(bundle, "PROBE_STEPS", 2)

    def write(part):
        bundle.main([part])
        (file,) = tmp_path.glob("*.safetensors")
        return file

    return write


def test_a_probe_is_written_and_reads_pictures(trained, monkeypatch):
    monkeypatch.setattr(probe, "WEIGHTS", trained("probe"))
    monkeypatch.setattr(probe, "load_probe", probe.load_probe.__wrapped__)
    (scene,) = probe.read_pictures(np.zeros((1, 64, 64, 3), np.uint8))
    assert scene.keys() == probe.VALUES.keys() and all(scene[name] in probe.VALUES[name] for name in scene)
