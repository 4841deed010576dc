"""The command `scmrl`. A command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import os
import sys
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from scmrl import __version__
from scmrl.commands.data import data
from scmrl.commands.demo import demo
from scmrl.commands.energy import energy
from scmrl.commands.evaluate import evaluate
from scmrl.commands.explain import explain
from scmrl.commands.export import export
from scmrl.commands.import_model import import_
from scmrl.commands.predict import predict
from scmrl.commands.report import report
from scmrl.commands.spec import help_topic, read_experiment, spec
from scmrl.commands.study import study
from scmrl.console.errors import USER_ERROR, escape_unencodable, report_error
from scmrl.engine.interruption import Interruption, Stopped

app = App(
    name="scmrl",
    version=__version__,
    help="Train and study S-CMRL and related models: spiking Transformers that fuse modalities.",
    suppress_keyboard_interrupt=False,
)
app.command(data)
app.command(spec)
app.command(evaluate)
app.command(predict)
app.command(export)
app.command(import_, name="import")
app.command(study)
app.command(energy)
app.command(explain)
app.command(report)
app.command(demo)


@app.command(help_flags=[])
def train(*options: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Train a model; `scmrl train --help` lists the options."""
    if (topic := help_topic(options)) is not None:
        from scmrl.commands.option_help import show_train_help

        show_train_help(topic)
        return 0
    from scmrl.config.experiment import Experiment

    experiment = read_experiment(options, Experiment)

    from scmrl.config.preflight import check_before_training

    check_before_training(experiment)

    from scmrl.console.progress import Progress
    from scmrl.engine.train import train as run_training

    with Progress.create() as progress:
        run = run_training(experiment, progress)
        # Plots take a second to import, which the first step need not wait for.
        from scmrl.report.summary import write_summary

        with Interruption(run.folder, "while writing the report; the trained model is kept"):
            text = write_summary(run) if run.is_rank0 else ""
    if run.is_rank0:
        print(text)
    return 0


# How long PyTorch's threads spin before they sleep. With GNU OpenMP's default, a training step takes ten times as long
# as soon as another program needs a core; with this value three times, and on an idle machine it makes no difference.
SPIN_COUNT = "2000"


def main() -> None:
    """Run the command line; every error ends in a message and an exit code, never in a traceback."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    escape_unencodable()
    try:
        code = app(sys.argv[1:], result_action="return_value", exit_on_error=False)
        sys.stdout.flush()
    except CycloptsError:
        code = USER_ERROR  # cyclopts has printed the reason
    except Stopped as stop:
        print(f"scmrl: {stop}", file=sys.stderr)
        code = 0
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("SCMRL_DEBUG") and not isinstance(error, KeyboardInterrupt):
            raise
        code = report_error(error)
    sys.exit(code)
