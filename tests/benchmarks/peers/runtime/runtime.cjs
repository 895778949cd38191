// Lambda's runtime for Node.js in short: asks the runtime API for the next event, calls the handler, sends its answer.

const http = require("node:http");
const path = require("node:path");

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function ask(method, step, body = "") {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host, port, agent, method, path: `/2018-06-01/runtime/${step}`, headers: { "Content-Length": Buffer.byteLength(body) } },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk) => (text += chunk));
        response.on("end", () => resolve({ headers: response.headers, text }));
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

async function main() {
  const [module, name] = process.argv[2].split(".");
  const handler = require(path.resolve(`${module}.cjs`))[name];
  for (;;) {
    const { headers, text } = await ask("GET", "invocation/next");
    const id = headers["lambda-runtime-aws-request-id"];
    try {
      const answer = await handler(JSON.parse(text), { awsRequestId: id });
      await ask("POST", `invocation/${id}/response`, JSON.stringify(answer));
    } catch (error) {
      const problem = { errorMessage: String(error), errorType: error?.name ?? "Error" };
      await ask("POST", `invocation/${id}/error`, JSON.stringify(problem));
    }
  }
}

main();
