// An authorizer in the usual way: the key from Secrets Manager, verified by jsonwebtoken, answered as a policy.

import jwt from "jsonwebtoken";
import { signingKey } from "./key.js";

export async function handler(event) {
  const stage = event.methodArn.split("/").slice(0, 2).join("/");
  const token = event.authorizationToken.split(" ")[1];
  const { key } = await signingKey();
  try {
    const claims = jwt.verify(token, key, {
      algorithms: ["HS256"],
      issuer: process.env.TOKEN_ISSUER,
      audience: "healthcare-api",
    });
    const context = { user_id: claims.sub, role: claims.role, exp: String(claims.exp) };
    return { ...policy(claims.sub, "Allow", stage), context };
  } catch {
    return policy("nobody", "Deny", stage);
  }
}

function policy(principalId, effect, stage) {
  const statement = { Action: "execute-api:Invoke", Effect: effect, Resource: `${stage}/*` };
  return { principalId, policyDocument: { Version: "2012-10-17", Statement: [statement] } };
}
