"""The bundled storyteller: it is written and read again, with small pictures of the frames that it knows."""

from __future__ import annotations

from benchmarks import bundle
from storylib.report.your_story import load_storyteller, read_frames


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
    bundle.main(["--output", str(folder)])
    assert capsys.readouterr().out == f"{sum(file.stat().st_size for file in folder.iterdir()):,} bytes\n"
    monkeypatch.setattr("storylib.report.your_story.BUNDLED", folder)
    storyteller, known = load_storyteller()
    assert storyteller.settings.model.width == 16 and len(known.sources) == len(known.vectors)
