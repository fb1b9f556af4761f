"""What is measured on a GPU, and the bars it is held against; in the order of the table."""

from dataclasses import dataclass

__all__ = ["BARS", "Bar"]


@dataclass(frozen=True)
class Bar:
    """One line of the table.

    Attributes:
        case: what.
        bar: what must be kept to; None where a number is only reported.
        stretch: what would be better still.
        at_most: whether the bar is an upper one.
        digits: decimals to show.
    """

    case: str
    bar: float | None = None
    stretch: float | None = None
    at_most: bool = True
    digits: int = 2

    def is_met(self, measured: dict[str, float]) -> bool | None:
        """Return whether all shapes keep to the bar; None where there is none, or nothing was measured."""
        if self.bar is None or not measured:
            return None
        values = measured.values()
        return max(values) <= self.bar if self.at_most else min(values) >= self.bar

    def line(self, measured: dict[str, float]) -> str:
        """Return its line of the Markdown table."""
        sign = "<=" if self.at_most else ">="
        bar, stretch = ("" if limit is None else f"{sign} {limit:g}" for limit in (self.bar, self.stretch))
        if not measured:
            return f"| {self.case} | {bar} | {stretch} | not yet measured | |"
        low, high = (f"{value:.{self.digits}f}" for value in (min(measured.values()), max(measured.values())))
        verdict = {None: "", True: "met", False: "**missed**"}[self.is_met(measured)]
        return f"| {self.case} | {bar} | {stretch} | {low if low == high else f'{low}-{high}'} | {verdict} |"


_DTYPES = {"bfloat16": "bfloat16", "float32": "float32, exact", "tf32": "float32, tf32"}

BARS = {
    **{
        f"forward {name}": Bar(f"forward 1x1, C >= 64, N * P >= 25k, over max(conv, bytes floor), {text}", 1.3, 1.1)
        for name, text in _DTYPES.items()
    },
    "forward tail": Bar("forward 1x1, ShuffleNetV2 x0.5 (C < 64 or small maps), over conv, bfloat16"),
    "forward NCHW": Bar("forward 1x1, C >= 64, N * P >= 25k, NCHW, over conv in channels_last, bfloat16"),
    **{f"forward 3x3 {name}": Bar(f"forward 3x3 dense, over conv, {text}", 1.5, 1.2) for name, text in _DTYPES.items()},
    "forward depthwise": Bar("forward depthwise 3x3, over conv, bfloat16"),
    "naive": Bar("naive over ours, forward, bfloat16", 5, 8, at_most=False),
    "memory": Bar("memory that a forward call takes beside its tensors, over the size of its output", 1, digits=3),
    "released": Bar("one thread per output, as the released code, over ours, forward, float32, exact"),
    "released backward": Bar("one thread per output with atomics, as the released code, over ours, backward, float32"),
    **{
        f"backward {name}": Bar(f"backward of input and filters, over conv backward, {text}", 1.8, 1.4)
        for name, text in _DTYPES.items()
    },
    "step operator": Bar("training step of the operator, filters and scores given, over conv, bfloat16"),
    "step conv": Bar("training step of the layer, over conv, bfloat16", 4, 3),
    "step naive": Bar("training step of the layer, over that of naive, bfloat16", 0.25),
    "maps": Bar("random over smooth regions, forward, channels_last, bfloat16", 1.15, 1.05),
    "layer": Bar("whole layer, inference, over conv, bfloat16"),
    "layer stages": Bar("whole layer, inference, stage by stage over one call, bfloat16"),
    "launches": Bar("kernels that a layer launches at inference", 4, digits=0),
    **{
        f"network {way} {name}": Bar(
            f"DRConv-ShuffleNetV2 x0.5, inference, batch 256, over plain, {way}, {_DTYPES[name]}", 1.35, 1.2
        )
        for way in ("eager", "compiled", "CUDA graph")
        for name in ("bfloat16", "tf32")
    },
    "network ms": Bar("DRConv-ShuffleNetV2 x0.5, inference, batch 256, bfloat16, CUDA graph, milliseconds"),
    "training step": Bar("training step of the network, batch 256, bfloat16 autocast, over plain"),
    "training memory": Bar("training step of the network, peak memory over plain"),
    "training step naive": Bar("training step of the network, batch 256, bfloat16 autocast, over that with naive"),
    "accuracy": Bar("accuracy on mosaic after the minutes of training, percent", digits=1),
    "accuracy plain": Bar("the same of the plain network, as many epochs, percent", digits=1),
}
