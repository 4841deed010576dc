"""Compare every fusion method, each modality alone, and S-CMRL without each of its parts."""

from scmrl.study.kind import StudyKind

STUDY = StudyKind(
    summary="Every fusion method, each modality alone, S-CMRL without its parts",
    example="scmrl study ablation three-modalities --train.epochs 8 --out studies/parts",
    spec="scmrl.study.ablation.spec:AblationSpec",
    measure="scmrl.study.ablation.measure:measure",
    findings="scmrl.study.ablation.findings:tabulate",
)
