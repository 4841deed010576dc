"""Accuracy and cost over the number of training samples and of modalities."""

from scmrl.study.kind import StudyKind

STUDY = StudyKind(
    summary="Accuracy and cost over training samples and modalities",
    example="scmrl study scaling three-modalities --every_subset --out studies/scaling",
    spec="scmrl.study.scaling.spec:ScalingSpec",
    measure="scmrl.study.scaling.measure:measure",
    findings="scmrl.study.scaling.findings:tabulate",
)
