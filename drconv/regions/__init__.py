"""The regions of an image as a result of its own: measured in one call, shown in a notebook, kept in a folder."""

from drconv.regions.evidence import check_evidence_free
from drconv.regions.evidence_reader import Evidence, EvidenceImage, read_evidence
from drconv.regions.evidence_writer import EvidenceWriter, sha256_of
from drconv.regions.image_regions import ImageRegions
from drconv.regions.measure import (
    MeasuredRegions,
    expected_layers,
    input_channels,
    measure_regions,
    on_device_of,
    visualize,
)

__all__ = [
    "Evidence",
    "EvidenceImage",
    "EvidenceWriter",
    "ImageRegions",
    "MeasuredRegions",
    "check_evidence_free",
    "expected_layers",
    "input_channels",
    "measure_regions",
    "on_device_of",
    "read_evidence",
    "sha256_of",
    "visualize",
]
