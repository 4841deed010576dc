"""Accuracy over the values of settings: curves, importance, recommended values."""

from scmrl.study.kind import StudyKind

STUDY = StudyKind(
    summary="Effect of settings: a grid over --vary FIELD=VALUES, curves, importance",
    example="scmrl study sensitivity --vary model.fusion.alpha=0,1,2 --out studies/alpha",
    spec="scmrl.study.sensitivity.spec:SensitivitySpec",
    findings="scmrl.study.sensitivity.findings:tabulate",
)
