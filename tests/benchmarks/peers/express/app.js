// The patients and accounts of this API as a team would write them with Express, pg and serverless-http.
//
// Configured for production on Lambda: one pooled connection, no log of requests, no header that names the framework,
// and bundled and minified by esbuild, as `sam build` does with Node.js.

import crypto from "node:crypto";
import bcrypt from "bcryptjs";
import express from "express";
import jwt from "jsonwebtoken";
import pg from "pg";
import serverless from "serverless-http";
import { z } from "zod";
import { signingKey } from "./key.js";

const TOKEN_LIFETIME = 900;
const BCRYPT_COST = 12;
const NO_USER = bcrypt.hashSync("", 4).replace("$04$", `$${BCRYPT_COST}$`);
const PATIENT = "id, name, date_of_birth, gender, phone, email, address, created_at, updated_at";
const USER = "id, name, email, email_verified, role, created_at, updated_at";

pg.types.setTypeParser(pg.types.builtins.INT8, Number);
pg.types.setTypeParser(pg.types.builtins.DATE, (text) => text); // a Date would be in the time zone of the process
export const pool = new pg.Pool({ max: 1, connectionTimeoutMillis: 3000, idleTimeoutMillis: 0 });
pool.on("error", () => {}); // of an idle connection that the server closed: the pool makes a new one

// Bodies --------------------------------------------------------------------------------------------------------------

const PHONE = /^[+(]{0,2}[0-9][0-9 ()+./x#-]{0,30}[0-9()+./x#-]$/;
const EMAIL = /^[^\s@\x00-\x1f\x7f-\x9f\ufeff]+@[^\s@.\x00-\x1f\x7f-\x9f\ufeff]+(\.[^\s@.\x00-\x1f\x7f-\x9f\ufeff]+)+$/;
const NO_NUL = /^[^\x00]*$/;

const text = (length) => z.string().trim().min(1).max(length).regex(NO_NUL);
const email = z.string().trim().max(254).regex(EMAIL);
const dateOfBirth = z.iso.date().refine((value) => {
  const farthest = new Date(Date.now() + 14 * 3600 * 1000).toISOString().slice(0, 10);
  return value >= "1800-01-01" && value <= farthest;
});
const optional = (schema) => schema.nullish().transform((value) => value ?? null);

const NewPatient = z.strictObject({
  name: text(200),
  date_of_birth: optional(dateOfBirth),
  gender: optional(z.enum(["male", "female", "other", "unknown"])),
  phone: optional(z.string().trim().max(32).regex(PHONE)),
  email: optional(email),
  address: optional(text(500)),
});
const password = z
  .string()
  .min(8)
  .refine((value) => Buffer.byteLength(value) <= 72);
const NewUser = z.strictObject({ name: text(200), email, password });
const Credentials = z.strictObject({ email, password: z.string().min(1).max(1024) });
const PageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(100).default(20),
  cursor: z.string().optional(),
});
export const Id = z.string().regex(/^[1-9][0-9]{0,18}$/);

const values = (patient) => [
  patient.name,
  patient.date_of_birth,
  patient.gender,
  patient.phone,
  patient.email,
  patient.address,
];

// Routes --------------------------------------------------------------------------------------------------------------

const app = express();
app.disable("x-powered-by");
app.disable("etag");
app.use(express.json({ limit: "100kb" }));

// The authorizer has verified the token; its answer may be a cached one.
export function authenticated(request, response, next) {
  const claims = request.event.requestContext.authorizer;
  if (!claims?.user_id || Date.now() / 1000 >= Number(claims.exp)) {
    return response.status(401).set("WWW-Authenticate", "Bearer").json({ detail: "Not authenticated" });
  }
  request.caller = claims.user_id;
  return next();
}

app.post("/api/auth/register", async (request, response) => {
  const body = NewUser.parse(request.body);
  const hash = await bcrypt.hash(body.password, BCRYPT_COST);
  const { rows } = await pool.query(
    `INSERT INTO users (name, email, password_hash) VALUES ($1, $2, $3) RETURNING ${USER}`,
    [body.name, body.email, hash],
  );
  response.status(201).json(rows[0]);
});

app.post("/api/auth/login", async (request, response) => {
  const body = Credentials.parse(request.body);
  const { rows } = await pool.query(`SELECT ${USER}, password_hash FROM users WHERE email_key = $1`, [
    body.email.toLowerCase(),
  ]);
  const { password_hash: hash = NO_USER, ...user } = rows[0] ?? {};
  if (!(await bcrypt.compare(body.password, hash)) || !rows[0]) {
    return response.status(401).json({ detail: "Wrong e-mail address or password" });
  }
  const session = crypto.randomUUID();
  const secret = crypto.randomBytes(32);
  await pool.query(
    "INSERT INTO sessions (family, user_id, token_hash, expires_at) VALUES ($1, $2, $3, now() + interval '30 days')",
    [session, user.id, crypto.createHash("sha256").update(secret).digest()],
  );
  const { id, key } = await signingKey();
  const token = jwt.sign({ role: user.role }, key, {
    algorithm: "HS256",
    keyid: id,
    issuer: process.env.TOKEN_ISSUER,
    audience: "healthcare-api",
    subject: String(user.id),
    expiresIn: TOKEN_LIFETIME,
    jwtid: crypto.randomUUID(),
  });
  return response.json({
    access_token: token,
    token_type: "Bearer",
    expires_in: TOKEN_LIFETIME,
    refresh_token: Buffer.concat([Buffer.from(session.replaceAll("-", ""), "hex"), secret]).toString("base64url"),
    user,
  });
});

app.post("/api/patients", authenticated, async (request, response) => {
  const patient = NewPatient.parse(request.body);
  const { rows } = await pool.query(
    `INSERT INTO patients (owner_id, name, date_of_birth, gender, phone, email, address)
     VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING ${PATIENT}`,
    [request.caller, ...values(patient)],
  );
  response.status(201).location(`/api/patients/${rows[0].id}`).json(rows[0]);
});

app.get("/api/patients", authenticated, async (request, response) => {
  const { limit, cursor } = PageQuery.parse(request.query);
  const after = cursor ? Buffer.from(cursor, "base64url").readBigInt64BE() : 0n;
  const { rows } = await pool.query(
    `SELECT ${PATIENT} FROM patients WHERE owner_id = $1 AND id > $2 ORDER BY id LIMIT $3`,
    [request.caller, after, limit + 1],
  );
  const items = rows.slice(0, limit);
  let next = null;
  if (rows.length > limit) {
    const last = Buffer.alloc(8);
    last.writeBigInt64BE(BigInt(items.at(-1).id));
    next = last.toString("base64url");
  }
  response.json({ items, next_cursor: next });
});

app.get("/api/patients/:id", authenticated, async (request, response) => {
  const { rows } = await pool.query(`SELECT ${PATIENT} FROM patients WHERE id = $1 AND owner_id = $2`, [
    Id.parse(request.params.id),
    request.caller,
  ]);
  if (!rows[0]) return response.status(404).json({ detail: "No such patient" });
  return response.json(rows[0]);
});

app.put("/api/patients/:id", authenticated, async (request, response) => {
  const patient = NewPatient.parse(request.body);
  const { rows } = await pool.query(
    `UPDATE patients SET name = $3, date_of_birth = $4, gender = $5, phone = $6, email = $7, address = $8
      WHERE id = $1 AND owner_id = $2 RETURNING ${PATIENT}`,
    [Id.parse(request.params.id), request.caller, ...values(patient)],
  );
  if (!rows[0]) return response.status(404).json({ detail: "No such patient" });
  return response.json(rows[0]);
});

export function failed(error, request, response, next) {
  if (error instanceof z.ZodError) return response.status(422).json({ detail: error.issues });
  if (error.constraint === "users_email_key") return response.status(409).json({ detail: "E-mail address is taken" });
  const status = error.status ?? 500; // what express.json refuses has one
  return response.status(status).json({ detail: status < 500 ? error.message : "Internal error" });
}

app.use(failed);

const answer = serverless(app, {
  request(request, event) {
    request.event = event;
  },
});

export async function handler(event, context) {
  context.callbackWaitsForEmptyEventLoop = false; // the pooled connection stays open
  return answer(event, context);
}
