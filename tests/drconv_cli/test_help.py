"""What `--help` says is so: defaults, names, and what each command takes; and its page tells of the same options."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click import Parameter
from typer.main import get_command

from drconv.models import DEFAULT_MODEL
from drconv.models.demo import DEMO_WEIGHTS
from drconv.training import RECIPES, TrainingOptions
from drconv_cli.main import app
from drconv_cli.options import DEFAULT
from tests.conftest import Outcome
from tests.drconv_cli.test_bad_input import assert_one_line

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
Cli = Callable[..., Outcome]
PAGES = Path(__file__).parents[2] / "docs" / "cli"


def options(command: str) -> dict[str, Parameter]:
    return {str(option.name): option for option in COMMANDS[command].params}


def shown_default(command: str, option: str) -> object:
    return options(command)[option].show_default  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_everything_is_explained(command: str) -> None:
    assert [name for name, option in options(command).items() if not getattr(option, "help", None)] == []


def test_the_default_model_is_named() -> None:
    assert DEFAULT == DEFAULT_MODEL
    assert shown_default("flops", "model") == shown_default("train", "model") == DEFAULT
    assert str(shown_default("visualize", "model")).startswith("demo; ")
    assert shown_default("compare", "model") == shown_default("visualize", "model")


def test_the_defaults_of_training_are_those_that_it_takes() -> None:
    taken = TrainingOptions()
    words = {True: "on", False: "off"}
    named = {"warmup_steps": "warmup", "temperature": "", "temperature_epochs": "", "augment": "", "seed": ""}
    checked = 0
    for field in fields(TrainingOptions):
        option = named.get(field.name, field.name)
        if option in options("train"):
            value = getattr(taken, field.name)
            expected = words[value] if isinstance(value, bool) else str(value)
            assert shown_default("train", option) in (expected, expected.removesuffix(".0"), "none"), option
            checked += 1
    assert checked >= 12
    assert (taken.ema, shown_default("train", "ema")) == (0.0, "none")
    assert set(RECIPES) == {name for name in RECIPES if name in str(options("train")["recipe"].help)}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        ("train", ("mosaic", "--dry-run", "--train-size", 8), "training starts from random weights"),
        ("evaluate", (DEMO_WEIGHTS, "mosaic"), "demo holds weights already"),
    ],
    ids=["train", "evaluate"],
)
def test_weights_are_not_offered_as_a_model_where_they_are_refused(
    command: str, arguments: tuple[object, ...], reason: str, run_cli: Cli
) -> None:
    assert "demo" not in str(options(command)["model"].help)  # type: ignore[attr-defined]
    assert ".safetensors" not in str(options(command)["model"].help)  # type: ignore[attr-defined]
    assert_one_line(run_cli(command, *arguments, "-m", "demo"), reason)


def test_counting_offers_a_device_without_weights() -> None:
    assert "meta" in str(options("flops")["device"].metavar)
    assert "meta" not in str(options("visualize")["device"].metavar)


def words(option: Parameter) -> set[str]:
    return {word for word in (*option.opts, *option.secondary_opts) if word.startswith("--")}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_a_command_tells_of_its_options_and_of_no_others(command: str) -> None:
    page, common = ((PAGES / f"{name}.md").read_text() for name in (command, "flops"))
    page = re.sub(r"^\$ (python|torchrun) .*", "", page, flags=re.MULTILINE)
    shared = common.partition("## Common to all commands")[2]
    told, told_of_all = (set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) for text in (page, shared))
    mine = [words(option) for option in options(command).values() if words(option)]
    assert [spellings for spellings in mine if not spellings & (told | told_of_all)] == []
    known = set().union(*(words(option) for each in COMMANDS for option in options(each).values()))
    assert told - known - {"--verbose"} == set()
