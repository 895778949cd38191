-- Who waits for whom in the outbox, what nobody comes back for, and an account that was prepared for somebody else.

-- As before, and the webhooks take turns by chance: in the order of their ids, an account with twenty slow ones and much
-- to tell held up every newer webhook. Mail comes first.
CREATE OR REPLACE FUNCTION claim_messages(wanted integer) RETURNS SETOF outbox LANGUAGE sql AS $$
    WITH RECURSIVE queues AS (
        (SELECT coalesce(webhook_id, 0) AS queue
           FROM outbox
          WHERE state = 'pending'
          ORDER BY coalesce(webhook_id, 0)
          LIMIT 1)
         UNION ALL
        SELECT (SELECT coalesce(webhook_id, 0)
                  FROM outbox
                 WHERE state = 'pending' AND coalesce(webhook_id, 0) > q.queue
                 ORDER BY coalesce(webhook_id, 0)
                 LIMIT 1)
          FROM queues q
         WHERE q.queue IS NOT NULL
    ), turns AS MATERIALIZED (
        SELECT queue FROM queues WHERE queue IS NOT NULL ORDER BY queue <> 0, random()
    ), due AS (
        SELECT next.id
          FROM turns q
         CROSS JOIN LATERAL (
               SELECT o.id
                 FROM outbox o
                WHERE o.state = 'pending' AND coalesce(o.webhook_id, 0) = q.queue AND o.due_at <= now()
                ORDER BY o.due_at
                LIMIT CASE q.queue WHEN 0 THEN wanted ELSE greatest(0, 10 - (
                      SELECT count(*)
                        FROM outbox
                       WHERE is_claimed AND coalesce(webhook_id, 0) = q.queue AND due_at > now())) END
                  FOR UPDATE SKIP LOCKED) AS next
         LIMIT wanted
    )
    UPDATE outbox o
       SET attempts = o.attempts + 1, due_at = now() + interval '1 minute', is_claimed = true
      FROM due
     WHERE o.id = due.id
    RETURNING o.*
$$;

-- Twenty webhooks are the most also for requests at the same time, which do not see each other's.
CREATE FUNCTION limit_webhooks() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('webhooks', NEW.owner_id));
    IF (SELECT count(*) FROM webhooks WHERE owner_id = NEW.owner_id) >= 20 THEN
        RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'webhooks_most';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER limit_webhooks BEFORE INSERT ON webhooks FOR EACH ROW EXECUTE FUNCTION limit_webhooks();

-- What nobody comes back for: until now a user's next login or invitation swept out their own only.
CREATE INDEX sessions_expires_at_idx ON sessions (expires_at);
CREATE INDEX invitations_expires_at_idx ON invitations (expires_at);

CREATE FUNCTION forget_sessions() RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    DELETE FROM sessions
     WHERE id IN (SELECT id FROM sessions WHERE expires_at < now() ORDER BY expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED);
    -- Fewer: each leaves an event in its owner's audit.
    DELETE FROM invitations
     WHERE id IN (SELECT id FROM invitations WHERE expires_at < now() ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED)
$$;

GRANT EXECUTE ON FUNCTION forget_sessions TO healthcare_sender;

-- Whoever registered with an address that they cannot read may have prepared the account for its real reader: who sets a
-- new password by mail, before the address was ever proved, takes it without anybody who acts for it or listens.
CREATE FUNCTION end_preparations() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM delegates WHERE owner_id = NEW.id;
    DELETE FROM invitations WHERE owner_id = NEW.id;
    DELETE FROM webhooks WHERE owner_id = NEW.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER end_preparations AFTER UPDATE ON users
    FOR EACH ROW WHEN (NEW.email_verified AND NOT OLD.email_verified AND NEW.password_hash <> OLD.password_hash)
    EXECUTE FUNCTION end_preparations();

-- Whether a delivery is on its way, so that sending it again does not count it as none of the ten.
GRANT SELECT (is_claimed) ON outbox TO healthcare_api;

-- An owner hears of whoever begins to act for them: somebody else may have sent the invitation.
CREATE FUNCTION tell_of_delegate() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO outbox (kind, user_id) VALUES ('delegate', NEW.owner_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER tell_of_delegate AFTER INSERT ON delegates FOR EACH ROW EXECUTE FUNCTION tell_of_delegate();
