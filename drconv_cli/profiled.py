"""What `drconv profile` works on: a network or one layer, as it is, or at a point of a sweep."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from drconv.errors import ArgumentError
from drconv_cli.output import notice
from drconv_cli.sweep import model_builder
from drconv_cli.target import Target

if TYPE_CHECKING:
    import torch

    from drconv.analysis import LayerSpec, ProfileOptions, ProfilePlan, ProfileReport

__all__ = ["ProfiledLayer", "ProfiledNetwork", "Subject", "threads_set"]

_IMAGE = "image:"


class Subject(Protocol):
    """Something to profile."""

    @property
    def input_shape(self) -> list[int]:
        """[B, C, H, W]."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    def title(self, axes: Collection[str] = ()) -> str:
        """Return what it is, in a few words, without what a sweep changes."""
        ...

    def plan(self, options: ProfileOptions) -> ProfilePlan:
        """Return what would be timed."""
        ...

    def profile(self, options: ProfileOptions, step: Any = None) -> ProfileReport:
        """Time it."""
        ...

    def check_axes(self, axes: Mapping[str, Sequence[Any]]) -> None:
        """Raise for settings that it does not have."""
        ...

    def at(self, settings: Mapping[str, Any]) -> Subject:
        """Return it with some settings changed; `threads` is the caller's."""
        ...


@dataclass(frozen=True)
class ProfiledLayer:
    """One `DRConv2d`; see `drconv.analysis.profile_layer`."""

    spec: LayerSpec
    batch: int
    scope: Any
    maps: str
    occurring: int | None
    filter_order: Any
    seed: int
    device: torch.device
    dtype: str | None = None

    @property
    def input_shape(self) -> list[int]:
        """[B, C, H, W]."""
        return [self.batch, self.spec.in_channels, *self.spec.size]

    def title(self, axes: Collection[str] = ()) -> str:
        """Return the sizes that are not swept over."""
        spec = self.spec
        sides = {key: f"{side[0]}x{side[1]}" for key, side in (("kernel", spec.kernel_size), ("size", spec.size))}
        ends = {"in": str(spec.in_channels), "out": str(spec.out_channels)}
        parts = {
            "in": "->".join(f"({key})" if key in axes else text for key, text in ends.items()),
            "kernel": f"{sides['kernel']} kernel",
            "stride": "" if spec.stride == (1, 1) else f"stride {max(spec.stride)}",
            "dilation": "" if spec.dilation == (1, 1) else f"dilation {max(spec.dilation)}",
            "groups": "" if spec.groups == 1 else f"{spec.groups} groups",
            "size": f"{sides['size']} map",
            "batch": f"batch {self.batch}",
            "regions": f"{spec.num_regions} regions",
            "maps": f"{self.maps} map",
            "occurring": "" if self.occurring is None else f"{self.occurring} in a sample",
            "generator": f"{spec.filter_generator} filters",
        }
        what = "DRConv2d" if self.scope == "module" else "region_conv2d"
        shown = [text for key, text in parts.items() if text and (key == "in" or key not in axes)]
        return f"{what} {', '.join(shown)}"

    def _keywords(self) -> dict[str, Any]:
        import torch

        kind, image = self.maps, None
        if kind.startswith(_IMAGE):
            kind, image = "image", _colours(Path(kind.removeprefix(_IMAGE)))
        return {
            "batch": self.batch, "scope": self.scope, "maps": kind, "image": image, "occurring": self.occurring,
            "filter_order": self.filter_order, "device": self.device, "seed": self.seed,
            "dtype": getattr(torch, self.dtype or "float32"),
        }  # fmt: skip

    def plan(self, options: ProfileOptions) -> ProfilePlan:
        """Return what would be timed."""
        from drconv.analysis.profile import layer_problem, plan_calls

        return plan_calls([layer_problem(self.spec, **self._keywords())], options)

    def profile(self, options: ProfileOptions, step: Any = None) -> ProfileReport:
        """Time it."""
        from drconv.analysis import profile_layer

        return profile_layer(self.spec, options, **self._keywords(), progress=step)

    def check_axes(self, axes: Mapping[str, Sequence[Any]]) -> None:
        """Raise for keys that a layer does not have."""
        from drconv.analysis.profile import LAYER_KEYS
        from drconv.registry import unknown_name

        known = [*LAYER_KEYS, "batch", "maps", "occurring", "threads"]
        for axis in axes:
            if axis not in known:
                raise unknown_name("axis of a layer", axis, known)

    def at(self, settings: Mapping[str, Any]) -> ProfiledLayer:
        """Return the layer with some settings changed."""
        own = {key: settings[key] for key in ("batch", "maps", "occurring") if key in settings}
        keys = {key: value for key, value in settings.items() if key not in own and key != "threads"}
        return replace(self, spec=self.spec.changed(keys), **own)


@dataclass(frozen=True)
class ProfiledNetwork:
    """A network and its input; see `drconv.analysis.profile_model`."""

    target: Target
    size: tuple[int, ...]
    batch: int
    maps: str
    seed: int
    convert: Sequence[str] | None = None
    only_network: bool = False

    @property
    def input_shape(self) -> list[int]:
        """[B, C, H, W]."""
        return [self.batch, *self.size]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.target.device

    def title(self, axes: Collection[str] = ()) -> str:
        """Return the model's name, and the size and batch that are not swept over."""
        parts = {"size": "x".join(map(str, self.size)), "batch": f"batch {self.batch}"}
        return ", ".join([self.target.title, *(text for key, text in parts.items() if key not in axes)])

    def _input(self) -> torch.Tensor:
        """Return noise, or a photo for every image of the batch."""
        import torch

        from drconv.analysis import model_errors

        like = next(self.target.model.parameters(), torch.empty(0))
        with model_errors(self.target.model, self.input_shape):
            if self.maps.startswith(_IMAGE):
                photo = _photo(Path(self.maps.removeprefix(_IMAGE)), self.size)
                images = photo.expand(self.batch, -1, -1, -1)
            else:
                images = torch.randn(self.input_shape, generator=torch.Generator().manual_seed(self.seed))
            return images.to(self.device, like.dtype).contiguous()

    def _ready(self) -> torch.Tensor:
        """Return the input, after a network that has seen no data has taken its BatchNorm statistics from it.

        Without them the signal fades from layer to layer, and one region is left.
        """
        from drconv.analysis import model_errors
        from drconv.models import calibrate_batch_norm, has_fresh_batch_norm

        images, model = self._input(), self.target.model
        if has_fresh_batch_norm(model):
            with model_errors(model, self.input_shape):
                calibrate_batch_norm(model, images)
            notice("the network has seen no data: BatchNorm takes the statistics of the input")
        return images

    def plan(self, options: ProfileOptions) -> ProfilePlan:
        """Return what would be timed."""
        from drconv.analysis import plan_model

        return plan_model(self.target.model, self._input(), self._options(options))

    def profile(self, options: ProfileOptions, step: Any = None) -> ProfileReport:
        """Time it."""
        from drconv.analysis import profile_model

        return profile_model(self.target.model, self._ready(), self._options(options), progress=step)

    def _options(self, options: ProfileOptions) -> ProfileOptions:
        return replace(options, layers=False) if self.only_network else options

    def check_axes(self, axes: Mapping[str, Sequence[Any]]) -> None:
        """Raise for settings that neither the model nor a conversion has."""
        own = {axis: values for axis, values in axes.items() if axis not in ("batch", "threads")}
        model_builder(self.target.name, self.convert, own)

    def at(self, settings: Mapping[str, Any]) -> ProfiledNetwork:
        """Return the network built anew with some settings; only the whole of it is timed."""
        import torch

        keywords = {key: value for key, value in settings.items() if key not in ("size", "batch", "threads")}
        target, size = self.target, self.size
        if "size" in settings:
            sides = settings["size"]
            size = (size[0], *((sides, sides) if isinstance(sides, int) else sides))
        if keywords:
            torch.manual_seed(self.seed)
            build = model_builder(target.name, self.convert, {key: [value] for key, value in keywords.items()})
            like = next(target.model.parameters())
            target = replace(target, model=build(**keywords).to(like.device, like.dtype).eval())
        return replace(self, target=target, size=size, batch=settings.get("batch", self.batch), only_network=True)


def _load(path: Path, size: int) -> Any:
    from drconv.viz import load_image

    loaded = load_image(path, size)
    for note in loaded.notes:
        notice(f"{path}: {note}")
    return loaded


def _colours(path: Path) -> torch.Tensor:
    """Return the colours of a photo, `[3, H, W]`."""
    import torch

    return torch.from_numpy(_load(path, 256).pixels.copy()).permute(2, 0, 1)


def _photo(path: Path, size: Sequence[int]) -> torch.Tensor:
    """Return a photo as a network takes it, `[1, 3, H, W]`, its sides resized to those asked for."""
    import torch

    if size[0] != 3:
        raise ArgumentError(f"--maps image:FILE is for networks that take 3 channels, got an input of {list(size)}")
    loaded: torch.Tensor = _load(path, max(size[1:])).tensor
    return torch.nn.functional.interpolate(loaded, size=tuple(size[1:]), mode="bilinear", antialias=True)


@contextmanager
def threads_set(count: int | None) -> Iterator[None]:
    """Run with so many CPU threads, and with the number before afterwards."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
