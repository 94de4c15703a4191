"""The published protocols of two systems, repaired one flaw at a time, and a checklist for any other model.

storylib.audit.run("storyworld", "quick")    both ladders, from the number as claimed to the honest one
storylib.audit.check(predictor, windows)     the flaws that they teach, looked for in your model
"""

from storylib.audit.checks import Checklist, check
from storylib.audit.figure import slopes
from storylib.audit.ladder import Material, Settings
from storylib.audit.predictors import CopyLast, ask
from storylib.audit.record import answer, beside_hand_measured, describe, headline, published, run, table
from storylib.audit.system_a import LADDER as LADDER_A
from storylib.audit.system_a import ProtocolA, SystemA
from storylib.audit.system_b import LADDER as LADDER_B
from storylib.audit.system_b import ProtocolB, SystemB, best_alignment

__all__ = [
    "LADDER_A", "LADDER_B", "Checklist", "CopyLast", "Material", "ProtocolA", "ProtocolB", "Settings", "SystemA",
    "SystemB", "answer", "ask", "beside_hand_measured", "best_alignment", "check", "describe", "headline", "published",
    "run", "slopes", "table",
]  # fmt: skip
