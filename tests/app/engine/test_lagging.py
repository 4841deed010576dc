"""A validation accuracy near chance in the first epochs is explained once."""

from scmrl.engine.diagnostics import LAG_NOTE, lag_note


def history(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [
        {"epoch": float(epoch), "train_accuracy": train, "val_accuracy": val}
        for epoch, (train, val) in enumerate(pairs, 1)
    ]


def test_a_gap_in_an_early_epoch_is_explained_once():
    assert lag_note(history((0.23, 0.11))) == ""
    assert lag_note(history((0.23, 0.11), (0.57, 0.13))) == LAG_NOTE
    assert lag_note(history((0.23, 0.11), (0.57, 0.13), (0.7, 0.4))) == ""


def test_later_overfitting_is_not_explained_by_batch_norm():
    assert lag_note(history(*[(0.5, 0.5)] * 5, (0.9, 0.5))) == ""
    assert lag_note([]) == ""
