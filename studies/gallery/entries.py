"""What is in the gallery: for each picture the command that makes it, and how to read it."""

from dataclasses import dataclass, field

__all__ = ["CAVEAT", "ENTRIES", "WEIGHTS", "Entry", "Shot"]

LAYERS = ("stage2.5.branch2.5", "stage3.3.branch2.5", "stage2.4.branch2.5")
"""Two layers with grids of different sizes, and one to compare the first with."""

WEIGHTS = (
    "The regions are those of the [demo weights](demo_weights.md), which commands take where no network is named; "
    "their guides were supervised with known region maps, which is not in the paper."
)
"""What a reader must know about the weights of all pictures."""

_TWO = f"--layers {LAYERS[0]} --layers {LAYERS[1]}"
_PAGE = "drconv visualize hopper.png --report --statistics full --labels hopper-labels.png --figures none -o page"

CAVEAT = (
    "Regions are learned routing, not semantic segments: a region is the set of positions that one filter serves. "
    "Their numbers and colours are arbitrary."
)


@dataclass(frozen=True)
class Shot:
    """A picture of the gallery.

    Attributes:
        name: of the file.
        alt: what can be seen, for those who cannot see it.
        source: what it is made from: a picture or a page that the command writes, or "terminal" for what it prints.
        width: at most so many pixels.
        view: of a page: "light", "dark", "phone", or a part of it, see `browser.py`; of a terminal its theme.
    """

    name: str
    alt: str
    source: str
    width: int = 1500
    view: str = ""


@dataclass(frozen=True)
class Entry:
    """A section of the gallery.

    Attributes:
        title: its heading.
        commands: as typed, one after the other.
        text: how to read the pictures.
        shots: the pictures.
        output: name of a file in the folder of pictures with what the last command prints, if that is shown.
    """

    title: str
    commands: tuple[str, ...]
    text: str
    shots: tuple[Shot, ...] = ()
    output: str | None = field(default=None)


ENTRIES = (
    Entry(
        "One photo, layer by layer",
        (f"drconv visualize hopper.png {_TWO} -o overview",),
        "A row is a layer: the photo with boundaries, the region of every position at the layer's own grid, both over "
        "each other, and the margin, which is 0 where two regions are equally likely and 1 where the choice is "
        "certain. Right of them are the share and filter norm of each region, and the cosines between the regions' "
        "filters: near 1, it hardly matters which of the two a position is in.",
        (Shot("overview.webp", "An officer before a flag; regions of two layers with shares, margins and cosines",
              "overview/hopper.png", 1800),),
    ),
    Entry(
        "Boundaries only, and margins",
        (_PAGE,),
        "Two views of the map on the [interactive page](#the-interactive-page). Boundaries alone leave the photo as it "
        "is; the margin view is scaled to the largest margin of the layer, bright where the choice is clearest.",
        (Shot("boundaries.webp", "The photo under thin outlines of regions", "page/hopper.html", 700, "boundaries"),
         Shot("margins.webp", "The photo under a blue to yellow map of margins", "page/hopper.html", 700, "margins")),
    ),
    Entry(
        "Patterns, for print without colours",
        (f"drconv visualize hopper.png --patterns --layers {LAYERS[1]} -o patterns",),
        "Each region has a hatch beside its colour (region 0 is plain), in the map and in the legend, so that a grey "
        "copy can still be read.",
        (Shot("patterns.webp", "A region map whose regions are hatched", "patterns/hopper.png"),),
    ),
    Entry(
        "Filters",
        (f"drconv visualize hopper.png --statistics full {_TWO} -o filters",),
        "Cosines with similar filters side by side, so that redundant regions stand as a block of ones; norms and "
        "effective ranks; and the singular values of each filter as a matrix. Regions whose curves and norms coincide "
        "and whose cosine is near 1 share one filter.",
        (Shot("filters.webp", "Matrices of cosines, bars of norms and curves of singular values for two layers",
              "filters/hopper-filters.png", 1100),),
    ),
    Entry(
        "Layers by images",
        (f"drconv visualize photos/ --figures set {_TWO} -o set",),
        "A column is a photo and a row is a layer. Within a row one colour is one region on every "
        "photo; between rows it means nothing.",
        (Shot("grid.webp", "Five photos, and below each the regions of two layers", "set/grid.png", 1300),),
    ),
    Entry(
        "Use over a set of images",
        (
            f"drconv visualize photos/ --figures set {_TWO} -o set",
            "python -c \"import json; print(*json.load(open('set/statistics.json'))['result']['usage']['layers'][0]"
            "['top_images'][1], sep='\\n')\"",
        ),
        "How often each region occurs over all photos, on how many of them, and where: a square is the photo's area, "
        "bright where most photos have the region. A region that always lies at the border follows the padding rather "
        "than the content. `statistics.json` also names the photos on which a region's share is largest, here those "
        "of region 1 of the first layer.",
        (Shot("usage.webp", "Bars of shares, and a small map of places for each region of two layers",
              "set/usage.png", 1100),),
        "top-images.txt",
    ),
    Entry(
        "Two checkpoints",
        (f"drconv compare before.safetensors after.safetensors --image hopper.png --layers {LAYERS[0]} "
         "--picture checkpoints.png",),
        "Regions are numbered as it happens, so those of B are first matched with those of A such that as many "
        "positions as possible agree, and then drawn in A's colours. Orange is where they differ. Here B is A after "
        "noise of a tenth of its size on every filter. Even unrelated maps agree somewhere after matching; adjusted "
        "mutual information (AMI) is about 0 for them.",
        (Shot("checkpoints.webp", "Photo, regions of two checkpoints, and where they differ", "checkpoints.png"),),
    ),
    Entry(
        "Two layers",
        (f"drconv compare {LAYERS[0]} {LAYERS[2]} --image hopper.png --picture layers.png",),
        "As for checkpoints: colours of the second map are those of the matched regions of the first.",
        (Shot("layers.webp", "Photo, regions of two layers, and where they differ", "layers.png"),),
    ),
    Entry(
        "Two images",
        (f"drconv compare hopper.png rocket.png --layers {LAYERS[0]} --picture images.png",),
        "One layer has the same regions on every image, so nothing is matched: the maps are laid over each other, "
        "number by number.",
        (Shot("images.webp", "Photo, regions of two photos, and where they differ", "images.png"),),
    ),
    Entry(
        "Clips, and how stable their regions are",
        ("drconv visualize pan/ --frames --size 180 -o clip",),
        "The frames are cut out of the photo, each 6 pixels further to the right. Stability is the share of "
        "positions that keep their region from one frame to the next; the dashed line is what shuffled frames would "
        "keep. Positions are those of the map, so that under a moving camera a layer that follows the things is not "
        "stable.",
        (Shot("clip.gif", "Animation: a photo that moves, and the regions of one layer over it", "clip/pan.gif"),
         Shot("stability.webp", "Curves of stability over time and over the distance of frames",
              "clip/pan-stability.png", 1000)),
    ),
    Entry(
        "In the terminal",
        (f"drconv visualize hopper.png --preview --figures none --layers {LAYERS[0]} -o preview",),
        "Photo and map in half blocks, two positions per character, with the share of each region below. It needs a "
        "terminal with 256 or more colours; without them the map is made of region numbers.",
        (Shot("terminal-dark.webp", "A terminal with light letters on black: photo, map and legend", "terminal",
              view="dark"),
         Shot("terminal-light.webp", "The same on white", "terminal", view="light")),
    ),
    Entry(
        "The interactive page",
        (_PAGE,),
        "One file without any request to the network. Point at a position to read its region and margin, click to "
        "select the region and list the filters nearest to its own, hide regions, change the opacity; a tab for each "
        "layer, all of it by keyboard too. With `--labels` there is a table of regions and classes. The classes here "
        "were drawn by hand: 0 wall, 1 flag, 2 uniform, 3 face, 4 hat, 5 shirt.",
        (Shot("page-light.webp", "The page with a region selected, on white", "page/hopper.html", 1280, "light"),
         Shot("page-dark.webp", "The page on black, with another layer", "page/hopper.html", 1280, "dark"),
         Shot("page-classes.webp", "The table of regions and classes", "page/hopper.html", 1000, "classes"),
         Shot("page-phone.webp", "The page on a phone: one column", "page/hopper.html", 430, "phone")),
    ),
    Entry(
        "Times of a network and its layers",
        ("drconv profile --max-time 1 --plot profile.png",),
        "Time over that of `nn.Conv2d` at the same place, on a logarithmic axis: 1 is no slower. Layers are named by "
        "channels and map; bars with lines are 95 % intervals of the median ratio. `naive` applies every region's "
        "filter everywhere. Times belong to the machine that is named below the axes.",
        (Shot("profile.webp", "Bars: native, eager and naive against nn.Conv2d for layers and the network",
              "profile.png", 1200),),
    ),
    Entry(
        "Times over a sweep",
        ("drconv profile --layer in=96,out=96,size=14 --batch 32 --sweep size=7,14,28,56 --layout both "
         "--backend native --plot sweep.png",),
        "The same for one layer on maps of several sizes, in both memory layouts.",
        (Shot("sweep.webp", "Lines: native and naive against nn.Conv2d over the size of the map", "sweep.png", 1000),),
    ),
    Entry(
        "Multiply-adds over a sweep",
        ("drconv flops drconv_shufflenet_v2_x0_5 --sweep size=112,224,320 --sweep num_regions=1,2,4,8,16 "
         "--backend naive --plot madds.png",),
        "Solid lines count one filter per position, dashed ones what the `naive` backend executes: with many regions "
        "they part.",
        (Shot("madds.webp", "Multiply-adds over the number of regions at three image sizes", "madds.png", 1000),),
    ),
)  # fmt: skip
