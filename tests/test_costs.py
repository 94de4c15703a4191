from __future__ import annotations

import json

from storylib.config import project_root
from storylib.sources.costs import reading_costs

READING = {
    "decoding": {
        "files": 2000,
        "frames_a_second": {"storylib": 1100, "Pillow": 1200},
        "frames_a_second_of_work": {"storylib": 600, "Pillow": 650},
        "ratio_to_the_faster_bare_loop": 0.923,
        "ratio_range": [0.9, 0.95],
    },
    "checking": {"frames": 52000, "megabytes": 985, "seconds": 3.0, "seconds_of_work": 0.61},
    "scale": {"stream": {"frames": 52000, "seconds": 226.0, "seconds_of_work": 120.4, "peak_memory_mb": 1876}},
}


def test_the_table_says_what_the_records_hold(tmp_path):
    assert reading_costs(tmp_path).empty
    (tmp_path / "reading.json").write_text(json.dumps(READING))
    (tmp_path / "fuzz_markup.json").write_text('{"inputs": 123456, "minutes": 10.2, "exceptions": 0, "hangs": 1}')
    assert reading_costs(tmp_path)["value"].to_dict() == {
        "pictures decoded by storylib": "1,100 a second; 600 a second of work",
        "pictures decoded by Pillow": "1,200 a second; 650 a second of work",
        "storylib's speed as a share of the faster bare loop, by work": "0.92 (0.90 to 0.95)",
        "stored features of 52,000 frames, 985 MB, compared with their digests": "0.6 s of work, once in a process",
        "52,000 frames streamed from Parquet, story by story": (
            "226 s, of which 120 s of work; 1,876 MB of memory at most"
        ),
        "123,456 texts of a fuzzer parsed in 10 minutes": "0 exceptions, 1 hangs",
    }


def test_the_published_records_can_be_shown():
    table = reading_costs()
    records = (project_root() / "results" / "benchmarks").glob("[rf]*.json")
    assert len(table) >= len(list(records))
    assert "0 exceptions, 0 hangs" in set(table["value"])
