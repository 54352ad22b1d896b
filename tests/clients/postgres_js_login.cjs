const fs = require("node:fs");
const postgres = require("postgres");
const { QUERY, SLEEPS, told, report, waitForSleep } = require("./common.cjs");

const settings = {
  host: told.address,
  port: told.port,
  user: told.user,
  password: told.password,
  database: told.database,
  max: 1,
  ssl: told.roots ? { ca: fs.readFileSync(told.roots, "utf8"), host: told.address } : false,
};

async function main() {
  const [one, other] = [postgres(settings), postgres(settings)];
  const row = (await one.unsafe(QUERY))[0];
  const query = one.unsafe("select pg_sleep(30)");
  const ended = query.then(
    () => "00000",
    (error) => error.code,
  );
  await waitForSleep(async () => Number((await other.unsafe(SLEEPS(row.pid)))[0].count));
  query.cancel();
  const cancel = await ended;
  const after = (await one.unsafe("select 43 as after"))[0].after;
  await one.end();
  await other.end();
  report(row, cancel, after);
}

main();
