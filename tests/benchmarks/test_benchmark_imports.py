"""The cost of imports: the list of modules, and multiples of torch."""

from __future__ import annotations

from benchmarks import imports


def test_modules_are_found_by_their_files(tmp_path):
    for name in ("house/__init__.py", "house/door.py", "house/room/__init__.py", "house/room/chair.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert imports.modules(tmp_path / "house") == ["house", "house.door", "house.room", "house.room.chair"]


def test_costs_are_multiples_of_torch(monkeypatch):
    seconds = {"pass": 1.0, "import torch": 5.0, "import light": 2.0, "import heavy": 13.0}
    calls = []

    def processor_seconds(flag, code):
        calls.append(code)
        return seconds[code]

    monkeypatch.setattr(imports, "processor_seconds", processor_seconds)
    commands = {name: ["-c", f"import {name}"] for name in ("light", "heavy")}
    assert imports.multiples(commands) == {"light": 0.25, "heavy": 3.0}
    assert calls.count("import light") == 3 and calls.count("import heavy") == 1
