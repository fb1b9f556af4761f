"""The weights that ship with the package: small, described, the paper's layers, and regions that mean something."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from drconv import DRConv2d, create_model, load_demo_model, record_regions
from drconv.analysis.agreement import label_agreement, resized
from drconv.models import DEMO, DEMO_WEIGHTS, input_size_of, load_model, read_description, read_state_dict
from drconv.training.mosaic import MosaicDataset
from drconv.training.photos import TRAINING_PHOTOS

SEGMENTS = Path(__file__).parents[2] / "studies" / "photos" / "segments.json"


def test_the_file_is_small_and_says_what_it_is() -> None:
    assert DEMO_WEIGHTS.stat().st_size <= 5_000_000
    described = read_description(DEMO_WEIGHTS)
    assert described is not None
    assert (described.model, described.arguments) == ("drconv_shufflenet_v2_demo", {"features_only": True})
    assert "not in the paper" in described.trained["about"]
    assert {"script", "seed", "phases", "choice_mosaics", "choice_photos"} <= set(described.trained)
    assert {t.dtype for t in read_state_dict(DEMO_WEIGHTS).values() if t.dim() > 1} == {torch.bfloat16}


def test_it_has_the_papers_layers() -> None:
    model, built = load_demo_model(), create_model("drconv_shufflenet_v2_demo", features_only=True)
    assert repr(model) == repr(built)
    layers = [m for m in model.modules() if isinstance(m, DRConv2d)]
    assert len(layers) == 10
    assert all(layer.num_regions == 4 and layer.guide is not None and layer.guide.norm is None for layer in layers)
    assert not model.training


def test_it_is_a_model_by_name() -> None:
    model = load_model(DEMO)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), load_demo_model().parameters(), strict=True))
    assert input_size_of(DEMO, model) == (3, 224, 224)


@pytest.fixture(scope="module")
def maps() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    model, data = load_demo_model(), MosaicDataset(24, 64, seed=7, split="validation")
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for index in range(len(data)):
        sample = data[index]
        with record_regions(model) as recording, torch.inference_mode():
            model(sample.image[None])
        for layer in recording.layers:
            found.setdefault(layer.name, []).append((layer.guided_mask[0].numpy(), sample.region_map.numpy()))
    return found


def test_its_regions_follow_mosaics_it_has_never_seen(maps: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    """Random weights, or these fed otherwise than in training, score about 0.1."""
    nmi = [np.mean([label_agreement(m, resized(t, m.shape), 4).nmi for m, t in of_layer]) for of_layer in maps.values()]
    assert np.mean(nmi) > 0.4


def test_all_regions_live(maps: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    for name, of_layer in maps.items():
        assert set(np.unique(np.concatenate([mask.ravel() for mask, _ in of_layer]))) == {0, 1, 2, 3}, name


def test_photos_that_judge_are_no_training_images() -> None:
    photos = json.loads(SEGMENTS.read_text())["photos"]
    files: dict[str, set[str]] = {"training": set(), "choice": set(), "blind": set()}
    for entry in photos.values():
        files[entry["split"]].add(Path(entry["path"]).name)
    assert len(set.union(*files.values())) == len(photos)  # no file twice, in one split or in two
    assert not set.union(*files.values()) & set(TRAINING_PHOTOS)
    for name, entry in photos.items():
        drawn = {polygon["segment"] for polygon in entry["polygons"]} | {entry["rest"]}
        assert drawn - {None} == set(entry["segments"]), name
