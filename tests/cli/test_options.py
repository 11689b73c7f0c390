"""Invalid values of options end every command at once, with the name of the option, before anything is read."""

import re

import pytest

from keras_siamim.cli.main import COMMANDS, main
from keras_siamim.cli.options import number_option

pytestmark = pytest.mark.one_backend

# An empty name turns the validation of these commands off.
EMPTY_ALLOWED = {("segment", "--val-split"), ("detect", "--val-split")}


@pytest.fixture
def refusal(capsys):
    """Return a function from a command line to the error message that ends it."""

    def run(*arguments):
        with pytest.raises(SystemExit):
            main(arguments)
        return capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_takes_an_empty_text_or_a_number_out_of_range(command, refusal, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    usage = " ".join(capsys.readouterr().out.partition("\n\n")[0].split())
    for option, metavars in re.findall(r"(--[a-z-]+) ((?:[A-Z_]+ ?)+)", usage):
        values = len(metavars.split())
        if (command, option) in EMPTY_ALLOWED:
            continue
        message = refusal(command, option, *[""] * values)
        assert re.search(f"argument {option}: must .* Received: ''.$", message)
        if "number" in message:
            for value in ("-1", "nan", "x"):
                assert f"argument {option}: must be" in refusal(command, option, *[value] * values)


@pytest.mark.parametrize("command", ["export", "show-views", "verify"])
def test_no_positional_argument_is_empty(command, refusal):
    assert "must not be empty. Received: ''." in refusal(command, "")


def test_counts_start_at_1_and_seeds_at_0(refusal):
    assert "argument --epochs: must be a whole number, 1 or more. Received: '0'." in refusal(
        "finetune", "--epochs", "0"
    )
    assert "argument --seed: must be a whole number, 0 or more. Received: '-1'." in refusal("finetune", "--seed", "-1")
    assert "argument --keep: must be a whole number, 1 or more. Received: '1.5'." in refusal(
        "pretrain", "--keep", "1.5"
    )


@pytest.mark.parametrize(
    ("interval", "valid", "invalid"), [("(0, 1]", "1", "0"), ("[0, 1)", "0", "1"), ("(0, inf)", "2", "inf")]
)
def test_intervals_include_the_ends_with_brackets(interval, valid, invalid):
    assert number_option(interval)(valid) == float(valid)
    with pytest.raises(Exception, match=re.escape(f"must be a number in {interval}. Received: {invalid!r}.")):
        number_option(interval)(invalid)
