"""Accuracy under disturbances of the inputs."""

from scmrl.study.kind import StudyKind

STUDY = StudyKind(
    summary="Accuracy over the strength of noise, occlusion and missing data",
    example="scmrl study noise three-modalities --train_noisy --out studies/noise",
    spec="scmrl.study.noise.spec:NoiseSpec",
    measure="scmrl.study.noise.measure:measure",
    findings="scmrl.study.noise.findings:tabulate",
)
