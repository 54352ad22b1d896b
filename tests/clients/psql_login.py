"""Through psql: cancels as a person does, with Ctrl-C."""

import os
import re
import signal
import subprocess

from common import PATIENCE_S, QUERY, SLEEPS, arguments, conninfo, report, wait_for_sleep


def psql(told):
    # Arguments are there for all to see, and for the agent to record.
    without = {**told, "password": None}
    command = ["psql", "-X", "-A", "-t", "-q", "-F", "|", conninfo(without)]
    environment = {**os.environ, "PGPASSWORD": told["password"]}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process = subprocess.Popen(command, text=True, bufsize=1, **pipes, env=environment)
    process.stdin.write("\\set VERBOSITY verbose\n")
    return process


def ask(process, sql):
    process.stdin.write(sql + ";\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def main():
    told = arguments()
    one, other = psql(told), psql(told)
    row = ask(one, QUERY).split("|")
    assert len(row) == 4, row
    one.stdin.write("select pg_sleep(30);\n")
    one.stdin.flush()
    wait_for_sleep(lambda: int(ask(other, SLEEPS % int(row[2]))))
    one.send_signal(signal.SIGINT)
    # psql ends when the script it reads is stopped; it tells what the server said first:
    # Cancel request sent
    # ERROR:  57014: canceling statement due to user request
    rest = one.communicate(timeout=PATIENCE_S)[0]
    states = re.findall(r"^ERROR:  (\w{5}):", rest, re.MULTILINE)
    assert len(states) == 1, rest
    after = int(ask(other, "select 43"))
    other.stdin.close()
    assert other.wait(PATIENCE_S) == 0
    report((int(row[0]), row[1], row[2], row[3] == "t"), states[0], after)


main()
