"""The least that answers at all: no framework, no validation, no error handling, one statement by hand."""

import json

import psycopg
from psycopg.rows import dict_row

FIELDS = ("name", "date_of_birth", "gender", "phone", "email", "address")

connection = None


def lambda_handler(event, context):
    global connection
    if connection is None:
        connection = psycopg.connect(autocommit=True, row_factory=dict_row)
    caller = event["requestContext"]["authorizer"]["user_id"]
    if event["httpMethod"] == "POST":
        body = json.loads(event["body"])
        row = connection.execute(
            """
            INSERT INTO patients (owner_id, name, date_of_birth, gender, phone, email, address)
            VALUES (%s, %s, %s, %s, %s, %s, %s)
            RETURNING id, name, date_of_birth, gender, phone, email, address, created_at, updated_at
            """,
            [caller, *(body.get(name) for name in FIELDS)],
        ).fetchone()
        return {"statusCode": 201, "headers": {}, "body": json.dumps(row, default=str)}
    if event["pathParameters"]:
        row = connection.execute(
            """
            SELECT id, name, date_of_birth, gender, phone, email, address, created_at, updated_at
              FROM patients
             WHERE id = %s AND owner_id = %s
            """,
            [event["pathParameters"]["id"], caller],
        ).fetchone()
        return {"statusCode": 200 if row else 404, "headers": {}, "body": json.dumps(row, default=str)}
    rows = connection.execute(
        """
        SELECT id, name, date_of_birth, gender, phone, email, address, created_at, updated_at
          FROM patients
         WHERE owner_id = %s
         ORDER BY id
         LIMIT 20
        """,
        [caller],
    ).fetchall()
    return {"statusCode": 200, "headers": {}, "body": json.dumps({"items": rows}, default=str)}
