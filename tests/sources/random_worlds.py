"""Storyworlds with random settings, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from storylib.sources.storyworld.world import Settings

shares = st.floats(0, 1)
worlds = st.builds(
    Settings, seed=st.integers(0, 10**6), noise=shares, digression=shares, in_text=shares, in_picture=shares,
    jitter=st.floats(0, 2), distractors=st.floats(0, 6), chapters=st.sampled_from((1, 2)),
)  # fmt: skip
