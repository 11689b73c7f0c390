"""Pytest plugin that distributes test files among processes: each process claims one file after another.

The processes share an empty folder, which the environment variable `TEST_CLAIMS` names. They write an empty file there
for every claimed test file, and their counts of test outcomes at the end.
"""

import itertools
import json
import os
import pathlib

import pytest


def claims():
    """Return the shared folder."""
    return pathlib.Path(os.environ["TEST_CLAIMS"])


def is_first_to_claim(name):
    """Claim a test file for this process. Return False if another process has claimed it."""
    try:
        (claims() / name.replace("/", "%")).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Run files with slow tests first, so that all processes finish at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    """Run the tests of the files that this process claims, one file at a time."""
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
    """Write the counts of passed, failed and skipped tests of this process."""
    reports = session.config.pluginmanager.getplugin("terminalreporter").stats
    counts = {outcome: len(reports.get(outcome, [])) for outcome in ("passed", "failed", "error", "skipped")}
    (claims() / f"{os.getpid()}.json").write_text(json.dumps(counts))
