"""storylib: predict the next frame of an illustrated story, and measure what a contrastive image-text loss adds."""

__version__ = "0.1.0"
