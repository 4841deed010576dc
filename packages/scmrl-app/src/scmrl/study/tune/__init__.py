"""Search for the best settings, and retrain them with other seeds.

The points of a search are a fixed number of trials, whose settings are not known in advance. Trials are claimed,
lost and enqueued again like the points of any other study; the worker that claims one asks the sampler for settings.
The sampler knows the trials of all workers, because they are in the same storage. A trial that starts again after its
worker died uses the same settings.
"""

from scmrl.study.kind import StudyKind

STUDY = StudyKind(
    summary="Search for the best settings in ranges --search FIELD=RANGE",
    example=(
        "scmrl study tune --search train.learning_rate=1e-3..1e-1,log \\\n"
        "    --search model.channels='32|64' --trials 30 --out studies/tune"
    ),
    spec="scmrl.study.tune.spec:TuneSpec",
    run="scmrl.study.tune.trials:run_point",
    measure="scmrl.study.tune.trials:measure",
    findings="scmrl.study.tune.findings:tabulate",
)
