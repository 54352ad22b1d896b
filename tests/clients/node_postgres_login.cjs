const fs = require("node:fs");
const pg = require("pg");
const { QUERY, SLEEPS, told, report, waitForSleep } = require("./common.cjs");

const settings = {
  host: told.address,
  port: told.port,
  user: told.user,
  password: told.password,
  database: told.database,
  ssl: told.roots ? { ca: fs.readFileSync(told.roots, "utf8"), host: told.address } : false,
};

async function main() {
  const [one, other, third] = [0, 1, 2].map(() => new pg.Client(settings));
  await one.connect();
  await other.connect();
  const row = (await one.query(QUERY)).rows[0];
  const query = new pg.Query("select pg_sleep(30)");
  const ended = new Promise((resolve) => query.on("error", (error) => resolve(error.code)));
  one.query(query);
  await waitForSleep(async () => Number((await other.query(SLEEPS(row.pid))).rows[0].count));
  third.cancel(one, query);
  const cancel = await ended;
  const after = (await one.query("select 43 as after")).rows[0].after;
  await one.end();
  await other.end();
  report(row, cancel, after);
}

main();
