"""The common options of ``distill``, ``train`` and ``reduce-channels``, made from ``TrainConfig``."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ..errors import OK, SOME_INPUT_FAILED, UsageError
from ..models.registry import built_in, named
from ..parallel import ClusterOptions
from ..training.option_values import as_text, flag
from ..training.options import MODEL, RUN, TrainConfig
from ..training.settings import build_config, chosen, presets
from ..wording import plural
from .progress import PLAIN_INTERVAL_S
from .terminal import console, say

if TYPE_CHECKING:
    from ..callbacks import OnProgress
    from ..models.family import Family, Flag
    from ..training.loop import Report

EXTRA: dict[str, tuple[Any, Any, str | None, str]] = {
    "preset": (str | None, None, "NAME", f"Predefined settings: {', '.join(presets())}."),
    "config": (
        Path | None,
        None,
        "FILE",
        "YAML settings file. Overrides --preset; command-line options override both.",
    ),
    "resume": (bool, False, None, "Resume from the newest checkpoint in OUT."),
    "extend": (
        bool,
        False,
        None,
        "Continue a finished run: like --resume, with more --steps or --epochs. The learning rate follows the "
        "schedule of the longer run, so it may rise again.",
    ),
    "dry_run": (bool, False, None, "Describe the run and estimate its duration; train nothing."),
    "cache_only": (
        bool,
        False,
        None,
        "Only decode the data into --cache, for example on a machine without a GPU; train nothing.",
    ),
    "teacher_shard": (
        str | None,
        None,
        "I/N",
        "Only compute the teacher's maps of every Nth video, from the Ith, and store them in --cache, for example on "
        "one of N machines; train nothing.",
    ),
    "quiet": (bool, False, None, "Print only errors, warnings, and the licenses of pretrained networks."),
}
"""Options that are not settings of ``TrainConfig``: type, default, metavar, help."""

CLUSTER_HELP = {
    "cluster": "Only decode the data and compute the teachers' maps by the workers of a Dask cluster, and store them "
    "in --cache, on a file system that all share; train nothing: local:N, tcp://HOST:PORT, a scheduler's FILE.json, or "
    "slurm, pbs, lsf, sge.",
    "retries": "With --cluster: workers that may be lost during the work on one video, before the video fails.",
    "threads": "With --cluster: CPU threads of each worker. Default: those that Dask counts for it.",
}
"""Help of the options of a cluster; the others have that of ``ClusterOptions``."""

CLUSTER_NAMES = tuple(item.name for item in dataclasses.fields(ClusterOptions))
"""Options of a cluster."""

EXTRA |= {
    name: (kind, getattr(ClusterOptions, name), option.metavar, CLUSTER_HELP.get(name, option.help))
    for name, kind, option in (
        (item.name, get_type_hints(ClusterOptions)[item.name], item.metadata["option"])
        for item in dataclasses.fields(ClusterOptions)
    )
}

FORMER: dict[str, tuple[Any, str]] = {
    "decoders": (str | None, "set"),
    "optimiser": (str | None, "optimizer"),
    "dark_start": (bool | None, "sparse_init"),
}
"""Former options that still work: type, and the option that replaces them."""


def network_options() -> dict[str, tuple[Family, Flag]]:
    """Return the options of networks that have an option of their own, by name: ``--NAME X`` is ``--set NAME=X``."""
    return {one.name: (family, one) for family in built_in().values() for one in family.flags}


def parameters(without: Collection[str] = ()) -> list[inspect.Parameter]:
    """Return the options of a training command for Typer; the default of each setting is None."""
    found = []
    for item in dataclasses.fields(TrainConfig):
        if item.name in without or "internal" in item.metadata:
            continue
        facts, default = item.metadata, item.default
        switch = isinstance(default, bool)
        several = item.name in ("data", "aux", "val", "weight", "teacher", "set")
        shown = None if switch or several or default in (None, ()) or item.name == "out" else default
        text = facts["help"] if shown is None else with_default(facts["help"], shown)
        names = [flag(item.name), *(["-o"] if item.name == "out" else [])]
        option = typer.Option(
            *names, metavar=facts["metavar"] or None, help=text, rich_help_panel=facts["panel"], show_default=False
        )
        kind = (list[str] if several else bool if switch else str) | None
        found.append(keyword(item.name, Annotated[kind, option], None))
    for name, (family, own) in network_options().items():
        text = with_default(f"Only for {family.name}: {own.help}", family.specs[0].options[name])
        option = typer.Option(flag(name), metavar=own.metavar, help=text, rich_help_panel=MODEL, show_default=False)
        found.append(keyword(name, Annotated[str | None, option], None))
    for name, (kind, hidden) in FORMER.items():
        if hidden not in without:
            option = typer.Option(flag(name), hidden=True, show_default=False)
            found.append(keyword(name, Annotated[kind, option], None))
    for name, (extra, value, metavar, text) in EXTRA.items():
        if name in without:
            continue
        short = ["-q"] if name == "quiet" else []
        option = typer.Option(flag(name), *short, metavar=metavar, help=text, rich_help_panel=RUN, show_default=False)
        found.append(keyword(name, Annotated[extra, option], value))
    return found


def with_default(text: str, default: object) -> str:
    """Return the help of an option with its default; without the backslash, Rich would take it for markup."""
    return f"{text} \\[default: {as_text(default)}]"


def keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
    """Return a keyword-only parameter."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def with_training_options(without: Collection[str] = ()) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return a decorator that adds the options of a training run to a command that takes ``**options``."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        every = [*own, *parameters(without)]
        command.__signature__ = inspect.Signature(every, return_annotation=int)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in every} | {"return": int}
        return command

    return decorate


def parse(name: str, text: Any) -> Any:
    """Parse the value of a setting on the command line; ``UsageError`` if it is invalid."""
    default = next(item for item in dataclasses.fields(TrainConfig) if item.name == name)
    if not isinstance(text, str):
        return text or None  # an empty list, or a switch
    try:
        if name == "size":
            height, width = text.lower().split("x")
            return int(height), int(width)
        if name == "milestones":
            return tuple(float(part) for part in text.split(","))
        if name == "stages":
            return tuple(int(part) for part in text.split(","))
        if "int" in str(default.type):
            return int(text)
        if "float" in str(default.type):
            return float(text)
    except ValueError:
        raise UsageError(f"{flag(name)} must be {default.metadata['metavar']}, not {text!r}") from None
    return text


def with_present_names(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a command line with former names and options of networks replaced.

    Raises:
        UsageError: an option is given under both names.
    """
    options = dict(options)
    for name, (_, present) in FORMER.items():
        value = options.pop(name, None)
        if value is None:
            continue
        given = options.get(present)
        if present == "set":
            if any(item.partition("=")[0].strip() == name for item in given or []):
                raise UsageError(f"{flag(name)}: --set {name}=... gives it, too; remove one of them")
            options[present] = [*(given or []), f"{name}={value}"]
        elif given is not None:
            raise UsageError(f"{flag(name)} is now called {flag(present)}; remove one of them")
        else:
            options[present] = value
    for name in network_options():
        if (value := options.pop(name, None)) is not None:
            options["set"] = [*(options.get("set") or []), f"{name}={value}"]
    return options


@contextlib.contextmanager
def naming_flags(options: Mapping[str, Any]) -> Iterator[None]:
    """Name the options of networks as they were given, ``--NAME X``, in the errors of the block about ``--set NAME=X``.

    Args:
        options: of the command line.
    """
    given = [name for name in network_options() if options.get(name) is not None]
    try:
        yield
    except UsageError as error:
        text = str(error)
        for name in given:
            text = text.replace(f"--set {name}=", f"{flag(name)} ")
        raise UsageError(text) from error


def check_network_options(given: Mapping[str, Any], model: str) -> None:
    """Raise ``UsageError`` for an option of other networks than the one that is trained.

    Args:
        given: settings of the command line.
        model: name of the network.
    """
    found = named(model)
    for item in given.get("set") or []:
        name = item.partition("=")[0].strip()
        kind = network_options().get(name, (None, None))[0]
        if kind and found and name not in found.options:
            teachers = f"; the {name} of a teacher is in its weights file" if given.get("teacher") else ""
            names = " or ".join(one.name for one in kind.specs)
            raise UsageError(f"{flag(name)}: only for --model {names}, not {model}{teachers}")


def run(options: dict[str, Any], **fixed: Any) -> int:
    """Train with the options of a command line; ``fixed`` settings override them."""
    extra = {name: options.pop(name, default) for name, (_, default, _, _) in EXTRA.items()}
    if extra["teacher_shard"] and (extra["resume"] or extra["extend"]):
        raise UsageError(
            f"--{'resume' if extra['resume'] else 'extend'}: not with --teacher-shard, which trains nothing"
        )
    cluster = ClusterOptions(**{item.name: extra[item.name] for item in dataclasses.fields(ClusterOptions)})
    check_cluster(cluster, extra)
    with naming_flags(options):
        given = {name: parse(name, text) for name, text in with_present_names(options).items()} | fixed
        config = configure(given, extra)
    if extra["dry_run"]:
        from ..training.dry_run import plan

        for name, value in plan(config).items():
            print(f"{name:<18}{value}")
        return 0
    display = Display(quiet=extra["quiet"] or int(os.environ.get("RANK", "0")) > 0)
    if cluster.cluster is not None:
        return fill_on_cluster(config, cluster, display)
    if extra["cache_only"]:
        from ..training.prepare import fill_cache

        print(fill_cache(config, display.preparing))
        return 0
    if extra["teacher_shard"]:
        from ..training.teacher_shards import fill_shard, parse_shard

        filled = fill_shard(config, parse_shard(extra["teacher_shard"]), display.preparing)
        display.result(str(filled))
        print(filled.folder)
        return 0
    from ..training.licenses import notices
    from ..training.stages import train

    if int(os.environ.get("RANK", "0")) == 0:  # licenses are not progress: --quiet does not hide them
        for line, option in notices(config).items():
            say(f"{option}: {line}" if option else line)
    try:
        train(
            config,
            resume=extra["resume"],
            extend=extra["extend"],
            start_phase=display.preparing,
            on_report=display.step,
        )
    except KeyboardInterrupt:
        display.stopped(config.out)
        raise
    display.done(config.out)
    return 0


def check_cluster(cluster: ClusterOptions, extra: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` if an option excludes ``--cluster``, or needs it."""
    if cluster.cluster is None and cluster.threads is not None:
        raise UsageError("--threads needs --cluster; the threads of a training process are set by OMP_NUM_THREADS")
    for name in ("resume", "extend", "teacher_shard"):
        if cluster.cluster is not None and extra[name]:
            raise UsageError(f"{flag(name)}: not with --cluster, which fills the whole cache and trains nothing")


def fill_on_cluster(config: TrainConfig, cluster: ClusterOptions, display: Display) -> int:
    """Fill the cache by the workers of a cluster, print the result, and return the exit code."""
    from ..training.filling import fill_on_cluster as fill

    failures: list[str] = []
    found = fill(config, cluster, display.preparing, failures.append, display.result)
    for line in failures:
        say(f"tinyhd: {line}")
    display.result(f"{found}; {plural(len(failures), 'video')} failed" if failures else str(found))
    print(config.cache)
    return SOME_INPUT_FAILED if failures else OK


def configure(given: dict[str, Any], extra: dict[str, Any]) -> TrainConfig:
    """Return the configuration of a run: of the command line, a preset, a file, the run to resume and this machine.

    The settings that depend on this machine are printed first.

    Args:
        given: settings of the command line; None for those that are not given.
        extra: the options in ``EXTRA``.
    """
    from ..training import stages
    from ..training.run_defaults import describe, latest_run, run_defaults

    model = chosen(given, extra["preset"], extra["config"]).get("model")
    if extra["resume"] or extra["extend"]:
        used: dict[str, Any] = {} if given["out"] else {"out": latest_run()}
        saved = stages.saved_config(Path(given["out"] or used["out"]))
        if isinstance(model, str) and model != saved.model:
            again = "--extend" if extra["extend"] else "--resume"
            raise UsageError(
                f"{again}: {saved.out} is a run of {saved.model}, not {model}; name another run with --out"
            )
        check_network_options(given, saved.model)
        if extra["extend"] and given.get("epochs") and not given.get("steps"):
            saved = dataclasses.replace(saved, steps=None)  # it would override epochs
        config = build_config(given, extra["preset"], extra["config"], saved)
    else:
        check_network_options(given, model if isinstance(model, str) else TrainConfig.model)
        defaults = run_defaults(build_config(given, extra["preset"], extra["config"]))
        config = build_config(given, extra["preset"], extra["config"], defaults=defaults)
        unnamed = not (given.get("model") or extra["preset"] or extra["config"])
        used = {"model": config.model} if unnamed else {}
        used |= {name: value for name, value in defaults.items() if getattr(config, name) == value}
    if extra["teacher_shard"] or extra["cache_only"] or extra["cluster"]:
        used.pop("out", None)  # nothing is written there
    used = {name: value for name, value in used.items() if not given.get(name)}
    stages.configs(config)  # an error about missing data is all that is printed
    if used and not extra["quiet"] and int(os.environ.get("RANK", "0")) == 0:
        say(f"defaults: {describe(used)}")
    return config


class Display:
    """Progress of a run on stderr: periodic lines, and one line for each validation."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.printed_at = time.monotonic()

    def is_due(self, force: bool) -> bool:
        """Return whether to print a line: with ``force``, or after the interval."""
        interval = 1.0 if console().is_terminal else PLAIN_INTERVAL_S
        now = time.monotonic()
        if self.quiet or (now - self.printed_at < interval and not force):
            return False
        self.printed_at = now
        return True

    def preparing(self, phase: str) -> OnProgress:
        """Return the callback for the progress of a phase before training."""

        def report(done: int, total: int | None) -> None:
            if self.is_due(done == total and done > 1):
                say(f"{phase}: {done} of {total}")

        return report

    def step(self, report: Report) -> None:
        """Print the state of a run after a step, if a line is due."""
        if self.is_due(report.validation is not None):
            terms = ", ".join(f"{name} {value:.3f}" for name, value in report.terms.items() if "d1" not in name)
            stage = f"stage {report.stage}, " if report.stage else ""
            say(
                f"{stage}step {report.step} of {report.steps} (epoch {report.epoch}): loss {report.loss:.3f} "
                f"({terms}), {report.clips_per_s:.2f} clips per second, {minutes(report.left_s)} left"
            )
        if report.validation is not None and not self.quiet and report.validation.terms:
            found = {**report.validation.terms, **report.validation.scores}
            values = ", ".join(f"{name} {value:.3f}" for name, value in found.items() if "d1" not in name)
            constant = ", ".join(f"{name} {value:.3f}" for name, value in report.constant.items())
            best = f"; best constant map: {constant}" if constant else ""
            say(f"validation: loss {report.validation.loss:.3f} ({values}{best})")

    def result(self, text: str) -> None:
        """Print the result of a step that trains nothing."""
        if not self.quiet:
            say(text)

    def stopped(self, out: Path) -> None:
        """Print how to resume a run that was stopped by Ctrl-C."""
        if not self.quiet:
            say(f"stopped; to resume from the last complete step: --out {out} --resume")

    def done(self, out: Path) -> None:
        """Print where the results are."""
        if not self.quiet:
            say(f"weights, checkpoints, and logs are in {out}")
            print(out / "best.safetensors")


def minutes(seconds: float) -> str:
    """Return a duration as text, rounded."""
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 5400
        else f"{seconds / 60:.0f} min"
        if seconds >= 90
        else f"{seconds:.0f} s"
    )
