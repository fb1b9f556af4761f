"""Whole networks at inference: eager, compiled and as a CUDA graph, against the plain one; and their training step."""

from collections.abc import Callable
from functools import partial
from time import perf_counter

import torch
import torch.nn.functional as F
from findings import Findings
from place import PRECISIONS, Place, float32_products
from race import peak_memory, race, wall_race
from torch import Tensor, nn

from drconv.layers import DRConv2d, set_backend

__all__ = ["compiled_networks", "eager_networks", "network", "training_steps"]

_NAME = "shufflenet_v2_x0_5"


def network(place: Place, dynamic: bool, batch: int, precision: str = "float32") -> tuple[nn.Module, Tensor]:
    """Return ShuffleNetV2 x0.5, channels_last, in eval mode, and images; in rehearsal a network of two layers.

    The dynamic one has both 1x1 convolutions of each block dynamic, and its BatchNorm calibrated, so that regions occur
    as they do in use. It runs the Triton kernels, or whatever stands in `backend` of its layers.
    """
    torch.manual_seed(0)
    if place.is_rehearsal:
        batch, size = 2, 4
        last = DRConv2d(8, 5, 1, backend="triton") if dynamic else nn.Conv2d(8, 5, 1)
        model: nn.Module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), last, nn.Flatten())
    else:
        from drconv.models import calibrate_batch_norm, create_model

        size = 224
        if dynamic:
            model = create_model(f"drconv_{_NAME}", placement="both").to(place.device)
            set_backend(model, "triton")
        else:
            model = create_model(_NAME).to(place.device)
        calibrate_batch_norm(model, torch.randn(8, 3, size, size, device=place.device))
    made = {"device": place.device, "dtype": PRECISIONS[precision]}
    images = torch.randn(batch, 3, size, size, **made).contiguous(memory_format=torch.channels_last)
    return model.to(**made, memory_format=torch.channels_last).eval(), images


def eager_networks(place: Place, found: Findings, batch: int = 256) -> None:
    """Measure networks in eager, host and device together, and as CUDA graphs."""
    for precision in ("bfloat16", "tf32"):
        calls: dict[str, Callable[[], object]] = {}
        replays: dict[str, Callable[[], object]] = {}
        # Made outside of inference mode: a layer with parameters made within it runs in stages.
        made = {name: network(place, name == "ours", batch, precision) for name in ("plain", "ours")}
        with torch.inference_mode(), float32_products(precision):
            for name, (model, images) in made.items():
                calls[name] = partial(model, images)
                replays[name] = place.capture(calls[name])[0]
            for way, timings in (
                ("eager", wall_race(place, calls)), ("CUDA graph", race(place, replays)),
            ):  # fmt: skip
                milliseconds = {name: 1e3 * timing.median for name, timing in timings.items()}
                ratio = timings["ours"].ratio_to(timings["plain"]).median
                found.measure(f"network {way} {precision}", f"batch {batch}", ratio, milliseconds=milliseconds)
                if way == "CUDA graph" and precision == "bfloat16":
                    for name, value in milliseconds.items():
                        found.measure("network ms", name, value)


def compiled_networks(place: Place, found: Findings, batch: int = 256) -> None:
    """Measure networks under `torch.compile`, which is most of the time that this takes."""
    backend = "aot_eager" if place.is_rehearsal else "inductor"
    for precision in ("bfloat16", "tf32"):
        calls: dict[str, Callable[[], object]] = {}
        seconds = {}
        torch._dynamo.reset()
        made = {name: network(place, name == "ours", batch, precision) for name in ("plain", "ours")}
        with torch.inference_mode(), float32_products(precision):
            for name, (model, images) in made.items():
                calls[name] = partial(torch.compile(model, fullgraph=True, backend=backend), images)
                start = perf_counter()
                calls[name]()
                place.synchronize()
                seconds[name] = perf_counter() - start
            timings = race(place, calls)
        found.measure(
            f"network compiled {precision}", f"batch {batch}", timings["ours"].ratio_to(timings["plain"]).median,
            milliseconds={name: 1e3 * timing.median for name, timing in timings.items()}, compile_seconds=seconds,
        )  # fmt: skip


def training_steps(place: Place, found: Findings, batch: int = 256) -> None:
    """Measure a step of training, forward, backward and SGD, under bfloat16 autocast, and its peak memory."""
    calls: dict[str, Callable[[], object]] = {}
    for name in ("plain", "ours", "naive"):
        model, images = network(place, name != "plain", batch)
        if name == "naive":
            set_backend(model, "naive")
        calls[name] = _step(place, model.train(), images)
    timings = wall_race(place, calls, 20)
    memory = {name: float(max(1, peak_memory(place, call))) for name, call in calls.items()}
    milliseconds = {name: 1e3 * timing.median for name, timing in timings.items()}
    over = timings["ours"].ratio_to
    found.measure("training step", f"batch {batch}", over(timings["plain"]).median, milliseconds=milliseconds)
    found.measure("training step naive", f"batch {batch}", over(timings["naive"]).median)
    for name in ("ours", "naive"):
        found.measure("training memory", name, memory[name] / memory["plain"], bytes=memory[name])


def _step(place: Place, model: nn.Module, images: Tensor) -> Callable[[], object]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    labels = torch.randint(5, (len(images),), device=place.device)

    def step() -> None:
        with torch.autocast(place.device.type, torch.bfloat16):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
