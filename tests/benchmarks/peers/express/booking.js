// Booking, free times and the doctor's calendar as the same team would write them: a booking locks the doctor's row and
// then the patient's, and looks for overlaps.

import express from "express";
import serverless from "serverless-http";
import { z } from "zod";
import { authenticated, failed, Id, pool } from "./app.js";

const SLOTS = 500;
const COLUMNS = `id, patient_id, doctor_id, visit, visit_name, modality, starts_at, ends_at, time_zone, status, reason,
  cancelled_by, cancel_reason, created_at, updated_at`;

const moment = z.iso.datetime({ offset: true }).transform((text) => new Date(text));
const id = z.number().int().positive();
const NewAppointment = z.strictObject({
  patient_id: id,
  doctor_id: id,
  visit: z.string().max(40),
  starts_at: moment,
  modality: z.enum(["in_person", "video"]).nullish(),
  reason: z.string().trim().min(1).max(500).nullish(),
});
const SlotsQuery = z.strictObject({ visit: z.string().max(40), from: moment.optional(), to: moment.optional() });
const CalendarQuery = z.strictObject({
  from: moment.optional(),
  limit: z.coerce.number().int().min(1).max(100).default(20),
});

// What the hours offer, closures left out, whether or not it is taken.
const OFFERED = `
  SELECT start AS starts_at, start + length AS ends_at, start + length + buffer AS busy_until
    FROM hours h
   CROSS JOIN jsonb_to_recordset(h.visits) AS v (code text, minutes integer)
   CROSS JOIN LATERAL (
         SELECT v.minutes * interval '1 minute' AS length,
                h.buffer_minutes * interval '1 minute' AS buffer,
                greatest($3::timestamptz, now() + h.notice_minutes * interval '1 minute') AS first,
                least($4::timestamptz, now() + h.horizon_days * interval '24 hours') AS last) AS i
   CROSS JOIN generate_series((first AT TIME ZONE h.time_zone)::date, last AT TIME ZONE h.time_zone, '1 day') AS date
    JOIN jsonb_to_recordset(h.weekly) AS w (day text, "from" time, "to" time) ON w.day = to_char(date, 'FMday')
   CROSS JOIN generate_series((date + w."from") AT TIME ZONE h.time_zone,
                              (date + w."to") AT TIME ZONE h.time_zone - length,
                              h.step_minutes * interval '1 minute') AS start
   WHERE h.id = $1 AND v.code = $2 AND start >= first AND start < last
     AND NOT EXISTS (SELECT FROM closures c
                      WHERE c.doctor_id = h.id AND c.starts_at < start + length + buffer AND c.ends_at > start)
   ORDER BY start`;

// A visit with its buffer lasts 12 hours at most, which bounds how far back one that overlaps can start.
const TAKEN = `
  SELECT EXISTS (SELECT FROM peer_appointments
                  WHERE doctor_id = $1 AND status IN ('booked', 'arrived') AND starts_at < $4 AND busy_until > $3
                    AND starts_at > $3::timestamptz - interval '12 hours') AS slot,
         EXISTS (SELECT FROM peer_appointments
                  WHERE patient_id = $2 AND status IN ('booked', 'arrived') AND starts_at < $5 AND ends_at > $3
                    AND starts_at > $3::timestamptz - interval '12 hours') AS patient,
         (SELECT count(*) FROM peer_appointments
           WHERE owner_id = $6 AND doctor_id = $1 AND status IN ('booked', 'arrived') AND ends_at > now()) AS own`;

class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function book(client, caller, body) {
  const doctors = await client.query(
    `SELECT d.name, h.time_zone, h.visits, h.bookings_per_account
       FROM doctors d JOIN hours h ON h.id = d.id WHERE d.id = $1 FOR UPDATE OF d`,
    [body.doctor_id],
  );
  const patients = await client.query("SELECT name FROM patients WHERE id = $1 AND owner_id = $2 FOR UPDATE", [
    body.patient_id,
    caller,
  ]);
  const [doctor] = doctors.rows;
  if (!patients.rows[0]) throw new Refusal(404, "No such patient");
  if (!doctor) throw new Refusal(404, "No such doctor");
  const until = new Date(body.starts_at.getTime() + 1);
  const offered = await client.query(OFFERED, [body.doctor_id, body.visit, body.starts_at, until]);
  const [time] = offered.rows;
  if (!time) throw new Refusal(422, "Not offered");
  const visit = doctor.visits.find(({ code }) => code === body.visit);
  const modality = body.modality ?? visit.modality;
  if (modality === "any" || !["any", modality].includes(visit.modality)) throw new Refusal(422, "Not offered");
  const times = [time.starts_at, time.busy_until, time.ends_at];
  const taken = await client.query(TAKEN, [body.doctor_id, body.patient_id, ...times, caller]);
  if (taken.rows[0].slot) throw new Refusal(409, "The time is taken");
  if (taken.rows[0].patient) throw new Refusal(409, "The patient has another appointment");
  if (taken.rows[0].own >= doctor.bookings_per_account) throw new Refusal(409, "Too many bookings");
  const { rows } = await client.query(
    `INSERT INTO peer_appointments (owner_id, patient_id, doctor_id, visit, visit_name, modality, starts_at, busy_until,
                                    ends_at, time_zone, reason)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING ${COLUMNS}`,
    [caller, body.patient_id, body.doctor_id, body.visit, visit.name, modality, ...times, doctor.time_zone, body.reason],
  );
  return { ...rows[0], patient_name: patients.rows[0].name, doctor_name: doctor.name };
}

const app = express();
app.disable("x-powered-by");
app.disable("etag");
app.use(express.json({ limit: "100kb" }));

app.post("/api/appointments", authenticated, async (request, response) => {
  const body = NewAppointment.parse(request.body);
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const appointment = await book(client, request.caller, body);
    await client.query("COMMIT");
    response.status(201).location(`/api/appointments/${appointment.id}`).json(appointment);
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
});

app.get("/api/doctors/:id/slots", authenticated, async (request, response) => {
  const doctor = Id.parse(request.params.id);
  const query = SlotsQuery.parse(request.query);
  const from = query.from ?? new Date();
  const to = query.to ?? new Date(from.getTime() + 7 * 86400_000);
  const hours = await pool.query("SELECT time_zone, visits FROM hours WHERE id = $1", [doctor]);
  if (!hours.rows[0]) return response.status(404).json({ detail: "No hours" });
  if (!hours.rows[0].visits.some(({ code }) => code === query.visit)) {
    return response.status(422).json({ detail: "Unknown visit" });
  }
  const offered = await pool.query(OFFERED, [doctor, query.visit, from, to]);
  const busy = await pool.query(
    `SELECT starts_at, busy_until FROM peer_appointments
      WHERE doctor_id = $1 AND status IN ('booked', 'arrived') AND busy_until > $2
        AND starts_at > $2::timestamptz - interval '12 hours' AND starts_at < $3::timestamptz + interval '12 hours'`,
    [doctor, from, to],
  );
  const free = offered.rows.filter(
    (time) => !busy.rows.some((other) => time.starts_at < other.busy_until && time.busy_until > other.starts_at),
  );
  const items = free.slice(0, SLOTS).map(({ starts_at, ends_at }) => ({ starts_at, ends_at }));
  return response.json({ time_zone: hours.rows[0].time_zone, items, next_from: free[SLOTS]?.starts_at ?? null });
});

app.get("/api/practice/appointments", authenticated, async (request, response) => {
  const query = CalendarQuery.parse(request.query);
  const doctors = await pool.query("SELECT id, name FROM doctors WHERE account_id = $1", [request.caller]);
  if (!doctors.rows[0]) return response.status(404).json({ detail: "No practice" });
  const { rows } = await pool.query(
    `SELECT ${COLUMNS}, (SELECT name FROM patients WHERE id = patient_id) AS patient_name
       FROM peer_appointments
      WHERE doctor_id = $1 AND starts_at >= $2 ORDER BY starts_at, id LIMIT $3`,
    [doctors.rows[0].id, query.from ?? "-infinity", query.limit],
  );
  return response.json({ items: rows.map((row) => ({ ...row, doctor_name: doctors.rows[0].name })) });
});

app.use(failed);

const answer = serverless(app, {
  request(request, event) {
    request.event = event;
  },
});

export async function handler(event, context) {
  context.callbackWaitsForEmptyEventLoop = false;
  return answer(event, context);
}
