"""Pytest plugin: several processes share the test files of one run; each takes the next file that is still free.

`TEST_CLAIMS` is the path of a folder, empty at first, that the processes of one run share. A process leaves an empty
file there per test file that it takes, and writes its counts when it ends.
"""

import itertools
import json
import os
import pathlib

import pytest


def claims():
    """Return the folder that the processes share."""
    return pathlib.Path(os.environ["TEST_CLAIMS"])


def is_first_to_claim(name):
    """Claim a file for this process; return False if another process has it."""
    try:
        (claims() / name.replace("/", "%")).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put files with slow tests first, so that all processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    """Run pytest's own loop over the files that this process claims, one file at a time."""
    if session.config.option.collectonly or session.testsfailed:
        return None
    for name, group in itertools.groupby(session.items, lambda item: item.nodeid.partition("::")[0]):
        if not is_first_to_claim(name):
            continue
        items = list(group)
        for item, next_item in itertools.zip_longest(items, items[1:]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
    return True


def pytest_sessionfinish(session):
    """Write how many tests passed, failed and were skipped here."""
    reports = session.config.pluginmanager.getplugin("terminalreporter").stats
    counts = {outcome: len(reports.get(outcome, [])) for outcome in ("passed", "failed", "error", "skipped")}
    (claims() / f"{os.getpid()}.json").write_text(json.dumps(counts))
