"""Prove the Triton kernels on a GPU, and hold their speed against bars: one file of results, in several calls.

Every kernel is checked against the reference in float64 on fresh random inputs, with outputs poisoned by NaN. What is
timed is interleaved, by the GPU's own clock, on a cold cache, against cuDNN's convolution in channels_last with the
best of its algorithms, against all filters everywhere, and against one thread per output, as the released code.

Needs PyTorch with CUDA, Triton and NumPy, and of the package only its sources; parts that need more say so and are
left out. No network. From the repository root, each call below ten minutes on an H200 by estimate:

    python studies/gpu --only checks
    python studies/gpu --only settings,systems,huge
    python studies/gpu --only peaks,forward,3x3,naive,backward,steps,maps,layers
    python studies/gpu --only networks,compiled,training
    python studies/gpu --only mosaic --minutes 4
    python studies/gpu --only sanitizer
    python studies/gpu --show

Each part is written as it goes on, so that a call that is cut short loses nothing. With `--tune` the kernels measure
sizes of blocks before they are measured themselves, which takes minutes for every part; the table shows what was tuned
where there is both. `--interpret` runs everything on
the CPU with tiny sizes instead, in Triton's interpreter: it proves the script, and measures nothing.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "studies" / "results" / "gpu.json"


def arguments() -> argparse.Namespace:
    """Return the options of the command line; imports nothing, so that the environment can still be set."""
    parser = argparse.ArgumentParser(
        prog="python studies/gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="parts, with commas between; those already in the file are kept")
    parser.add_argument("--output", type=Path, help=f"the file of results (default: {RESULTS.relative_to(ROOT)})")
    parser.add_argument("--show", action="store_true", help="print the table of the file, and run nothing")
    parser.add_argument("--interpret", action="store_true", help="rehearse without a GPU; writes only to --output")
    parser.add_argument(
        "--tune", action="store_true", help="let the kernels measure sizes of blocks first; kept as a part of its own"
    )
    parser.add_argument("--minutes", type=float, default=4, help="of training on mosaics, both networks together")
    return parser.parse_args()


def parts() -> dict[str, Callable[..., None]]:
    """Return the parts by name, in their order."""
    import checks
    import mosaic_training
    import networks
    import operators
    import sanitizer
    import systems

    return {
        "checks": checks.check_operators,
        "settings": _all(checks.check_settings, checks.check_layers, checks.check_released),
        "systems": _all(systems.check_streams_and_autocast, systems.check_graph_and_compile),
        "huge": systems.check_huge,
        "peaks": operators.peaks,
        "forward": operators.forward,
        "3x3": operators.forward_3x3,
        "naive": operators.naive_and_released,
        "backward": operators.backward,
        "steps": operators.steps,
        "maps": operators.maps,
        "layers": operators.layers,
        "networks": networks.eager_networks,
        "compiled": networks.compiled_networks,
        "training": networks.training_steps,
        "sanitizer": sanitizer.sanitize,
        "mosaic": mosaic_training.train_on_mosaic,
        "small checks": lambda place, found: checks.check_operators(place, found, small=True),
    }


def _all(*functions: Callable[..., None]) -> Callable[..., None]:
    def run(place: Any, found: Any) -> None:
        for function in functions:
            function(place, found)

    return run


HIDDEN = ("small checks",)
"""Run only by the sanitizer's part, and never kept."""


def main() -> int:
    """Run the parts that are asked for, and print the table."""
    options = arguments()
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"
    if options.tune:
        os.environ["DRCONV_TRITON_AUTOTUNE"] = "1"
    else:
        os.environ.pop("DRCONV_TRITON_AUTOTUNE", None)
    # A bare machine has the sources and no installed package.
    sys.path.append(str(ROOT))
    import findings

    output = options.output or (None if options.interpret else RESULTS)
    kept = findings.load(output)
    if options.show:
        print(findings.table(kept))
        return 0
    return _run(options, output, kept)


def _run(options: argparse.Namespace, output: Path | None, kept: dict[str, Any]) -> int:
    import torch
    from findings import TUNED, Findings, save, table
    from place import Place, where

    if not options.interpret and not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device; --interpret rehearses everything without one")
    if any(part["rehearsal"] != options.interpret for part in kept.values()):
        sys.exit(f"{output} holds results of the other kind, rehearsed or measured; name another with --output")
    place = Place(torch.device("cpu" if options.interpret else "cuda"), options.interpret, options.minutes)
    if not place.is_rehearsal:
        place = Place(torch.device("cuda", torch.cuda.current_device()), False, options.minutes)
    known = parts()
    asked = [name for name in options.only.split(",") if name] or [name for name in known if name not in HIDDEN]
    unknown = [name for name in asked if name not in known]
    if unknown:
        sys.exit(f"no such part: {', '.join(unknown)}; there are: {', '.join(known)}")
    # Under the sanitizer every algorithm that is tried takes seconds.
    torch.backends.cudnn.benchmark = not (options.interpret or set(asked) <= set(HIDDEN))
    failed = []
    for name in asked:
        label = f"{name}{TUNED}" if options.tune else name
        print(f"\n== {label}", flush=True)
        keeps = kept if name not in HIDDEN else {}
        found = Findings(where(place), place.is_rehearsal)

        def changed(name: str = label, found: Findings = found, keeps: dict[str, Any] = keeps) -> None:
            keeps[name] = found.to_dict()
            if keeps is kept:
                save(output, kept)

        found.changed = changed
        start = perf_counter()
        try:
            known[name](place, found)
        except Exception as error:  # the next part may well run, and the file must say what became of this one
            import traceback

            traceback.print_exc()
            found.failure = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        found.seconds = round(perf_counter() - start, 1)
        changed()
        failed += [f"{label}: {what}" for what in found.failed]
    print("\n" + table(kept))
    for what in failed:
        print(f"FAILED {what}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
