"""The published evaluation protocols of both systems as switches, and a ladder of repairs for each.

A ladder starts at the protocol as published. Each step turns one switch and keeps the switches before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from storylib.config import ConfigError, experiments, unknown

SCORING_ONLY = ("decoding", "scored_on")  # switches that leave the trained model unchanged

CLAIMED = {"a": {"top1": 1.0, "top5": 1.0, "cosine": 0.783}, "b": {"bleu": 0.57, "rouge_l": 0.68, "meteor": 0.74}}


@dataclass(frozen=True)
class ProtocolA:
    """System A. The defaults are the protocol as published."""

    token_target: str = "first piece"  # of the input, always [CLS]; "first token" or "all tokens" of the next text
    text_input: str = "story"  # the whole story, target included; or "context": its four texts only
    scored_on: str = "training batch"  # one batch of 2; or "held-out stories"
    image_target: str = "own projection"  # the model's own, untrained; or "frozen space", centred
    attention_keys: str = "one"  # all text in one key; or "one per text"


@dataclass(frozen=True)
class ProtocolB:
    """System B. The defaults are the protocol as published."""

    markup: bool = True  # tags of the data set left in the text
    text: str = "story"  # the whole story, cut, as the text of every frame, target included; or "frame"
    shifted: bool = False  # whether the decoder predicts the next token rather than its own input
    decoding: str = "teacher-forced"  # reads the true text; or "free"
    scored_on: str = "training batches"  # five of 2; or "held-out windows"
    contrastive: float = 0.5


class Step(NamedTuple):
    """One step of a ladder: a protocol, and the switch in which it differs from the step before."""

    label: str
    protocol: Any  # ProtocolA or ProtocolB
    change: str = ""  # name of the switch; empty for the protocol as published


def ladder(published: Any, *repairs: tuple[str, str, Any]) -> list[Step]:
    """Steps from the protocol as published; each repair is a label and one switch with its new value."""
    steps = [Step("as published", published)]
    for label, switch, value in repairs:
        steps.append(Step(label, replace(steps[-1].protocol, **{switch: value}), switch))
    return steps


LADDER_A = ladder(
    ProtocolA(),
    ("target: the next text's first real token", "token_target", "first token"),
    ("target: all its tokens", "token_target", "all tokens"),
    ("input: the four context texts only", "text_input", "context"),
    ("scored on held-out stories", "scored_on", "held-out stories"),
    ("picture: frozen, centred features", "image_target", "frozen space"),
    ("attention: one key per text", "attention_keys", "one per text"),
)
LADDER_B = ladder(
    ProtocolB(),
    ("text: markup stripped", "markup", False),
    ("text: each frame has its own", "text", "frame"),
    ("decoder shifted by one", "shifted", True),
    ("free-running decoding", "decoding", "free"),
    ("scored on held-out windows", "scored_on", "held-out windows"),
    ("contrastive weight 0", "contrastive", 0.0),
)


@dataclass(frozen=True)
class AuditSettings:
    """How much is run: an entry of ``audit`` in ``experiments.yml``."""

    seeds: tuple[int, ...] = (0, 1, 2)
    stories: int = 200  # both systems used the first 200
    epochs_a: int = 5  # of system A's configuration
    epochs_b: int = 2

    @classmethod
    def from_profile(cls, profile: str) -> AuditSettings:
        """Raises ConfigError for an unknown profile."""
        profiles = experiments()["audit"]
        if profile not in profiles:
            raise ConfigError(unknown("profile of the audit", profile, profiles))
        return cls(**(profiles[profile] | {"seeds": tuple(profiles[profile]["seeds"])}))
