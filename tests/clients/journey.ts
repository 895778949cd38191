// What an app does with this API, through a client made from openapi.json.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";
import ICAL from "ical.js";
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/api.js";

type Patient = components["schemas"]["Patient"];
type Problem = components["schemas"]["Problem"];

const api = createClient<paths>({ baseUrl: process.env["API"]! });
let act = ""; // the token of who acts now
api.use({
  onRequest: ({ request }) => {
    if (act) request.headers.set("Authorization", act);
  },
});

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
  act = `Bearer ${tokens.access_token}`;
  return { id: user.id, token: act };
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

test("an app books a visit, moves it, and puts it into a calendar", async () => {
  await signUp();
  const patient = answered(await api.POST("/api/patients", { body: { name: "Maria Silva" } }), 201);
  const doctor = answered(await api.POST("/api/doctors", { body: { name: "Dr. Grace Okafor", specialty: "Cardiology" } }), 201);
  const visit = { code: "first", name: "First visit", minutes: 30, modality: "video" } as const;
  const weekly = [{ day: "monday", from: "09:00", to: "17:00" }] as const;
  const hours = { time_zone: "Europe/London", visits: [visit], weekly: [...weekly] };
  answered(await api.PUT("/api/doctors/{id}/hours", { params: { path: { id: doctor.id } }, body: hours }), 200);

  const query = { visit: "first" };
  const slots = answered(await api.GET("/api/doctors/{id}/slots", { params: { path: { id: doctor.id }, query } }), 200);
  const [first, second] = slots.items.map(({ starts_at }) => starts_at);
  const body = { patient_id: patient.id, doctor_id: doctor.id, visit: "first", starts_at: first!, reason: "Palpitations" };
  const path = { id: answered(await api.POST("/api/appointments", { body }), 201).id };
  refused(await api.POST("/api/appointments", { body }), "slot-taken");

  const uids = new Set<string>();
  for (const [sequence, method, startsAt] of [[0, "PUBLISH", first], [1, "PUBLISH", second], [2, "CANCEL", second]] as const) {
    if (sequence === 1) {
      answered(await api.POST("/api/appointments/{id}/reschedule", { params: { path }, body: { starts_at: second! } }), 200);
    }
    if (sequence === 2) answered(await api.POST("/api/appointments/{id}/cancel", { params: { path }, body: {} }), 200);
    const text = answered(await api.GET("/api/appointments/{id}/ics", { params: { path }, parseAs: "text" }), 200);
    const calendar = new ICAL.Component(ICAL.parse(text));
    const event = new ICAL.Event(calendar.getFirstSubcomponent("vevent")!);
    assert.equal(calendar.getFirstPropertyValue("method"), method);
    assert.equal(event.sequence, sequence);
    assert.equal(event.startDate.toJSDate().toISOString(), new Date(startsAt!).toISOString());
    assert.equal(event.duration.toSeconds(), 30 * 60);
    assert.ok(!/Maria|Palpitations/.test(text));
    uids.add(event.uid);
  }
  assert.equal(uids.size, 1);
});

test("a delegate acts for the owner, keeps a record, and uploads a document", async () => {
  const owner = await signUp();
  const { id } = answered(await api.POST("/api/patients", { body: { name: "Maria Silva" } }), 201);
  const { code } = answered(await api.POST("/api/invitations", { body: { kind: "delegate", access: "write" } }), 201);
  await signUp();
  const path = { id };
  refused(await api.GET("/api/patients/{id}", { params: { path } }), "not-found");
  answered(await api.POST("/api/invitations/accept", { body: { code } }), 200);
  const header = { "Acting-For": String(owner.id) };
  assert.equal(answered(await api.GET("/api/patients/{id}", { params: { path, header } }), 200).name, "Maria Silva");

  const allergy = { kind: "allergy", content: { substance: "Penicillin", severity: "severe" } } as const;
  const record = answered(await api.POST("/api/patients/{id}/records", { params: { path, header }, body: allergy }), 201);

  const bytes = new TextEncoder().encode("Lung function is normal.");
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const body = { name: "Letter.txt", content_type: "text/plain", size: bytes.length, sha256 } as const;
  const announced = answered(await api.POST("/api/patients/{id}/documents", { params: { path, header }, body }), 201);
  const params = { path: { id, document_id: announced.document.id }, header };
  refused(await api.POST("/api/patients/{id}/documents/{document_id}/complete", { params }), "not-uploaded");
  const form = new FormData();
  for (const [name, value] of Object.entries(announced.upload.fields)) form.append(name, value);
  form.append("file", new Blob([bytes]));
  assert.ok((await fetch(announced.upload.url, { method: "POST", body: form })).ok);
  const document = answered(await api.POST("/api/patients/{id}/documents/{document_id}/complete", { params }), 200);
  assert.equal(document.status, "available");

  act = owner.token;
  const records = answered(await api.GET("/api/patients/{id}/records", { params: { path } }), 200);
  assert.deepEqual(records.items.map((one) => one.id), [record.id]);
});
