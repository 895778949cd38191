// What an app does with this API, through a client made from openapi.json.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/api.js";

type Patient = components["schemas"]["Patient"];
type Problem = components["schemas"]["Problem"];

const api = createClient<paths>({ baseUrl: process.env["API"]! });

/** What was answered, if it is what was wanted. */
function answered<Data>({ data, error, response }: { data?: Data; error?: Problem; response: Response }, status: number) {
  assert.equal(response.status, status, error?.detail);
  assert.ok(data !== undefined || status === 204);
  return data as NonNullable<Data>;
}

function refused({ error, response }: { error?: Problem; response: Response }, slug: string): Problem {
  assert.ok(error);
  assert.equal(error.type, `/problems/${slug}`);
  assert.equal(error.status, response.status);
  assert.equal(error.request_id, response.headers.get("X-Request-Id"));
  return error;
}

async function signUp() {
  const account = { name: "Ada Brown", email: `${randomUUID()}@example.org`, password: "seven green kettles" };
  const user = answered(await api.POST("/api/auth/register", { body: account }), 201);
  const { name, ...credentials } = account;
  const tokens = answered(await api.POST("/api/auth/login", { body: credentials }), 200);
  assert.deepEqual(tokens.user, user);
  api.use({
    onRequest: ({ request }) => request.headers.set("Authorization", `Bearer ${tokens.access_token}`),
  });
}

async function allPatients(): Promise<Patient[]> {
  const found: Patient[] = [];
  let cursor: string | null = null;
  do {
    const query = cursor === null ? { limit: 2 } : { limit: 2, cursor };
    const page: components["schemas"]["PatientPage"] = answered(await api.GET("/api/patients", { params: { query } }), 200);
    found.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return found;
}

test("an app keeps patients, changes one that nobody else has changed, and assigns a doctor", async () => {
  await signUp();

  const key = { "Idempotency-Key": randomUUID() };
  const body = { name: "Maria Silva", gender: "female", date_of_birth: "1984-11-05" } as const;
  const first = await api.POST("/api/patients", { body, params: { header: key } });
  const patient = answered(first, 201);
  const again = answered(await api.POST("/api/patients", { body, params: { header: key } }), 201);
  assert.deepEqual(again, patient);
  for (const name of ["Bob", "Carol", "Dan", "Erin"]) answered(await api.POST("/api/patients", { body: { name } }), 201);
  assert.deepEqual((await allPatients()).map(({ name }) => name).sort(), ["Bob", "Carol", "Dan", "Erin", "Maria Silva"]);

  const path = { id: patient.id };
  const header = { "If-Match": first.response.headers.get("ETag")! };
  const change = await api.PATCH("/api/patients/{id}", { body: { phone: "+351 21 555 0142" }, params: { path, header } });
  assert.equal(answered(change, 200).phone, "+351 21 555 0142");
  refused(await api.PATCH("/api/patients/{id}", { body: { phone: null }, params: { path, header } }), "stale");
  const present = { "If-Match": change.response.headers.get("ETag")! };
  const cleared = await api.PATCH("/api/patients/{id}", { body: { phone: null }, params: { path, header: present } });
  assert.equal(answered(cleared, 200).phone, null);

  const doctor = answered(await api.POST("/api/doctors", { body: { name: "Dr. Grace Okafor", specialty: "Cardiology" } }), 201);
  const ids = { patient_id: patient.id, doctor_id: doctor.id };
  const mapping = answered(await api.POST("/api/mappings", { body: ids }), 201);
  refused(await api.POST("/api/mappings", { body: ids }), "already-assigned");
  const doctors = answered(await api.GET("/api/mappings/{id}", { params: { path } }), 200);
  assert.deepEqual(doctors.items, [doctor]);

  answered(await api.DELETE("/api/mappings/{id}", { params: { path: { id: mapping.id } } }), 204);
  answered(await api.DELETE("/api/patients/{id}", { params: { path } }), 204);
  refused(await api.GET("/api/patients/{id}", { params: { path } }), "not-found");
  const invalid = refused(await api.POST("/api/patients", { body: { name: "" } }), "validation");
  assert.deepEqual(invalid.errors?.map(({ pointer }) => pointer), ["/name"]);
});
