-- The answers that a retry with the same Idempotency-Key gets again.

CREATE TABLE idempotency_keys (
    user_id     bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    key         text COLLATE "C" NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    fingerprint bytea NOT NULL,
    response    text,  -- NULL only inside the transaction that is still making it
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);

CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

SELECT protect('idempotency_keys', 'user_id');

GRANT SELECT ON idempotency_keys TO healthcare_api;
GRANT INSERT (user_id, key, fingerprint), UPDATE (fingerprint, response, created_at) ON idempotency_keys
   TO healthcare_api;

-- Whoever uses a key sweeps out what has run out, of all users; as the owner, because nobody sees others' keys.
CREATE FUNCTION forget_idempotency_keys() RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    DELETE FROM idempotency_keys
     WHERE (user_id, key) IN (SELECT user_id, key
                                FROM idempotency_keys
                               WHERE created_at < now() - interval '24 hours'
                               ORDER BY created_at
                               LIMIT 1000
                                 FOR UPDATE SKIP LOCKED)
$$;

GRANT EXECUTE ON FUNCTION forget_idempotency_keys TO healthcare_api;
