"""A plugin of pytest: one line for the end of each test, `end name`, in the file that PGWARD_RESULTS names."""

import os

ENDS = {}


def pytest_runtest_logreport(report):
    # A test has up to three reports; one that fails or skips before or after its body says more than the body.
    if report.when == "call" or report.outcome != "passed":
        if ENDS.get(report.nodeid) != "failed":
            ENDS[report.nodeid] = report.outcome


def pytest_collectreport(report):
    if report.failed:
        ENDS["collection of " + report.nodeid] = "failed"


def pytest_sessionfinish():
    with open(os.environ["PGWARD_RESULTS"], "w", encoding="utf-8", errors="backslashreplace") as out:
        for name, end in ENDS.items():
            name = name.replace("\n", "\\n").replace("\r", "\\r")
            out.write(f"{end} {name}\n")
