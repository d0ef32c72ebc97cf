"""The last part of a report: with which command, options and versions each run was made."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence

from .config import RunConfig
from .finished import Run
from .program import text
from .report_html import Markup, details, html, table
from .report_rows import Row


def parts(rows: Sequence[Row]) -> Iterator[Markup]:
    """Gives the parts, as HTML: one for each run that has other options than those before."""
    for row in rows:
        if row.index == 0:
            yield details(row.of_all_subnets, *_of(row.runs), shown=len(rows) == 1)


def _of(runs: Sequence[Run]) -> Iterator[Markup]:
    commands = "\n".join(command(run) for run in runs)
    yield Markup(f"<pre>{html(commands)}</pre>")
    yield table(
        "where the results come from",
        ["run", "seed", "commit", "date", "versions", "machine"],
        [
            (
                run.source,
                run.results["config"].get("seed", ""),
                run.results.get("commit") or "not known",
                run.results.get("date", "not known"),
                _pairs(run.results.get("versions")),
                _pairs(run.machine),
            )
            for run in runs
        ],
        words=True,
    )
    config = runs[0].results["config"]
    shown = ((name, _shown(value)) for name, value in config.items())
    yield table("all options", ["option", "value"], shown, words=True)


def command(run: Run) -> str:
    """Returns the command that trains a run again: as it is known, or from the run's options."""
    if run.command:
        return run.command
    config = run.results["config"]
    epochs = {name: config[name] for name in ("epochs",) if name in config}
    # Those of as many epochs: what follows from them need not be said.
    default = json.loads(RunConfig(**epochs).to_json()) | {"epochs": RunConfig.epochs}
    flags = (
        _flag(name, value)
        for name, value in config.items()
        if value is not None and name != "resume" and value != default.get(name)
    )
    return shlex.join(["spfde", "train", *flags])


def _flag(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={text(value)}"


def _shown(value: object) -> str:
    return "unset" if value is None else text(value)


def _pairs(found: object) -> str:
    if not isinstance(found, Mapping):
        return "not known"
    return ", ".join(f"{name} {value}" for name, value in found.items()) or "not known"
