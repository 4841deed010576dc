"""The commands that a training ends with can be pasted."""

import shlex
from pathlib import Path

from scmrl.report.next_steps import next_steps


def test_a_folder_with_blanks_and_quotes_is_one_word():
    folder = Path("runs/it's mine; $(x)")
    lines = list(next_steps(folder, ["image", "left ear"], from_files=True))
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "scmrl"
        assert words[2] == str(folder)
    assert "'left ear'=FILE" in lines[-1]


def test_a_run_on_samples_that_a_program_made_predicts_no_files():
    assert not [line for line in next_steps(Path("r"), ["audio"], from_files=False) if "scmrl predict" in line]
    assert len(next_steps(Path("r"), ["audio"], from_files=False)) == 4
