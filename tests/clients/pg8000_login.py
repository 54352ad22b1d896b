import ssl

import pg8000.native

from common import QUERY, arguments, report


def main():
    told = arguments()
    # None would mean: TLS if the server has it.
    context = ssl.create_default_context(cafile=told["roots"]) if told["roots"] else False
    one = pg8000.native.Connection(
        told["user"],
        host=told["address"],
        port=told["port"],
        password=told["password"],
        database=told["database"],
        ssl_context=context,
        timeout=20,
    )
    row = one.run(QUERY)[0]
    after = one.run("select 43")[0][0]
    one.close()
    report(row, "none", after)


main()
