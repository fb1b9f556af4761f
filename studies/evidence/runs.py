"""What is trained: every run of every question, each one once however many questions look at it."""

from dataclasses import dataclass

from networks import BASE_MADDS, Network

SEEDS = range(5)
FEW_SEEDS = range(3)
MADDS = BASE_MADDS
"""Multiply-adds per image of the networks that are compared at equal cost."""
WIDTHS = {"half": MADDS // 2, "one": MADDS, "double": 2 * MADDS}

STATIC = Network("static", madds=MADDS)
POOLED = Network("pooled", madds=MADDS)

EQUAL_MADDS = {
    "static": STATIC,
    "DyConv, 4 experts": Network("dyconv", madds=MADDS),
    "DRConv pooled": POOLED,
    "DRConv basis": Network("basis", madds=MADDS),
    "DRConv learned": Network("learned", madds=MADDS),
}
REGIONS = {f"m = {m}": Network("pooled", num_regions=m) for m in (1, 2, 4, 8, 16)}
GUIDES = {
    "guide trained": Network("pooled"),
    "guide as drawn, frozen": Network("pooled", guide="frozen"),
    "random regions": Network("pooled", guide="random"),
    "soft filter gradient": Network("pooled", soft_filter_gradient=True),
}
FILTERS = {
    "4 regions": Network("basis"),
    "1 region": Network("basis", num_regions=1),
    "4 random regions": Network("basis", guide="random"),
}
SIZES = {
    f"{kind}, {name} cost": Network(kind, madds=madds)
    for name, madds in WIDTHS.items()
    for kind in ("static", "pooled")
}
MAPS = {
    "task alone": (Network("basis"), 0.0),
    "task alone, guide norm": (Network("basis", guide_norm="batch"), 0.0),
    "guide supervised": (Network("basis"), 1.0),
    "guide supervised, guide norm": (Network("basis", guide_norm="batch"), 1.0),
}


RATE = 0.005
LOW_RATE = 0.002
RATES = {name: EQUAL_MADDS[name] for name in ("static", "DRConv pooled", "DRConv basis")}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        network: what.
        seed: of weights, order and augmentation.
        guide_supervision: weight of the pair loss on guides.
        rate: the highest learning rate.
    """

    network: Network
    seed: int
    guide_supervision: float = 0.0
    rate: float = RATE

    @property
    def key(self) -> str:
        """What tells this run from all others."""
        parts = [f"{name}={value}" for name, value in self.network.__dict__.items()]
        if self.rate != RATE:
            parts.append(f"rate={self.rate}")
        return ", ".join([*parts, f"guide_supervision={self.guide_supervision}", f"seed={self.seed}"])


def all_runs() -> list[Run]:
    """Return every run once, the question that matters most first, then all others seed by seed."""
    found = [Run(network, seed) for seed in SEEDS for network in EQUAL_MADDS.values()]
    for seed in FEW_SEEDS:
        found += [Run(network, seed) for part in (SIZES, REGIONS, GUIDES, FILTERS) for network in part.values()]
        found += [Run(network, seed, weight) for network, weight in MAPS.values()]
    found += [Run(network, SEEDS[0], rate=LOW_RATE) for network in RATES.values()]
    return list({run.key: run for run in found}.values())
