"""The page on what regions bring holds what the results say, and the study's networks are as costly as it says."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """Return the modules of the study, which import each other by their bare names."""
    pytest.importorskip("scipy")
    names = ("networks", "runs", "results", "tables", "plots", "report")
    monkeypatch.syspath_prepend(str(ROOT / "studies" / "evidence"))
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name)
    sys.modules.update(kept)


def test_the_tables_of_the_page_are_those_of_the_results(study: dict[str, ModuleType]) -> None:
    results = {line["key"]: line for line in study["results"].lines()}
    page = study["report"].PAGE.read_text()
    assert page.count("<!-- table: ") > 0
    assert study["report"].with_tables(page, study["tables"].all_tables(results)) == page


def test_equal_multiply_adds_are_equal(study: dict[str, ModuleType]) -> None:
    kinds = {network.kind for network in study["runs"].EQUAL_MADDS.values()}
    assert kinds == {"static", "dyconv", "pooled", "basis", "learned"}
    results = {line["key"]: line for line in study["results"].lines()}
    for network in study["runs"].EQUAL_MADDS.values():
        line = study["results"].found_of(results, network)[0]
        assert abs(line["madds"] / study["runs"].MADDS - 1) <= 0.02, network
        assert study["networks"].count(network, tuple(line["channels"]), 26) == line["madds"]


def test_the_interval_and_the_test_of_a_difference(study: dict[str, ModuleType]) -> None:
    static, pooled = study["runs"].STATIC, study["runs"].POOLED
    run = study["runs"].Run
    results = {}
    for network, scores in ((static, (0.50, 0.52, 0.54)), (pooled, (0.51, 0.55, 0.56))):
        for seed, score in enumerate(scores):
            made = run(network, seed)
            history = [{"validation": {"top1": score}, "train": {"top1": score}}]
            results[made.key] = {"seed": seed, "history": history}
    # Differences 1, 3 and 2: mean 2, standard deviation 1, t = 2 sqrt(3), interval 2 +- 4.303 / sqrt(3).
    assert study["results"].paired(results, pooled, static) == "+2.0 [-0.5, +4.5], p = 0.074"
    assert study["results"].spread([50.0, 52.0, 54.0]) == "52.0 ± 2.0"


def test_keys_tell_all_runs_apart_and_keep_those_of_results(study: dict[str, ModuleType]) -> None:
    keys = [run.key for run in study["runs"].all_runs()]
    assert len(set(keys)) == len(keys)
    assert {line["key"] for line in study["results"].lines()} <= set(keys)
