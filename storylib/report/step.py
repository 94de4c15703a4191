"""step.py THREADS LOG TEXT COMMAND...: one job of the Snakefile.

Reports when it starts and ends, and how long it took the last time. The output of the command goes to its log, whose
end is shown if it fails. Seconds, peak memory and processor time are kept in costs/, beside logs/.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

# Makes glibc (Linux) keep freed memory; otherwise encoding pictures spends a quarter of its time on page faults.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}
END = 30  # lines of the log of a failed job


def main(threads: str, name: str, text: str, *command: str) -> int:
    log = Path(name)
    costs = log.parent.parent / "costs" / f"{log.stem}.tsv"
    last = f" ({costs.read_text().split()[3]} s the last time)" if costs.exists() else ""
    say(f"{text}{last} ...")
    environment = os.environ | KEEP_MEMORY | {"OMP_NUM_THREADS": threads}
    began = time.perf_counter()
    with log.open("wb") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment).returncode
    seconds = round(time.perf_counter() - began)
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print(
            f"FAILED: {text}. The end of {log}:", *(f"  | {line}" for line in lines[-END:]), sep="\n", file=sys.stderr
        )
        return code
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # MB, of the largest process
    costs.parent.mkdir(exist_ok=True)
    costs.write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t{memory:.0f}\t{used.ru_utime + used.ru_stime:.2f}\n")
    say(f"done in {seconds} s: {text}")
    return 0


def say(text: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
