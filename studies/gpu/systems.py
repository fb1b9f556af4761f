"""What surrounds kernels: streams, devices, CUDA graphs, torch.compile, autocast, and more than 2^31 elements."""

from copy import deepcopy
from functools import partial

import torch
from cases import Case, draw
from checks import LIMITS, error_of, operator
from findings import Findings
from networks import network
from place import Place, float32_products
from torch import Tensor, nn

from drconv.layers import DRConv2d
from drconv.ops import region_conv2d

__all__ = ["check_graph_and_compile", "check_huge", "check_streams_and_autocast"]


def _twice_differing(a: Tensor, b: Tensor) -> float:
    return float(a.ne(b).sum())


def check_streams_and_autocast(place: Place, found: Findings) -> None:
    """Check a stream of one's own, the last of several devices, and autocast."""
    size = (4, 3) if place.is_rehearsal else (28, 28)
    case = Case("1x1", 5, 3, size) if place.is_rehearsal else Case("1x1", 116, 116, size, batch=8)
    drawn = draw(case, place.device, torch.float32)
    expected = operator(case, drawn.leaves, drawn.grad)
    place.synchronize()
    with place.side_stream():
        actual = operator(case, drawn.leaves, drawn.grad)
        place.synchronize()
    found.check("another stream, differing elements", sum(map(_twice_differing, actual, expected)), 0)
    if place.is_rehearsal or torch.cuda.device_count() < 2:
        found.skip("the second device", "there is one device")
    else:
        last = torch.device("cuda", torch.cuda.device_count() - 1)
        actual = operator(case, tuple(t.to(last) for t in drawn.leaves), drawn.grad.to(last))
        differing = sum(_twice_differing(a.to(place.device), e) for a, e in zip(actual, expected, strict=True))
        found.check("second device, differing elements", differing, 0)

    layer = DRConv2d(case.channels, case.outs, 1, device=place.device, backend="triton")
    exact = deepcopy(layer).double()
    exact.backend = "reference"
    # Scores that bfloat16 has no doubt about: it must choose the regions that float64 does.
    for each in (layer, exact):
        nn.init.zeros_(each.guide.weight)
        each.guide.bias.data.copy_(torch.arange(8.0))
    x = torch.randn(2, case.channels, *size, device=place.device)
    with torch.autocast(place.device.type, torch.bfloat16):
        output = layer(x)
    output.float().square().mean().backward()
    exact_output = exact(x.double())
    exact_output.square().mean().backward()
    found.check("autocast: output is bfloat16", float(output.dtype != torch.bfloat16), 0)
    found.check("autocast: output", error_of(output, exact_output), LIMITS["bfloat16"])
    for (name, parameter), reference in zip(layer.named_parameters(), exact.parameters(), strict=True):
        if name.startswith("guide."):  # small differences of large numbers
            found.check(f"autocast: {name} is finite", float(not parameter.grad.isfinite().all()), 0)
        else:
            found.check(f"autocast: {name}", error_of(parameter.grad, reference.grad), 2 * LIMITS["bfloat16"])


def check_graph_and_compile(place: Place, found: Findings) -> None:
    """Check that a whole network can be captured in a CUDA graph and compiled, and gives what it gives in eager."""
    # By default cuDNN may multiply in tf32, and other layouts take other algorithms: that is not to be compared here.
    with float32_products("float32"):
        _check_graph_and_compile(place, found)


def _check_graph_and_compile(place: Place, found: Findings) -> None:
    model, images = network(place, dynamic=True, batch=8)
    with torch.inference_mode():
        static = images.clone(memory_format=torch.preserve_format)
        replay, result = place.capture(partial(model, static))
        for _ in range(2):
            fresh = torch.randn_like(images)
            static.copy_(fresh)
            replay()
            found.check("CUDA graph of a network, over eager", error_of(result, model(fresh).double()), 1e-5)
    # What Inductor makes of other modules is not ours to prove, so that the rehearsal only traces.
    compiled = torch.compile(deepcopy(model), fullgraph=True, backend="aot_eager" if place.is_rehearsal else "inductor")
    with torch.no_grad():
        # Where float32 is rounded in another order, a position may fall into another region: the typical error counts.
        a, e = compiled(images).double(), model(images).double()
        found.check("compiled network, inference, median error", float((a - e).abs().median() / e.abs().max()), 1e-4)
    layer = DRConv2d(8, 8, 1, device=place.device, backend="triton")
    x = torch.randn(2, 8, 4, 4, device=place.device)
    traced = torch.compile(layer, fullgraph=True, backend="aot_eager" if place.is_rehearsal else "inductor")
    gradients = []
    for each in (layer, traced):
        layer.zero_grad()
        each(x).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in layer.parameters()])
    for (name, _), a, e in zip(layer.named_parameters(), *gradients, strict=True):
        found.check(f"compiled layer, gradient of {name}", error_of(a, e.double()), 1e-4)


def check_huge(place: Place, found: Findings) -> None:
    """Check a map and a set of filters of more than 2^31 elements: the last rows and the last sample."""
    dtype = torch.float32 if place.is_rehearsal else torch.bfloat16
    limit = LIMITS["float32" if place.is_rehearsal else "bfloat16"]
    side, batch = (12, 3) if place.is_rehearsal else (5824, 4200)
    channels = 4 if place.is_rehearsal else 64
    large = Case(
        "map of 2^31 elements", channels, channels, (side, side), batch=1, regions=2 if place.is_rehearsal else 8
    )
    many = Case("filters of 2^31 elements", 4 * channels, 4 * channels, (2, 2), batch=batch, regions=8)
    # Input, output, both gradients, copies made on the way, and scores in float32.
    for case, elements, needed in (
        (large, channels * side * side, 16 * channels * side * side),
        (many, 8 * batch * (4 * channels) ** 2, 12 * batch * 8 * (4 * channels) ** 2),
    ):
        if not place.is_rehearsal and place.free_memory() < needed:
            found.skip(case.name, f"it needs about {needed >> 30} GiB, and {place.free_memory() >> 30} are free")
            continue
        for layout in ("NCHW", "channels_last"):
            _check_huge(place, found, case.with_(layout=layout), dtype, limit, elements)


def _check_huge(place: Place, found: Findings, case: Case, dtype: torch.dtype, limit: float, elements: int) -> None:
    if not place.is_rehearsal and elements < 2**31:
        raise RuntimeError(f"{case.name} has {elements} elements")
    torch.manual_seed(0)
    rows = case.size[0] - 2 if case.batch == 1 else 0
    drawn = draw(case, place.device, dtype)
    # All that the last rows (of the last sample) give back comes from there, so that a small reference has all of it.
    drawn.grad[:-1] = 0
    drawn.grad[:, :, :rows] = 0
    x, filters, scores = (t.requires_grad_() for t in (drawn.x, drawn.filters, drawn.scores))
    output = region_conv2d(x, filters, scores, backend="triton")
    output.backward(drawn.grad)
    part = [t[-1:].detach().double() for t in (x[:, :, rows:], filters, scores[:, :, rows:])]
    leaves = [t.requires_grad_() for t in part]
    expected = region_conv2d(*leaves, backend="reference")
    expected.backward(drawn.grad[-1:, :, rows:].double())
    name = f"{case.name}, {case.layout}"
    found.check(f"{name}: output", error_of(output[-1:, :, rows:], expected), limit)
    found.check(f"{name}: input", error_of(x.grad[-1:, :, rows:], leaves[0].grad), limit)
    found.check(f"{name}: filters", error_of(filters.grad[-1:], leaves[1].grad), limit)
    found.check(f"{name}: scores", error_of(scores.grad[-1:, :, rows:], leaves[2].grad), limit)
    found.check(f"{name}: gradients elsewhere", float(x.grad[:, :, :rows].abs().max()) if rows else 0.0, 0)
