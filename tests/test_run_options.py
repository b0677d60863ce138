"""--quiet: errors are all that a command says."""

from __future__ import annotations

import logging
import warnings

import click

from pipeline.cli.run_options import output_options


def said(caplog, recwarn, *args):
    """What a command that warns in both ways leaves in the log and among Python's warnings."""

    def work(quiet, as_json):
        logging.getLogger("a library").warning("a remark")
        logging.getLogger("a library").error("an error")
        warnings.warn("out of date", FutureWarning, stacklevel=1)

    command = click.Command("work", params=[*output_options()], callback=work)
    caplog.clear()
    recwarn.clear()
    command.main(list(args), standalone_mode=False)
    return caplog.messages, [str(one.message) for one in recwarn.list]


def test_quiet_leaves_errors_and_ends_with_the_command(caplog, recwarn):
    logging.getLogger("a library").setLevel(logging.INFO)  # as libraries set their own
    loud = (["a remark", "an error"], ["out of date"])
    assert said(caplog, recwarn) == loud
    assert said(caplog, recwarn, "-q") == (["an error"], [])
    assert said(caplog, recwarn) == loud
