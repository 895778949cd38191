// What caller.py is, for Node.js.

const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");

async function main() {
  const [module, name] = process.argv[2].split(".");
  const handler = require(path.resolve(`${module}.cjs`))[name];
  const context = { awsRequestId: "00000000-0000-4000-8000-000000000000" };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const events = JSON.parse(line).map((event) => JSON.parse(event));
    const statuses = {};
    let answer;
    const before = process.cpuUsage();
    const started = process.hrtime.bigint();
    for (const event of events) {
      answer = await handler(event, context);
      const status = answer.statusCode ?? "None";
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
    const wall = Number(process.hrtime.bigint() - started) / 1e9;
    const { user, system } = process.cpuUsage(before);
    const report = { wall, cpu: (user + system) / 1e6, statuses, answer };
    fs.writeSync(1, JSON.stringify(report) + "\n");
  }
}

main();
