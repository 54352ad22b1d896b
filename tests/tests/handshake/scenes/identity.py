"""Logs in and says what it is called, or writes from a child.

Reads {"conninfo", "mark", "fork"}. Without "fork" it reports what it and the server take its name for; with it, one statement
with the mark `<mark>-parent`, and from a child on the inherited connection one with `<mark>-child`."""

import json
import os
import sys

import psycopg

told = json.loads(sys.stdin.readline())
connection = psycopg.connect(told["conninfo"], autocommit=True)
if told["fork"]:
    connection.execute(f"select '{told['mark']}-parent'")
    child = os.fork()
    if child == 0:
        try:
            answer = connection.execute(f"select '{told['mark']}-child'").fetchone()
            os._exit(0 if answer == (f"{told['mark']}-child",) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0, "the child failed"
    print(json.dumps({"parent": os.getpid(), "child": child}), flush=True)
    # Only the child knows the state of TLS now.
    os._exit(0)
sql = f"select application_name, '{told['mark']}' from pg_stat_activity where pid = pg_backend_pid()"
print(
    json.dumps(
        {
            "pid": os.getpid(),
            "told": connection.info.parameter_status("application_name"),
            "server": connection.execute(sql).fetchone()[0],
        }
    )
)
