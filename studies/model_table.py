"""Count every registered network at its own image size and print the Markdown tables of docs/models.md.

Run from the repository root: `python studies/model_table.py [NAME ...]`, with names of plain networks for some rows
only. All of them take about six minutes and 4 GB of memory.
"""

import argparse
from collections.abc import Iterator

from drconv import count_flops, create_model, list_models
from drconv.analysis import count_released
from drconv.models import default_input_size

GENERATORS = ("pooled", "basis", "learned")

PUBLISHED = {
    # Multiply-adds in millions and parameters in millions, as the papers and the released networks of their authors
    # give them: Megvii's ShuffleNet-Series for ShuffleNetV2, the papers of the MobileNets and of MobileFaceNet.
    "shufflenet_v2_x0_5": ("41", "1.4"),
    "shufflenet_v2_x1_0": ("146", "2.3"),
    "shufflenet_v2_x1_5": ("299", "3.5"),
    "shufflenet_v2_x2_0": ("591", "7.4"),
    "mobilenet_v1_x0_25": ("41", "0.5"),
    "mobilenet_v1_x0_5": ("149", "1.3"),
    "mobilenet_v1_x0_75": ("325", "2.6"),
    "mobilenet_v1_x1_0": ("569", "4.2"),
    "mobilenet_v2_x0_35": ("59", "1.7"),
    "mobilenet_v2_x0_5": ("97", "2.0"),
    "mobilenet_v2_x0_75": ("209", "2.6"),
    "mobilenet_v2_x1_0": ("300", "3.5"),
    "mobilenet_v3_small": ("56", "2.5"),
    "mobilenet_v3_large": ("217-219", "5.4-5.5"),
    "mobilefacenet": ("221", "0.99"),
    "resnet18": ("1,814", "11.69"),
    "resnet50": ("4,089", "25.56"),
}


def families() -> Iterator[str]:
    """Yield the names of the plain networks, a family at a time and the narrow ones first."""
    plain = [name for name in list_models() if not name.startswith(("drconv_", "dyconv_"))]
    for family in ("shufflenet_v2", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3", "mobilefacenet", "resnet"):
        # By the numbers in the name; mobilenet_v3 has none besides, and small comes after large in the alphabet.
        names = [name for name in plain if name.startswith(family)]
        yield from sorted(names, key=lambda name: ("large" in name, *width(name.removeprefix(family))))


def width(suffix: str) -> tuple[float, ...]:
    """Return the number that a suffix such as `_x0_75` or `18` stands for."""
    digits = suffix.removeprefix("_x").replace("_", ".")
    return (float(digits),) if digits.replace(".", "").isdigit() else ()


def cell(name: str, plain: int = 0, **keywords: str) -> str:
    """Return "MAdds / parameters" in millions, with what it costs over the plain network."""
    report = count_flops(create_model(name, **keywords), default_input_size(name))
    more = f" (+{report.madds / plain - 1:.0%})" if plain else ""
    return f"{report.madds / 1e6:,.2f}{more} / {report.params / 1e6:.2f}"


def main() -> None:
    """Print a row per plain network, its other forms beside it, and the released forms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *families()], help="a plain network")
    wanted = parser.parse_args().names or list(families())
    print("| network | published | plain | DRConv, pooled | DRConv, basis | DRConv, learned | DyConv |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in wanted:
        madds = count_flops(create_model(name), default_input_size(name)).madds
        cells = [" / ".join(PUBLISHED.get(name, ("",))), cell(name)]
        cells += [cell(f"drconv_{name}", madds, filter_generator=generator) for generator in GENERATORS]
        cells.append(cell(f"dyconv_{name}", madds))
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)
    print()
    print("| network of the released DRConv code | MAdds / parameters | by the released counter's rules |")
    print("|---|---:|---:|")
    for name in list_models():
        if name.endswith("_released") and name.removeprefix("drconv_").removesuffix("_released") in wanted:
            released = count_released(create_model(name)).madds
            print(f"| `{name}` | {cell(name)} | {released / 1e6:,.2f} |", flush=True)


if __name__ == "__main__":
    main()
