"""Stories, splits, pictures, frozen encoders and their features, and windows as tensors."""
