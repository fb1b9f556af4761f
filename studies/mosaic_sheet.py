"""Draw docs/images/mosaic.png: mosaics of every split beside their true region maps, regions named.

Run from the repository root: `python studies/mosaic_sheet.py`. Needs the extra `train`, for the photos. A few seconds.
"""

import argparse
from pathlib import Path

import numpy as np

from drconv.training.mosaic import MosaicDataset
from drconv.viz import SheetImage, sheet_figure

SPLITS = (("train", 24), ("unseen", 8), ("photos", 8))
COLUMNS, PIXELS = 4, 96


def images(split: str, count: int) -> list[SheetImage]:
    """Return the first images of a split, none of them chosen."""
    dataset = MosaicDataset(count, PIXELS, seed=0, split=split, photos=split != "unseen")
    drawn = [dataset.mosaic(index) for index in range(count)]
    return [SheetImage(np.rint(m.levels * 255).astype(np.uint8), m.region_map, m.families) for m in drawn]


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/mosaic.png"))
    output = parser.parse_args().output
    parts = [image for split, count in SPLITS for image in images(split, count)]
    rows = [count // COLUMNS for _, count in SPLITS]
    notes = (
        f"The first images of seed 0, {PIXELS} pixels wide, none chosen. Rows 1 to {rows[0]}: train, with photos. "
        f"The next {rows[1]}: unseen, families kept out of training. The last {rows[2]}: photos alone.",
        "Half of the images give all regions one base colour, so that only texture tells them apart.",
    )
    sheet_figure(parts, columns=COLUMNS, title="Mosaics and their true regions", notes=notes).savefig(output, dpi=110)
    print(output)


if __name__ == "__main__":
    main()
