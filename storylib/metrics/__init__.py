"""Every metric as a pure function: arrays in, numbers out. Setting them beside floors is the work of evaluation.

retrieval: ranks among candidates. text: words against words. cider: CIDEr-D. images: pixels and features.
alignment: how two clouds of vectors lie to each other.
"""

from storylib.metrics.alignment import (
    alignment_distance,
    apply_linear_map,
    chance_alignment,
    fit_linear_map,
    modality_gap,
    shuffled_pairs,
    uniformity,
)
from storylib.metrics.cider import cider_d
from storylib.metrics.images import (
    between_samples,
    frechet_distance,
    frechet_from_moments,
    image_errors,
    moments,
    sharpness,
)
from storylib.metrics.retrieval import (
    Candidates,
    candidate_counts,
    chance_recall,
    chance_reciprocal_rank,
    ranks,
    ranks_by_block,
)
from storylib.metrics.text import (
    METEOR,
    METEOR_WITHOUT_WORDNET,
    bleu_counts,
    bleu_from_counts,
    bleu_signature,
    chrf,
    chrf_signature,
    distinct_counts,
    meteor,
    meteor_name,
    plain,
    rouge_l,
    signatures,
    words,
)

__all__ = [
    "METEOR",
    "METEOR_WITHOUT_WORDNET",
    "Candidates",
    "alignment_distance",
    "apply_linear_map",
    "between_samples",
    "bleu_counts",
    "bleu_from_counts",
    "bleu_signature",
    "candidate_counts",
    "chance_alignment",
    "chance_recall",
    "chance_reciprocal_rank",
    "chrf",
    "chrf_signature",
    "cider_d",
    "distinct_counts",
    "fit_linear_map",
    "frechet_distance",
    "frechet_from_moments",
    "image_errors",
    "meteor",
    "meteor_name",
    "modality_gap",
    "moments",
    "plain",
    "ranks",
    "ranks_by_block",
    "rouge_l",
    "sharpness",
    "shuffled_pairs",
    "signatures",
    "uniformity",
    "words",
]
